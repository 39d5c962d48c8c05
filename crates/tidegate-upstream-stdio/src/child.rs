//! The handle to one process: its conversation, what waits to be written, and how to stop it.
//!
//! Callers and the process's one task ([`crate::io`]) meet here, under one short lock. Callers put
//! lines in and leave wakers; the task moves bytes and wakes them.

mod death;
mod escalation;
mod group;
mod queue;
mod spawn;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    death::{Death, describe},
    escalation::{Escalation, Step as EscalationStep},
    group::Group,
    queue::Queue,
    spawn::{Alive, Host},
};
use crate::{
    demux::{Demux, Effects, Mode, Opening, Step},
    params::Params,
    stats::Counters,
};

/// One process. Shared by its callers and its task.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) params: Arc<Params>,
    counters: Arc<Counters>,
    state: Mutex<State>,
    last_id: AtomicU64,
    /// The task has something to write, or something to reconsider.
    work: Notify,
    /// The queue has room again, or will never have.
    room: Notify,
    stop: CancellationToken,
    /// It did not do what it was started for.
    blamed: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) demux: Demux,
    pub(crate) queue: Queue,
    /// How many callers wait for room.
    waiting: usize,
    /// Nothing new is taken in: the process is being stopped.
    closing: bool,
}

/// Why a message was not taken in. None of it has been written.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The process is gone or going.
    Gone,
    /// It works on as much as it may.
    Full,
    /// It did not read its stdin for this long.
    Stuck(Duration),
}

/// Somebody who waits for room; counted so that their number is bounded.
#[derive(Debug)]
struct Waiting<'a>(&'a Child);

impl Child {
    /// A handle without a process; [`Host::spawn`] gives it one. `stop` ends it.
    pub(crate) fn new(
        params: Arc<Params>,
        counters: Arc<Counters>,
        mode: Mode,
        stop: CancellationToken,
    ) -> Self {
        let demux = Demux::new(mode, params.request_timeout, Arc::clone(&counters));
        let state = State { demux, queue: Queue::default(), waiting: 0, closing: false };
        Self {
            params,
            counters,
            state: Mutex::new(state),
            last_id: AtomicU64::new(0),
            work: Notify::new(),
            room: Notify::new(),
            stop,
            blamed: AtomicBool::new(false),
        }
    }

    /// A new id for a request.
    pub(crate) fn mint(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Queues a request under an id from [`Self::mint`].
    ///
    /// # Cancel safety
    /// Until it returns, nothing was queued.
    pub(crate) async fn open(
        &self,
        id: u64,
        line: &[u8],
        opening: Opening,
        until: Instant,
    ) -> Result<(), Refused> {
        self.check_capacity()?;
        let open = |state: &mut State| {
            state.demux.open(id, opening);
            state.queue.push(line);
        };
        self.enqueue(line.len(), until, open).await
    }

    /// Changes the state once there is room for a client's message of this length.
    ///
    /// # Cancel safety
    /// Until it returns, nothing was changed.
    pub(crate) async fn enqueue<R>(
        &self,
        length: usize,
        until: Instant,
        act: impl FnOnce(&mut State) -> R,
    ) -> Result<R, Refused> {
        let mut act = Some(act);
        if let Some(done) = self.try_enqueue(length, &mut act)? {
            return Ok(done);
        }
        let started = Instant::now();
        let _waiting = Waiting::start(self)?;
        loop {
            // Made before the look, so that room that comes after the look is noticed.
            let room = self.room.notified();
            if let Some(done) = self.try_enqueue(length, &mut act)? {
                return Ok(done);
            }
            if timeout_at(until, room).await.is_err() {
                return Err(Refused::Stuck(Instant::now() - started));
            }
        }
    }

    /// Looks and changes at once, and carries out the effects.
    pub(crate) fn change<R>(&self, act: impl FnOnce(&mut State, &mut Effects) -> R) -> R {
        let mut fx = Effects::default();
        let result = act(&mut self.state.lock(), &mut fx);
        self.apply(&mut fx);
        result
    }

    /// Like [`Self::change`], with buffers of the caller's.
    pub(crate) fn change_with(&self, fx: &mut Effects, act: impl FnOnce(&mut State, &mut Effects)) {
        act(&mut self.state.lock(), fx);
        self.apply(fx);
    }

    /// Looks and changes at once, where there can be no effects.
    pub(crate) fn look<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.state.lock())
    }

    /// What the reader of a request finds.
    pub(crate) fn poll(&self, id: u64, cx: &Context<'_>) -> Poll<Step> {
        self.state.lock().demux.poll(id, cx)
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
        !state.closing && state.demux.death().is_none()
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

    /// Refuses a request if there are too many. Other messages pass: they may be what the requests
    /// in flight wait for.
    fn check_capacity(&self) -> Result<(), Refused> {
        let state = self.state.lock();
        if state.is_gone() {
            Err(Refused::Gone)
        } else if state.demux.in_flight() + state.waiting >= self.params.max_in_flight {
            Err(Refused::Full)
        } else {
            Ok(())
        }
    }

    fn try_enqueue<R>(
        &self,
        length: usize,
        act: &mut Option<impl FnOnce(&mut State) -> R>,
    ) -> Result<Option<R>, Refused> {
        let mut state = self.state.lock();
        if state.is_gone() {
            return Err(Refused::Gone);
        }
        if !state.queue.has_room(length) {
            return Ok(None);
        }
        let done = act.take().map(|act| act(&mut state));
        drop(state);
        self.work.notify_one();
        Ok(done)
    }
}

impl State {
    fn is_gone(&self) -> bool {
        self.closing || self.demux.death().is_some()
    }
}

impl<'a> Waiting<'a> {
    fn start(child: &'a Child) -> Result<Self, Refused> {
        let mut state = child.state.lock();
        if state.waiting >= child.params.max_in_flight {
            return Err(Refused::Full);
        }
        state.waiting += 1;
        Ok(Self(child))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state.lock().waiting -= 1;
    }
}
