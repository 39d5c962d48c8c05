//! What happened so far, as plain numbers. Metric names are the business of others.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A snapshot. `running` says what is now; everything else only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Leaders that are not reaped (gauge).
    pub running: u64,
    /// Processes started.
    pub spawned: u64,
    /// Processes that could not be started.
    pub spawn_failed: u64,
    /// Leaders reaped.
    pub reaped: u64,
    /// Processes that had left their group, or outlived their leader, and were killed.
    pub strays_ended: u64,
    /// Processes that could not be killed. They run on.
    pub strays_spared: u64,
    /// Adopted processes that had ended and were reaped.
    pub strays_reaped: u64,
    /// Processes that the ledger does not name, since it was full or could not be written.
    pub unrecorded: u64,
    /// How often the process table was read.
    pub scans: u64,
    /// How often it could not be read, or what was found there not be held to be killed, since
    /// file descriptors or memory had run out. It is tried again.
    pub scans_failed: u64,
}

/// The live counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) spawned: Counter,
    pub(crate) spawn_failed: Counter,
    pub(crate) reaped: Counter,
    pub(crate) strays_ended: Counter,
    pub(crate) strays_spared: Counter,
    pub(crate) strays_reaped: Counter,
    pub(crate) unrecorded: Counter,
    pub(crate) scans: Counter,
    pub(crate) scans_failed: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Counters {
    pub(crate) fn stats(&self) -> Stats {
        // Read first, so that what is reaped between the two reads makes the gauge too high for a
        // moment, and never wraps.
        let reaped = self.reaped.count();
        let spawned = self.spawned.count();
        Stats {
            running: spawned.saturating_sub(reaped),
            spawned,
            spawn_failed: self.spawn_failed.count(),
            reaped,
            strays_ended: self.strays_ended.count(),
            strays_spared: self.strays_spared.count(),
            strays_reaped: self.strays_reaped.count(),
            unrecorded: self.unrecorded.count(),
            scans: self.scans.count(),
            scans_failed: self.scans_failed.count(),
        }
    }
}
