//! What an upstream counts, as plain data.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// A snapshot of one upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The connections: those of the streams, and those that messages are posted over.
    pub http: tidegate_http_client::Stats,
    /// Streams that are open now, one for each session.
    pub streams: usize,
    /// Requests that the server has not answered.
    pub in_flight: usize,
    /// Answers that nobody waited for: late ones, second ones, and those to what was never asked.
    pub stray_answers: u64,
    /// Answers of clients to what the server has not asked.
    pub stray_client_answers: u64,
    /// Notifications that no reader took in time.
    pub notifications_dropped: u64,
    /// Requests of the server that no client took in time.
    pub asks_refused: u64,
    /// How often a stream was not read for a while, since its client did not read.
    pub pauses: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) streams: AtomicUsize,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) stray_answers: AtomicU64,
    pub(crate) stray_client_answers: AtomicU64,
    pub(crate) notifications_dropped: AtomicU64,
    pub(crate) asks_refused: AtomicU64,
    pub(crate) pauses: AtomicU64,
}

/// One of what is counted while it lasts.
#[derive(Debug)]
pub(crate) struct Lasting {
    counters: Arc<Counters>,
    of: fn(&Counters) -> &AtomicUsize,
}

impl Counters {
    pub(crate) fn snapshot(&self, http: tidegate_http_client::Stats) -> Stats {
        Stats {
            http,
            streams: self.streams.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
            stray_answers: self.stray_answers.load(Relaxed),
            stray_client_answers: self.stray_client_answers.load(Relaxed),
            notifications_dropped: self.notifications_dropped.load(Relaxed),
            asks_refused: self.asks_refused.load(Relaxed),
            pauses: self.pauses.load(Relaxed),
        }
    }
}

impl Lasting {
    pub(crate) fn new(counters: &Arc<Counters>, of: fn(&Counters) -> &AtomicUsize) -> Self {
        of(counters).fetch_add(1, Relaxed);
        Self { counters: Arc::clone(counters), of }
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        (self.of)(&self.counters).fetch_sub(1, Relaxed);
    }
}
