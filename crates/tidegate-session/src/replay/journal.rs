//! The streams of one session.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tidegate_service::{Error, Kind, Origin, Retry, Session};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Account, ReplayParams, id::EventId, line::Line, log::Missed, source::Source};

/// How many streams of one session may go on at a time without their client. A client that leaves
/// more of them behind cannot come back to those.
const MAX_DRAINING: usize = 64;

/// The session's streams that can be resumed.
#[derive(Debug)]
pub(super) struct Journal {
    /// What the session's event ids begin with.
    pub(super) key: u64,
    pub(super) account: Account,
    /// Cancelled when the session has ended.
    pub(super) ended: CancellationToken,
    draining: AtomicUsize,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    last: u64,
    open: HashMap<u64, Arc<Line>>,
}

/// The right to go on with a stream whose client has left.
#[derive(Debug)]
pub(super) struct DrainPlace(Arc<Journal>);

impl Journal {
    /// The journal of a session.
    pub(super) fn of(session: &Session, account: &Account) -> Option<Arc<Self>> {
        session.journal(|| {
            let journal = Arc::new(Self {
                key: rand::random(),
                account: account.clone(),
                ended: session.ended().clone(),
                draining: AtomicUsize::new(0),
                lines: Mutex::default(),
            });
            account.note_journal(&journal);
            journal
        })
    }

    /// Adds a stream.
    pub(super) fn open(
        self: &Arc<Self>,
        source: Source,
        is_primed: bool,
        params: &ReplayParams,
    ) -> Arc<Line> {
        let mut lines = self.lines.lock();
        lines.last += 1;
        let number = lines.last;
        let line = Arc::new(Line::new(self, number, source, is_primed, *params));
        lines.open.insert(number, Arc::clone(&line));
        line
    }

    /// The stream that an id of ours names.
    pub(super) fn find(&self, id: EventId) -> Result<Arc<Line>, Error> {
        if id.key != self.key {
            return Err(self.gap(None));
        }
        let found = self.lines.lock().open.get(&id.stream).map(Arc::clone);
        found.ok_or_else(|| self.gap(Some(Missed::Evicted)))
    }

    /// Drops a stream, which cannot be resumed any more.
    pub(super) fn remove(&self, number: u64) {
        let removed = self.lines.lock().open.remove(&number);
        drop(removed);
    }

    /// Takes a place among those that go on without their client.
    pub(super) fn drain_place(self: &Arc<Self>) -> Option<DrainPlace> {
        let more = |taken: usize| (taken < MAX_DRAINING).then_some(taken + 1);
        self.draining.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        self.account.counters().drain_begins();
        Some(DrainPlace(Arc::clone(self)))
    }

    pub(super) fn sweep(&self, now: Instant) {
        let lines: Vec<Arc<Line>> = self.lines.lock().open.values().map(Arc::clone).collect();
        for line in lines {
            if self.ended.is_cancelled() || line.is_overdue(now) {
                self.remove(line.number());
            }
        }
    }

    /// What a client is told that cannot be given what it missed. Without a reason, the id is of
    /// another session.
    pub(super) fn gap(&self, missed: Option<Missed>) -> Error {
        self.account.counters().gaps.fetch_add(1, Ordering::Relaxed);
        let (origin, message) = match missed {
            Some(Missed::Evicted) => {
                (Origin::Gateway, "what followed on this event is not kept any more")
            }
            Some(Missed::NeverSent) => (Origin::Downstream, "no event with this id was ever sent"),
            None => (Origin::Downstream, "the event with this id belongs to another session"),
        };
        Error::new(Kind::StreamGap, origin, Retry::Never, message)
    }
}

impl Drop for DrainPlace {
    fn drop(&mut self) {
        self.0.draining.fetch_sub(1, Ordering::Relaxed);
        self.0.account.counters().drain_ends();
    }
}
