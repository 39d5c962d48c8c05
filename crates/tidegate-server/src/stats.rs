//! What the server counts, as plain data.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Why a request was refused before any upstream saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not allowed by `Host`.
    Host,
    /// Not allowed by `Origin`.
    Origin,
    /// A method, content type or `Accept` that the endpoint does not serve.
    Negotiation,
    /// Headers, target or framing that no honest client sends.
    Headers,
    /// A header, target or body over its limit.
    TooLarge,
    /// A body that is no JSON-RPC message of its era.
    Message,
    /// The client stopped sending in the middle.
    Stalled,
    /// All memory for bodies is in use.
    Overloaded,
}

impl Refused {
    /// Every reason, in the order of [`Stats::refused`].
    pub const ALL: [Self; 8] = [
        Self::Host,
        Self::Origin,
        Self::Negotiation,
        Self::Headers,
        Self::TooLarge,
        Self::Message,
        Self::Stalled,
        Self::Overloaded,
    ];

    /// A stable lowercase word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Negotiation => "negotiation",
            Self::Headers => "headers",
            Self::TooLarge => "too_large",
            Self::Message => "message",
            Self::Stalled => "stalled",
            Self::Overloaded => "overloaded",
        }
    }
}

/// A snapshot. Totals never shrink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Client connections open now.
    pub connections_open: usize,
    /// Client connections ever accepted.
    pub connections_accepted: u64,
    /// Client connections closed unheard because too many were open.
    pub connections_refused: u64,
    /// Response streams open now.
    pub streams_open: usize,
    /// Bytes of request bodies in memory now.
    pub body_bytes: usize,
    /// Requests refused, by reason, in the order of [`Refused::ALL`].
    pub refused: [u64; 8],
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections_open: AtomicUsize,
    pub(crate) connections_accepted: AtomicU64,
    pub(crate) connections_refused: AtomicU64,
    pub(crate) streams_open: AtomicUsize,
    pub(crate) body_bytes: AtomicUsize,
    refused: [AtomicU64; 8],
}

impl Counters {
    pub(crate) fn refused(&self, reason: Refused) {
        let place = Refused::ALL.iter().position(|each| *each == reason);
        if let Some(count) = place.and_then(|place| self.refused.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            connections_open: self.connections_open.load(Ordering::Relaxed),
            connections_accepted: self.connections_accepted.load(Ordering::Relaxed),
            connections_refused: self.connections_refused.load(Ordering::Relaxed),
            streams_open: self.streams_open.load(Ordering::Relaxed),
            body_bytes: self.body_bytes.load(Ordering::Relaxed),
            refused: self.refused.each_ref().map(|count| count.load(Ordering::Relaxed)),
        }
    }
}
