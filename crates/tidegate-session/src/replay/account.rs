//! What all logs hold together, and who looks after those that nobody reads.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tidegate_service::{OnError, Tasks};
use tokio::{
    sync::Notify,
    time::{self, Instant, MissedTickBehavior},
};

use super::{drain::Drain, journal::Journal, line::Line};

/// What the account counts. Totals never shrink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Logs that exist now.
    pub logs: usize,
    /// What they take, about, in bytes.
    pub bytes: usize,
    /// Streams that are read into their logs now because their clients are away.
    pub draining: usize,
    /// Events ever put into a log.
    pub logged: u64,
    /// Events given again.
    pub replayed: u64,
    /// Streams that a client came back to.
    pub resumed: u64,
    /// Clients that came back to something that was not kept.
    pub gaps: u64,
    /// Events dropped, for lack of room or because they were too old.
    pub evicted: u64,
}

/// The memory of all logs of a gateway, bounded together. Clones share it.
///
/// When it is used up, logs that nobody reads go, the one first that has been so for longest; if
/// there is none, the log that grows drops its own oldest events.
#[derive(Clone)]
pub struct Account(Arc<Inner>);

struct Inner {
    budget: usize,
    pub(super) counters: Counters,
    /// Lines that nobody reads and that have nothing to come, in the order in which they became so.
    idle: Mutex<BTreeMap<u64, Weak<Line>>>,
    journals: Mutex<Vec<Weak<Journal>>>,
    left: Mutex<Left>,
    /// Rung when somebody has left a stream.
    nudge: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    logs: AtomicUsize,
    bytes: AtomicUsize,
    draining: AtomicUsize,
    pub(super) logged: AtomicU64,
    pub(super) replayed: AtomicU64,
    pub(super) resumed: AtomicU64,
    pub(super) gaps: AtomicU64,
    evicted: AtomicU64,
    tickets: AtomicU64,
}

/// Streams whose client has just left. Each stands here once at most, so they are no more than the
/// streams there are.
#[derive(Default)]
struct Left {
    is_open: bool,
    drains: Vec<Drain>,
}

impl Account {
    /// An account of `budget` bytes.
    pub fn new(budget: usize) -> Self {
        Self(Arc::new(Inner {
            budget,
            counters: Counters::default(),
            idle: Mutex::default(),
            journals: Mutex::default(),
            left: Mutex::default(),
            nudge: Notify::new(),
        }))
    }

    /// The counters now.
    pub fn stats(&self) -> Stats {
        let counters = &self.0.counters;
        let total = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Stats {
            logs: counters.logs.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            draining: counters.draining.load(Ordering::Relaxed),
            logged: total(&counters.logged),
            replayed: total(&counters.replayed),
            resumed: total(&counters.resumed),
            gaps: total(&counters.gaps),
            evicted: total(&counters.evicted),
        }
    }

    /// Starts looking after the logs: each stream that a client has left goes on in a task, and
    /// `every` so often what is too old is dropped. Until then, streams end when they are left.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start(&self, every: Duration, tasks: &Tasks) {
        self.0.left.lock().is_open = true;
        let (closing, group) = (Closing(self.clone()), tasks.clone());
        tasks.spawn("keep stream logs", OnError::Log, async move {
            closing.0.keep(every, &group).await;
            Ok(())
        });
    }

    async fn keep(&self, every: Duration, tasks: &Tasks) {
        let mut tick = time::interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.0.nudge.notified() => self.drain_left(tasks),
                _ = tick.tick() => self.sweep(Instant::now()),
                () = tasks.stopping().cancelled() => return,
            }
        }
    }

    fn drain_left(&self, tasks: &Tasks) {
        for drain in std::mem::take(&mut self.0.left.lock().drains) {
            let stopping = tasks.stopping().clone();
            tasks.spawn("read a stream whose client is away", OnError::Log, async move {
                // Nothing is lost when it is cut short: the guard says that the call is over.
                let _done = stopping.run_until_cancelled_owned(drain.run()).await;
                Ok(())
            });
        }
    }

    /// Drops what is too old at `now`.
    pub fn sweep(&self, now: Instant) {
        let mut journals = Vec::new();
        self.0.journals.lock().retain(|journal| {
            let journal = journal.upgrade();
            let lives = journal.is_some();
            journals.extend(journal);
            lives
        });
        for journal in journals {
            journal.sweep(now);
        }
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    pub(super) fn note_journal(&self, journal: &Arc<Journal>) {
        self.0.journals.lock().push(Arc::downgrade(journal));
    }

    /// Takes over a stream that its client has left, or gives it back if nobody may go on with it.
    pub(super) fn hand_over(&self, drain: Drain) -> Result<(), Drain> {
        let mut left = self.0.left.lock();
        if !left.is_open {
            return Err(drain);
        }
        left.drains.push(drain);
        drop(left);
        self.0.nudge.notify_one();
        Ok(())
    }

    /// Notes a line that nobody reads. Returns what to give to [`Account::not_idle`].
    pub(super) fn idle(&self, line: Weak<Line>) -> u64 {
        let ticket = self.0.counters.tickets.fetch_add(1, Ordering::Relaxed);
        self.0.idle.lock().insert(ticket, line);
        ticket
    }

    pub(super) fn not_idle(&self, ticket: u64) {
        self.0.idle.lock().remove(&ticket);
    }

    /// Whether the logs take more than they may.
    pub(super) fn is_over(&self) -> bool {
        self.0.counters.bytes.load(Ordering::Relaxed) > self.0.budget
    }

    /// Drops idle logs until there is room. `false` if there is none left to drop. No line may be
    /// locked by the caller.
    pub(super) fn make_room(&self) -> bool {
        while self.is_over() {
            // The lock is not held while the line is dropped, which comes here for the same lock.
            let Some((_, oldest)) = self.0.idle.lock().pop_first() else { return false };
            if let Some(line) = oldest.upgrade() {
                line.evict_whole();
            }
        }
        true
    }
}

impl Counters {
    pub(super) fn opened(&self, bytes: usize) {
        self.logs.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn closed(&self, bytes: usize) {
        self.logs.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A log has changed its size.
    pub(super) fn moved(&self, before: usize, after: usize) {
        if after >= before {
            self.bytes.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    pub(super) fn evicted(&self, events: usize) {
        self.evicted.fetch_add(events as u64, Ordering::Relaxed);
    }

    pub(super) fn drain_begins(&self) {
        self.draining.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn drain_ends(&self) {
        self.draining.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ends the taking over, however the keeper ends.
struct Closing(Account);

impl Drop for Closing {
    fn drop(&mut self) {
        let drains = {
            let mut left = self.0.0.left.lock();
            left.is_open = false;
            std::mem::take(&mut left.drains)
        };
        drop(drains);
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Account").field(&self.stats()).finish()
    }
}
