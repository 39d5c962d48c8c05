//! The handle to one process: its conversation, what waits to be written, and how to stop it.
//!
//! Callers and the process's one task ([`crate::io`]) meet here, under one short lock. Callers put
//! lines in and leave wakers; the task moves bytes and wakes them.

mod death;
mod escalation;
mod intake;
mod lease;
mod queue;
mod stage;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use tidegate_pool::Usage;
use tidegate_protocol::Envelope;
use tidegate_service::slow::{SlowClients, Slowness};
use tokio::{
    sync::{Notify, SetOnce},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::stage::Staged;
pub(crate) use self::{
    death::{Death, describe},
    escalation::{Escalation, Step as EscalationStep},
    intake::Refused,
    lease::Lease,
    queue::Queue,
    stage::Stage,
};
use crate::{
    demux::{Demux, Effects, Mode, Owner, Step},
    host::{HEALTHY, Host, Ordinal},
    params::Params,
    stats::Counters,
};

/// How long something may wait without a reader, where requests have no limit.
const UNREAD: Duration = Duration::from_secs(300);

/// One process. Shared by its callers and its task.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) host: Arc<Host>,
    pub(crate) params: Arc<Params>,
    /// Which start it came of.
    pub(crate) ordinal: Ordinal,
    counters: Arc<Counters>,
    pid: u32,
    mode: Mode,
    state: Mutex<State>,
    staged: Staged,
    last_id: AtomicU64,
    /// The task has something to write, or something to reconsider.
    work: Notify,
    /// The queue has room again, or will never have.
    room: Notify,
    /// It can be read again.
    resume: Notify,
    stop: CancellationToken,
    resident_bytes: AtomicU64,
    cpu_nanos: AtomicU64,
    /// It did not do what it was started for.
    blamed: AtomicBool,
    /// It has answered its first request.
    answered: AtomicBool,
    /// It has lived well, and was reported so.
    lived_well: AtomicBool,
    /// The session that it serves alone, as the signal of its end.
    session: SetOnce<CancellationToken>,
    /// The end of what it said on stderr before it died.
    last_words: OnceLock<Arc<str>>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) demux: Demux,
    pub(crate) queue: Queue,
    /// How many callers wait for room.
    waiting: usize,
    usage: Usage,
    /// No more requests: it ends when those in flight have their answers.
    retiring: bool,
    /// Nothing new is taken in: the process is being stopped.
    closing: bool,
}

impl Child {
    /// The handle to a process of this id, which [`Host`] has started.
    pub(crate) fn new(host: Arc<Host>, mode: Mode, ordinal: Ordinal, pid: u32) -> Self {
        let (params, counters) = (Arc::clone(&host.params), Arc::clone(&host.counters));
        let patience = params.timeouts.request.unwrap_or(UNREAD);
        let demux = Demux::new(mode, patience, Arc::clone(&counters));
        let state = State {
            demux,
            queue: Queue::default(),
            waiting: 0,
            usage: Usage::new(Instant::now()),
            retiring: false,
            closing: false,
        };
        Self {
            params,
            ordinal,
            staged: Staged::new(Arc::clone(&counters)),
            counters,
            pid,
            mode,
            state: Mutex::new(state),
            last_id: AtomicU64::new(0),
            work: Notify::new(),
            room: Notify::new(),
            resume: Notify::new(),
            stop: host.closing.child_token(),
            resident_bytes: AtomicU64::new(0),
            cpu_nanos: AtomicU64::new(0),
            blamed: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            lived_well: AtomicBool::new(false),
            session: SetOnce::new(),
            last_words: OnceLock::new(),
            host,
        }
    }

    /// How its messages are attributed.
    pub(crate) const fn mode(&self) -> Mode {
        self.mode
    }

    /// Notes how much memory its tree has resident, and how much processor time it has used.
    pub(crate) fn measured(&self, resident_bytes: u64, cpu: Duration) {
        self.resident_bytes.store(resident_bytes, Ordering::Relaxed);
        let nanos = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        let before = self.cpu_nanos.fetch_max(nanos, Ordering::Relaxed);
        self.counters.cpu_nanos.fetch_add(nanos.saturating_sub(before), Ordering::Relaxed);
    }

    /// How much memory its tree had resident when it was last looked at.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.resident_bytes.load(Ordering::Relaxed)
    }

    /// The process's id.
    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Gives the process to one session, whose end is its end and the other way round. `slow` is of
    /// the session's route.
    pub(crate) fn bind(&self, session: CancellationToken, slow: Option<Arc<SlowClients>>) {
        if let Some(slow) = slow {
            self.look(|state| state.demux.treat(slow));
        }
        // A second session is a mistake, and the first one stands.
        drop(self.session.set(session));
    }

    /// Waits until a session has the process for itself.
    pub(crate) async fn bound(&self) -> &CancellationToken {
        self.session.wait().await
    }

    /// The signal of the end of the session that the process serves alone.
    pub(crate) fn session(&self) -> Option<&CancellationToken> {
        self.session.get()
    }

    /// Notes what the process is doing.
    pub(crate) fn enter(&self, stage: Stage) {
        self.staged.enter(stage);
    }

    /// The process has answered its first request.
    pub(crate) fn answered(&self) {
        if !self.answered.swap(true, Ordering::Relaxed) {
            self.counters.starts.observe(self.age());
            self.host.answered(self.ordinal);
        }
    }

    /// The process has shown that its server is well. Tells so once, so that a long life says
    /// nothing about starts that failed meanwhile.
    pub(crate) fn lived_well(&self) {
        if !self.lived_well.swap(true, Ordering::Relaxed) {
            self.host.lived_well(self.ordinal);
        }
    }

    /// Whether the process has answered and is old enough to trust its server.
    pub(crate) fn is_healthy(&self) -> bool {
        self.has_answered() && self.age() >= HEALTHY
    }

    fn age(&self) -> Duration {
        self.state.lock().usage.born.elapsed()
    }

    /// Whether the process has answered anything.
    pub(crate) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether its early end is the server's fault.
    pub(crate) fn died_young(&self) -> bool {
        match (self.has_answered(), self.mode) {
            // A server of the other era receives the first question this way.
            (false, Mode::Modern) => self.is_blamed() || self.host.is_modern(),
            (false, Mode::Session | Mode::Common) => true,
            // What a session does to its own process concerns nobody else.
            (true, Mode::Session) if self.session.get().is_some() => false,
            (true, _) => self.age() < HEALTHY,
        }
    }

    /// Keeps the end of what it said on stderr.
    pub(crate) fn keep_last_words(&self, words: &str) {
        if !words.is_empty() {
            self.last_words.get_or_init(|| words.into());
        }
    }

    /// The end of what it said on stderr, once it is dead.
    pub(crate) fn last_words(&self) -> Option<Arc<str>> {
        self.last_words.get().cloned()
    }

    /// How much the process was used, by what it did last and what it does now.
    pub(crate) fn usage(&self, now: Instant) -> Usage {
        let mut state = self.state.lock();
        if state.demux.in_flight() > 0 {
            state.usage.idle_since = now;
        }
        state.usage
    }

    /// Takes no more requests, and ends when those in flight have their answers. `false` if that
    /// was so already.
    pub(crate) fn retire(&self) -> bool {
        let retired = self.change(|state, fx| {
            if state.is_gone() || std::mem::replace(&mut state.retiring, true) {
                return false;
            }
            state.demux.part_with_listens(fx);
            true
        });
        if retired {
            self.room.notify_waiters();
        }
        retired
    }

    /// A new id for a request.
    pub(crate) fn mint(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Looks and changes at once, and carries out the effects.
    pub(crate) fn change<R>(&self, act: impl FnOnce(&mut State, &mut Effects) -> R) -> R {
        self.change_with(&mut Effects::default(), act)
    }

    /// Like [`Self::change`], with buffers of the caller's.
    pub(crate) fn change_with<R>(
        &self,
        fx: &mut Effects,
        act: impl FnOnce(&mut State, &mut Effects) -> R,
    ) -> R {
        let mut state = self.state.lock();
        let result = act(&mut state, fx);
        let over = state.retiring && state.demux.in_flight() == 0;
        let resumes = state.resumes();
        drop(state);
        self.apply(fx);
        if resumes {
            self.resume.notify_one();
        }
        if over {
            self.stop.cancel();
        }
        result
    }

    /// Looks and changes at once, where there can be no effects.
    pub(crate) fn look<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.state.lock())
    }

    /// What the reader of a request finds.
    pub(crate) fn poll(&self, id: u64, cx: &Context<'_>) -> Poll<Step> {
        self.read(|demux| demux.poll(id, cx))
    }

    /// What the reader of a stream for what comes unasked finds.
    pub(crate) fn poll_listener(
        &self,
        key: u64,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<Envelope, Slowness>>> {
        self.read(|demux| demux.poll_listener(key, cx))
    }

    fn read<R>(&self, read: impl FnOnce(&mut Demux) -> R) -> R {
        let mut state = self.state.lock();
        let found = read(&mut state.demux);
        let resumes = state.resumes();
        drop(state);
        if resumes {
            self.resume.notify_one();
        }
        found
    }

    /// The signal that the process can be read again, if it was not to be.
    pub(crate) const fn resumed(&self) -> &Notify {
        &self.resume
    }

    /// A client takes back its own requests.
    pub(crate) fn cancel(&self, owner: Owner, note: &Envelope) {
        let now = Instant::now();
        self.change(|state, fx| state.demux.client_cancels(owner, note, now, fx));
    }

    /// The reader of a request has left.
    pub(crate) fn leave(&self, id: u64) {
        self.change(|state, fx| state.demux.leave(id, Instant::now(), fx));
        // What was left behind has an expiry, which the task keeps.
        self.work.notify_one();
    }

    /// Tells everybody who waits that the process can serve no more.
    pub(crate) fn die(&self, death: &Arc<Death>) {
        self.change(|state, fx| {
            state.demux.die(death, fx);
            state.queue.clear();
        });
        self.room.notify_waiters();
    }

    /// Why the process can serve no more, if so.
    pub(crate) fn death(&self) -> Option<Arc<Death>> {
        self.state.lock().demux.death().cloned()
    }

    /// Whether the process takes calls, as far as is known.
    pub(crate) fn is_up(&self) -> bool {
        let state = self.state.lock();
        !state.retiring && !state.is_gone()
    }

    /// Whether the process can be talked to at all, as far as is known.
    pub(crate) fn is_alive(&self) -> bool {
        !self.state.lock().is_gone()
    }

    /// What waits to be written to it: messages and bytes.
    pub(crate) fn queued(&self) -> (usize, usize) {
        self.state.lock().queue.size()
    }

    /// Begins the end of the process, which its task carries out.
    pub(crate) fn release(&self) {
        self.stop.cancel();
    }

    /// Notes that the process has failed although it lives: its end is to be explained.
    pub(crate) fn blame(&self) {
        self.blamed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_blamed(&self) -> bool {
        self.blamed.load(Ordering::Relaxed)
    }

    /// Refuses everything new.
    pub(crate) fn close(&self) {
        self.enter(Stage::Stopping);
        self.change(|state, fx| {
            state.closing = true;
            state.demux.close_listeners(fx);
        });
        self.room.notify_waiters();
    }

    /// The signal to end the process.
    pub(crate) const fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// The signal that there is something to write or to reconsider.
    pub(crate) const fn work(&self) -> &Notify {
        &self.work
    }

    /// Whoever waits for room looks again.
    pub(crate) fn made_room(&self) {
        self.room.notify_waiters();
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    fn apply(&self, fx: &mut Effects) {
        if let Some(need) = fx.need.take() {
            self.host.needs_client(need);
        }
        if !fx.lines.is_empty() {
            let mut state = self.state.lock();
            if state.demux.death().is_none() {
                for line in &fx.lines {
                    if !state.queue.push_control(line) {
                        self.counters.violations.increment();
                    }
                }
            }
            drop(state);
            fx.lines.clear();
            self.work.notify_one();
        }
        for waker in fx.wake.drain(..) {
            waker.wake();
        }
    }
}

impl State {
    /// Whether the process was not to be read, and now is. Until now it could not be heard.
    fn resumes(&mut self) -> bool {
        let resumes = self.demux.resumes();
        if resumes {
            self.demux.touch(Instant::now());
        }
        resumes
    }

    fn is_gone(&self) -> bool {
        self.closing || self.demux.death().is_some()
    }
}
