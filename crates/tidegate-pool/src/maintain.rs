//! Looking after idle things: old ones go, and some are made before they are asked for.

use std::{
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{self, Instant},
};

use crate::pool::Shared;

/// The shortest time between two sweeps.
const MIN_PERIOD: Duration = Duration::from_millis(1);
/// How long it is left alone after a first failure, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What [`crate::Pool::maintain`] must know about things that the pool does not.
pub trait Keeper: Send + Sync + 'static {
    /// The thing.
    type Item: Send + 'static;
    /// Why it cannot be made. The keeper tells whoever should know; the pool only counts.
    type Error: Send;

    /// Makes a thing, within a time of its own.
    ///
    /// # Cancel safety
    ///
    /// It must be safe to drop: that happens when the pool is closed meanwhile.
    fn make(&self) -> impl Future<Output = Result<Self::Item, Self::Error>> + Send;

    /// Whether an idle thing can still be used. It must be quick and must not use the pool.
    fn is_good(&self, item: &mut Self::Item) -> bool;
}

/// When to try again.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

pub(crate) async fn run<K: Keeper>(
    pool: Weak<Shared<K::Item>>,
    nudge: Arc<Notify>,
    keeper: K,
    period: Duration,
) {
    let period = period.max(MIN_PERIOD);
    let mut backoff = Backoff::default();
    let mut next = Instant::now();
    // In between only the owner keeps the pool.
    while let Some(pool) = pool.upgrade()
        && !pool.gate.is_closed()
    {
        let now = Instant::now();
        if now >= next {
            pool.sweep(now, |item| !keeper.is_good(item));
            next = now + period;
        }
        top_up(&pool, &keeper, &mut backoff).await;
        drop(pool);
        let until = backoff.until.map_or(next, |until| until.min(next));
        tokio::select! {
            () = nudge.notified() => (),
            () = time::sleep_until(until) => (),
        }
    }
}

/// Makes what is missing, until something stands in the way.
async fn top_up<K: Keeper>(pool: &Arc<Shared<K::Item>>, keeper: &K, backoff: &mut Backoff) {
    // The pause is looked at first, because nobody sleeps until the end of one that is over.
    while backoff.is_over(Instant::now()) && pool.is_short() {
        let Some(mut lease) = pool.vacancy() else { return };
        // Whoever comes for this place now would not have been refused either.
        let _seat = pool.gate.extra_seats(1);
        let made = tokio::select! {
            biased;
            () = pool.gate.closed() => return,
            made = keeper.make() => made,
        };
        let kept = made.is_ok_and(|item| {
            lease.fill(item);
            lease.release_unused()
        });
        if kept {
            *backoff = Backoff::default();
        } else {
            pool.counters.failed();
            backoff.fail(Instant::now());
        }
    }
}

impl Backoff {
    fn is_over(&mut self, now: Instant) -> bool {
        if self.until.is_some_and(|until| now >= until) {
            self.until = None;
        }
        self.until.is_none()
    }

    fn fail(&mut self, now: Instant) {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + doubled.min(LONGEST_PAUSE));
    }
}
