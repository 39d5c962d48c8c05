//! The layer around a route: requests, durations, what is in flight.
//!
//! Whatever happens to a call, its guard is dropped exactly once, and that is where it is counted:
//! at the end of the reply's body, at an error, when somebody drops the future or the stream, and
//! when a layer below panics.
//!
//! The outcome of a stream is `ok` when it ends and `failed` when it breaks off. Answers that
//! travel as [`Frame::Message`] were parsed anyway, so a JSON-RPC error or a failed tool among them
//! is told by the outcome; [`Frame::Block`] is passed on unparsed and stays `ok`. A stream that is
//! dropped is `cancelled`, unless the answer had been seen: then the call was over, and only the
//! reader did not wait for the end of the stream.

mod cells;
mod watch;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

#[cfg(doc)]
use tidegate_service::Frame;
use tidegate_service::{Call, Error, Reply};
use tower::{Layer, Service};

pub(crate) use self::cells::RouteCells;
pub use self::watch::InFlight;
use crate::future::Measured;

/// Measures the calls of one route. Made by [`crate::Telemetry::route_layer`].
#[derive(Clone, Debug)]
pub struct RouteLayer {
    cells: Arc<RouteCells>,
}

/// A route whose calls are measured. It adds no box to the future of the service inside.
#[derive(Clone, Debug)]
pub struct RouteService<S> {
    inner: S,
    cells: Arc<RouteCells>,
}

impl RouteLayer {
    pub(crate) const fn new(cells: Arc<RouteCells>) -> Self {
        Self { cells }
    }
}

impl<S> Layer<S> for RouteLayer {
    type Service = RouteService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RouteService { inner, cells: Arc::clone(&self.cells) }
    }
}

impl<S> Service<Call> for RouteService<S>
where
    S: Service<Call, Response = Reply, Error = Error>,
{
    type Response = Reply;
    type Error = Error;
    type Future = Measured<S::Future, InFlight>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        // Before the call inside, which may do its work at once or panic.
        let guard = InFlight::enter(&self.cells, &call);
        Measured::new(self.inner.call(call), guard)
    }
}
