//! What a pool may hold and how long it may wait.

use std::{num::NonZeroU32, time::Duration};

/// The bounds of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Params {
    /// How many leases may be out at once, and so how many things may exist.
    pub max: NonZeroU32,
    /// How many callers may wait for a lease; one more is refused at once.
    pub max_waiting: usize,
    /// How long a caller waits for a lease.
    pub acquire_timeout: Duration,
    /// How long a thing may lie unused before it is closed instead of reused.
    pub idle_timeout: Option<Duration>,
    /// How old a thing may get before it is closed instead of reused.
    pub max_lifetime: Option<Duration>,
}

/// Why there is no lease.
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
    /// The pool has been closed.
    #[error("the pool is closed")]
    Closed,
}

impl Params {
    /// Bounds with `max` leases, ten times as many waiters, five seconds of patience, and things
    /// that never expire.
    pub const fn new(max: NonZeroU32) -> Self {
        Self {
            max,
            max_waiting: max.get() as usize * 10,
            acquire_timeout: Duration::from_secs(5),
            idle_timeout: None,
            max_lifetime: None,
        }
    }
}
