//! What is counted about streams that broke and went on.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use tidegate_pool::{Times, Timings};

/// How streams that broke went on, or did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resumption {
    /// Streams whose readers wait for them to go on.
    pub waiting: usize,
    /// Attempts that opened a stream.
    pub opened: u64,
    /// Attempts that failed in a way that may pass.
    pub failed: u64,
    /// Attempts that the server refused for good.
    pub refused: u64,
    /// Breaks after which the stream went on from the last id that was seen on it.
    pub resumed: u64,
    /// Breaks after which the stream went on without an id, so that something may be missing.
    pub gaps: u64,
    /// Breaks after which the stream was given up.
    pub given_up: u64,
    /// Events that came again in a replay and were dropped.
    pub replayed: u64,
    /// Events under an id that the server had used before; they are passed on.
    pub reused_ids: u64,
    /// From a break to the moment when the stream went on.
    pub times: Times,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(super) waiting: AtomicUsize,
    pub(super) opened: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) resumed: AtomicU64,
    pub(super) gaps: AtomicU64,
    pub(super) given_up: AtomicU64,
    pub(super) replayed: AtomicU64,
    pub(super) reused_ids: AtomicU64,
    pub(super) times: Timings,
}

/// One reader that waits.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Counters>);

impl Counters {
    pub(crate) fn read(&self) -> Resumption {
        Resumption {
            waiting: self.waiting.load(Relaxed),
            opened: self.opened.load(Relaxed),
            failed: self.failed.load(Relaxed),
            refused: self.refused.load(Relaxed),
            resumed: self.resumed.load(Relaxed),
            gaps: self.gaps.load(Relaxed),
            given_up: self.given_up.load(Relaxed),
            replayed: self.replayed.load(Relaxed),
            reused_ids: self.reused_ids.load(Relaxed),
            times: self.times.read(),
        }
    }
}

impl Waiting {
    pub(super) fn new(counters: &Arc<Counters>) -> Self {
        counters.waiting.fetch_add(1, Relaxed);
        Self(Arc::clone(counters))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
