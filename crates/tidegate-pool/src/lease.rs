//! The exclusive right to have one thing.

use std::{fmt, sync::Arc};

use tokio::time::Instant;

use crate::{
    Reason, Usage,
    pool::Shared,
    slots::{Entry, Slot, Token},
};

/// The right to have one thing, and the thing if there is one.
///
/// [`Lease::release`] gives the thing back for reuse. Any other end closes it: a thing in the
/// middle of something is not as good as new. Dropping is allowed anywhere, also outside a runtime
/// and after the pool was closed.
pub struct Lease<C: Send + 'static> {
    /// The slot with the thing in it. `None` only while the lease ends.
    token: Option<Token<C>>,
    /// Declared last, because the slot must be back before the next caller passes the gate.
    permit: Permit<C>,
    taken_at: Instant,
}

/// One caller past the gate. Dropping it lets the next one in.
pub(crate) struct Permit<C: Send + 'static>(pub(crate) Arc<Shared<C>>);

impl<C: Send + 'static> Lease<C> {
    pub(crate) const fn new(permit: Permit<C>, token: Token<C>, now: Instant) -> Self {
        Self { token: Some(token), permit, taken_at: now }
    }

    pub(crate) fn entry(&self) -> Option<&Entry<C>> {
        match self.token.as_deref() {
            Some(Slot::Idle(entry)) => Some(entry),
            Some(Slot::Vacant | Slot::Spent) | None => None,
        }
    }

    /// The thing, if there is one.
    pub fn item(&mut self) -> Option<&mut C> {
        match self.token.as_deref_mut() {
            Some(Slot::Idle(entry)) => Some(&mut entry.item),
            Some(Slot::Vacant | Slot::Spent) | None => None,
        }
    }

    /// When the lease was taken; spares the holder a look at the clock.
    pub const fn taken_at(&self) -> Instant {
        self.taken_at
    }

    /// Fills the lease with a new thing. One that was there counts as broken.
    pub fn fill(&mut self, item: C) {
        self.close(Reason::Broken);
        let now = Instant::now();
        if let Some(slot) = self.token.as_deref_mut() {
            self.permit.0.counters.made();
            *slot = Slot::Idle(Entry { item, usage: Usage::new(now) });
        }
    }

    /// Closes the thing and keeps the lease, so that the holder can fill it anew.
    pub fn close(&mut self, reason: Reason) {
        if let Some(slot) = self.token.as_deref_mut()
            && let Slot::Idle(entry) = std::mem::replace(slot, Slot::Spent)
        {
            drop(entry);
            self.permit.0.counters.closed(reason);
        }
    }

    /// Gives the thing back for reuse, unless it is too old or the pool is closed.
    pub fn release(mut self) {
        let shared = &self.permit.0;
        let Some(mut token) = self.token.take() else { return };
        let reason = match &mut *token {
            Slot::Idle(_) if shared.is_closed() => Some(Reason::Shutdown),
            Slot::Idle(entry) => {
                let now = Instant::now();
                entry.usage.used(now);
                shared.expiry.judge(&entry.usage, now)
            }
            Slot::Vacant | Slot::Spent => Some(Reason::Broken),
        };
        match reason {
            None => shared.put(token),
            Some(reason) => {
                self.token = Some(token);
                self.close(reason);
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
        if let Some(mut token) = self.token.take() {
            // Also a slot that was never filled; bb8 forgets it.
            *token = Slot::Spent;
        }
    }
}

impl<C: Send + 'static> Drop for Permit<C> {
    fn drop(&mut self) {
        self.0.gate.leave();
    }
}

impl<C: Send + 'static> fmt::Debug for Lease<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("filled", &self.entry().is_some()).finish_non_exhaustive()
    }
}
