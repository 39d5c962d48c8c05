//! Starting a process, with nothing inherited and in a group of its own.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use tidegate_pool::Pass;
use tidegate_process::{Limits, Spec};
use tidegate_service::{Error, Kind, OnError, Origin, Retry};
use tokio::sync::watch;

use super::{Host, crashes::Ordinal};
use crate::{
    child::Child,
    demux::Mode,
    io::Io,
    params::Rlimits,
    stats::{Counters, Failure},
};

/// Counts a process, and holds its place, until its task is done with it.
#[derive(Debug)]
pub(crate) struct Alive {
    alive: watch::Sender<usize>,
    counters: Arc<Counters>,
    _place: Pass,
}

/// Why there is no process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("the upstream is stopping")]
    Stopping,
    #[error("no command is configured")]
    NoCommand,
    #[error("the process could not be started")]
    Os(#[source] io::Error),
}

impl Host {
    /// Starts a process and the task that owns it.
    pub(super) fn spawn(
        self: &Arc<Self>,
        mode: Mode,
        ordinal: Ordinal,
        place: Pass,
    ) -> Result<Arc<Child>, SpawnError> {
        let spawned = self.start(mode, ordinal, place);
        match &spawned {
            Err(SpawnError::Stopping) => self.abandoned(ordinal),
            Err(error) => {
                self.counters.spawn_failed.increment();
                self.failed(ordinal, Failure::now(error.reason(), None));
            }
            Ok(_) => (),
        }
        spawned
    }

    fn start(
        self: &Arc<Self>,
        mode: Mode,
        ordinal: Ordinal,
        place: Pass,
    ) -> Result<Arc<Child>, SpawnError> {
        // Counted before the look, so that a stop that begins after it waits for this process.
        let alive = Alive::new(self, place);
        if self.closing.is_cancelled() {
            return Err(SpawnError::Stopping);
        }
        // From here on a drop kills the whole tree.
        let (process, pipes) = self.spawner.spawn(&self.spec()?).map_err(SpawnError::Os)?;
        self.counters.spawned.increment();
        let child = Arc::new(Child::new(Arc::clone(self), mode, ordinal, process.pid()));
        self.roll.lock().push(Arc::downgrade(&child));
        let io = Io::new(Arc::clone(&child), process, pipes, alive);
        self.tasks.spawn("stdio process", OnError::Log, async move {
            io.run().await;
            Ok(())
        });
        Ok(child)
    }

    fn spec(&self) -> Result<Spec, SpawnError> {
        let params = &self.params;
        let (program, args) = params.command.split_first().ok_or(SpawnError::NoCommand)?;
        let Rlimits { open_files, address_space, cpu } = params.rlimits;
        Ok(Spec {
            program: program.clone(),
            args: args.to_vec(),
            env: params.env.clone(),
            cwd: params.cwd.clone(),
            uid: params.user,
            gid: params.group,
            limits: Limits { open_files, address_space, cpu },
        })
    }
}

impl Alive {
    fn new(host: &Host, place: Pass) -> Self {
        host.alive.send_modify(|alive| *alive += 1);
        host.counters.running.fetch_add(1, Ordering::Relaxed);
        let counters = Arc::clone(&host.counters);
        Self { alive: host.alive.clone(), counters, _place: place }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.counters.running.fetch_sub(1, Ordering::Relaxed);
        self.alive.send_modify(|alive| *alive -= 1);
    }
}

impl SpawnError {
    /// Why, in a few words that name no path.
    const fn reason(&self) -> &'static str {
        match self {
            Self::Stopping => "the upstream is stopping",
            Self::NoCommand => "no command is configured",
            Self::Os(_) => "the process could not be started",
        }
    }

    /// What the client is told, which names no path.
    pub(crate) fn into_error(self, upstream: &Arc<str>) -> Error {
        let (kind, origin, message) = match &self {
            Self::Stopping => (Kind::Draining, Origin::Gateway, "the proxy is shutting down"),
            Self::NoCommand => {
                (Kind::Unreachable, Origin::Gateway, "the upstream has no command to start")
            }
            Self::Os(error) => (
                Kind::Unreachable,
                Origin::Upstream,
                match error.kind() {
                    io::ErrorKind::NotFound => {
                        "the server's program or working folder does not exist"
                    }
                    io::ErrorKind::PermissionDenied => "the server's program may not be run",
                    io::ErrorKind::InvalidInput => "a limit of the server process cannot be set",
                    _ => "the server process could not be started",
                },
            ),
        };
        Error::new(kind, origin, Retry::NotSent, message).at(upstream).because(self)
    }
}
