//! The idle things, kept by bb8; the only module that knows bb8.
//!
//! bb8 left to itself opens connections in tasks of its own, hides "refused" until its timeout is
//! over, wakes waiters out of order and reads a clock that tests cannot turn. So it is used for
//! what it is good at, a bounded stack: its "connection" is a slot that may be empty, a slot is
//! added by the caller before it is taken, and the gate in front lets in no more callers than there
//! are slots. Then bb8 never has anything to open or to wait for.
//!
//! Let S be the slots bb8 knows and P the callers past the gate. A caller adds a slot only when no
//! idle one is left to claim, so S never exceeds the most callers there may be; the one exception is
//! a sweep, which takes idle slots without passing the gate. A caller who comes in that moment, on
//! another thread, finds nothing to claim and no room to add, and yields until the sweep is over.

use std::{
    convert::Infallible,
    fmt,
    marker::PhantomData,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bb8::{ManageConnection, PooledConnection, QueueStrategy};
use futures_util::FutureExt as _;

use crate::{Params, Reason, Usage};

/// A place for a thing.
pub(crate) enum Slot<C> {
    /// Made to be filled.
    Vacant,
    /// Holds a thing, in use or waiting for reuse.
    Idle(Entry<C>),
    /// Held a thing; bb8 shall forget the slot.
    Spent,
}

/// A thing with its history.
pub(crate) struct Entry<C> {
    pub(crate) item: C,
    pub(crate) usage: Usage,
}

/// Custody of one slot. Dropping it hands the slot back, or lets bb8 forget it when spent.
pub(crate) type Token<C> = PooledConnection<'static, Maker<C>>;

/// Makes empty slots, at once.
pub(crate) struct Maker<C>(PhantomData<fn() -> C>);

pub(crate) struct Slots<C: Send + 'static> {
    stack: bb8::Pool<Maker<C>>,
    /// Idle slots nobody has claimed. bb8 never has fewer than these and the claims together, so a
    /// claim is redeemed without waiting.
    unclaimed: AtomicUsize,
}

/// A claim on one slot that has not been taken yet; given back on drop.
struct Claim<'a>(Option<&'a AtomicUsize>);

impl<C: Send + 'static> Slots<C> {
    pub(crate) fn new(params: &Params) -> Self {
        let stack = bb8::Pool::builder()
            .max_size(params.max.get())
            .queue_strategy(QueueStrategy::Lifo)
            .test_on_check_out(false)
            .retry_connection(false)
            .idle_timeout(None)
            .max_lifetime(None)
            // Reached only if a sweep never ended.
            .connection_timeout(Duration::from_secs(60))
            .build_unchecked(Maker(PhantomData));
        Self { stack, unclaimed: AtomicUsize::new(0) }
    }

    /// Takes the slot used last, or an empty one. `None` while a sweep is at work. The caller has
    /// passed the gate.
    pub(crate) fn take(&self) -> Option<Token<C>> {
        let claim = self.claim()?;
        // There is a slot, so this neither waits nor fails.
        let token = self.stack.get_owned().now_or_never()?.ok()?;
        claim.redeem();
        Some(token)
    }

    /// Gives a slot back with a thing in it that can be reused.
    pub(crate) fn put(&self, token: Token<C>) {
        drop(token);
        // After the slot is back: whoever claims it must find it.
        self.unclaimed.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes the idle things out for which `judge` has a reason. It must be quick.
    ///
    /// Needs a runtime around it, because bb8 arms a timer; without one nothing is taken.
    pub(crate) fn cull(
        &self,
        mut judge: impl FnMut(&mut Entry<C>) -> Option<Reason>,
    ) -> Vec<(C, Reason)> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Vec::new();
        }
        // All slots are emptied before anything is judged, so a judge that panics loses things but
        // never slots.
        let (mut kept, mut culled) = (Vec::new(), Vec::new());
        for (token, mut entry) in self.take_idle() {
            match judge(&mut entry) {
                Some(reason) => culled.push((entry.item, reason)),
                None => kept.push((token, entry)),
            }
        }
        // The one used last came first and must lie on top again.
        for (mut token, entry) in kept.into_iter().rev() {
            *token = Slot::Idle(entry);
            self.put(token);
        }
        culled
    }

    fn take_idle(&self) -> Vec<(Token<C>, Entry<C>)> {
        let claimed = self.unclaimed.swap(0, Ordering::AcqRel);
        let pop = || self.stack.get_owned().now_or_never()?.ok();
        let tokens = (0..claimed).map_while(|_| pop());
        tokens
            .filter_map(|mut token| match std::mem::replace(&mut *token, Slot::Spent) {
                Slot::Idle(entry) => Some((token, entry)),
                // Left behind by a cancelled caller; bb8 forgets it here.
                Slot::Vacant | Slot::Spent => None,
            })
            .collect()
    }

    /// How many idle slots there are.
    pub(crate) fn idle(&self) -> usize {
        self.unclaimed.load(Ordering::Relaxed)
    }

    /// Makes sure that bb8 has a slot for the caller, unless a sweep is at work.
    fn claim(&self) -> Option<Claim<'_>> {
        let one_less = |idle: usize| idle.checked_sub(1);
        let claimed =
            self.unclaimed.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_less).is_ok();
        (claimed || self.stack.add(Slot::Vacant).is_ok()).then_some(Claim(Some(&self.unclaimed)))
    }
}

impl Claim<'_> {
    fn redeem(mut self) {
        self.0 = None;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(unclaimed) = self.0 {
            unclaimed.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl<C: Send + 'static> ManageConnection for Maker<C> {
    type Connection = Slot<C>;
    type Error = Infallible;

    async fn connect(&self) -> Result<Slot<C>, Infallible> {
        Ok(Slot::Vacant)
    }

    async fn is_valid(&self, _slot: &mut Slot<C>) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, slot: &mut Slot<C>) -> bool {
        matches!(slot, Slot::Spent)
    }
}

impl<C: Send + 'static> fmt::Debug for Slots<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").field("idle", &self.idle()).finish_non_exhaustive()
    }
}
