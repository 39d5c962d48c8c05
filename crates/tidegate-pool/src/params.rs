//! What a pool may hold and how long it may wait.

use std::{num::NonZeroU32, time::Duration};

use crate::{Expiry, GateParams, Idle};

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
    /// How often a thing may be used before it is closed instead of reused.
    pub max_uses: Option<u64>,
    /// How many things [`crate::Pool::maintain`] keeps ready, as far as `max` has room for them.
    pub min_idle: usize,
    /// How idle things are kept.
    pub idle: Idle,
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
            max_uses: None,
            min_idle: 0,
            idle: Idle::Stack,
        }
    }

    pub(crate) const fn gate(&self) -> GateParams {
        let Self { max, max_waiting, acquire_timeout, .. } = *self;
        GateParams { max, max_waiting, acquire_timeout }
    }

    pub(crate) const fn expiry(&self) -> Expiry {
        Expiry { idle: self.idle_timeout, lifetime: self.max_lifetime, uses: self.max_uses }
    }
}
