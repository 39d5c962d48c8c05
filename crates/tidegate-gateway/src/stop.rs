//! Stopping: first nobody new, then whoever is here finishes, then everything is released, from
//! the clients inward. Each step says what it waited for.

use std::time::Duration;

use futures_util::future::join_all;
use tidegate_pool::Buffers;
use tidegate_service::Tasks;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::census::{Census, Counted};

/// How long the kernel may take to end what was killed.
const LAST_REAPING: Duration = Duration::from_secs(2);

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Calls in flight may finish within `timeouts.drain`.
    Graceful,
    /// Calls in flight are cut.
    Now,
}

/// How the stop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Client connections that had to be cut.
    pub cut: usize,
    /// What was left at the end.
    pub left: Census,
}

impl Outcome {
    /// Whether every call finished and nothing was left.
    pub fn is_clean(&self) -> bool {
        self.cut == 0 && self.left.is_empty()
    }
}

/// What the holder of a gateway wants. Dropping the holder means [`Stop::Graceful`].
pub(crate) type Wanted = watch::Receiver<Option<Stop>>;

/// Everything that is taken down, in the order of its fields.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) drain: CancellationToken,
    pub(crate) patience: Duration,
    pub(crate) clients: Tasks,
    pub(crate) counted: Counted,
    pub(crate) background: Tasks,
    pub(crate) upstreams: Tasks,
    pub(crate) ops: Tasks,
}

impl Parts {
    /// Waits until somebody wants a stop, then stops.
    pub(crate) async fn run(self, mut wanted: Wanted) -> Outcome {
        // An error means that the holder is gone, which is a wish too.
        let first = wanted.wait_for(Option::is_some).await.map(|wish| *wish);
        let graceful = !matches!(first, Ok(Some(Stop::Now)));
        let cut = self.drain(graceful, &mut wanted).await;
        self.release().await;
        let left = self.counted.census();
        if !left.is_empty() {
            warn!(?left, "stopped, but not everything was released");
        }
        Outcome { cut, left }
    }

    /// Lets clients finish. Returns how many connections had to be cut.
    async fn drain(&self, graceful: bool, wanted: &mut Wanted) -> usize {
        let began = Instant::now();
        self.drain.cancel();
        if graceful {
            let census = self.counted.census();
            info!(
                connections = census.connections,
                streams = census.streams,
                patience_s = self.patience.as_secs_f64(),
                "draining"
            );
            let hurry = async {
                // The holder may be gone, and then nobody will ever hurry us.
                if wanted.wait_for(|wish| *wish == Some(Stop::Now)).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                _ = timeout(self.patience, self.clients.wait()) => (),
                () = hurry => warn!("told to stop at once"),
            }
        }
        let cut = self.counted.census().connections;
        if cut > 0 {
            warn!(connections = cut, waited_ms = began.elapsed().as_millis(), "cutting");
        }
        self.clients.stop().await;
        info!(waited_ms = began.elapsed().as_millis(), "clients are gone");
        cut
    }

    async fn release(&self) {
        let began = Instant::now();
        self.background.stop().await;
        let store = &self.counted.store;
        let sessions = store.stats().open;
        store.end_all().await;
        info!(sessions, waited_ms = began.elapsed().as_millis(), "sessions ended");
        let children = self.counted.census().children;
        join_all(self.counted.leaves.iter().map(|(_, leaf)| leaf.stop())).await;
        // What processes have left behind is looked for and reaped as long as these tasks run.
        let settled = self.counted.processes.spawner.settled();
        if timeout(LAST_REAPING, settled).await.is_err() {
            warn!("some processes could not be reaped in time");
        }
        self.upstreams.stop().await;
        info!(children, waited_ms = began.elapsed().as_millis(), "upstreams released");
        // Health and metrics last: they say what the rest is waiting for.
        self.ops.stop().await;
        // What the last streams were read into; whoever runs another gateway makes new ones.
        Buffers::shared().clear();
    }
}
