//! The gate, and what passes through it.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::{sync::Notify, time::Instant};

use crate::{
    CheckoutError, Expiry, GateStats, Keeper, Lease, Params, Reason, Stats, gate,
    idle::{Held, Store},
    lease::Permit,
    maintain,
    stats::Counters,
};

/// How many things a caller looks at before it makes one; after a server was restarted all of them
/// may be dead.
const MAX_LOOKS: usize = 8;

/// A bounded set of things that are lent one user at a time. Clones share it.
pub struct Pool<C: Send + 'static>(Arc<Shared<C>>);

pub(crate) struct Shared<C: Send + 'static> {
    pub(crate) gate: gate::Core,
    pub(crate) store: Store<C>,
    pub(crate) expiry: Expiry,
    pub(crate) counters: Counters,
    min_idle: usize,
    /// Told when too few things are idle, and when the pool closes or goes.
    nudge: Arc<Notify>,
}

/// Things that a sweep has taken out to look at them. They go back as they lay.
struct Looked<C: Send + 'static>(Vec<Lease<C>>);

impl<C: Send + 'static> Pool<C> {
    /// Makes an empty pool. Nothing is created before somebody asks.
    pub fn new(params: Params) -> Self {
        let max = usize::try_from(params.max.get()).unwrap_or(usize::MAX);
        Self(Arc::new(Shared {
            gate: gate::Core::new(params.gate()),
            store: Store::new(&params),
            expiry: params.expiry(),
            counters: Counters::default(),
            min_idle: params.min_idle.min(max),
            nudge: Arc::new(Notify::new()),
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
        self.checkout_good(deadline, |_| true).await
    }

    /// Like [`Pool::checkout_within`], with a last look at a thing before it is reused. One that is
    /// not good is closed, and the next is looked at; after a few of them the lease comes empty.
    ///
    /// # Errors
    ///
    /// As [`Pool::checkout`].
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::checkout`].
    pub async fn checkout_good(
        &self,
        deadline: Option<Instant>,
        is_good: impl FnMut(&mut C) -> bool,
    ) -> Result<Lease<C>, CheckoutError> {
        let permit = match self.0.gate.try_enter() {
            Some(entered) => entered.map(|()| Permit::caller(&self.0))?,
            None => {
                // Rare and large, so it does not ride along in the future of every caller.
                Box::pin(self.0.gate.wait(deadline)).await?;
                Permit::caller(&self.0)
            }
        };
        self.0.lend(permit, is_good)
    }

    /// Closes idle things that expired by `now` and those for which `is_dead` says so.
    ///
    /// Checkout does not need it; it is what closes things when nobody checks out. It passes the
    /// gate like everybody else, with one pass per thing for as long as it looks, but nobody is
    /// refused because of it: for every such pass one more caller may wait. `is_dead` must be quick
    /// and must not use the pool.
    pub fn sweep(&self, now: Instant, is_dead: impl FnMut(&mut C) -> bool) {
        self.0.sweep(now, is_dead);
    }

    /// Looks after idle things until the pool is closed or gone: sweeps every `period`, and keeps
    /// as many ready as [`Params::min_idle`] says.
    ///
    /// The owner runs it, once per pool. New things are made one at a time, each within a lease of
    /// its own, so that there are never too many, and only while a place is left for callers. After
    /// a failure it waits before it tries again, longer each time.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops what it was about to make, and gives the place back.
    pub fn maintain<K: Keeper<Item = C>>(
        &self,
        keeper: K,
        period: Duration,
    ) -> impl Future<Output = ()> + Send + use<C, K> {
        maintain::run(Arc::downgrade(&self.0), Arc::clone(&self.0.nudge), keeper, period)
    }

    /// Closes all idle things and refuses callers from now on, also those in the queue. Leases that
    /// are out stay valid and close their things when they end.
    pub fn close(&self) {
        self.0.gate.close(|| self.0.discard_idle());
        self.0.nudge.notify_one();
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
            idle: self.0.store.idle(),
            ..self.0.counters.snapshot()
        }
    }
}

impl<C: Send + 'static> Shared<C> {
    /// Keeps a thing for reuse; the caller leaves after this.
    pub(crate) fn put(&self, held: Held<C>) {
        self.store.put(held);
        if self.gate.look() {
            self.discard_idle();
        }
    }

    /// Whether fewer things lie ready than should.
    pub(crate) fn is_short(&self) -> bool {
        self.min_idle > 0 && self.store.idle() < self.min_idle
    }

    pub(crate) fn nudge_if_short(&self) {
        if self.is_short() {
            self.nudge.notify_one();
        }
    }

    fn lend(
        &self,
        permit: Permit<C>,
        mut is_good: impl FnMut(&mut C) -> bool,
    ) -> Result<Lease<C>, CheckoutError> {
        let now = Instant::now();
        let held = self.store.take().ok_or(CheckoutError::Closed)?;
        let mut lease = Lease::new(permit, held, now);
        for looks in 1.. {
            let Some(entry) = lease.entry() else { break };
            let expired = self.expiry.judge(&entry.usage, now);
            let reason = expired.or_else(|| (!is_good(&mut entry.item)).then_some(Reason::Broken));
            match reason {
                None => {
                    self.counters.reused();
                    break;
                }
                Some(reason) if looks == MAX_LOOKS => lease.close(reason),
                Some(reason) => lease.replace(reason)?,
            }
        }
        self.nudge_if_short();
        Ok(lease)
    }

    pub(crate) fn sweep(self: &Arc<Self>, now: Instant, mut is_dead: impl FnMut(&mut C) -> bool) {
        let idle = self.store.idle();
        // Dropped last: by then everybody who took one of these seats has a place.
        let _seats = self.gate.extra_seats(idle);
        let mut dead = Vec::new();
        let mut good = Looked(Vec::new());
        for _ in 0..idle {
            let Some(mut lease) = self.slip_in(now) else { break };
            let Some(entry) = lease.entry() else { break };
            let expired = self.expiry.judge(&entry.usage, now);
            match expired.or_else(|| is_dead(&mut entry.item).then_some(Reason::Broken)) {
                Some(reason) => dead.push((lease, reason)),
                None => good.0.push(lease),
            }
        }
        drop(good);
        // Closing may be slow, so it happens after the others are back.
        for (lease, reason) in dead {
            lease.retire(reason);
        }
    }

    /// The right to make one more thing, if there is room for it and for a caller.
    pub(crate) fn vacancy(self: &Arc<Self>) -> Option<Lease<C>> {
        let now = Instant::now();
        let _seats = self.gate.extra_seats(self.min_idle);
        let mut idle = Looked(Vec::new());
        let vacant = loop {
            let mut lease = self.slip_in(now)?;
            match lease.entry() {
                Some(_) => idle.0.push(lease),
                None => break lease,
            }
        };
        drop(idle);
        let GateStats { available, in_use, .. } = self.gate.stats();
        (available > 0 || in_use == 1).then_some(vacant)
    }

    /// A lease for those who look after things, if that takes no waiting.
    fn slip_in(self: &Arc<Self>, now: Instant) -> Option<Lease<C>> {
        if !self.store.is_within_reach() {
            return None;
        }
        let permit = self.gate.slip_in().then(|| Permit::guest(self))?;
        Some(Lease::new(permit, self.store.take()?, now))
    }

    fn discard_idle(&self) {
        while let Some(mut held) = self.store.take_idle() {
            let entry = held.empty();
            self.store.forget(held);
            if let Some(entry) = entry {
                self.counters.close(entry, Reason::Shutdown);
            }
        }
    }
}

impl<C: Send + 'static> Drop for Shared<C> {
    fn drop(&mut self) {
        self.nudge.notify_one();
    }
}

impl<C: Send + 'static> Drop for Looked<C> {
    fn drop(&mut self) {
        // The one used last was taken first and must lie on top again.
        while let Some(lease) = self.0.pop() {
            lease.release_unused();
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
