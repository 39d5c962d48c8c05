//! The layer around a leaf: attempts, and the time to the head of the reply.
//!
//! The outcome is counted when the reply is over, as for routes. A stream is `ok`, `failed` or
//! `cancelled` by its verdict alone; its frames are not looked at a second time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tidegate_service::{Body, Call, Error, Kind, Reply, Verdict};
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::{
    exposition::{Row, Value},
    future::{Guard, Measured},
    histogram::Histogram,
    labels::{OUTCOMES, Outcome},
};

/// Measures the attempts at one endpoint. Made by [`crate::Telemetry::attempt_layer`].
#[derive(Clone, Debug)]
pub struct AttemptLayer {
    cells: Arc<AttemptCells>,
}

/// A leaf whose calls are measured. It adds no box to the future of the service inside.
#[derive(Clone, Debug)]
pub struct AttemptService<S> {
    inner: S,
    cells: Arc<AttemptCells>,
}

/// The numbers of one pair of upstream and endpoint.
#[derive(Debug)]
pub(crate) struct AttemptCells {
    pub(crate) upstream: Box<str>,
    pub(crate) endpoint: Box<str>,
    outcomes: [AtomicU64; OUTCOMES.len()],
    head: Histogram,
}

/// An attempt that is not over. Dropping it is the end.
#[derive(Debug)]
pub struct Attempt {
    cells: Arc<AttemptCells>,
    started: Instant,
    outcome: Outcome,
}

impl AttemptLayer {
    pub(crate) const fn new(cells: Arc<AttemptCells>) -> Self {
        Self { cells }
    }
}

impl<S> Layer<S> for AttemptLayer {
    type Service = AttemptService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AttemptService { inner, cells: Arc::clone(&self.cells) }
    }
}

impl<S> Service<Call> for AttemptService<S>
where
    S: Service<Call, Response = Reply, Error = Error>,
{
    type Response = Reply;
    type Error = Error;
    type Future = Measured<S::Future, Attempt>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let attempt = Attempt {
            cells: Arc::clone(&self.cells),
            started: Instant::now(),
            // Stands only if the service inside panics before there is a future.
            outcome: Outcome::of(Kind::Internal),
        };
        Measured::new(self.inner.call(call), attempt)
    }
}

impl Guard for Attempt {
    fn rest(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    fn replied(mut self, reply: Reply) -> Reply {
        self.cells.head.observe(self.started.elapsed());
        if matches!(reply.body, Body::Stream(_)) {
            return reply.on_end(move |verdict| self.rest(Outcome::of_verdict(verdict)));
        }
        self.outcome = Outcome::of_whole(&reply);
        reply
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(count) = self.cells.outcomes.get(self.outcome.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Outcome {
    const fn of_verdict(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Complete => Self::OK,
            Verdict::Failed => Self::FAILED,
            Verdict::Dropped => Self::CANCELLED,
        }
    }
}

impl AttemptCells {
    pub(crate) fn new(upstream: &str, endpoint: &str) -> Self {
        Self {
            upstream: upstream.into(),
            endpoint: endpoint.into(),
            outcomes: Default::default(),
            head: Histogram::default(),
        }
    }

    /// The attempts so far, without the outcomes that never occurred.
    pub(crate) fn attempts(&self) -> impl Iterator<Item = Row<'_>> {
        let counts = self.outcomes.iter().map(|count| count.load(Ordering::Relaxed));
        OUTCOMES.iter().zip(counts).filter(|(_, count)| *count > 0).map(|(outcome, count)| Row {
            labels: vec![&self.upstream, &self.endpoint, outcome],
            value: Value::Count(count),
        })
    }

    /// The times to the head of the reply.
    pub(crate) fn head(&self) -> Option<Row<'_>> {
        let value = Value::Histogram(self.head.read()?);
        Some(Row { labels: vec![&self.upstream, &self.endpoint], value })
    }
}
