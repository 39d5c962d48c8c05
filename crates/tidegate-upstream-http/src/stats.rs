//! Counters of one upstream, kept as atomics and shown as plain data.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use tidegate_service::Kind;

use crate::resume::{self, Resumption};

/// A snapshot of one upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The connections for calls.
    pub calls: tidegate_pool::Stats,
    /// The connections for streams of what the server says unasked.
    pub streams: tidegate_pool::Stats,
    /// How exchanges ended.
    pub attempts: Attempts,
    /// Event streams that are open now, whatever they answer.
    pub open_streams: usize,
    /// Connections made so far.
    pub opened: u64,
    /// Connections closed so far.
    pub closed: u64,
    /// Streams that broke, and how they went on.
    pub resumption: Resumption,
}

/// How many exchanges ended in which way. An exchange is over when its body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempts {
    /// The server answered, in whatever way MCP allows.
    pub answered: u64,
    /// No connection, or the server's own gateway could not reach it.
    pub unreachable: u64,
    /// Something took too long.
    pub timed_out: u64,
    /// The connection broke midway.
    pub died: u64,
    /// The server broke the protocol.
    pub protocol: u64,
    /// A limit of this process stood in the way.
    pub limited: u64,
    /// The server refused: an unknown session, a missing operation, too many requests.
    pub refused: u64,
    /// The caller left first.
    pub cancelled: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    answered: AtomicU64,
    unreachable: AtomicU64,
    timed_out: AtomicU64,
    died: AtomicU64,
    protocol: AtomicU64,
    limited: AtomicU64,
    refused: AtomicU64,
    cancelled: AtomicU64,
    open_streams: AtomicUsize,
    opened: AtomicU64,
    closed: AtomicU64,
    pub(crate) resumption: Arc<resume::Counters>,
}

/// One exchange. It counts exactly once; as cancelled, unless something else was said.
#[derive(Debug)]
pub(crate) struct Attempt(Option<Arc<Counters>>);

/// One open connection.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<Counters>);

/// One open event stream.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<Counters>);

impl Attempts {
    /// All exchanges that are over.
    pub const fn total(&self) -> u64 {
        self.answered
            + self.unreachable
            + self.timed_out
            + self.died
            + self.protocol
            + self.limited
            + self.refused
            + self.cancelled
    }
}

impl Counters {
    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            attempts: Attempts {
                answered: self.answered.load(Relaxed),
                unreachable: self.unreachable.load(Relaxed),
                timed_out: self.timed_out.load(Relaxed),
                died: self.died.load(Relaxed),
                protocol: self.protocol.load(Relaxed),
                limited: self.limited.load(Relaxed),
                refused: self.refused.load(Relaxed),
                cancelled: self.cancelled.load(Relaxed),
            },
            open_streams: self.open_streams.load(Relaxed),
            opened: self.opened.load(Relaxed),
            closed: self.closed.load(Relaxed),
            resumption: self.resumption.read(),
            ..Stats::default()
        }
    }

    const fn of(&self, kind: Kind) -> &AtomicU64 {
        match kind {
            Kind::Unreachable => &self.unreachable,
            Kind::Timeout => &self.timed_out,
            Kind::Died => &self.died,
            Kind::Protocol => &self.protocol,
            Kind::PoolExhausted | Kind::TooLarge | Kind::Draining | Kind::Internal => &self.limited,
            _ => &self.refused,
        }
    }
}

impl Attempt {
    pub(crate) const fn new(counters: Arc<Counters>) -> Self {
        Self(Some(counters))
    }

    pub(crate) fn answered(&mut self) {
        if let Some(counters) = self.0.take() {
            counters.answered.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn failed(&mut self, kind: Kind) {
        if let Some(counters) = self.0.take() {
            counters.of(kind).fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(counters) = self.0.take() {
            counters.cancelled.fetch_add(1, Relaxed);
        }
    }
}

impl OpenConnection {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        counters.opened.fetch_add(1, Relaxed);
        Self(counters)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, Relaxed);
    }
}

impl OpenStream {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        counters.open_streams.fetch_add(1, Relaxed);
        Self(counters)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open_streams.fetch_sub(1, Relaxed);
    }
}
