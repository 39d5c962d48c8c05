//! A stream of a server's messages, and how long the server may take.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use memchr::memmem;
use tidegate_http_client::{Fault, Wait};
use tidegate_protocol::{Envelope, Kind};
use tidegate_service::{Error, Frame, Session, Timeouts};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    course::Core,
    resume::Source,
    session::{self, Debt},
};

/// A stream that somebody else can end.
pub(crate) trait Ends {
    /// Ends it with a fault, and closes its connection.
    fn end(&mut self, fault: &Fault);
}

/// A stream that ends with an error when its server takes too long, be it over one connection or
/// over several.
///
/// What counts are messages: a comment says that the connection lives, not that the call does. While
/// the client owes the server an answer, the server owes none.
pub(crate) struct Timed<S> {
    stream: S,
    clock: Clock,
    /// `None` where there is no limit any more.
    sleep: Option<Pin<Box<Sleep>>>,
    /// A message came, and the clock has not been told. A burst costs one look at the time.
    is_fresh: bool,
    is_over: bool,
    core: Weak<Core>,
    upstream: Arc<str>,
    /// Of a legacy call, which is taken back.
    source: Option<Arc<Source>>,
}

/// When the time is up. It looks at no clock itself.
#[derive(Debug)]
struct Clock {
    first: Option<Duration>,
    idle: Option<Duration>,
    deadline: Option<Instant>,
    started: Instant,
    /// The last message, or the start.
    touched: Instant,
    begun: bool,
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Term {
    /// It answers a call.
    Answer,
    /// It is a subscription: once it has begun it has no limit.
    Subscription,
    /// It is what a session's server says unasked, if it ever does.
    Unasked,
}

impl<S> Timed<S> {
    /// `started` is when the call was.
    pub(crate) fn new(
        stream: S,
        core: &Arc<Core>,
        wait: &Wait,
        started: Instant,
        term: Term,
        source: Option<Arc<Source>>,
    ) -> Self {
        let Timeouts { request: first, idle, .. } = *core.client.timeouts(wait);
        let clock = Clock {
            first: first.filter(|_| term != Term::Unasked),
            idle: idle.filter(|_| term == Term::Answer),
            deadline: wait.deadline.filter(|_| term == Term::Answer),
            started,
            touched: started,
            begun: false,
        };
        let sleep = clock.due().map(|due| Box::pin(sleep_until(due)));
        Self {
            stream,
            clock,
            sleep,
            is_fresh: false,
            is_over: false,
            core: Arc::downgrade(core),
            upstream: Arc::clone(core.client.name()),
            source,
        }
    }

    fn session(&self) -> Option<&Session> {
        self.source.as_deref().and_then(Source::session)
    }

    fn saw(&mut self, frame: &Frame) {
        // Messages of the proxy's own are none of the server's.
        let Frame::Block(block) = frame else { return };
        let Some(data) = block.data.as_ref().filter(|data| !data.is_empty()) else { return };
        self.is_fresh = true;
        if let Some(session) = self.session()
            && let Some(request) = request(data)
        {
            session::set_asked(session, &request);
        }
    }

    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        if std::mem::take(&mut self.is_fresh) {
            self.clock.came(Instant::now());
            match (self.clock.due(), &mut self.sleep) {
                (Some(due), Some(sleep)) if sleep.deadline() > due => sleep.as_mut().reset(due),
                (Some(_), Some(_)) => (),
                (due, sleep) => *sleep = due.map(|due| Box::pin(sleep_until(due))),
            }
        }
        while let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
            let now = Instant::now();
            if let Some(session) = self.session() {
                self.clock.waited_for_client(session::debt(session), now);
            }
            if let Some(fault) = self.clock.fault(now) {
                return Poll::Ready(fault);
            }
            match (self.clock.due(), &mut self.sleep) {
                (Some(due), Some(sleep)) => sleep.as_mut().reset(due),
                _ => self.sleep = None,
            }
        }
        Poll::Pending
    }
}

impl<S> Stream for Timed<S>
where
    S: Stream<Item = Result<Frame, Error>> + Ends + Unpin,
{
    type Item = Result<Frame, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(next) = Pin::new(&mut this.stream).poll_next(cx) {
            if let Some(Ok(frame)) = &next {
                this.saw(frame);
            }
            return Poll::Ready(next);
        }
        let fault = ready!(this.poll_clock(cx));
        this.is_over = true;
        this.stream.end(&fault);
        if let (Some(core), Some(source)) = (this.core.upgrade(), &this.source) {
            core.call_off(source);
        }
        Poll::Ready(Some(Err(fault.at(&this.upstream))))
    }
}

impl Clock {
    fn came(&mut self, now: Instant) {
        self.touched = now;
        self.begun = true;
    }

    fn waited_for_client(&mut self, debt: Debt, now: Instant) {
        match debt {
            Debt::Open => self.touched = now,
            Debt::Paid(at) => self.touched = self.touched.max(at),
            Debt::None => (),
        }
    }

    /// When to look again.
    fn due(&self) -> Option<Instant> {
        let limit = if self.begun { self.idle } else { self.first };
        let silent = limit.map(|limit| self.touched + limit);
        silent.into_iter().chain(self.deadline).min()
    }

    fn fault(&self, now: Instant) -> Option<Fault> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        Some(match (self.deadline, self.idle) {
            (Some(deadline), _) if deadline <= now => Fault::Deadline(now - self.started),
            (_, Some(idle)) if self.begun => Fault::IdleTimeout(idle),
            _ => Fault::FirstTimeout(now - self.started),
        })
    }
}

/// The server's own request in an event. Few events have an id of any kind, so few are parsed.
fn request(data: &Bytes) -> Option<Envelope> {
    memmem::find(data, br#""id""#)?;
    let message = Envelope::parse(data.clone()).ok()?;
    (message.kind() == Kind::Request).then_some(message)
}
