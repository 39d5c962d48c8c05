//! The erased form of the seam.

use std::{
    fmt,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tower::{Service, ServiceExt as _};

use crate::{Call, Error, Reply};

/// Any service that carries calls, as one type. It appears at four places only: edge, route,
/// endpoint, leaf.
///
/// Clones share the service, so a clone costs a count and no allocation; `tower`'s own boxes copy
/// the whole stack below, box by box, for every call. Each call works on a copy of the service
/// inside, made by its `Clone`.
#[derive(Clone)]
pub struct Upstream(Arc<dyn Answers>);

/// The reply to one call, to be awaited.
pub type Answer = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;

trait Answers: Send + Sync {
    fn answer(&self, call: Call) -> Answer;
}

impl Upstream {
    /// Erases the type of a service.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Call, Response = Reply, Error = Error> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        Self(Arc::new(service))
    }

    /// Hands each call to another upstream, which `choose` finds for it, or refuses it. Costs no box
    /// of its own.
    pub fn chosen(choose: impl Fn(&Call) -> Result<Self, Error> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Choice(choose)))
    }

    /// Answers one call, after the service inside has admitted it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the answer cancels the call, as the era understands that.
    pub fn answer(&self, call: Call) -> Answer {
        self.0.answer(call)
    }
}

struct Choice<F>(F);

impl<F> Answers for Choice<F>
where
    F: Fn(&Call) -> Result<Upstream, Error> + Send + Sync,
{
    fn answer(&self, call: Call) -> Answer {
        match (self.0)(&call) {
            Ok(upstream) => upstream.answer(call),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }
}

impl<S> Answers for S
where
    S: Service<Call, Response = Reply, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    fn answer(&self, call: Call) -> Answer {
        let mut service = self.clone();
        // Most are always ready, and then the call need not be carried through another future.
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Box::pin(service.call(call)),
            Poll::Ready(Err(error)) => Box::pin(ready(Err(error))),
            Poll::Pending => Box::pin(service.oneshot(call)),
        }
    }
}

impl Service<Call> for Upstream {
    type Response = Reply;
    type Error = Error;
    type Future = Answer;

    /// Always ready: the service inside admits each call as part of its answer.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Answer {
        self.answer(call)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        task::{Context, Poll},
    };

    use futures_util::{FutureExt as _, task::AtomicWaker};
    use tidegate_protocol::Era;
    use tower::Service;

    use super::{Answer, Upstream};
    use crate::{Call, Cx, Error, Kind, Operation, Reply};

    /// Admits calls once it is open, and none when it is closed for good.
    #[derive(Clone, Default)]
    struct Gate(Arc<State>);

    #[derive(Default)]
    struct State {
        open: AtomicBool,
        closed: AtomicBool,
        waiting: AtomicWaker,
    }

    impl Service<Call> for Gate {
        type Response = Reply;
        type Error = Error;
        type Future = Answer;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
            self.0.waiting.register(cx.waker());
            if self.0.closed.load(Ordering::SeqCst) {
                return Poll::Ready(Err(Error::refused(Kind::Draining, "closed")));
            }
            if self.0.open.load(Ordering::SeqCst) { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn call(&mut self, _: Call) -> Answer {
            assert!(self.0.open.load(Ordering::SeqCst), "called before it was ready");
            Box::pin(async { Ok(Reply::accepted()) })
        }
    }

    fn call() -> Call {
        Call { operation: Operation::EndSession, cx: Cx::new(Era::Legacy) }
    }

    #[tokio::test]
    async fn a_call_waits_until_the_service_admits_it() {
        let gate = Gate::default();
        let upstream = Upstream::new(gate.clone());
        let mut waits = upstream.answer(call());
        assert!((&mut waits).now_or_never().is_none());
        let open = async {
            gate.0.open.store(true, Ordering::SeqCst);
            gate.0.waiting.wake();
        };
        let (reply, ()) = tokio::join!(waits, open);
        assert!(reply.is_ok());
        assert!(upstream.answer(call()).now_or_never().is_some_and(|reply| reply.is_ok()));
    }

    #[tokio::test]
    async fn a_refusal_to_admit_is_the_answer() {
        let gate = Gate::default();
        gate.0.closed.store(true, Ordering::SeqCst);
        let refused = Upstream::new(gate).answer(call()).await;
        assert_eq!(refused.map_err(|error| error.kind).err(), Some(Kind::Draining));
    }
}
