//! What happened so far, as plain numbers. Metric names are the business of others.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A snapshot. Gauges say what is now; everything else only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processes that run now (gauge).
    pub running: usize,
    /// Requests that processes are working on now (gauge).
    pub in_flight: usize,
    /// Processes started.
    pub spawned: u64,
    /// Processes that could not be started at all.
    pub spawn_failed: u64,
    /// How the processes ended.
    pub exits: Exits,
    /// Lines on stdout that were no message.
    pub garbage_lines: u64,
    /// Answers to requests that nobody waits for any more.
    pub late_answers: u64,
    /// Answers to requests that were never sent.
    pub unknown_answers: u64,
    /// Second answers.
    pub duplicate_answers: u64,
    /// Clients' answers to questions that were never asked, or were answered before.
    pub stray_client_answers: u64,
    /// Lines read from stderr.
    pub stderr_lines: u64,
    /// Lines read from stderr and not logged, since there were too many.
    pub stderr_dropped: u64,
    /// Notifications that had no taker, or whose taker was too slow.
    pub notifications_dropped: u64,
    /// Server requests that were answered with an error, since no client could take them.
    pub asks_refused: u64,
    /// Things that a modern server must not do, such as asking.
    pub violations: u64,
}

/// Processes that ended, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exits {
    /// We asked them to.
    pub stopped: u64,
    /// By themselves, with status 0.
    pub finished: u64,
    /// By themselves, with another status.
    pub failed: u64,
    /// By a signal that we did not send.
    pub signaled: u64,
    /// We ended them, since they could not be talked to any more.
    pub broken: u64,
}

/// The live counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) running: AtomicUsize,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) spawned: Counter,
    pub(crate) spawn_failed: Counter,
    pub(crate) exit_stopped: Counter,
    pub(crate) exit_finished: Counter,
    pub(crate) exit_failed: Counter,
    pub(crate) exit_signaled: Counter,
    pub(crate) exit_broken: Counter,
    pub(crate) garbage_lines: Counter,
    pub(crate) late_answers: Counter,
    pub(crate) unknown_answers: Counter,
    pub(crate) duplicate_answers: Counter,
    pub(crate) stray_client_answers: Counter,
    pub(crate) stderr_lines: Counter,
    pub(crate) stderr_dropped: Counter,
    pub(crate) notifications_dropped: Counter,
    pub(crate) asks_refused: Counter,
    pub(crate) violations: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            running: self.running.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            spawned: self.spawned.value(),
            spawn_failed: self.spawn_failed.value(),
            exits: Exits {
                stopped: self.exit_stopped.value(),
                finished: self.exit_finished.value(),
                failed: self.exit_failed.value(),
                signaled: self.exit_signaled.value(),
                broken: self.exit_broken.value(),
            },
            garbage_lines: self.garbage_lines.value(),
            late_answers: self.late_answers.value(),
            unknown_answers: self.unknown_answers.value(),
            duplicate_answers: self.duplicate_answers.value(),
            stray_client_answers: self.stray_client_answers.value(),
            stderr_lines: self.stderr_lines.value(),
            stderr_dropped: self.stderr_dropped.value(),
            notifications_dropped: self.notifications_dropped.value(),
            asks_refused: self.asks_refused.value(),
            violations: self.violations.value(),
        }
    }
}
