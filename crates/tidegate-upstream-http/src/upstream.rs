//! The service as others see it: set up, call, look at, stop.

use std::{
    fmt,
    future::Future,
    num::NonZeroU32,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tidegate_pool::Pool;
use tidegate_service::{Call, Error, OnError, Reply, Tasks};
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::{
    Params, SetupError, Stats, course::Core, dial::Dialer, headers::Always, keep, params::Target,
    resume::Brake, stats::Counters,
};

/// An MCP server over Streamable HTTP. Clones share its connections.
#[derive(Clone)]
pub struct HttpUpstream(Arc<Core>);

impl HttpUpstream {
    /// Sets an upstream up. No connection is made before the first call, unless some are to be kept
    /// ready.
    ///
    /// One task, under `tasks`, looks after connections that nobody uses; it ends with the last
    /// clone.
    ///
    /// # Errors
    ///
    /// [`SetupError`] says which parameter cannot work.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(params: Params, tasks: Tasks) -> Result<Self, SetupError> {
        let target = Target::read(&params.url)?;
        let max = u32::try_from(params.max_connections).ok().and_then(NonZeroU32::new);
        let max = max.ok_or(SetupError::NoConnections)?;
        let limits = tidegate_pool::Params {
            max_waiting: params.max_waiting,
            acquire_timeout: params.acquire_timeout,
            idle_timeout: Some(params.pool_idle),
            max_lifetime: params.max_lifetime,
            max_uses: params.max_uses,
            min_idle: params.min_idle,
            ..tidegate_pool::Params::new(max)
        };
        let calls = Pool::new(limits);
        // A stream takes its place for good, so there is nothing to wait for.
        let streams = Pool::new(tidegate_pool::Params { max_waiting: 0, min_idle: 0, ..limits });
        let counters = Arc::new(Counters::default());
        let (target_of_dialer, told) = (target.clone(), Arc::clone(&counters));
        let dialer = Arc::new(Dialer::new(&params, target_of_dialer, told, tasks.clone())?);
        let (pools, stopped) = ([calls.clone(), streams.clone()], CancellationToken::new());
        let keep = keep::look_after(pools, &dialer, &params, stopped.clone(), tasks.clone());
        tasks.spawn("upstream-http-connections", OnError::Log, keep);
        Ok(Self(Arc::new(Core {
            calls,
            streams,
            always: Always { host: target.authority, configured: params.headers.clone() },
            dialer,
            name: params.name,
            counters,
            request_timeout: params.request_timeout,
            idle_timeout: params.idle_timeout,
            max_response: params.max_response,
            brake: params.reconnect.as_ref().map(Brake::new),
            reconnect: params.reconnect,
            stopped,
        })))
    }

    /// Answers one call. What the service does, with one allocation per call less for those who
    /// box the future anyway.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes the connection it was using; that is how a server hears of it.
    pub fn answer(&self, call: Call) -> impl Future<Output = Result<Reply, Error>> + Send + use<> {
        Core::answer(Arc::clone(&self.0), call)
    }

    /// What the upstream has open and has done.
    pub fn stats(&self) -> Stats {
        Stats {
            calls: self.0.calls.stats(),
            streams: self.0.streams.stats(),
            ..self.0.counters.snapshot()
        }
    }

    /// Refuses calls from now on, closes idle connections, and waits for the calls and streams that
    /// are still going on. How long that may take is up to the caller.
    ///
    /// # Cancel safety
    ///
    /// The refusal stands even if the wait is dropped; waiting again resumes it.
    pub async fn stop(&self) {
        self.0.stopped.cancel();
        self.0.calls.close();
        self.0.streams.close();
        self.0.calls.drained().await;
        self.0.streams.drained().await;
    }
}

impl Service<Call> for HttpUpstream {
    type Response = Reply;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        Box::pin(Core::answer(Arc::clone(&self.0), call))
    }
}

impl fmt::Debug for HttpUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpUpstream").field("name", &self.0.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_protocol::{Envelope, Era};
    use tidegate_service::{Call, Cx, Tasks};

    use super::HttpUpstream;
    use crate::{Params, course::Core};

    /// Every call allocates and copies its future, so what is rare must not live in it.
    #[tokio::test]
    async fn the_future_of_a_call_stays_small() {
        let params = Params::new("x", "http://127.0.0.1:9/".parse().unwrap());
        let upstream = HttpUpstream::new(params, Tasks::default()).unwrap();
        let ping = Envelope::parse(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.into()).unwrap();
        let call = Call::send(ping, Cx::new(Era::Legacy));
        let size = size_of_val(&Core::answer(Arc::clone(&upstream.0), call));
        assert!(size <= 1_700, "{size}");
    }
}
