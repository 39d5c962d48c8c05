//! The gate, and what passes through it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::{
    sync::{Notify, Semaphore, TryAcquireError},
    time::{self, Instant},
};

use crate::{
    CheckoutError, Lease, Params, Reason, Stats,
    lease::Permit,
    slots::{Slots, Token},
    stats::Counters,
};

/// A bounded set of things that are lent one user at a time. Clones share it.
pub struct Pool<C: Send + 'static>(Arc<Shared<C>>);

pub(crate) struct Shared<C: Send + 'static> {
    params: Params,
    /// Serves callers in the order they came, which bb8 alone does not.
    gate: Semaphore,
    pub(crate) slots: Slots<C>,
    pub(crate) counters: Counters,
    closed: AtomicBool,
    /// Told of every lease that ends after the pool was closed.
    left: Notify,
}

/// One caller in the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl<C: Send + 'static> Pool<C> {
    /// Makes an empty pool. Nothing is created before somebody asks.
    pub fn new(params: Params) -> Self {
        let max = usize::try_from(params.max.get()).unwrap_or(usize::MAX);
        Self(Arc::new(Shared {
            gate: Semaphore::new(max.min(Semaphore::MAX_PERMITS)),
            slots: Slots::new(&params),
            counters: Counters::default(),
            closed: AtomicBool::new(false),
            left: Notify::new(),
            params,
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
        if let Some(Ok(permit)) = self.0.enter()
            && let Some(token) = self.0.slots.take()
        {
            return Ok(self.0.lend(permit, token));
        }
        // Rare and large, so it does not ride along in the future of every caller.
        Box::pin(self.0.queue(deadline)).await
    }

    /// Closes idle things that expired by `now` and those for which `is_dead` says so.
    ///
    /// Checkout does not need it; it is what closes things when nobody checks out.
    pub fn sweep(&self, now: Instant, mut is_dead: impl FnMut(&mut C) -> bool) {
        let slots = &self.0.slots;
        let culled = slots.cull(|entry| {
            let expired = slots.expired(entry, now);
            expired.or_else(|| is_dead(&mut entry.item).then_some(Reason::Broken))
        });
        self.0.discard(culled);
    }

    /// Closes all idle things and refuses callers from now on, also those in the queue. Leases that
    /// are out stay valid and close their things when they end.
    ///
    /// Outside a runtime the idle things are kept until the pool is dropped.
    pub fn close(&self) {
        // An exchange, because `leave` must either see it or be seen by it.
        let _ = self.0.closed.swap(true, Ordering::AcqRel);
        self.0.gate.close();
        self.0.discard_idle();
    }

    /// Waits, after [`Pool::close`], until no lease is out.
    ///
    /// # Cancel safety
    ///
    /// Dropping the wait changes nothing.
    pub async fn drained(&self) {
        loop {
            let left = self.0.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.0.in_use() == 0 {
                return;
            }
            left.await;
        }
    }

    /// What the pool holds and has done.
    pub fn stats(&self) -> Stats {
        let in_use = self.0.in_use();
        Stats {
            max: self.0.max(),
            available: self.0.max() - in_use,
            in_use,
            idle: self.0.slots.idle(),
            ..self.0.counters.snapshot()
        }
    }
}

impl<C: Send + 'static> Shared<C> {
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The way out, for everybody who came in. The slot is back already.
    pub(crate) fn leave(&self) {
        self.gate.add_permits(1);
        // A write, so that it is ordered with the one in `close`: if this comes first, `close` sees
        // the slot and the permit; if not, this sees that the pool is closed.
        if self.closed.fetch_or(false, Ordering::AcqRel) {
            self.discard_idle();
            self.left.notify_waiters();
        }
    }

    /// The way in while there is room; `None` means wait.
    fn enter(self: &Arc<Self>) -> Option<Result<Permit<C>, CheckoutError>> {
        match self.gate.try_acquire() {
            Ok(permit) => {
                permit.forget();
                Some(Ok(Permit(Arc::clone(self))))
            }
            Err(TryAcquireError::Closed) => Some(Err(CheckoutError::Closed)),
            Err(TryAcquireError::NoPermits) => None,
        }
    }

    /// The way in for those who did not get through at once.
    async fn queue(self: &Arc<Self>, until: Option<Instant>) -> Result<Lease<C>, CheckoutError> {
        let permit = match self.enter() {
            Some(entered) => entered?,
            None => self.wait(until).await?,
        };
        // The permit is owned from here on, so a dropped future gives it back.
        loop {
            if let Some(token) = self.slots.take() {
                return Ok(self.lend(permit, token));
            }
            // A sweep on another thread is about to put the slots back.
            tokio::task::yield_now().await;
        }
    }

    fn lend(&self, permit: Permit<C>, token: Token<C>) -> Lease<C> {
        let now = Instant::now();
        let mut lease = Lease::new(permit, token, now);
        if let Some(entry) = lease.entry() {
            match self.slots.expired(entry, now) {
                Some(reason) => lease.close(reason),
                None => self.counters.reused(),
            }
        }
        lease
    }

    /// Waits for a place.
    async fn wait(self: &Arc<Self>, until: Option<Instant>) -> Result<Permit<C>, CheckoutError> {
        let Some(_waiting) = Waiting::join(&self.counters.waiting, self.params.max_waiting) else {
            self.counters.refused();
            return Err(CheckoutError::QueueFull);
        };
        let now = Instant::now();
        let patience = now + self.params.acquire_timeout;
        let deadline = until.map_or(patience, |until| until.min(patience));
        match time::timeout_at(deadline, self.gate.acquire()).await {
            Ok(Ok(permit)) => {
                permit.forget();
                Ok(Permit(Arc::clone(self)))
            }
            Ok(Err(_closed)) => Err(CheckoutError::Closed),
            Err(_elapsed) => {
                self.counters.timed_out();
                Err(CheckoutError::TimedOut { waited: deadline.saturating_duration_since(now) })
            }
        }
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

    fn max(&self) -> usize {
        usize::try_from(self.params.max.get()).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
    }

    fn in_use(&self) -> usize {
        self.max().saturating_sub(self.gate.available_permits())
    }
}

impl<'a> Waiting<'a> {
    fn join(count: &'a AtomicUsize, max: usize) -> Option<Self> {
        let room = |waiting| (waiting < max).then_some(waiting + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok().map(|_| Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
