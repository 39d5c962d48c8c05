//! A stream that goes on when its connection does not.
//!
//! Its reader gets the events as if they had come over one connection, and while it waits a comment
//! for each attempt.

use std::{
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use tidegate_http_client::{Fault, Reconnect};
use tidegate_protocol::{Envelope, rpc, sse};
use tidegate_service::{Error, Frame};
use tokio::time::Instant;
use tracing::debug;

use super::{
    attempt::{self, Outcome, Source},
    counters::{Counters, Waiting, count},
    level::Level,
    state::{Break, Next, Passage, State},
};
use crate::{course::Core, events::Events, session::UpstreamSession};

/// Events, from as many connections as it takes.
///
/// Dropping it closes the connection, or ends the wait for one, at once.
pub(crate) struct Resuming {
    events: Events,
    state: State,
    source: Arc<Source>,
    core: Weak<Core>,
    counters: Arc<Counters>,
    upstream: Arc<str>,
    phase: Phase,
    /// What the reader is told before anything else.
    news: [Option<Frame>; 2],
}

/// What the reader gets now, if anything.
type Step = ControlFlow<Option<Result<Frame, Error>>>;

enum Phase {
    Reading,
    Waiting { attempt: Pin<Box<dyn Future<Output = Outcome> + Send>>, _counted: Waiting },
    Over,
}

impl Resuming {
    pub(crate) fn new(
        core: &Arc<Core>,
        policy: Reconnect,
        source: &Source,
        events: Events,
    ) -> Self {
        let source = Arc::new(source.detached());
        let state = State::new(policy, source.purpose, source.last.as_ref(), Instant::now());
        Self {
            events,
            state,
            source,
            core: Arc::downgrade(core),
            counters: Arc::clone(&core.resumption),
            upstream: Arc::clone(core.client.name()),
            phase: Phase::Reading,
            news: [None, None],
        }
    }

    /// The connection is over: go on with another one, or end as it did.
    fn broke(&mut self, fault: Option<Fault>) -> Step {
        self.events.close(fault.as_ref());
        let how = match &fault {
            None => Break::Ended,
            Some(fault) if attempt::is_break(fault) => Break::Cut,
            // It would come again.
            Some(_) => return self.end(fault),
        };
        if self.source.is_cancelled() {
            return self.end(fault);
        }
        match self.state.broke(how, Instant::now(), rand::random()) {
            Next::End => self.end(fault),
            next => self.go_on(next, how),
        }
    }

    /// Waits for the next attempt, which the reader is told, or gives up.
    fn go_on(&mut self, next: Next, how: Break) -> Step {
        let (at, number) = match next {
            Next::Reconnect { at, attempt } => (at, attempt),
            Next::GiveUp { failures, waited } => {
                return self.give_up(Fault::GaveUp { attempts: failures, waited });
            }
            Next::End => return self.end(None),
        };
        debug!(upstream = %self.upstream, ?how, attempt = number, "a stream broke; reconnecting");
        let attempt = attempt::attempt(
            Weak::clone(&self.core),
            Arc::clone(&self.source),
            self.state.last(),
            at,
        );
        let _counted = Waiting::new(&self.counters);
        self.phase = Phase::Waiting { attempt: Box::pin(attempt), _counted };
        // That a server wants to be polled is no news for a log.
        let is_worth_a_message = how == Break::Cut && number == 1 && self.wants_warnings();
        self.news = [Some(comment(number)), is_worth_a_message.then(message).flatten()];
        Step::Continue(())
    }

    fn came_back(&mut self, outcome: Outcome) -> Step {
        match outcome {
            Outcome::Opened(..) | Outcome::Failed(_) if self.source.is_cancelled() => {
                self.end(None)
            }
            Outcome::Opened(exchange, attempt) => {
                let now = Instant::now();
                self.count_success(now);
                self.state.opened(now);
                self.events.go_on(exchange, attempt);
                self.phase = Phase::Reading;
                Step::Continue(())
            }
            Outcome::Failed(fault) => {
                debug!(upstream = %self.upstream, ?fault, "a stream could not go on yet");
                let next = self.state.broke(Break::Failed, Instant::now(), rand::random());
                self.go_on(next, Break::Failed)
            }
            Outcome::Refused(fault) => self.give_up(fault),
            Outcome::Over(fault) => self.end(Some(fault)),
        }
    }

    fn count_success(&self, now: Instant) {
        let counter = match self.state.last() {
            Some(_) => &self.counters.resumed,
            None => &self.counters.gaps,
        };
        count(counter);
        if let Some(since) = self.state.in_trouble_since() {
            self.counters.times.observe(now.saturating_duration_since(since));
        }
    }

    fn give_up(&mut self, fault: Fault) -> Step {
        count(&self.counters.given_up);
        self.end(Some(fault))
    }

    fn end(&mut self, fault: Option<Fault>) -> Step {
        self.phase = Phase::Over;
        self.events.over();
        Step::Break(fault.map(|fault| Err(fault.at(&self.upstream))))
    }

    /// A block has come.
    fn read(&mut self, block: sse::Block) -> Step {
        match self.state.saw(&block) {
            Passage::Pass => (),
            Passage::PassReused => count(&self.counters.reused_ids),
            Passage::Drop => {
                count(&self.counters.replayed);
                return Step::Continue(());
            }
        }
        Step::Break(Some(Ok(Frame::Block(block))))
    }

    fn wants_warnings(&self) -> bool {
        let bound = self.source.session().and_then(|session| session.binding::<UpstreamSession>());
        bound.and_then(|bound| bound.level()).is_some_and(|level| level <= Level::Warning)
    }
}

impl Stream for Resuming {
    type Item = Result<Frame, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(frame) = this.news.iter_mut().find_map(Option::take) {
                return Poll::Ready(Some(Ok(frame)));
            }
            let step = match &mut this.phase {
                Phase::Over => return Poll::Ready(None),
                Phase::Waiting { attempt, .. } => {
                    let outcome = ready!(attempt.as_mut().poll(cx));
                    this.came_back(outcome)
                }
                Phase::Reading => match ready!(this.events.poll_block(cx)) {
                    Some(Ok(block)) => this.read(block),
                    Some(Err(fault)) => this.broke(Some(fault)),
                    None => this.broke(None),
                },
            };
            if let Step::Break(item) = step {
                return Poll::Ready(item);
            }
        }
    }
}

fn comment(attempt: u32) -> Frame {
    let raw = sse::comment(&format!("reconnecting to the server, attempt {attempt}"));
    Frame::Block(sse::Block { raw, data: None, id: None, event: None, retry: None })
}

fn message() -> Option<Frame> {
    let params = r#"{"level":"warning","logger":"tidegate","data":"the connection to the server broke; reconnecting"}"#;
    let message = rpc::notification("notifications/message", params);
    Envelope::parse(message).ok().map(Frame::Message)
}
