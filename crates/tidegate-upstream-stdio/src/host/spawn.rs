//! Starting a process, with nothing inherited and in a group of its own.

use std::{
    borrow::Cow,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tidegate_pool::Pass;
use tidegate_process::{Limits, Spec};
use tidegate_service::{Error, Kind, OnError, Origin, Retry};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{Host, crashes::Ordinal};
use crate::{
    child::Child,
    demux::Mode,
    exchange::waited,
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
    #[error("the system did not start the process in time")]
    Slow(Duration),
}

impl Host {
    /// Starts a process and the task that owns it.
    ///
    /// # Cancel safety
    /// Dropped, it gives its place back, and a process that is there later is ended at once.
    pub(super) async fn spawn(
        self: &Arc<Self>,
        mode: Mode,
        ordinal: Ordinal,
        place: Pass,
        deadline: Option<Instant>,
    ) -> Result<Arc<Child>, SpawnError> {
        let spawned = self.start(mode, ordinal, place, deadline).await;
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

    async fn start(
        self: &Arc<Self>,
        mode: Mode,
        ordinal: Ordinal,
        place: Pass,
        deadline: Option<Instant>,
    ) -> Result<Arc<Child>, SpawnError> {
        // Counted before the look, so that a stop that begins after it waits for this process.
        let alive = Alive::new(self, place);
        if self.closing.is_cancelled() {
            return Err(SpawnError::Stopping);
        }
        let spec = self.spec()?;
        let began = Instant::now();
        let until = began + self.params.start_timeout;
        let until = deadline.map_or(until, |deadline| deadline.min(until));
        // From here on a drop kills the whole tree.
        let (process, pipes) = tokio::select! {
            // A process that is there is taken, so that its end is accounted for.
            biased;
            started = timeout_at(until, self.spawner.spawn(&spec)) => match started {
                Ok(started) => started.map_err(SpawnError::Os)?,
                Err(_) => return Err(SpawnError::Slow(Instant::now() - began)),
            },
            () = self.closing.cancelled() => return Err(SpawnError::Stopping),
        };
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
            Self::Slow(_) => "the system did not start the process in time",
        }
    }

    /// What the client is told, which names no path.
    pub(crate) fn into_error(self, upstream: &Arc<str>) -> Error {
        let (kind, origin, message): (_, _, Cow<'static, str>) = match &self {
            Self::Stopping => {
                (Kind::Draining, Origin::Gateway, "the proxy is shutting down".into())
            }
            Self::NoCommand => {
                (Kind::Unreachable, Origin::Gateway, "the upstream has no command to start".into())
            }
            Self::Os(error) => (Kind::Unreachable, Origin::Upstream, refusal(error.kind()).into()),
            Self::Slow(time) => {
                let message = waited(*time, "for the server process to start");
                (Kind::Timeout, Origin::Upstream, message)
            }
        };
        Error::new(kind, origin, Retry::NotSent, message).at(upstream).because(self)
    }
}

/// Why the system started no process.
const fn refusal(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "the server's program or working folder does not exist",
        io::ErrorKind::PermissionDenied => "the server's program may not be run",
        io::ErrorKind::InvalidInput => "a limit of the server process cannot be set",
        _ => "the server process could not be started",
    }
}
