//! What happened so far, as plain numbers. Metric names are the business of others.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tidegate_pool::{GateStats, Times, Timings};
use tokio::time::Instant;

use crate::demux::Need;

/// A snapshot. Gauges say what is now; everything else only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processes that run now, those that end included (gauge).
    pub running: usize,
    /// The same by what they are doing (gauges).
    pub states: States,
    /// The places for processes, and who waits for one.
    pub places: GateStats,
    /// Messages that wait to be written to processes (gauge).
    pub queued_messages: usize,
    /// Bytes of those messages (gauge).
    pub queued_bytes: usize,
    /// Memory that the processes' trees had resident when it was last looked at, bytes (gauge).
    pub resident_bytes: u64,
    /// Processor time that the processes' trees have used, as far as it was looked at.
    pub cpu: Duration,
    /// Whether callers are turned away because starts keep failing.
    pub down: bool,
    /// From the start of a process to its first answer.
    pub starts: Times,
    /// Requests that processes are working on now (gauge).
    pub in_flight: usize,
    /// Processes started.
    pub spawned: u64,
    /// Processes that could not be started at all.
    pub spawn_failed: u64,
    /// Starts that failed in any way: those, and processes that ended too soon or did not answer.
    pub start_failures: u64,
    /// How the processes ended.
    pub exits: Exits,
    /// Processes that were replaced, by reason.
    pub recycled: Recycled,
    /// How often sessions stopped sharing a process because the server needs a client: once at
    /// most.
    pub moves: u64,
    /// Subscriptions that went on with another process than they began with.
    pub resumed_listens: u64,
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
    /// How often a process was not read for a while, since its client did not read.
    pub pauses: u64,
    /// Server requests that were answered with an error, since no client could take them.
    pub asks_refused: u64,
    /// Things that a modern server must not do, such as asking.
    pub violations: u64,
}

/// Processes that exist, by what they are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct States {
    /// Started, and not yet greeted.
    pub starting: usize,
    /// Ready for a session to come.
    pub spare: usize,
    /// In use.
    pub serving: usize,
    /// Ending.
    pub stopping: usize,
}

/// Processes that were replaced, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recycled {
    /// Nobody used them.
    pub idle: u64,
    /// They were too old.
    pub age: u64,
    /// They had taken enough requests.
    pub calls: u64,
    /// They had too much memory resident.
    pub memory: u64,
    /// They were ready for a kind of session that did not come, and another needed the place.
    pub displaced: u64,
}

/// A start that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong, in a few words.
    pub reason: &'static str,
    /// The end of what the process said on stderr.
    pub last_words: Option<Arc<str>>,
    /// When it was.
    pub at: Instant,
}

/// A server whose starts keep failing, so that callers are turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Down {
    /// Since when.
    pub since: Instant,
    /// When one start is tried; `None` while it is.
    pub next_try: Option<Instant>,
}

/// The moment a server showed that it needs a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// What it did.
    pub why: &'static str,
    /// When it was.
    pub at: Instant,
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
    pub(crate) states: [AtomicUsize; 4],
    pub(crate) starts: Timings,
    pub(crate) cpu_nanos: AtomicU64,
    pub(crate) moves: Counter,
    pub(crate) resumed_listens: Counter,
    pub(crate) recycled_idle: Counter,
    pub(crate) recycled_age: Counter,
    pub(crate) recycled_calls: Counter,
    pub(crate) recycled_memory: Counter,
    pub(crate) recycled_displaced: Counter,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) spawned: Counter,
    pub(crate) spawn_failed: Counter,
    pub(crate) start_failures: Counter,
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
    pub(crate) pauses: Counter,
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

impl Failure {
    pub(crate) fn now(reason: &'static str, last_words: Option<Arc<str>>) -> Self {
        Self { reason, last_words, at: Instant::now() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)?;
        match self.last_words.as_deref() {
            // Quoted, so that it stays one line and cannot be taken for ours.
            Some(words) => write!(f, "; its last words: {words:?}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl Moved {
    pub(crate) fn now(need: Need) -> Self {
        Self { why: need.as_str(), at: Instant::now() }
    }
}

impl Counters {
    /// Everything but what only the host and its processes know.
    pub(crate) fn snapshot(&self) -> Stats {
        let [starting, spare, serving, stopping] =
            self.states.each_ref().map(|count| count.load(Ordering::Relaxed));
        Stats {
            running: self.running.load(Ordering::Relaxed),
            states: States { starting, spare, serving, stopping },
            starts: self.starts.read(),
            cpu: Duration::from_nanos(self.cpu_nanos.load(Ordering::Relaxed)),
            moves: self.moves.value(),
            resumed_listens: self.resumed_listens.value(),
            recycled: Recycled {
                idle: self.recycled_idle.value(),
                age: self.recycled_age.value(),
                calls: self.recycled_calls.value(),
                memory: self.recycled_memory.value(),
                displaced: self.recycled_displaced.value(),
            },
            in_flight: self.in_flight.load(Ordering::Relaxed),
            spawned: self.spawned.value(),
            spawn_failed: self.spawn_failed.value(),
            start_failures: self.start_failures.value(),
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
            pauses: self.pauses.value(),
            asks_refused: self.asks_refused.value(),
            violations: self.violations.value(),
            ..Stats::default()
        }
    }
}
