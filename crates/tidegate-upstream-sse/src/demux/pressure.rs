//! Readers that stand still.
//!
//! The stream is one client's, so it stands still with its reader, where the route wants that: it is
//! not read while somebody's mailbox is full, as long as nobody else waits for an answer. As soon
//! as the client makes another call, that one must not wait for the first: the stream is read
//! again, and who is still behind loses its reply, which ends with an error behind what was not
//! read. A GET stream that is behind ends, and the rest waits for the next one.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use tidegate_protocol::Id;
use tidegate_service::slow::{SlowClients, Slowness, Surplus};

use tokio::time::Instant;

use super::{Call, Demux, Effects, Item, Listener, Mailbox, Phase, Place, Step};

/// How many messages wait at most while there is no GET stream.
const MAX_WAITING: usize = 256;

impl Demux {
    /// Says how the session's route treats clients that do not read.
    pub(crate) fn treat(&mut self, slow: Option<Arc<SlowClients>>) {
        self.held = Mailbox::new(slow.clone());
        self.slow = slow;
    }

    /// Whether the stream is not to be read for now.
    pub(crate) fn pauses(&mut self) -> bool {
        let was_paused = std::mem::take(&mut self.is_paused);
        if self.is_crowded {
            let mut calls = self.calls.values();
            self.is_crowded =
                calls.any(Call::is_full) || self.listeners.iter().any(Listener::is_full);
            self.is_paused = self.is_crowded && self.may_pause();
        }
        if self.is_paused && !was_paused {
            self.counters.pauses.fetch_add(1, Relaxed);
        }
        self.is_paused
    }

    /// Whether the stream was not to be read, and now is.
    pub(crate) fn resumes(&mut self) -> bool {
        self.is_paused && !self.pauses()
    }

    /// Counts silence from this moment on.
    pub(crate) fn touch(&mut self, now: Instant) {
        for call in self.calls.values_mut() {
            call.touched = call.touched.max(now);
        }
    }

    /// Whether nobody waits but those that stand still.
    fn may_pause(&self) -> bool {
        self.slow.as_ref().is_none_or(|slow| slow.pauses())
            && self.calls.values().all(|call| !matches!(call.phase, Phase::Open) || call.is_full())
    }

    pub(super) fn put(&mut self, place: &Place, item: Item, fx: &mut Effects) {
        match place {
            Place::Call(id) => self.put_call(id, item, fx),
            Place::Listener => self.put_listener(item, fx),
        }
    }

    fn put_call(&mut self, id: &Id, item: Item, fx: &mut Effects) {
        let call = self.calls.get_mut(id).filter(|call| call.takes_messages());
        let Some(call) = call else { return self.put_aside(item, fx) };
        call.touched = item.since;
        let Err(Surplus { item, why }) = call.mailbox.put(item) else {
            fx.wake.extend(call.waker.take());
            return;
        };
        let may_pause = self.may_pause();
        let Some(call) = self.calls.get_mut(id) else { return };
        if may_pause {
            self.is_crowded = true;
            call.mailbox.force(item);
            fx.wake.extend(call.waker.take());
            return;
        }
        if let Some(slow) = call.mailbox.slow() {
            slow.ended(why);
        }
        call.end(Step::Overflowed(why), fx);
        fx.take_back.push(id.clone());
        match item.ask {
            Some(_) => self.put_aside(item, fx),
            None => {
                self.counters.notifications_dropped.fetch_add(1, Relaxed);
            }
        }
    }

    fn put_listener(&mut self, mut item: Item, fx: &mut Effects) {
        while let Some(newest) = self.listeners.iter().rposition(|each| each.overflowed.is_none()) {
            let Some(listener) = self.listeners.get_mut(newest) else { break };
            fx.wake.extend(listener.waker.take());
            let Err(Surplus { item: surplus, why }) = listener.mailbox.put(item) else { return };
            let may_pause = self.may_pause();
            let Some(listener) = self.listeners.get_mut(newest) else { return };
            if may_pause {
                self.is_crowded = true;
                return listener.mailbox.force(surplus);
            }
            listener.overflow(why);
            item = surplus;
        }
        for gone in self.held.put_newest(item, MAX_WAITING) {
            self.miss(gone, fx);
        }
    }

    /// Nobody who listens will hear of it.
    pub(super) fn miss(&mut self, item: Item, fx: &mut Effects) {
        if item.ask.is_none() {
            self.missed += 1;
        }
        self.drop_item(item, fx);
    }
}

impl Call {
    /// Whether its reader stands still although more is to come.
    fn is_full(&self) -> bool {
        matches!(self.phase, Phase::Open) && self.mailbox.is_full()
    }
}

impl Listener {
    fn is_full(&self) -> bool {
        self.overflowed.is_none() && self.mailbox.is_full()
    }

    /// Ends it, since it is not read.
    fn overflow(&mut self, why: Slowness) {
        self.overflowed = Some(Some(why));
        if let Some(slow) = self.mailbox.slow() {
            slow.ended(why);
        }
    }
}
