//! One call: its POST, and what comes of it on the session's stream.

use std::{
    future::{Future as _, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use futures_util::future::BoxFuture;
use tidegate_protocol::{Envelope, Id};
use tidegate_service::{Error, EventStream, Frame, Kind, Origin, Reply, Retry, Timeouts};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{demux::Step, wire::Talk};

/// How long the response to a POST may take after the answer has come. Then its connection is
/// closed.
const LATE: Duration = Duration::from_secs(1);

/// How often a wait without a limit looks around; it has nothing to see.
const IDLE_LOOK: Duration = Duration::from_secs(86_400);

/// A request under way. Dropped, it leaves the server to it, as a client's departure means nothing.
pub(crate) struct Exchange {
    talk: Arc<Talk>,
    id: Id,
    is_handshake: bool,
    /// `None` once the server has taken the message.
    post: Option<BoxFuture<'static, Result<(), Error>>>,
    /// It came before the server had taken the message.
    answer: Option<Envelope>,
    timer: Pin<Box<Sleep>>,
    limits: Timeouts,
    deadline: Option<Instant>,
    started: Instant,
    /// Something has come.
    begun: bool,
    is_over: bool,
}

/// What came for the client.
#[derive(Debug)]
enum Received {
    Message(Envelope),
    /// The last thing that comes.
    Answer(Envelope),
}

/// The rest of an exchange.
struct Rest {
    first: Option<Envelope>,
    exchange: Exchange,
}

impl Exchange {
    /// A request that the demux knows, and its POST.
    pub(crate) fn new(
        talk: Arc<Talk>,
        id: Id,
        is_handshake: bool,
        post: BoxFuture<'static, Result<(), Error>>,
        limits: Timeouts,
        deadline: Option<Instant>,
    ) -> Self {
        let started = Instant::now();
        let due = limits.request.map(|limit| started + limit);
        let due = due.into_iter().chain(deadline).min();
        let timer = Box::pin(sleep_until(due.unwrap_or(started + IDLE_LOOK)));
        let (post, answer) = (Some(post), None);
        let (begun, is_over) = (false, false);
        Self {
            talk,
            id,
            is_handshake,
            post,
            answer,
            timer,
            limits,
            deadline,
            started,
            begun,
            is_over,
        }
    }

    /// The reply, whose shape is decided by what comes first.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the exchange is left.
    pub(crate) async fn reply(mut self) -> Result<Reply, Error> {
        match poll_fn(|cx| self.poll(cx)).await {
            Some(Ok(Received::Answer(answer))) => Ok(Reply::one(answer)),
            Some(Ok(Received::Message(first))) => {
                Ok(Reply::stream(EventStream::new(Rest { first: Some(first), exchange: self })))
            }
            // Taken back: a stream that ends without an answer is what clients expect.
            None => Ok(Reply::stream(EventStream::new(Rest { first: None, exchange: self }))),
            Some(Err(error)) => Err(error),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Received, Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some(post) = &mut self.post
            && let Poll::Ready(posted) = post.as_mut().poll(cx)
        {
            self.post = None;
            if let Err(error) = posted
                && self.answer.is_none()
            {
                self.is_over = true;
                self.talk.change(|demux, _| demux.forget(&self.id));
                return Poll::Ready(Some(Err(error)));
            }
        }
        if self.answer.is_none() {
            let step = self.talk.change(|demux, _| demux.poll(&self.id, cx));
            match step {
                Poll::Ready(Step::Message(message)) => {
                    if !std::mem::replace(&mut self.begun, true) {
                        // From here on another limit holds.
                        self.timer.as_mut().reset(Instant::now());
                    }
                    return Poll::Ready(Some(Ok(Received::Message(message))));
                }
                Poll::Ready(Step::Answer(answer)) => {
                    self.answer = Some(answer);
                    self.timer.as_mut().reset(Instant::now() + LATE);
                }
                Poll::Ready(Step::Cancelled) => {
                    self.is_over = true;
                    return Poll::Ready(None);
                }
                Poll::Ready(Step::Overflowed(why)) => {
                    self.is_over = true;
                    let name = self.talk.core().client.name();
                    return Poll::Ready(Some(Err(why.error().at(name))));
                }
                Poll::Ready(Step::Broken) => return self.failed(Kind::Protocol, BROKEN),
                Poll::Ready(Step::Died) => return self.failed(Kind::Died, DIED),
                Poll::Pending => (),
            }
        }
        if self.answer.is_some() && (self.post.is_none() || self.timer.as_mut().poll(cx).is_ready())
        {
            self.is_over = true;
            return Poll::Ready(self.answer.take().map(|answer| Ok(Received::Answer(answer))));
        }
        self.poll_timer(cx)
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Received, Error>>> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.answer.is_some() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let now = Instant::now();
            let until = match self.limit() {
                Some(limit) => {
                    self.talk.change(|demux, _| demux.silent_until(&self.id, limit, now))
                }
                None => Some(now + IDLE_LOOK),
            };
            let is_late = self.deadline.is_some_and(|deadline| deadline <= now);
            match until.filter(|_| !is_late) {
                Some(until) => {
                    let due = self.deadline.map_or(until, |deadline| deadline.min(until));
                    self.timer.as_mut().reset(due);
                }
                None => return self.timed_out(is_late),
            }
        }
    }

    /// How long the server may say nothing now.
    const fn limit(&self) -> Option<Duration> {
        if self.begun { self.limits.idle } else { self.limits.request }
    }

    fn timed_out(&mut self, is_late: bool) -> Poll<Option<Result<Received, Error>>> {
        if !self.is_handshake {
            self.talk.take_back(&self.id, "it took too long");
        }
        self.talk.change(|demux, fx| demux.leave(&self.id, Instant::now(), fx));
        self.is_over = true;
        let message = match (self.begun, is_late) {
            (true, true) => {
                format!("waited {:?} for the end of the answer", self.started.elapsed())
            }
            (true, false) => {
                let limit = self.limits.idle.unwrap_or_default();
                format!("waited {limit:?} for more of the answer")
            }
            (false, _) => format!("waited {:?} for the answer", self.started.elapsed()),
        };
        let error = Error::new(Kind::Timeout, Origin::Upstream, Retry::Never, message);
        Poll::Ready(Some(Err(error.at(self.talk.core().client.name()))))
    }

    fn failed(
        &mut self,
        kind: Kind,
        message: &'static str,
    ) -> Poll<Option<Result<Received, Error>>> {
        self.is_over = true;
        let error = Error::new(kind, Origin::Upstream, Retry::Never, message);
        Poll::Ready(Some(Err(error.at(self.talk.core().client.name()))))
    }
}

const BROKEN: &str = "the server's answer is not a JSON-RPC message";
const DIED: &str = "the server ended the stream of the session, outcome unknown";

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.is_over {
            self.talk.change(|demux, fx| demux.leave(&self.id, Instant::now(), fx));
        }
    }
}

impl Stream for Rest {
    type Item = Result<Frame, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::Message(first))));
        }
        self.exchange.poll(cx).map(|received| {
            received.map(|received| match received? {
                Received::Message(message) | Received::Answer(message) => {
                    Ok(Frame::Message(message))
                }
            })
        })
    }
}
