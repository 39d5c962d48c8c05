//! The exclusive right to have one thing.

use std::{fmt, sync::Arc};

use tokio::time::Instant;

use crate::{
    CheckoutError, Reason, Usage,
    idle::{Entry, Held},
    pool::Shared,
};

/// The right to have one thing, and the thing if there is one.
///
/// [`Lease::release`] gives the thing back for reuse. Any other end closes it: a thing in the
/// middle of something is not as good as new. Dropping is allowed anywhere, also outside a runtime
/// and after the pool was closed.
pub struct Lease<C: Send + 'static> {
    /// `None` only while the lease ends.
    held: Option<Held<C>>,
    /// Declared last, because what was held must be back before the next caller passes the gate.
    permit: Permit<C>,
    taken_at: Instant,
}

/// One caller past the gate. Dropping it lets the next one in.
pub(crate) struct Permit<C: Send + 'static> {
    shared: Arc<Shared<C>>,
    /// Guests look after things; others are the ones they are looked after for.
    is_guest: bool,
}

impl<C: Send + 'static> Lease<C> {
    pub(crate) const fn new(permit: Permit<C>, held: Held<C>, now: Instant) -> Self {
        Self { held: Some(held), permit, taken_at: now }
    }

    /// Closes a thing that cannot be reused and takes another, if there is one.
    pub(crate) fn replace(&mut self, reason: Reason) -> Result<(), CheckoutError> {
        self.close(reason);
        let store = &self.permit.shared.store;
        // First back, then again: there is one for each lease and no more.
        if let Some(held) = self.held.take() {
            store.forget(held);
        }
        self.held = Some(store.take().ok_or(CheckoutError::Closed)?);
        Ok(())
    }

    pub(crate) fn entry(&mut self) -> Option<&mut Entry<C>> {
        self.held.as_mut()?.entry()
    }

    /// The thing, if there is one.
    pub fn item(&mut self) -> Option<&mut C> {
        self.entry().map(|entry| &mut entry.item)
    }

    /// When the lease was taken; spares the holder a look at the clock.
    pub const fn taken_at(&self) -> Instant {
        self.taken_at
    }

    /// Fills the lease with a new thing. One that was there counts as broken.
    pub fn fill(&mut self, item: C) {
        self.close(Reason::Broken);
        if let Some(held) = &mut self.held {
            self.permit.shared.counters.made();
            held.fill(Entry { item, usage: Usage::new(Instant::now()) });
        }
    }

    /// Closes the thing and keeps the lease, so that the holder can fill it anew.
    pub fn close(&mut self, reason: Reason) {
        if let Some(entry) = self.held.as_mut().and_then(Held::empty) {
            self.permit.shared.counters.close(entry, reason);
        }
    }

    /// Gives the thing back for reuse, unless it is too old or the pool is closed.
    pub fn release(mut self) {
        let now = Instant::now();
        if let Some(entry) = self.entry() {
            entry.usage.used(now);
        }
        self.keep(now);
    }

    /// Gives back a thing that was looked at, or made for later, and not used. Says whether it was
    /// kept.
    pub(crate) fn release_unused(mut self) -> bool {
        self.keep(Instant::now())
    }

    fn keep(&mut self, now: Instant) -> bool {
        let shared = &self.permit.shared;
        let reason = match self.held.as_mut().and_then(Held::entry) {
            Some(_) if shared.gate.is_closed() => Some(Reason::Shutdown),
            Some(entry) => shared.expiry.judge(&entry.usage, now),
            None => Some(Reason::Broken),
        };
        match reason {
            Some(reason) => {
                self.close(reason);
                false
            }
            None => self.held.take().map(|held| shared.put(held)).is_some(),
        }
    }

    /// Closes the thing and ends the lease.
    pub fn retire(mut self, reason: Reason) {
        self.close(reason);
    }
}

impl<C: Send + 'static> Drop for Lease<C> {
    fn drop(&mut self) {
        if let Some(mut held) = self.held.take() {
            let entry = held.empty();
            self.permit.shared.store.forget(held);
            if let Some(entry) = entry {
                // The thing before the permit: when the next caller passes the gate it must be gone.
                self.permit.shared.counters.close(entry, Reason::Abandoned);
            }
        }
    }
}

impl<C: Send + 'static> Permit<C> {
    pub(crate) fn caller(shared: &Arc<Shared<C>>) -> Self {
        Self { shared: Arc::clone(shared), is_guest: false }
    }

    pub(crate) fn guest(shared: &Arc<Shared<C>>) -> Self {
        Self { shared: Arc::clone(shared), is_guest: true }
    }
}

impl<C: Send + 'static> Drop for Permit<C> {
    fn drop(&mut self) {
        self.shared.gate.leave();
        if !self.is_guest {
            self.shared.nudge_if_short();
        }
    }
}

impl<C: Send + 'static> fmt::Debug for Lease<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filled = self.held.as_ref().is_some_and(Held::is_filled);
        f.debug_struct("Lease").field("filled", &filled).finish_non_exhaustive()
    }
}
