//! The service as others see it: set up, call, look at, stop.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tidegate_http_client::{Client, Params, SetupError, Stats};
use tidegate_service::{Call, Error, Reply, Tasks};
use tower::Service;

use crate::{
    course::Core,
    resume::{Brake, Resumption},
};

/// An MCP server over Streamable HTTP. Clones share its connections.
#[derive(Clone)]
pub struct HttpUpstream(Arc<Core>);

impl HttpUpstream {
    /// Sets an upstream up. No connection is made before the first call, unless some are to be kept
    /// ready.
    ///
    /// One task, under `tasks`, looks after connections that nobody uses; it ends with the last
    /// clone. Another one, for moments, tells the server when a legacy call took too long.
    ///
    /// # Errors
    ///
    /// [`SetupError`] says which parameter cannot work.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(params: Params, tasks: Tasks) -> Result<Self, SetupError> {
        let client = Client::new(&params, tasks.clone())?;
        Ok(Self(Arc::new(Core {
            client,
            max_response: params.max_response,
            reconnect: params.reconnect,
            brake: params.reconnect.as_ref().map(Brake::new),
            resumption: Arc::default(),
            tasks,
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
        self.0.client.stats()
    }

    /// Streams that broke, and how they went on.
    pub fn resumption(&self) -> Resumption {
        self.0.resumption.read()
    }

    /// Refuses calls from now on, closes idle connections, and waits for the calls and streams that
    /// are still going on. How long that may take is up to the caller.
    ///
    /// # Cancel safety
    ///
    /// The refusal stands even if the wait is dropped; waiting again resumes it.
    pub async fn stop(&self) {
        self.0.client.stop().await;
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
        f.debug_struct("HttpUpstream").field("name", self.0.client.name()).finish_non_exhaustive()
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
