//! The body of a response: nothing, one piece, or a stream.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::stream::{Broken, StreamBody};
use crate::connection::Entered;

/// What the HTTP library pulls the response's bytes from.
#[derive(Debug)]
pub(crate) struct OutBody {
    content: Content,
    /// Keeps the connection busy until the last byte has been taken.
    _entered: Option<Entered>,
}

#[derive(Debug)]
enum Content {
    Full(Option<Bytes>),
    Stream(Box<StreamBody>),
}

impl OutBody {
    pub(super) const fn empty() -> Self {
        Self { content: Content::Full(None), _entered: None }
    }

    pub(super) const fn full(bytes: Bytes) -> Self {
        Self { content: Content::Full(Some(bytes)), _entered: None }
    }

    pub(super) fn stream(stream: StreamBody) -> Self {
        Self { content: Content::Stream(Box::new(stream)), _entered: None }
    }

    pub(super) fn holding(self, entered: Entered) -> Self {
        Self { _entered: Some(entered), ..self }
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.content {
            Content::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Stream(stream) => {
                stream.poll_bytes(cx).map(|next| next.map(|bytes| bytes.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Content::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Content::Stream(_) => SizeHint::default(),
        }
    }
}
