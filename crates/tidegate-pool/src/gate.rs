//! Who may come in, and who has to wait: fair, bounded and closable.

use std::{
    fmt,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit, TryAcquireError},
    time::{self, Instant},
};

use crate::{
    closing::Closing,
    times::{Times, Timings},
};

/// Lets a bounded number of callers in, in the order they came. Clones share it.
///
/// ```
/// use std::{num::NonZeroU32, time::Duration};
/// use tidegate_pool::{CheckoutError, Gate, GateParams};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let max = NonZeroU32::new(1).ok_or("zero")?;
/// let acquire_timeout = Duration::from_millis(1);
/// let gate = Gate::new(GateParams { max, max_waiting: 1, acquire_timeout });
///
/// let pass = gate.enter(None).await?;
/// assert!(gate.try_enter().is_none());
/// let error = gate.enter(None).await.err();
/// assert_eq!(error, Some(CheckoutError::TimedOut { waited: acquire_timeout }));
/// drop(pass);
/// assert_eq!(gate.stats().available, 1);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Gate(Arc<Core>);

/// How many may come in and how long the others wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateParams {
    /// How many passes may be out at once.
    pub max: NonZeroU32,
    /// How many callers may wait for one; one more is refused at once.
    pub max_waiting: usize,
    /// How long a caller waits.
    pub acquire_timeout: Duration,
}

/// The right to be inside. Dropping it lets the next caller in; that is allowed anywhere, also
/// outside a runtime and after the gate was closed.
pub struct Pass(Arc<Core>);

/// Why a caller does not get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckoutError {
    /// Everything is in use and as many callers as allowed wait already.
    #[error("all leases are taken and the queue is full")]
    QueueFull,
    /// Everything was in use for the whole time.
    #[error("no lease came free within {waited:?}")]
    TimedOut {
        /// How long the caller was allowed to wait.
        waited: Duration,
    },
    /// The gate has been closed.
    #[error("the pool is closed")]
    Closed,
}

/// A snapshot of a gate. Its numbers are read one after the other, so under load they may differ
/// by the callers that passed meanwhile; at rest they add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateStats {
    /// How many passes may be out at once.
    pub max: usize,
    /// Passes that could be taken now without waiting.
    pub available: usize,
    /// Passes that are out.
    pub in_use: usize,
    /// Callers that wait.
    pub waiting: usize,
    /// Callers refused because the queue was full.
    pub refused: u64,
    /// Callers that waited in vain.
    pub timed_out: u64,
    /// Callers that got in.
    pub entered: u64,
    /// The time all callers spent waiting, however their wait ended.
    pub waited: Duration,
    /// How long those waited that got in; most did not wait.
    pub acquire: Times,
}

/// The gate itself, for owners that have an `Arc` of their own around it.
pub(crate) struct Core {
    params: GateParams,
    /// Serves callers in the order they came.
    places: Semaphore,
    closing: Closing,
    /// Told when the gate closes, and of every pass that ends after that.
    left: Notify,
    waiting: AtomicUsize,
    /// How many may wait beyond what is allowed.
    extra_seats: AtomicUsize,
    refused: AtomicU64,
    timed_out: AtomicU64,
    /// In nanoseconds.
    waited: AtomicU64,
    acquire: Timings,
}

/// Seats in the queue for those who would not have to wait if somebody had not come in for a
/// moment.
pub(crate) struct ExtraSeats<'a> {
    core: &'a Core,
    count: usize,
}

/// One caller in the queue.
struct Waiting<'a> {
    core: &'a Core,
    since: Instant,
}

impl Gate {
    /// Makes an open gate with nobody inside.
    pub fn new(params: GateParams) -> Self {
        Self(Arc::new(Core::new(params)))
    }

    /// Comes in, or waits for it no longer than until `deadline` and as long as the gate allows.
    ///
    /// Callers are served in the order they came. If a place is free this does not wait.
    ///
    /// # Errors
    ///
    /// [`CheckoutError`] says what stood in the way; nothing has been taken then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue and gives back what it had got.
    pub async fn enter(&self, deadline: Option<Instant>) -> Result<Pass, CheckoutError> {
        self.0.enter(deadline).await?;
        Ok(Pass(Arc::clone(&self.0)))
    }

    /// Comes in if that takes no waiting: not when it is full or closed, and nobody is overtaken.
    pub fn try_enter(&self) -> Option<Pass> {
        match self.0.try_enter() {
            Some(Ok(())) => Some(Pass(Arc::clone(&self.0))),
            Some(Err(_)) | None => None,
        }
    }

    /// Refuses callers from now on, also those in the queue. Passes that are out stay valid.
    pub fn close(&self) {
        self.0.close(|| ());
    }

    /// Whether it has been closed.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Waits, after [`Gate::close`], until no pass is out.
    ///
    /// # Cancel safety
    ///
    /// Dropping the wait changes nothing.
    pub async fn drained(&self) {
        self.0.drained().await;
    }

    /// Who is in and who came.
    pub fn stats(&self) -> GateStats {
        self.0.stats()
    }
}

impl Core {
    pub(crate) fn new(params: GateParams) -> Self {
        Self {
            places: Semaphore::new(max(params)),
            closing: Closing::new(),
            left: Notify::new(),
            waiting: AtomicUsize::new(0),
            extra_seats: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            acquire: Timings::default(),
            params,
        }
    }

    /// The way in while there is room; `None` means wait. Who comes in owes one `leave`.
    pub(crate) fn try_enter(&self) -> Option<Result<(), CheckoutError>> {
        match self.places.try_acquire() {
            Ok(permit) => {
                permit.forget();
                self.acquire.observe_none();
                Some(Ok(()))
            }
            Err(TryAcquireError::Closed) => Some(Err(CheckoutError::Closed)),
            Err(TryAcquireError::NoPermits) => None,
        }
    }

    /// The way in for those who look after things; nobody counts them.
    pub(crate) fn slip_in(&self) -> bool {
        self.places.try_acquire().map(SemaphorePermit::forget).is_ok()
    }

    /// Adds seats to the queue for those who come while the guests of the house have their places.
    pub(crate) fn extra_seats(&self, count: usize) -> ExtraSeats<'_> {
        self.extra_seats.fetch_add(count, Relaxed);
        ExtraSeats { core: self, count }
    }

    /// The way in. Who comes in owes one `leave`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue and gives back what it had got.
    pub(crate) async fn enter(&self, deadline: Option<Instant>) -> Result<(), CheckoutError> {
        match self.try_enter() {
            Some(entered) => entered,
            // Rare and large, so it does not ride along in the future of every caller.
            None => Box::pin(self.wait(deadline)).await,
        }
    }

    /// The way in for those who did not get in at once; as [`Core::enter`].
    pub(crate) async fn wait(&self, until: Option<Instant>) -> Result<(), CheckoutError> {
        let Some(waiting) = Waiting::join(self) else {
            self.refused.fetch_add(1, Relaxed);
            return Err(CheckoutError::QueueFull);
        };
        let since = waiting.since;
        let patience = since + self.params.acquire_timeout;
        let deadline = until.map_or(patience, |until| until.min(patience));
        match time::timeout_at(deadline, self.places.acquire()).await {
            Ok(Ok(permit)) => {
                permit.forget();
                self.acquire.observe(since.elapsed());
                Ok(())
            }
            Ok(Err(_closed)) => Err(CheckoutError::Closed),
            Err(_elapsed) => {
                self.timed_out.fetch_add(1, Relaxed);
                Err(CheckoutError::TimedOut { waited: deadline.saturating_duration_since(since) })
            }
        }
    }

    /// The way out, for everybody who came in.
    pub(crate) fn leave(&self) {
        self.places.add_permits(1);
        self.tell();
    }

    /// Whether it is closed, asked by somebody who has put something down and leaves after this.
    pub(crate) fn look(&self) -> bool {
        self.closing.look()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closing.is_closed()
    }

    /// Lets nobody in any more; `clear` picks up what those who left have put down.
    pub(crate) fn close(&self, clear: impl FnOnce()) {
        self.closing.close();
        self.places.close();
        clear();
        self.left.notify_waiters();
    }

    /// Waits until it is closed.
    pub(crate) async fn closed(&self) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.is_closed() {
                return;
            }
            left.await;
        }
    }

    pub(crate) async fn drained(&self) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.in_use() == 0 {
                return;
            }
            left.await;
        }
    }

    pub(crate) fn stats(&self) -> GateStats {
        let (max, in_use, acquire) = (max(self.params), self.in_use(), self.acquire.read());
        GateStats {
            max,
            available: max - in_use,
            in_use,
            waiting: self.waiting.load(Relaxed),
            refused: self.refused.load(Relaxed),
            timed_out: self.timed_out.load(Relaxed),
            entered: acquire.count(),
            waited: Duration::from_nanos(self.waited.load(Relaxed)),
            acquire,
        }
    }

    fn in_use(&self) -> usize {
        max(self.params).saturating_sub(self.places.available_permits())
    }

    /// Tells those who wait for the end that a place may have come back.
    fn tell(&self) {
        if self.closing.look() {
            self.left.notify_waiters();
        }
    }
}

impl<'a> Waiting<'a> {
    fn join(core: &'a Core) -> Option<Self> {
        let seats = core.params.max_waiting.saturating_add(core.extra_seats.load(Relaxed));
        let room = |waiting| (waiting < seats).then_some(waiting + 1);
        let joined = core.waiting.fetch_update(Relaxed, Relaxed, room);
        joined.ok().map(|_| Self { core, since: Instant::now() })
    }
}

impl Drop for ExtraSeats<'_> {
    fn drop(&mut self) {
        self.core.extra_seats.fetch_sub(self.count, Relaxed);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let waited = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.core.waited.fetch_add(waited, Relaxed);
        self.core.waiting.fetch_sub(1, Relaxed);
        // A wait that is dropped after it was served gives its place back without `leave`.
        self.core.tell();
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.leave();
    }
}

fn max(params: GateParams) -> usize {
    usize::try_from(params.max.get()).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").finish_non_exhaustive()
    }
}
