//! Readers that stand still.
//!
//! A session's own process stands still with its reader, where the route wants that: it is not read
//! while somebody's mailbox is full, as long as nobody else waits for an answer. The stream of what
//! comes unasked may wait meanwhile, since it is the same client's. As soon as the client makes
//! another call, that one must not wait for the first: the process is read again, and who is still
//! behind loses its stream.
//!
//! A process of many clients is always read. There, and where the route says so, a reader that
//! stands still loses its stream when its mailbox is full: a request is taken back and ends with an
//! error behind what its reader has not read; a stream of what comes unasked ends, and the rest
//! waits for the next one.

use std::sync::Arc;

use tidegate_service::slow::{SlowClients, Slowness, Surplus};
use tokio::time::Instant;

use super::{Call, Demux, Effects, Item, Mailbox, Mode, Nature, Owner, Phase, Step, cancelled};

/// How many messages wait at most while there is no stream for them.
const MAX_WAITING: usize = 256;

impl Demux {
    /// Says how the route of the one session treats clients that do not read.
    pub(crate) fn treat(&mut self, slow: Arc<SlowClients>) {
        if self.outbox.is_empty() {
            self.outbox = Mailbox::new(Some(Arc::clone(&slow)));
        }
        self.slow = Some(slow);
    }

    /// Whether the process is not to be read for now.
    pub(crate) fn holds(&mut self) -> bool {
        let was_held = std::mem::take(&mut self.is_held);
        if self.is_crowded {
            let mut calls = self.calls.values();
            self.is_crowded = calls.any(Call::is_full) || self.listeners.any_full();
            self.is_held = self.is_crowded && self.may_hold();
        }
        if self.is_held && !was_held {
            self.counters.pauses.increment();
        }
        self.is_held
    }

    /// Whether the process was not to be read, and now is.
    pub(crate) fn resumes(&mut self) -> bool {
        self.is_held && !self.holds()
    }

    /// Counts silence from this moment on.
    pub(crate) fn touch(&mut self, now: Instant) {
        for call in self.calls.values_mut() {
            call.touched = call.touched.max(now);
        }
    }

    /// Whether nobody waits but those that stand still.
    fn may_hold(&self) -> bool {
        self.mode == Mode::Session
            && self.slow.as_ref().is_none_or(|slow| slow.pauses())
            && self.calls.values().all(|call| !matches!(call.phase, Phase::Open) || call.is_full())
    }

    /// Puts a message into a request's mailbox. Returns it if nobody will read it there.
    pub(super) fn put(&mut self, id: u64, item: Item, fx: &mut Effects) -> Option<Item> {
        let call = self.calls.get_mut(&id).filter(|call| matches!(call.phase, Phase::Open));
        let Some(call) = call else { return Some(item) };
        let now = item.since;
        call.touched = now;
        let put = call.mailbox.put(item);
        fx.is_behind |= call.mailbox.is_behind();
        let Err(Surplus { item, why }) = put else {
            fx.wake.extend(call.waker.take());
            return None;
        };
        if !self.may_hold() {
            self.overflow(id, why, now, fx);
            return Some(item);
        }
        self.is_crowded = true;
        if let Some(call) = self.calls.get_mut(&id) {
            call.mailbox.force(item);
            fx.wake.extend(call.waker.take());
        }
        None
    }

    /// Takes a request back whose reader stands still. What waits for it can still be read.
    fn overflow(&mut self, id: u64, why: Slowness, now: Instant, fx: &mut Effects) {
        let Some(call) = self.calls.get(&id) else { return };
        if let Some(slow) = call.mailbox.slow() {
            slow.ended(why);
        }
        let logs = call.logs;
        if call.nature != Nature::Handshake {
            fx.lines.push(cancelled(id));
        }
        self.end(id, Step::Overflowed(why), fx);
        self.bury_quietly(id, logs, now);
    }

    /// Puts a message onto the newest of the streams for what comes unasked, or keeps it for the
    /// next one.
    pub(super) fn put_listener(&mut self, mut item: Item, fx: &mut Effects) {
        while let Some(newest) = self.listeners.newest(None) {
            let put = newest.mailbox.put(item);
            fx.is_behind |= newest.mailbox.is_behind();
            fx.wake.extend(newest.waker.take());
            let Err(Surplus { item: surplus, why }) = put else { return };
            let may_hold = self.may_hold();
            let Some(newest) = self.listeners.newest(None) else { return };
            if may_hold {
                newest.mailbox.force(surplus);
                self.is_crowded = true;
                return;
            }
            newest.overflow(why);
            item = surplus;
        }
        self.put_outbox(item, fx);
    }

    /// Keeps a message for the next stream. The oldest notifications make room, and are missed.
    pub(super) fn put_outbox(&mut self, item: Item, fx: &mut Effects) {
        for gone in self.outbox.put_newest(item, MAX_WAITING) {
            match gone.ask {
                Some(_) => self.refuse(gone.ask, fx),
                None => self.miss(Owner::default()),
            }
        }
    }

    /// Counts a notification that a session's stream would have had, for who opens the next one.
    pub(super) fn miss(&mut self, owner: Owner) {
        self.counters.notifications_dropped.increment();
        *self.missed.entry(owner).or_default() += 1;
    }
}

impl Call {
    /// Whether its reader stands still although more is to come.
    fn is_full(&self) -> bool {
        matches!(self.phase, Phase::Open) && self.mailbox.is_full()
    }
}
