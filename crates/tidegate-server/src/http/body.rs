//! The body of a response: nothing, one piece, or a stream.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tidegate_service::slow::Slowness;

use super::stream::{Broken, StreamBody};
use crate::connection::{Entered, Handed, Handover};

/// What the HTTP library pulls the response's bytes from.
#[derive(Debug)]
pub(crate) struct OutBody {
    content: Content,
    /// HTTP/2: what is left of a piece that is handed out in smaller ones.
    rest: Bytes,
    /// Keeps the connection busy until the last byte has been taken.
    entered: Option<Entered>,
    is_http2: bool,
    /// A stream that has begun before it was known how long its client may take nothing.
    is_unjudged: bool,
}

/// HTTP/2: the most that is handed out at once. The library takes a piece whole as soon as the
/// client takes a byte, so this is how much of a response may wait out of sight.
const HTTP2_PIECE: usize = 16 << 10;

#[derive(Debug)]
enum Content {
    Full(Option<Bytes>),
    Stream(Box<StreamBody>),
    /// The connection itself goes on with it.
    Handed(Handed),
}

impl OutBody {
    pub(super) const fn empty() -> Self {
        Self::of(Content::Full(None))
    }

    pub(super) const fn full(bytes: Bytes) -> Self {
        Self::of(Content::Full(Some(bytes)))
    }

    pub(super) fn stream(stream: StreamBody) -> Self {
        Self::of(Content::Stream(Box::new(stream)))
    }

    const fn of(content: Content) -> Self {
        Self { content, rest: Bytes::new(), entered: None, is_http2: false, is_unjudged: false }
    }

    /// Whether it goes on until somebody leaves.
    pub(super) fn is_endless(&self) -> bool {
        match &self.content {
            Content::Stream(stream) => stream.is_endless(),
            Content::Full(_) | Content::Handed(_) => false,
        }
    }

    /// The body that the HTTP library has while an HTTP/1.1 connection itself goes on with this one.
    pub(super) fn handed_over(self, entered: Entered, handover: Arc<Handover>) -> Self {
        Self::of(Content::Handed(handover.put(self.holding(entered, false))))
    }

    /// The body of a response on a connection.
    pub(super) fn holding(mut self, mut entered: Entered, is_http2: bool) -> Self {
        if is_http2 {
            // Only once the client has opened a window will it be asked for.
            entered.waits();
        }
        match &self.content {
            Content::Stream(stream) => {
                entered.judge(stream.slow().and_then(|slow| slow.patience()));
                self.is_unjudged = stream.slow().is_none();
            }
            Content::Full(Some(bytes)) if bytes.len() > HTTP2_PIECE => entered.judge(None),
            Content::Full(_) | Content::Handed(_) => (),
        }
        self.entered = Some(entered);
        self.is_http2 = is_http2;
        self
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        match &mut self.content {
            Content::Full(bytes) => Poll::Ready(bytes.take().map(Ok)),
            Content::Stream(stream) => {
                let next = stream.poll_bytes(cx);
                if self.is_unjudged
                    && let (Some(slow), Some(entered)) = (stream.slow(), &self.entered)
                {
                    self.is_unjudged = false;
                    entered.judge(slow.patience());
                }
                next
            }
            Content::Handed(handed) => {
                handed.awaited();
                Poll::Pending
            }
        }
    }

    /// The next small piece, and a note of what it says about the client.
    fn poll_http2(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        if self.rest.is_empty() {
            match self.poll_content(cx) {
                Poll::Ready(Some(Ok(bytes))) => self.rest = bytes,
                other => {
                    self.note_taken(false);
                    return other;
                }
            }
        }
        self.note_taken(true);
        let piece = self.rest.len().min(HTTP2_PIECE);
        Poll::Ready(Some(Ok(self.rest.split_to(piece))))
    }

    fn note_taken(&mut self, has_more: bool) {
        if let Some(entered) = &mut self.entered {
            entered.took(has_more);
        }
    }
}

impl Drop for OutBody {
    /// Tells of a stream that is dropped because the client took nothing of it.
    fn drop(&mut self) {
        if let Content::Stream(stream) = &self.content
            && let Some(slow) = stream.slow()
            && self.entered.as_ref().is_some_and(Entered::has_stalled)
        {
            slow.ended(Slowness::Stalled);
        }
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let next = if self.is_http2 { self.poll_http2(cx) } else { self.poll_content(cx) };
        next.map(|next| next.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Full(bytes) => {
                self.rest.is_empty() && bytes.as_ref().is_none_or(Bytes::is_empty)
            }
            Content::Stream(_) | Content::Handed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Full(bytes) => {
                let left = bytes.as_ref().map_or(0, Bytes::len) + self.rest.len();
                SizeHint::with_exact(left as u64)
            }
            Content::Stream(_) | Content::Handed(_) => SizeHint::default(),
        }
    }
}
