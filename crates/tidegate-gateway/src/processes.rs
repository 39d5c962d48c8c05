//! Where all child processes start, and what an earlier proxy has left of its own.

use std::path::Path;

use tidegate_process::{Recovered, Spawner, Stats};
use tidegate_service::{OnError, Tasks};
use tracing::{info, warn};

/// Where in `state_dir` the lists of child processes are.
const LEDGERS: &str = "processes";

/// The processes of all upstreams.
#[derive(Clone, Debug)]
pub(crate) struct Processes {
    pub(crate) spawner: Spawner,
    recovered: Recovered,
}

impl Processes {
    /// Ends what earlier proxies have left, as far as `state_dir` tells, and gets ready to start
    /// others. A proxy that cannot keep a list there serves all the same.
    pub(crate) fn open(state_dir: Option<&Path>) -> Self {
        let without = || Self { spawner: Spawner::new(), recovered: Recovered::default() };
        // A folder of its own, since it must be closed to others and its parent need not be.
        let Some(folder) = state_dir.map(|folder| folder.join(LEDGERS)) else { return without() };
        match Spawner::with_ledger(&folder) {
            Ok((spawner, recovered)) => {
                tell(&recovered);
                Self { spawner, recovered }
            }
            Err(error) => {
                warn!(
                    folder = %folder.display(), %error,
                    "no list of child processes is kept, so that after a crash some may stay; \
                     set state_dir to a folder of this user's"
                );
                without()
            }
        }
    }

    /// Becomes the parent of what processes leave behind, until `tasks` stop.
    pub(crate) fn adopt_orphans(&self, tasks: &Tasks) {
        let reaping = match self.spawner.adopt_orphans() {
            Ok(reaping) => reaping,
            Err(error) => {
                return warn!(%error, "what server processes leave behind may stay a zombie");
            }
        };
        let stopping = tasks.stopping().clone();
        tasks.spawn("reap orphans", OnError::Log, async move {
            tokio::select! {
                () = reaping => (),
                () = stopping.cancelled() => (),
            }
            Ok(())
        });
    }

    pub(crate) fn stats(&self) -> Stats {
        self.spawner.stats()
    }

    /// Processes of earlier proxies that were ended at the start.
    pub(crate) const fn orphans_ended(&self) -> usize {
        self.recovered.killed
    }
}

fn tell(recovered: &Recovered) {
    let Recovered { ledgers, killed, left, recycled, skipped, .. } = *recovered;
    if left > 0 {
        warn!(ledgers, killed, left, "some processes of an earlier proxy could not be ended");
    } else if ledgers > 0 {
        info!(ledgers, killed, recycled, "ended what an earlier proxy had left");
    }
    if skipped > 0 {
        warn!(skipped, "a list of child processes has lines that mean nothing; they were left out");
    }
}
