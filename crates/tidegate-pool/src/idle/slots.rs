//! The idle things, kept by bb8; the only module that knows bb8.
//!
//! bb8 left to itself opens connections in tasks of its own, hides "refused" until its timeout is
//! over, wakes waiters out of order and reads a clock that tests cannot turn. So it is used for
//! what it is good at, a bounded stack: its "connection" is a slot that may be empty, a slot is
//! added by the caller before it is taken, and the gate in front lets in no more callers than there
//! are slots. Then bb8 never has anything to open or to wait for.
//!
//! Let S be the slots bb8 knows and P the callers past the gate. A caller adds a slot only when no
//! idle one is left to claim, so S never exceeds the most callers there may be. A sweep is such a
//! caller too. Only a pool that closes takes slots without having passed, and then a caller may
//! find nothing to claim and no room to add.

use std::{
    convert::Infallible,
    marker::PhantomData,
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bb8::{ManageConnection, PooledConnection, QueueStrategy};
use futures_util::FutureExt as _;

use super::Entry;

/// A place for a thing.
pub(crate) enum Slot<C> {
    /// Made to be filled.
    Vacant,
    /// Holds a thing, in use or waiting for reuse.
    Idle(Entry<C>),
    /// Held a thing; bb8 shall forget the slot.
    Spent,
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
    pub(crate) fn new(max: NonZeroU32) -> Self {
        let stack = bb8::Pool::builder()
            .max_size(max.get())
            .queue_strategy(QueueStrategy::Lifo)
            .test_on_check_out(false)
            .retry_connection(false)
            .idle_timeout(None)
            .max_lifetime(None)
            // Never reached: there is a slot, or bb8 is not asked.
            .connection_timeout(Duration::from_secs(60))
            .build_unchecked(Maker(PhantomData));
        Self { stack, unclaimed: AtomicUsize::new(0) }
    }

    /// Takes the slot used last, or an empty one. The caller has passed the gate.
    pub(crate) fn take(&self) -> Option<Token<C>> {
        if let Some(claim) = self.claim() {
            return self.redeem(claim);
        }
        self.stack.add(Slot::Vacant).ok()?;
        self.redeem(Claim(Some(&self.unclaimed)))
    }

    /// Takes the slot used last. Needs a runtime around it, because bb8 arms a timer; without one
    /// nothing is taken.
    pub(crate) fn take_idle(&self) -> Option<Token<C>> {
        tokio::runtime::Handle::try_current().ok()?;
        self.redeem(self.claim()?)
    }

    /// Gives a slot back with a thing in it that can be reused.
    pub(crate) fn put(&self, token: Token<C>) {
        drop(token);
        // After the slot is back: whoever claims it must find it.
        self.unclaimed.fetch_add(1, Ordering::AcqRel);
    }

    /// How many idle slots there are.
    pub(crate) fn idle(&self) -> usize {
        self.unclaimed.load(Ordering::Relaxed)
    }

    fn claim(&self) -> Option<Claim<'_>> {
        let one_less = |idle: usize| idle.checked_sub(1);
        let claimed = self.unclaimed.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_less);
        claimed.ok().map(|_| Claim(Some(&self.unclaimed)))
    }

    fn redeem(&self, claim: Claim<'_>) -> Option<Token<C>> {
        // There is a slot, so this neither waits nor fails.
        let token = self.stack.get_owned().now_or_never()?.ok()?;
        claim.redeem();
        Some(token)
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
