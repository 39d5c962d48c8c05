//! The upstream as a service.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::Either;
use tidegate_process::Spawner;
use tidegate_protocol::Era;
use tidegate_service::{Call, Error, OnError, Reply, Tasks};
use tower::Service;

use crate::{
    host::Host,
    legacy::{self, Commons},
    modern::Modern,
    params::Params,
    spares::{self, Spares},
    stats::{Down, Failure, Moved, Stats},
    upkeep,
};

/// An MCP server that runs as child processes of this one. Clones share them.
///
/// Legacy sessions get a process each, which is bound to the session, or share one (see
/// [`crate::Sharing`]); modern calls share one.
#[derive(Clone, Debug)]
pub struct StdioUpstream(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    host: Arc<Host>,
    spares: Arc<Spares>,
    commons: Commons,
    modern: Arc<Modern>,
}

impl StdioUpstream {
    /// Makes the upstream. Nothing is started until the first call, but the spares that
    /// [`Params::min_idle`] asks for. Processes are started by `spawner`, which upstreams may share.
    /// When `tasks` stop, so do all processes.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(params: Params, spawner: Spawner, tasks: Tasks) -> Self {
        let host = Arc::new(Host::new(params, spawner, tasks));
        let spares = Arc::new(Spares::new(Arc::clone(&host)));
        let commons = Commons::new(Arc::clone(&spares));
        let modern = Arc::new(Modern::new(Arc::clone(&spares)));
        let parts = Arc::new(Parts { host, spares, commons, modern });
        parts.look_after();
        Self(parts)
    }

    /// Answers one call. What the service does, with one allocation per call less for those who
    /// box the future anyway.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves a legacy request to go on without a reader, and cancels a modern one.
    pub fn answer(&self, call: Call) -> impl Future<Output = Result<Reply, Error>> + Send + use<> {
        let Call { operation, cx } = call;
        match cx.era {
            Era::Legacy => {
                let parts = Arc::clone(&self.0);
                Either::Left(async move {
                    legacy::serve(&parts.spares, &parts.commons, operation, cx).await
                })
            }
            Era::Modern => {
                let modern = Arc::clone(&self.0.modern);
                Either::Right(async move { modern.serve(operation, cx).await })
            }
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let host = &self.0.host;
        let mut stats = Stats {
            places: host.gate.stats(),
            down: host.down().is_some(),
            ..host.counters.snapshot()
        };
        for child in host.children() {
            let (messages, bytes) = child.queued();
            stats.queued_messages += messages;
            stats.queued_bytes += bytes;
            stats.resident_bytes += child.resident_bytes();
        }
        stats
    }

    /// Since when, and why, sessions have a process each where they shared one before
    /// ([`crate::Sharing::Auto`]).
    #[must_use]
    pub fn moved(&self) -> Option<Moved> {
        self.0.host.moved()
    }

    /// Since when callers are turned away because starts keep failing, if so.
    #[must_use]
    pub fn down(&self) -> Option<Down> {
        self.0.host.down()
    }

    /// Whether new sessions share a process now.
    #[must_use]
    pub fn shares(&self) -> bool {
        self.0.host.shares()
    }

    /// The last start that failed.
    #[must_use]
    pub fn last_failure(&self) -> Option<Failure> {
        self.0.host.last_failure()
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
        self.0.host.close();
        self.0.spares.clear();
        self.0.host.all_ended().await;
    }
}

impl Parts {
    fn look_after(self: &Arc<Self>) {
        let tasks = &self.host.tasks;
        let (host, parts) = (Arc::downgrade(&self.host), Arc::downgrade(self));
        tasks.spawn("stdio upkeep", OnError::Log, async move {
            let tidy = || match parts.upgrade() {
                Some(parts) => {
                    parts.modern.tidy();
                    parts.commons.tidy();
                    true
                }
                None => false,
            };
            upkeep::run(host, tidy).await;
            Ok(())
        });
        if self.host.params.min_idle > 0 {
            let (spares, wanted) = (Arc::downgrade(&self.spares), Arc::clone(self.spares.wanted()));
            tasks.spawn("stdio spares", OnError::Log, async move {
                spares::keep(spares, wanted).await;
                Ok(())
            });
        }
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
        Box::pin(self.answer(call))
    }
}
