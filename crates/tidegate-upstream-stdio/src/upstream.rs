//! The upstream as a service.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tidegate_protocol::Era;
use tidegate_service::{Call, Error, Reply, Tasks};
use tower::Service;

use crate::{child::Host, params::Params, session, share::Share, stats::Stats};

/// An MCP server that runs as child processes of this one. Clones share them.
///
/// Legacy sessions get a process each, which is bound to the session; modern calls share one.
#[derive(Clone, Debug)]
pub struct StdioUpstream {
    host: Arc<Host>,
    share: Arc<Share>,
}

impl StdioUpstream {
    /// Makes the upstream. Nothing is started until the first call. When `tasks` stop, so do all
    /// processes.
    #[must_use]
    pub fn new(params: Params, tasks: Tasks) -> Self {
        let host = Arc::new(Host::new(params, tasks));
        Self { share: Arc::new(Share::new(Arc::clone(&host))), host }
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.host.counters.snapshot()
    }

    /// Ends every process and refuses every call from now on.
    ///
    /// Each process is asked by the end of its stdin, then by SIGTERM to its group, then killed with
    /// its group, with [`Params::stop_grace`] between the steps. Returns when all are reaped.
    ///
    /// # Cancel safety
    ///
    /// The request to stop stands even if the wait is dropped; waiting again resumes it.
    pub async fn stop(&self) {
        self.host.closing.cancel();
        self.host.all_ended().await;
    }
}

impl Service<Call> for StdioUpstream {
    type Response = Reply;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Call { operation, cx } = call;
        match cx.era {
            Era::Legacy => {
                let host = Arc::clone(&self.host);
                Box::pin(async move { session::serve(&host, operation, cx).await })
            }
            Era::Modern => {
                let share = Arc::clone(&self.share);
                Box::pin(async move { share.serve(operation, cx).await })
            }
        }
    }
}
