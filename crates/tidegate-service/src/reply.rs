//! What travels outward.
//!
//! A reply is over when its stream ends or is dropped, not when its head arrives. Whoever counts,
//! times or judges calls hooks [`Reply::on_end`], which runs exactly once.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use futures_core::Stream;
use http::{HeaderMap, StatusCode};
use tidegate_protocol::{Envelope, sse};

use crate::{Error, slow::SlowClients};

/// The answer to a [`crate::Call`].
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status the upstream gave, or the one that fits.
    pub status: StatusCode,
    /// The upstream's end-to-end headers.
    pub headers: HeaderMap,
    /// The messages.
    pub body: Body,
}

/// What a reply carries.
#[derive(Debug)]
pub enum Body {
    /// Nothing: an accepted notification, or a bare status.
    Empty,
    /// One message.
    One(Envelope),
    /// Frames until the stream ends.
    Stream(EventStream),
}

/// One element of a stream.
#[derive(Clone, Debug)]
pub enum Frame {
    /// A message that still needs framing.
    Message(Envelope),
    /// An event exactly as the upstream framed it, comments and unknown fields included.
    Block(sse::Block),
    /// A message and the event that it is framed as, under an id of the proxy's.
    Stamped {
        /// The message.
        message: Envelope,
        /// The event, as it goes to the client.
        block: sse::Block,
    },
}

/// How a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The upstream finished.
    Complete,
    /// The upstream failed midway.
    Failed,
    /// The reader went away first.
    Dropped,
}

/// A stream of frames that ends with a [`Verdict`].
pub struct EventStream {
    inner: Pin<Box<dyn Stream<Item = Result<Frame, Error>> + Send>>,
    on_end: Option<Box<dyn FnOnce(Verdict) + Send>>,
    is_answer: bool,
    missed: u64,
    reader: ReadBy,
}

/// How the client of a stream is treated if it does not read.
#[derive(Clone, Debug, Default)]
enum ReadBy {
    #[default]
    Unknown,
    Known(Arc<SlowClients>),
    /// It will be known once the reply is there.
    Later(Arc<OnceLock<Arc<SlowClients>>>),
}

impl Reply {
    /// A reply of one message, with status 200.
    pub fn one(envelope: Envelope) -> Self {
        Self::with(StatusCode::OK, Body::One(envelope))
    }

    /// A reply of many messages, with status 200.
    pub fn stream(stream: EventStream) -> Self {
        Self::with(StatusCode::OK, Body::Stream(stream))
    }

    /// The reply to what needs no answer: status 202 and no body.
    pub fn accepted() -> Self {
        Self::with(StatusCode::ACCEPTED, Body::Empty)
    }

    /// A reply without headers.
    pub fn with(status: StatusCode, body: Body) -> Self {
        Self { status, headers: HeaderMap::new(), body }
    }

    /// Replaces the stream, if there is one. What the stream says of itself stays.
    #[must_use]
    pub fn map_stream(self, change: impl FnOnce(EventStream) -> EventStream) -> Self {
        match self.body {
            Body::Stream(stream) => {
                let (is_answer, missed) = (stream.is_answer, stream.missed);
                let reader = stream.reader.clone();
                let mut changed = change(stream);
                changed.is_answer |= is_answer;
                changed.missed = changed.missed.max(missed);
                if matches!(changed.reader, ReadBy::Unknown) {
                    changed.reader = reader;
                }
                Self { body: Body::Stream(changed), ..self }
            }
            Body::Empty | Body::One(_) => self,
        }
    }

    /// Tells how the client of the stream is treated if it does not read, if there is a stream.
    #[must_use]
    pub fn read_by(mut self, slow: &Arc<SlowClients>) -> Self {
        if let Body::Stream(stream) = &mut self.body {
            stream.reader = ReadBy::Known(Arc::clone(slow));
        }
        self
    }

    /// Calls `hook` once, when the reply is over.
    #[must_use]
    pub fn on_end(self, hook: impl FnOnce(Verdict) + Send + 'static) -> Self {
        match self.body {
            Body::Stream(stream) => Self { body: Body::Stream(stream.on_end(hook)), ..self },
            Body::Empty | Body::One(_) => {
                hook(Verdict::Complete);
                self
            }
        }
    }
}

impl EventStream {
    /// Wraps a stream of frames.
    pub fn new(inner: impl Stream<Item = Result<Frame, Error>> + Send + 'static) -> Self {
        Self {
            inner: Box::pin(inner),
            on_end: None,
            is_answer: false,
            missed: 0,
            reader: ReadBy::Unknown,
        }
    }

    /// Calls `hook` once, when the stream ends or is dropped.
    #[must_use]
    pub fn on_end(mut self, hook: impl FnOnce(Verdict) + Send + 'static) -> Self {
        let earlier = self.on_end.take();
        self.on_end = Some(match earlier {
            None => Box::new(hook),
            // Inner layers hooked first and must be told first: the permit they return is what
            // the outer layer may hand out again.
            Some(earlier) => Box::new(move |verdict| {
                earlier(verdict);
                hook(verdict);
            }),
        });
        self
    }

    /// Marks the stream as one that ends with the answer to a request, also where nobody can tell
    /// by what was asked for: a client may come back to it by a GET.
    #[must_use]
    pub fn answering(mut self) -> Self {
        self.is_answer = true;
        self
    }

    /// Whether the stream was marked as one that ends with an answer.
    pub const fn is_answer(&self) -> bool {
        self.is_answer
    }

    /// Says how many messages came for earlier streams of this kind and found no room.
    #[must_use]
    pub const fn after_missing(mut self, count: u64) -> Self {
        self.missed = count;
        self
    }

    /// How many messages are missing between the streams before and this one.
    pub const fn missed(&self) -> u64 {
        self.missed
    }

    /// Says how the client is treated if it does not read.
    #[must_use]
    pub fn read_by(mut self, slow: Option<Arc<SlowClients>>) -> Self {
        self.reader = slow.map_or(ReadBy::Unknown, ReadBy::Known);
        self
    }

    /// The same for a stream that begins before it is known.
    #[must_use]
    pub fn read_by_later(mut self, slow: Arc<OnceLock<Arc<SlowClients>>>) -> Self {
        self.reader = ReadBy::Later(slow);
        self
    }

    /// How the client is treated if it does not read, as far as it is known.
    pub fn slow(&self) -> Option<&Arc<SlowClients>> {
        match &self.reader {
            ReadBy::Unknown => None,
            ReadBy::Known(slow) => Some(slow),
            ReadBy::Later(slow) => slow.get(),
        }
    }

    fn finish(&mut self, verdict: Verdict) {
        if let Some(hook) = self.on_end.take() {
            hook(verdict);
        }
    }
}

impl Stream for EventStream {
    type Item = Result<Frame, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.inner.as_mut().poll_next(cx);
        match &next {
            Poll::Ready(None) => self.finish(Verdict::Complete),
            Poll::Ready(Some(Err(_))) => self.finish(Verdict::Failed),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => (),
        }
        next
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.finish(Verdict::Dropped);
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::{StreamExt as _, stream};

    use super::{EventStream, Reply, Verdict};
    use crate::{Error, Kind, Origin, Retry};

    type Seen = Arc<Mutex<Vec<(&'static str, Verdict)>>>;

    fn hook(seen: &Seen, name: &'static str) -> impl FnOnce(Verdict) + Send + 'static {
        let seen = Arc::clone(seen);
        move |verdict| seen.lock().unwrap().push((name, verdict))
    }

    #[tokio::test]
    async fn hooks_run_once_each_and_the_inner_one_first() {
        let seen = Seen::default();
        let reply = Reply::stream(EventStream::new(stream::empty()))
            .on_end(hook(&seen, "inner"))
            .on_end(hook(&seen, "outer"));
        let super::Body::Stream(mut frames) = reply.body else { panic!("expected a stream") };
        assert!(frames.next().await.is_none());
        drop(frames);
        let expected = [("inner", Verdict::Complete), ("outer", Verdict::Complete)];
        assert_eq!(*seen.lock().unwrap(), expected);
    }

    #[test]
    fn a_stream_that_is_replaced_still_ends_with_an_answer() {
        for is_answer in [true, false] {
            let stream = EventStream::new(stream::empty());
            let stream = if is_answer { stream.answering() } else { stream };
            let reply = Reply::stream(stream).map_stream(|frames| EventStream::new(frames.take(1)));
            let super::Body::Stream(frames) = reply.body else { panic!("expected a stream") };
            assert_eq!(frames.is_answer(), is_answer);
        }
    }

    #[tokio::test]
    async fn a_broken_stream_and_an_abandoned_one_are_told_apart() {
        let seen = Seen::default();
        let broken = Error::new(Kind::Died, Origin::Upstream, Retry::Never, "gone");
        let mut frames =
            EventStream::new(stream::iter([Err(broken)])).on_end(hook(&seen, "broken"));
        assert!(frames.next().await.is_some());
        drop(EventStream::new(stream::pending()).on_end(hook(&seen, "left")));
        let expected = [("broken", Verdict::Failed), ("left", Verdict::Dropped)];
        assert_eq!(*seen.lock().unwrap(), expected);
    }
}
