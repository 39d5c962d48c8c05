//! The gate, and what passes through it.

use std::{fmt, sync::Arc};

use tokio::time::Instant;

use crate::{
    CheckoutError, Expiry, GateStats, Lease, Params, Reason, Stats, gate,
    lease::Permit,
    slots::{Slots, Token},
    stats::Counters,
};

/// A bounded set of things that are lent one user at a time. Clones share it.
pub struct Pool<C: Send + 'static>(Arc<Shared<C>>);

pub(crate) struct Shared<C: Send + 'static> {
    pub(crate) gate: gate::Core,
    pub(crate) slots: Slots<C>,
    pub(crate) expiry: Expiry,
    pub(crate) counters: Counters,
}

impl<C: Send + 'static> Pool<C> {
    /// Makes an empty pool. Nothing is created before somebody asks.
    pub fn new(params: Params) -> Self {
        Self(Arc::new(Shared {
            gate: gate::Core::new(params.gate()),
            slots: Slots::new(&params),
            expiry: params.expiry(),
            counters: Counters::default(),
        }))
    }

    /// Takes a lease, with the thing used last if there is one that is still good.
    ///
    /// Callers are served in the order they came. If a lease is free this does not wait.
    ///
    /// # Errors
    ///
    /// [`CheckoutError`] says what stood in the way; nothing has been taken then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue and gives back what it had got.
    pub async fn checkout(&self) -> Result<Lease<C>, CheckoutError> {
        self.checkout_within(None).await
    }

    /// Like [`Pool::checkout`], but waits no longer than until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`Pool::checkout`].
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::checkout`].
    pub async fn checkout_within(
        &self,
        deadline: Option<Instant>,
    ) -> Result<Lease<C>, CheckoutError> {
        let permit = match self.0.gate.try_enter() {
            Some(entered) => entered.map(|()| Permit(Arc::clone(&self.0)))?,
            None => {
                // Rare and large, so it does not ride along in the future of every caller.
                Box::pin(self.0.gate.wait(deadline)).await?;
                Permit(Arc::clone(&self.0))
            }
        };
        // The permit is owned from here on, so a dropped future gives it back.
        loop {
            if let Some(token) = self.0.slots.take() {
                return Ok(self.0.lend(permit, token));
            }
            // A sweep on another thread is about to put the slots back.
            tokio::task::yield_now().await;
        }
    }

    /// Closes idle things that expired by `now` and those for which `is_dead` says so.
    ///
    /// Checkout does not need it; it is what closes things when nobody checks out.
    pub fn sweep(&self, now: Instant, mut is_dead: impl FnMut(&mut C) -> bool) {
        let culled = self.0.slots.cull(|entry| {
            let expired = self.0.expiry.judge(&entry.usage, now);
            expired.or_else(|| is_dead(&mut entry.item).then_some(Reason::Broken))
        });
        self.0.discard(culled);
    }

    /// Closes all idle things and refuses callers from now on, also those in the queue. Leases that
    /// are out stay valid and close their things when they end.
    ///
    /// Outside a runtime the idle things are kept until the pool is dropped.
    pub fn close(&self) {
        self.0.gate.close(|| self.0.discard_idle());
    }

    /// Whether it has been closed.
    pub fn is_closed(&self) -> bool {
        self.0.gate.is_closed()
    }

    /// Waits, after [`Pool::close`], until no lease is out.
    ///
    /// # Cancel safety
    ///
    /// Dropping the wait changes nothing.
    pub async fn drained(&self) {
        self.0.gate.drained().await;
    }

    /// What the pool holds and has done.
    pub fn stats(&self) -> Stats {
        let GateStats { max, available, in_use, waiting, refused, timed_out, acquire, .. } =
            self.0.gate.stats();
        Stats {
            max,
            available,
            in_use,
            waiting,
            refused,
            timed_out,
            acquire,
            idle: self.0.slots.idle(),
            ..self.0.counters.snapshot()
        }
    }
}

impl<C: Send + 'static> Shared<C> {
    pub(crate) fn is_closed(&self) -> bool {
        self.gate.is_closed()
    }

    /// Keeps a thing for reuse; the caller leaves after this.
    pub(crate) fn put(&self, token: Token<C>) {
        self.slots.put(token);
        if self.gate.look() {
            self.discard_idle();
        }
    }

    fn lend(&self, permit: Permit<C>, token: Token<C>) -> Lease<C> {
        let now = Instant::now();
        let mut lease = Lease::new(permit, token, now);
        if let Some(entry) = lease.entry() {
            match self.expiry.judge(&entry.usage, now) {
                Some(reason) => lease.close(reason),
                None => self.counters.reused(),
            }
        }
        lease
    }

    fn discard_idle(&self) {
        self.discard(self.slots.cull(|_| Some(Reason::Shutdown)));
    }

    /// Closing may be slow, so it happens after the slots are back in order.
    fn discard(&self, culled: Vec<(C, Reason)>) {
        for (item, reason) in culled {
            drop(item);
            self.counters.closed(reason);
        }
    }
}

impl<C: Send + 'static> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: Send + 'static> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
