//! One process for many callers, started when it is first needed and again when it is gone.
//!
//! What is asked of a process before it serves anybody, and what is kept of the answer, is up to a
//! [`Greeting`]. Everybody who comes while a process starts waits for the same start.

use std::{
    borrow::Cow,
    fmt::Debug,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tidegate_service::{Error, Kind, OnError, Origin, Retry};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    child::{Child, Lease, Refused, Stage},
    demux::Mode,
    exchange::waited,
    host::Host,
    legacy::explain,
    spares::Spares,
};

/// What to ask a new process, and what its answer means.
pub(crate) trait Greeting: Debug + Send + Sync + 'static {
    /// What is known of a process that serves.
    type Facts: Clone + Debug + Send + Sync + 'static;
    /// What is known where no process can serve.
    type Unfit: Clone + Debug + Send + Sync + 'static;
    /// How the messages of such a process are attributed.
    const MODE: Mode;

    /// Greets a process.
    fn greet(
        &self,
        child: &Arc<Child>,
    ) -> impl Future<Output = Greeted<Self::Facts, Self::Unfit>> + Send;
}

/// What became of a greeting.
#[derive(Debug)]
pub(crate) enum Greeted<F, U> {
    Ready(F),
    /// The process is not of the kind that can serve, and it would be no use to ask again soon.
    Unfit(U, Duration),
    Failed(Error),
}

/// What a caller finds.
#[derive(Clone, Debug)]
pub(crate) enum Found<F, U> {
    Ready(Arc<Child>, F),
    Unfit(U),
}

/// The process, or what is known about why there is none.
#[derive(Debug)]
pub(crate) struct Single<G: Greeting> {
    spares: Arc<Spares>,
    pub(crate) greeting: G,
    state: watch::Sender<State<G>>,
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct State<G: Greeting> {
    /// The number of the last start.
    attempt: u64,
    phase: Phase<G>,
}

#[derive(Debug)]
enum Phase<G: Greeting> {
    /// Nothing was tried, or what was is over.
    Down,
    Failed(Failed),
    Starting,
    Up(Lease, G::Facts),
    Unfit(G::Unfit, Instant),
}

/// Why a start failed, for everybody who waited for it.
#[derive(Clone, Debug)]
struct Failed {
    kind: Kind,
    origin: Origin,
    message: Cow<'static, str>,
    /// The causes, for logs.
    causes: Arc<str>,
}

/// The causes of a failure that several callers are told of.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Causes(Arc<str>);

/// What a caller does next.
enum Next<G: Greeting> {
    Use(Found<G::Facts, G::Unfit>),
    Fail(Failed),
    Wait(u64),
    Start(u64),
}

/// A start that is under way. Dropped before it is settled, it has failed.
struct Attempt<'a, G: Greeting> {
    single: &'a Single<G>,
    number: u64,
    settled: bool,
}

/// A caller who waits for a start; counted so that their number is bounded.
struct Waiting<'a>(&'a AtomicUsize);

impl<G: Greeting> Single<G> {
    pub(crate) fn new(spares: Arc<Spares>, greeting: G) -> Self {
        let state = State { attempt: 0, phase: Phase::Down };
        Self { spares, greeting, state: watch::channel(state).0, waiting: AtomicUsize::new(0) }
    }

    /// The process, once it is up, or why there will be none.
    ///
    /// # Cancel safety
    /// Dropping the wait leaves the start to others.
    pub(crate) async fn find(
        self: &Arc<Self>,
        until: Instant,
    ) -> Result<Found<G::Facts, G::Unfit>, Error> {
        if let Some((child, facts)) = self.up() {
            return Ok(Found::Ready(child, facts));
        }
        let name = &self.spares.host.params.name;
        let began = Instant::now();
        let _waiting = self.join()?;
        let mut changes = self.state.subscribe();
        let mut joined = None;
        loop {
            changes.mark_unchanged();
            match self.next(joined) {
                Next::Use(found) => return Ok(found),
                Next::Fail(failed) => return Err(failed.error(name)),
                Next::Wait(attempt) => joined = Some(attempt),
                Next::Start(attempt) => {
                    joined = Some(attempt);
                    self.begin(attempt);
                }
            }
            if timeout_at(until, changes.changed()).await.is_err() {
                let message = waited(Instant::now() - began, "for the server process to start");
                let retry = Retry::NotSent;
                return Err(Error::new(Kind::Timeout, Origin::Upstream, retry, message).at(name));
            }
        }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.spares.host
    }

    /// The process, if it is up now.
    pub(crate) fn up(&self) -> Option<(Arc<Child>, G::Facts)> {
        match &self.state.borrow().phase {
            Phase::Up(lease, facts) if lease.child().is_up() => {
                Some((Arc::clone(lease.child()), facts.clone()))
            }
            _ => None,
        }
    }

    /// Whether the process is up now.
    pub(crate) fn is_up(&self) -> bool {
        matches!(&self.state.borrow().phase, Phase::Up(lease, _) if lease.child().is_up())
    }

    /// Replaces what is known of this process. Nobody is woken: nobody waits for it.
    pub(crate) fn note(&self, child: &Arc<Child>, news: G::Facts) {
        self.state.send_if_modified(|state| {
            if let Phase::Up(lease, facts) = &mut state.phase
                && Arc::ptr_eq(lease.child(), child)
            {
                *facts = news;
            }
            false
        });
    }

    /// Lets go of a process that takes no more calls. It ends when those it has are answered.
    pub(crate) fn tidy(&self) {
        self.state.send_if_modified(|state| {
            let gone = |lease: &Lease| !lease.child().is_alive();
            if matches!(&state.phase, Phase::Up(lease, _) if gone(lease)) {
                state.phase = Phase::Down;
            }
            false
        });
    }

    fn begin(self: &Arc<Self>, attempt: u64) {
        let single = Arc::clone(self);
        self.spares.host.tasks.spawn("stdio start", OnError::Log, async move {
            let attempt = Attempt { single: &single, number: attempt, settled: false };
            let phase = single.start().await;
            attempt.settle(phase.unwrap_or_else(|error| Phase::Failed(Failed::from(&error))));
            Ok(())
        });
    }

    async fn start(&self) -> Result<Phase<G>, Error> {
        let host = &self.spares.host;
        let ready = host.ready(Instant::now() + host.params.start_timeout).await?;
        let lease = self.spares.place(ready, None).await?.spawn(G::MODE, None).await?;
        let greeted = tokio::select! {
            greeted = self.greeting.greet(lease.child()) => greeted,
            () = host.closing.cancelled() => return Err(host.draining()),
        };
        match greeted {
            Greeted::Ready(facts) => {
                lease.child().enter(Stage::Serving);
                Ok(Phase::Up(lease, facts))
            }
            Greeted::Unfit(found, lasts) => Ok(Phase::Unfit(found, Instant::now() + lasts)),
            Greeted::Failed(error) => Err(error),
        }
    }

    /// Decides what a caller does, and notes if it is to start a process.
    fn next(&self, joined: Option<u64>) -> Next<G> {
        if self.spares.host.closing.is_cancelled() {
            return Next::Fail(Failed::from(&self.spares.host.draining()));
        }
        let now = Instant::now();
        let mut next = None;
        self.state.send_if_modified(|state| {
            let answer = match &state.phase {
                Phase::Up(lease, facts) if lease.child().is_up() => {
                    Some(Next::Use(Found::Ready(Arc::clone(lease.child()), facts.clone())))
                }
                Phase::Unfit(found, until) if now < *until => {
                    Some(Next::Use(Found::Unfit(found.clone())))
                }
                Phase::Failed(failed) if joined == Some(state.attempt) => {
                    Some(Next::Fail(failed.clone()))
                }
                Phase::Starting => Some(Next::Wait(state.attempt)),
                Phase::Up(..) | Phase::Unfit(..) | Phase::Failed(_) | Phase::Down => None,
            };
            let starts = answer.is_none();
            next = Some(answer.unwrap_or_else(|| {
                state.attempt += 1;
                if let Phase::Up(lease, _) = std::mem::replace(&mut state.phase, Phase::Starting) {
                    lease.leave();
                }
                Next::Start(state.attempt)
            }));
            starts
        });
        // The closure always runs and always answers.
        next.unwrap_or(Next::Wait(0))
    }

    fn join(&self) -> Result<Waiting<'_>, Error> {
        let host = &self.spares.host;
        let waiting = Waiting(&self.waiting);
        if waiting.0.fetch_add(1, Ordering::Relaxed) >= host.params.max_in_flight {
            // The drop takes it back.
            return Err(explain(Refused::Full, host));
        }
        Ok(waiting)
    }
}

impl<G: Greeting> Attempt<'_, G> {
    fn settle(mut self, phase: Phase<G>) {
        self.publish(phase);
    }

    fn publish(&mut self, phase: Phase<G>) {
        self.settled = true;
        self.single.state.send_if_modified(|state| {
            let current = state.attempt == self.number;
            if current {
                state.phase = phase;
            }
            current
        });
    }
}

impl<G: Greeting> Drop for Attempt<'_, G> {
    fn drop(&mut self) {
        if !self.settled {
            let message = "the start of the server process was given up";
            let error = Error::new(Kind::Internal, Origin::Gateway, Retry::NotSent, message);
            self.publish(Phase::Failed(Failed::from(&error)));
        }
    }
}

impl Failed {
    fn from(error: &Error) -> Self {
        let message = Cow::Owned(error.message().to_owned());
        let causes = error.chain().to_string().into();
        Self { kind: error.kind, origin: error.origin, message, causes }
    }

    fn error(self, upstream: &Arc<str>) -> Error {
        let error = Error::new(self.kind, self.origin, Retry::NotSent, self.message);
        error.at(upstream).because(Causes(self.causes))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
