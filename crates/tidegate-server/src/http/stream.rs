//! A reply of many frames, as the bytes of an event stream.
//!
//! Frames that are ready together leave in one piece, so that a burst costs one write; a frame is
//! never held back for another. Silence is filled with comments. What happens when the upstream
//! breaks off depends on what the client can still do about it, see [`StreamBody::broken`].

#[cfg(test)]
mod tests;

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_core::Stream as _;
use tidegate_protocol::{Envelope, Era, Id, rpc, sse};
use tidegate_service::{Error, EventStream, Frame, Kind, slow::SlowClients};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::error::Rejection;
use crate::stats::Counters;

/// The most bytes that leave in one piece, unless a single frame is larger.
const PIECE: usize = 16 << 10;
const COMMENT: Bytes = Bytes::from_static(b": keep-alive\n\n");
/// Tells a legacy client how long to wait before it comes back, in milliseconds.
const RETRY_HINT: Bytes = Bytes::from_static(b"retry: 1000\n\n");

/// What kind of waiting a stream is, and so how it ends when the proxy stops.
#[derive(Clone, Debug)]
pub(super) enum Listening {
    /// Not waiting: the stream answers a call and ends with it.
    No,
    /// The GET stream of a legacy session.
    ToSession,
    /// A modern `subscriptions/listen` with this id.
    ToSubscription(Id),
}

/// The stream was cut; the HTTP library must not end the response as if it were whole.
#[derive(Debug)]
pub(crate) struct Broken;

/// Everything that [`StreamBody::new`] needs to know.
#[derive(Debug)]
pub(super) struct Params {
    pub(super) era: Era,
    /// The id of the request that the stream answers.
    pub(super) id: Option<Id>,
    pub(super) listening: Listening,
    pub(super) heartbeat: Duration,
}

/// An event stream on its way to the client.
pub(super) struct StreamBody {
    frames: EventStream,
    params: Params,
    drain: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    comment: Pin<Box<Sleep>>,
    last_sent: Instant,
    /// Whether the client has event ids to resume from.
    is_resumable: bool,
    end: Option<End>,
    counters: Arc<Counters>,
}

/// How the stream goes on after what has been sent.
#[derive(Debug)]
enum End {
    Whole,
    Cut,
}

impl Listening {
    pub(super) fn of(era: Era, envelope: &Envelope) -> Self {
        match envelope.id() {
            Some(id) if era == Era::Modern && envelope.is_method("subscriptions/listen") => {
                Self::ToSubscription(id)
            }
            _ => Self::No,
        }
    }

    /// The same with an id in a buffer of its own.
    pub(super) fn detach(self) -> Self {
        match self {
            Self::ToSubscription(id) => Self::ToSubscription(id.detach()),
            Self::No | Self::ToSession => self,
        }
    }
}

impl StreamBody {
    pub(super) fn new(
        frames: EventStream,
        params: Params,
        drain: &CancellationToken,
        counters: &Arc<Counters>,
    ) -> Self {
        counters.streams_open.fetch_add(1, Ordering::Relaxed);
        let drain = match params.listening {
            // A call is waited for; only what never ends by itself hears of the drain.
            Listening::No => None,
            Listening::ToSession | Listening::ToSubscription(_) => {
                Some(Box::pin(drain.clone().cancelled_owned()))
            }
        };
        Self {
            frames,
            drain,
            comment: Box::pin(sleep(params.heartbeat)),
            last_sent: Instant::now(),
            is_resumable: false,
            end: None,
            counters: Arc::clone(counters),
            params,
        }
    }

    /// Whether nobody expects it to end.
    pub(super) const fn is_endless(&self) -> bool {
        !matches!(self.params.listening, Listening::No)
    }

    /// How the client is treated if it does not read.
    pub(super) fn slow(&self) -> Option<&Arc<SlowClients>> {
        self.frames.slow()
    }

    pub(super) fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Broken>>> {
        match self.end {
            Some(End::Whole) => return Poll::Ready(None),
            Some(End::Cut) => return Poll::Ready(Some(Err(Broken))),
            None => (),
        }
        let next = self.poll_frames(cx);
        if next.is_ready() {
            self.last_sent = Instant::now();
            return next;
        }
        if let Some(drain) = &mut self.drain
            && drain.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(self.drained().map(Ok));
        }
        self.poll_comment(cx)
    }

    /// The next frame, and those that are ready behind it.
    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let Poll::Ready(first) = Pin::new(&mut self.frames).poll_next(cx) else {
            return Poll::Pending;
        };
        let first = match first {
            None => {
                self.end = Some(End::Whole);
                return Poll::Ready(None);
            }
            Some(Err(error)) => return Poll::Ready(self.broken(error)),
            Some(Ok(frame)) => self.encoded(frame),
        };
        let mut piece: Option<BytesMut> = None;
        loop {
            let length = piece.as_ref().map_or(first.len(), BytesMut::len);
            if length >= PIECE {
                break;
            }
            match Pin::new(&mut self.frames).poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => {
                    self.end = Some(End::Whole);
                    break;
                }
                Poll::Ready(Some(Ok(frame))) => {
                    let bytes = self.encoded(frame);
                    grown(&mut piece, &first).extend_from_slice(&bytes);
                }
                Poll::Ready(Some(Err(error))) => {
                    if let Some(Ok(bytes)) = self.broken(error) {
                        grown(&mut piece, &first).extend_from_slice(&bytes);
                    }
                    break;
                }
            }
        }
        Poll::Ready(Some(Ok(piece.map_or(first, BytesMut::freeze))))
    }

    fn encoded(&mut self, frame: Frame) -> Bytes {
        match frame {
            Frame::Message(envelope) => sse::encode(envelope.bytes()),
            Frame::Block(block) | Frame::Stamped { block, .. } => {
                self.is_resumable |= block.id.is_some();
                block.raw
            }
        }
    }

    /// The upstream broke off. Where the client can help itself it must see a cut stream: a modern
    /// one sends its request again, a legacy one with event ids resumes. Everybody else is told in
    /// a last event and then the stream is whole; so is whoever waited or has kept others waiting
    /// too long, and a legacy client that would meet the same end if it resumed.
    fn broken(&mut self, error: Error) -> Option<Result<Bytes, Broken>> {
        tracing::debug!(error = %error.chain(), "stream broke off");
        let can_recover = match self.params.era {
            Era::Modern => true,
            Era::Legacy => self.is_resumable || self.params.id.is_none(),
        };
        let is_final = match self.params.era {
            Era::Modern => matches!(error.kind, Kind::Timeout | Kind::SlowClient),
            Era::Legacy => is_final(error.kind),
        };
        let id = self.params.id.clone();
        if id.is_none() || (can_recover && !is_final) {
            self.end = Some(End::Cut);
            return Some(Err(Broken));
        }
        self.end = Some(End::Whole);
        let body = Rejection::from_error(self.params.era, id, &error).body();
        Some(Ok(sse::encode(&body)))
    }

    /// The proxy stops: say goodbye as the era wants it.
    fn drained(&mut self) -> Option<Bytes> {
        self.end = Some(End::Whole);
        match &self.params.listening {
            Listening::No => None,
            Listening::ToSession => Some(RETRY_HINT),
            Listening::ToSubscription(id) => {
                let token = String::from_utf8_lossy(id.token());
                let result = format!(
                    r#"{{"resultType":"complete","_meta":{{"io.modelcontextprotocol/subscriptionId":{token}}}}}"#
                );
                Some(sse::encode(&rpc::result(id, &result)))
            }
        }
    }

    fn poll_comment(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        // The timer is moved only when it fires, not with every event.
        while self.comment.as_mut().poll(cx).is_ready() {
            let due = self.last_sent + self.params.heartbeat;
            let now = Instant::now();
            if due <= now {
                self.last_sent = now;
                self.comment.as_mut().reset(now + self.params.heartbeat);
                return Poll::Ready(Some(Ok(COMMENT)));
            }
            self.comment.as_mut().reset(due);
        }
        Poll::Pending
    }
}

/// Whether a stream that ended like this would end the same way if it were resumed.
const fn is_final(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Timeout
            | Kind::Protocol
            | Kind::TooLarge
            | Kind::SessionUnknown
            | Kind::Unsupported
            | Kind::SlowClient
    )
}

/// The piece that further frames are added to, begun with the first.
fn grown<'a>(piece: &'a mut Option<BytesMut>, first: &Bytes) -> &'a mut BytesMut {
    piece.get_or_insert_with(|| {
        let mut piece = BytesMut::with_capacity(PIECE.max(first.len() * 2));
        piece.extend_from_slice(first);
        piece
    })
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.counters.streams_open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for StreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamBody").field("params", &self.params).finish_non_exhaustive()
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the upstream broke off")
    }
}

impl std::error::Error for Broken {}
