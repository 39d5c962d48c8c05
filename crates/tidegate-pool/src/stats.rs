//! Counters of a pool, kept as atomics and shown as plain data.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Times;

/// A snapshot of a pool. Its numbers are read one after the other, so under load they may differ
/// by the calls that passed meanwhile; at rest they add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// How many leases may be out at once.
    pub max: usize,
    /// Leases that could be taken now without waiting.
    pub available: usize,
    /// Leases that are out, filled or not.
    pub in_use: usize,
    /// Things that lie ready for reuse.
    pub idle: usize,
    /// Callers that wait for a lease.
    pub waiting: usize,
    /// Things made so far.
    pub created: u64,
    /// Leases that came with a thing to reuse.
    pub reused: u64,
    /// Callers refused because the queue was full.
    pub refused: u64,
    /// Callers that waited in vain.
    pub timed_out: u64,
    /// Things that maintenance tried to make in vain.
    pub failed: u64,
    /// Things closed so far.
    pub closed: Closed,
    /// How long callers waited for the leases they got; most did not wait.
    pub acquire: Times,
}

/// How many things were closed, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Found unusable.
    pub broken: u64,
    /// Unused for too long.
    pub idle: u64,
    /// Too old.
    pub lifetime: u64,
    /// Used often enough.
    pub uses: u64,
    /// The lease was dropped in the middle of its use.
    pub abandoned: u64,
    /// The pool was closed.
    pub shutdown: u64,
}

/// Why a thing is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It cannot be used any more.
    Broken,
    /// It was unused for too long.
    Idle,
    /// It is too old.
    Lifetime,
    /// It was used often enough.
    Uses,
    /// Its lease was dropped in the middle of its use.
    Abandoned,
    /// The pool is closed.
    Shutdown,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    created: AtomicU64,
    reused: AtomicU64,
    failed: AtomicU64,
    broken: AtomicU64,
    idle: AtomicU64,
    lifetime: AtomicU64,
    uses: AtomicU64,
    abandoned: AtomicU64,
    shutdown: AtomicU64,
}

/// One thing that is being closed.
struct Going<'a>(&'a Counters, Reason);

impl Stats {
    /// Things that exist now, idle or in use.
    pub const fn live(&self) -> u64 {
        self.created.saturating_sub(self.closed.total())
    }
}

impl Closed {
    /// All of them.
    pub const fn total(&self) -> u64 {
        self.broken + self.idle + self.lifetime + self.uses + self.abandoned + self.shutdown
    }
}

impl Counters {
    pub(crate) fn made(&self) {
        self.created.fetch_add(1, Relaxed);
    }

    pub(crate) fn reused(&self) {
        self.reused.fetch_add(1, Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// Closes a thing, and counts it when it is gone, also if going makes it panic.
    pub(crate) fn close<T>(&self, thing: T, reason: Reason) {
        // Declared before the drop, so that it ends after it.
        let _going = Going(self, reason);
        drop(thing);
    }

    const fn of(&self, reason: Reason) -> &AtomicU64 {
        match reason {
            Reason::Broken => &self.broken,
            Reason::Idle => &self.idle,
            Reason::Lifetime => &self.lifetime,
            Reason::Uses => &self.uses,
            Reason::Abandoned => &self.abandoned,
            Reason::Shutdown => &self.shutdown,
        }
    }

    /// Everything but what only the gate and the slots know.
    pub(crate) fn snapshot(&self) -> Stats {
        // Closed before created: a thing made and closed in between must not make `live` negative.
        let closed = Closed {
            broken: self.broken.load(Relaxed),
            idle: self.idle.load(Relaxed),
            lifetime: self.lifetime.load(Relaxed),
            uses: self.uses.load(Relaxed),
            abandoned: self.abandoned.load(Relaxed),
            shutdown: self.shutdown.load(Relaxed),
        };
        Stats {
            created: self.created.load(Relaxed),
            reused: self.reused.load(Relaxed),
            failed: self.failed.load(Relaxed),
            closed,
            ..Stats::default()
        }
    }
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        self.0.of(self.1).fetch_add(1, Relaxed);
    }
}
