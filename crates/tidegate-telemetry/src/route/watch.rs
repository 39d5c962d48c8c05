//! One call in flight, and the stream of its reply.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use tidegate_service::{Body, Call, Error, EventStream, Frame, Kind, Reply};
use tokio::time::Instant;

use super::cells::RouteCells;
use crate::{
    future::Guard,
    labels::{Method, Outcome, era},
};

/// A call that is not over. Dropping it is the end, however that came about.
#[derive(Debug)]
pub struct InFlight {
    cells: Arc<RouteCells>,
    started: Instant,
    method: Method,
    era: usize,
    outcome: Outcome,
    /// Set where the end was just timed, to read the clock once.
    took: Option<Duration>,
}

/// The stream of a reply. Fields drop in order: whoever is inside learns of the end first.
struct Watched {
    inner: EventStream,
    call: Option<StreamingCall>,
}

struct StreamingCall {
    call: InFlight,
    /// What is counted when the stream ends in order.
    at_end: Outcome,
    /// What is counted when the stream is dropped.
    at_drop: Outcome,
    any_item: bool,
}

impl InFlight {
    pub(super) fn enter(cells: &Arc<RouteCells>, call: &Call) -> Self {
        cells.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            cells: Arc::clone(cells),
            started: Instant::now(),
            method: Method::of(&call.operation),
            era: era(call.cx.era),
            // Stands only if the service inside panics before there is a future.
            outcome: Outcome::of(Kind::Internal),
            took: None,
        }
    }

    fn first_item(&self, took: Duration) {
        if let Some(cells) = self.cells.method(self.method) {
            cells.first_item.observe(took);
        }
    }
}

impl Guard for InFlight {
    fn rest(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    fn replied(mut self, reply: Reply) -> Reply {
        if let Body::Stream(inner) = reply.body {
            let call = Some(StreamingCall::new(self));
            let body = Body::Stream(EventStream::new(Watched { inner, call }));
            return Reply { body, ..reply };
        }
        self.outcome = Outcome::of_whole(&reply);
        let took = self.started.elapsed();
        self.first_item(took);
        self.took = Some(took);
        reply
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.cells.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some(cells) = self.cells.method(self.method) {
            cells.count(self.era, self.outcome);
            cells.duration.observe(self.took.unwrap_or_else(|| self.started.elapsed()));
        }
    }
}

impl StreamingCall {
    fn new(mut call: InFlight) -> Self {
        call.cells.streams.fetch_add(1, Ordering::Relaxed);
        call.outcome = Outcome::CANCELLED;
        Self { call, at_end: Outcome::OK, at_drop: Outcome::CANCELLED, any_item: false }
    }

    fn saw(&mut self, frame: &Frame) {
        if !self.any_item && !is_priming(frame) {
            self.any_item = true;
            self.call.first_item(self.call.started.elapsed());
        }
        let (Frame::Message(message) | Frame::Stamped { message, .. }) = frame else { return };
        let Some(outcome) = Outcome::of_answer(message) else { return };
        self.at_end = outcome;
        self.at_drop = outcome;
    }
}

/// Whether a frame only carries an id to come back with.
fn is_priming(frame: &Frame) -> bool {
    matches!(frame, Frame::Block(block) if block.data.as_ref().is_some_and(|data| data.is_empty()))
}

impl Drop for StreamingCall {
    fn drop(&mut self) {
        self.call.cells.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stream for Watched {
    type Item = Result<Frame, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { inner, call } = self.get_mut();
        let Some(watch) = call else { return Pin::new(inner).poll_next(cx) };
        // As for the future: it stands if the poll panics.
        watch.call.outcome = Outcome::of(Kind::Internal);
        let next = Pin::new(inner).poll_next(cx);
        if let Poll::Ready(Some(Ok(frame))) = &next {
            watch.saw(frame);
        }
        watch.call.outcome = match &next {
            Poll::Ready(None) => watch.at_end,
            Poll::Ready(Some(Err(_))) => Outcome::FAILED,
            Poll::Ready(Some(Ok(_))) | Poll::Pending => watch.at_drop,
        };
        if matches!(&next, Poll::Ready(None | Some(Err(_)))) {
            *call = None;
        }
        next
    }
}
