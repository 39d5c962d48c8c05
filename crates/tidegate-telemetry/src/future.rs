//! The future of both layers: one guard beside the inner future, and no allocation.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tidegate_service::{Error, Kind, Reply};

use crate::labels::Outcome;

/// Something that is told how a call goes on, and counts it when dropped.
pub(crate) trait Guard {
    /// Says how the call ended if nothing more is heard of it.
    fn rest(&mut self, outcome: Outcome);

    /// Takes note of the reply's head and stays with its body until that ends.
    fn replied(self, reply: Reply) -> Reply;
}

pin_project! {
    /// A call that is being measured.
    #[derive(Debug)]
    pub struct Measured<F, G> {
        #[pin]
        inner: F,
        guard: Option<G>,
    }
}

impl<F, G> Measured<F, G> {
    pub(crate) const fn new(inner: F, guard: G) -> Self {
        Self { inner, guard: Some(guard) }
    }
}

impl<F, G> Future for Measured<F, G>
where
    F: Future<Output = Result<Reply, Error>>,
    G: Guard,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        rest(this.guard, Outcome::of(Kind::Internal));
        let polled = this.inner.poll(cx);
        // Not reached when the poll panics: then the outcome above stands, whoever catches it.
        rest(this.guard, Outcome::CANCELLED);
        let result = ready!(polled);
        Poll::Ready(match (result, this.guard.take()) {
            (Ok(reply), Some(guard)) => Ok(guard.replied(reply)),
            (Err(error), Some(mut guard)) => {
                guard.rest(Outcome::of(error.kind));
                Err(error)
            }
            (result, None) => result,
        })
    }
}

fn rest<G: Guard>(guard: &mut Option<G>, outcome: Outcome) {
    if let Some(guard) = guard {
        guard.rest(outcome);
    }
}
