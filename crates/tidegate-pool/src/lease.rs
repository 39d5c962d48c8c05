//! The exclusive right to have one thing.

use std::{fmt, sync::Arc};

use tokio::time::Instant;

use crate::{
    Reason,
    pool::Shared,
    slots::{Entry, Slot, Token},
};

/// The right to have one thing, and the thing if there is one.
///
/// [`Lease::release`] gives the thing back for reuse. Any other end closes it: a thing in the
/// middle of something is not as good as new. Dropping is allowed anywhere, also outside a runtime
/// and after the pool was closed.
pub struct Lease<C: Send + 'static> {
    entry: Option<Entry<C>>,
    token: Option<Token<C>>,
    /// Declared last, because the slot must be back before the next caller passes the gate.
    permit: Permit<C>,
    taken_at: Instant,
}

/// One caller past the gate. Dropping it lets the next one in.
pub(crate) struct Permit<C: Send + 'static>(pub(crate) Arc<Shared<C>>);

impl<C: Send + 'static> Lease<C> {
    pub(crate) fn new(permit: Permit<C>, mut token: Token<C>, now: Instant) -> Self {
        let entry = match std::mem::replace(&mut *token, Slot::Spent) {
            Slot::Idle(entry) => Some(entry),
            Slot::Vacant | Slot::Spent => None,
        };
        Self { entry, token: Some(token), permit, taken_at: now }
    }

    pub(crate) const fn entry(&self) -> Option<&Entry<C>> {
        self.entry.as_ref()
    }

    /// The thing, if there is one.
    pub fn item(&mut self) -> Option<&mut C> {
        self.entry.as_mut().map(|entry| &mut entry.item)
    }

    /// When the lease was taken; spares the holder a look at the clock.
    pub const fn taken_at(&self) -> Instant {
        self.taken_at
    }

    /// Fills the lease with a new thing. One that was there counts as broken.
    pub fn fill(&mut self, item: C) -> &mut C {
        self.close(Reason::Broken);
        self.permit.0.counters.made();
        let now = Instant::now();
        &mut self.entry.insert(Entry { item, born: now, idle_since: now }).item
    }

    /// Closes the thing and keeps the lease, so that the holder can fill it anew.
    pub fn close(&mut self, reason: Reason) {
        if let Some(entry) = self.entry.take() {
            drop(entry);
            self.permit.0.counters.closed(reason);
        }
    }

    /// Gives the thing back for reuse, unless it is too old or the pool is closed.
    pub fn release(mut self) {
        let shared = &self.permit.0;
        let now = Instant::now();
        let Some(mut entry) = self.entry.take() else { return };
        entry.idle_since = now;
        let reason = match shared.is_closed() {
            true => Some(Reason::Shutdown),
            false => shared.slots.expired(&entry, now),
        };
        match (reason, self.token.take()) {
            (None, Some(token)) => shared.slots.put(token, entry),
            (reason, _) => {
                drop(entry);
                shared.counters.closed(reason.unwrap_or(Reason::Broken));
            }
        }
    }

    /// Closes the thing and ends the lease.
    pub fn retire(mut self, reason: Reason) {
        self.close(reason);
    }
}

impl<C: Send + 'static> Drop for Lease<C> {
    fn drop(&mut self) {
        // The thing first: when the next caller passes the gate it must be gone.
        self.close(Reason::Abandoned);
        drop(self.token.take());
    }
}

impl<C: Send + 'static> Drop for Permit<C> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl<C: Send + 'static> fmt::Debug for Lease<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("filled", &self.entry.is_some()).finish_non_exhaustive()
    }
}
