//! Clients that read more slowly than their server talks.
//!
//! Where a server's messages are for one client alone, whoever reads them stands still with that
//! client, and nothing needs to wait here. Where they come mixed with those for others, what one
//! client does not take waits in a [`Mailbox`]. All mailboxes share a [`Backlog`], the memory that
//! may wait for slow clients; a route says by [`SlowClients`] how much one stream may have of it,
//! and what happens then.

mod mailbox;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::warn;

pub use self::mailbox::{Item, Mailbox, Surplus};
use crate::{Error, Kind, Origin, Retry};

/// How often one route complains of slow clients.
const COMPLAIN: Duration = Duration::from_secs(1);

/// What is done about a client that does not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Its server is not read either, where that holds up nobody else.
    #[default]
    Pause,
    /// Its stream is ended.
    End,
}

/// Why a stream was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slowness {
    /// The client took nothing for too long.
    Stalled,
    /// As much waited as may wait for one stream.
    Buffer,
    /// As much waited as may wait for all streams.
    Budget,
}

/// How one route treats clients that do not read. All its calls share it.
#[derive(Debug)]
pub struct SlowClients {
    route: Box<str>,
    params: SlowParams,
    backlog: Backlog,
    ended: [AtomicU64; Slowness::ALL.len()],
    log: Mutex<Log>,
}

/// What a route says about clients that do not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowParams {
    /// What is done about them.
    pub policy: Policy,
    /// How much may wait for one stream, in bytes.
    pub buffer: usize,
    /// [`Policy::End`]: how long a client may take nothing of what is ready for it.
    pub after: Duration,
}

/// The memory that waits for slow clients, of all routes together. Clones share it.
///
/// A stream may have as much as it leaves to all others. So a few slow clients cannot use it up:
/// the more there are, the less each may have.
#[derive(Clone, Debug)]
pub struct Backlog(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    budget: usize,
    used: AtomicUsize,
}

/// What one stream has of a backlog, given back when it is dropped.
#[derive(Debug)]
struct Share {
    backlog: Backlog,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Log {
    /// When the last line was written.
    last: Option<Instant>,
    /// How many streams were ended since then.
    since: u64,
}

impl SlowClients {
    /// How the route of this name does it.
    pub fn new(route: impl Into<Box<str>>, params: SlowParams, backlog: &Backlog) -> Self {
        Self {
            route: route.into(),
            params,
            backlog: backlog.clone(),
            ended: Default::default(),
            log: Mutex::default(),
        }
    }

    /// The route's name.
    pub const fn route(&self) -> &str {
        &self.route
    }

    /// What the route says.
    pub const fn params(&self) -> &SlowParams {
        &self.params
    }

    /// Whether a server is to stand still with its client, where it can.
    pub const fn pauses(&self) -> bool {
        matches!(self.params.policy, Policy::Pause)
    }

    /// How long a client may take nothing of what is ready for it, if the route says that.
    pub const fn patience(&self) -> Option<Duration> {
        match self.params.policy {
            Policy::Pause => None,
            Policy::End => Some(self.params.after),
        }
    }

    /// Counts a stream that was ended, and tells the log, though not each time.
    pub fn ended(&self, why: Slowness) {
        if let Some(count) = self.ended.get(why as usize) {
            count.fetch_add(1, Relaxed);
        }
        let now = Instant::now();
        let mut log = self.log.lock();
        log.since += 1;
        if log.last.is_some_and(|last| now < last + COMPLAIN) {
            return;
        }
        log.last = Some(now);
        let streams = std::mem::take(&mut log.since);
        drop(log);
        let reason = why.as_str();
        warn!(route = %self.route, reason, streams, "a client did not read; its stream was ended");
    }

    /// How many streams were ended, in the order of [`Slowness::ALL`].
    pub fn stats(&self) -> [u64; Slowness::ALL.len()] {
        self.ended.each_ref().map(|count| count.load(Relaxed))
    }
}

impl Default for SlowParams {
    fn default() -> Self {
        Self { policy: Policy::Pause, buffer: 8 << 20, after: Duration::from_secs(10) }
    }
}

impl Slowness {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::Stalled, Self::Buffer, Self::Budget];

    /// A stable lowercase word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stalled => "stalled",
            Self::Buffer => "buffer",
            Self::Budget => "budget",
        }
    }

    /// What the client is told in the last event of its stream.
    pub fn error(self) -> Error {
        let message = match self {
            Self::Stalled => "the client took nothing of the stream for too long",
            Self::Buffer => {
                "the client did not read: more messages came than may wait for one stream"
            }
            Self::Budget => {
                "the client did not read: more messages came than may wait for all streams"
            }
        };
        Error::new(Kind::SlowClient, Origin::Downstream, Retry::Never, message)
    }
}

impl Backlog {
    /// A backlog of at most so many bytes.
    pub fn new(budget: usize) -> Self {
        Self(Arc::new(Memory { budget, used: AtomicUsize::new(0) }))
    }

    /// How many bytes wait now.
    pub fn bytes(&self) -> usize {
        self.0.used.load(Relaxed)
    }
}

impl Default for Backlog {
    /// 128 MiB.
    fn default() -> Self {
        Self::new(128 << 20)
    }
}

impl Share {
    const fn new(backlog: Backlog) -> Self {
        Self { backlog, bytes: 0 }
    }

    /// Takes what is needed to have `bytes`, unless that is more than would be left.
    fn try_grow(&mut self, bytes: usize) -> bool {
        let Some(more) = bytes.checked_sub(self.bytes) else { return true };
        let Memory { budget, used } = &*self.backlog.0;
        let before = used.fetch_add(more, Relaxed);
        let fits = bytes <= budget.saturating_sub(before.saturating_add(more));
        if fits {
            self.bytes = bytes;
        } else {
            used.fetch_sub(more, Relaxed);
        }
        fits
    }

    /// Has `bytes`, whatever there is.
    fn set(&mut self, bytes: usize) {
        let used = &self.backlog.0.used;
        if bytes >= self.bytes {
            used.fetch_add(bytes - self.bytes, Relaxed);
        } else {
            used.fetch_sub(self.bytes - bytes, Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl fmt::Display for Slowness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
