//! Starting a process, with nothing inherited and in a group of its own.

use std::{io, process::Stdio, sync::Arc, sync::atomic::Ordering};

use tidegate_service::{Error, Kind, OnError, Origin, Retry, Tasks};
use tokio::{process::Command, sync::watch};
use tokio_util::sync::CancellationToken;

use super::{Child, Group};
use crate::{
    demux::Mode,
    io::{Io, Pipes},
    params::Params,
    stats::Counters,
};

/// What all processes of one upstream have in common.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) params: Arc<Params>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) tasks: Tasks,
    /// The upstream stops: no process starts, and every process ends.
    pub(crate) closing: CancellationToken,
    /// How many processes are not reaped yet.
    alive: watch::Sender<usize>,
}

/// Counts a process until its task is done with it.
#[derive(Debug)]
pub(crate) struct Alive {
    alive: watch::Sender<usize>,
    counters: Arc<Counters>,
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
    #[error("the process has no pipes")]
    NoPipes,
}

impl Host {
    pub(crate) fn new(params: Params, tasks: Tasks) -> Self {
        let closing = tasks.stopping().child_token();
        let counters = Arc::default();
        Self { params: Arc::new(params), counters, tasks, closing, alive: watch::channel(0).0 }
    }

    /// Starts a process and the task that owns it. `over` ends the process as well, and is
    /// cancelled when the process ends by itself.
    pub(crate) fn spawn(
        &self,
        mode: Mode,
        over: CancellationToken,
    ) -> Result<Arc<Child>, SpawnError> {
        let spawned = self.start(mode, over);
        if matches!(spawned, Err(SpawnError::Os(_) | SpawnError::NoCommand | SpawnError::NoPipes)) {
            self.counters.spawn_failed.increment();
        }
        spawned
    }

    /// Waits until every process has ended and was reaped.
    pub(crate) async fn all_ended(&self) {
        // It fails only without a sender, and this is one.
        drop(self.alive.subscribe().wait_for(|alive| *alive == 0).await);
    }

    fn start(&self, mode: Mode, over: CancellationToken) -> Result<Arc<Child>, SpawnError> {
        if self.closing.is_cancelled() {
            return Err(SpawnError::Stopping);
        }
        // Counted first, so that a stop that begins now waits for this process.
        let alive = Alive::new(self);
        let mut process = self.command()?.spawn().map_err(SpawnError::Os)?;
        let pid = process.id().unwrap_or_default();
        // From here on a drop kills the whole group.
        let group = Group::led_by(pid);
        let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(SpawnError::NoPipes);
        };
        self.counters.spawned.increment();
        let stop = self.closing.child_token();
        let params = Arc::clone(&self.params);
        let child = Arc::new(Child::new(params, Arc::clone(&self.counters), mode, stop));
        let pipes = Pipes { stdin, stdout, stderr };
        let io = Io::new(Arc::clone(&child), process, group, pipes, over, alive);
        self.tasks.spawn("stdio process", OnError::Log, async move {
            io.run().await;
            Ok(())
        });
        Ok(child)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the place where processes start")]
    fn command(&self) -> Result<Command, SpawnError> {
        let (program, arguments) =
            self.params.command.split_first().ok_or(SpawnError::NoCommand)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(&self.params.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(cwd) = &self.params.cwd {
            command.current_dir(cwd);
        }
        Ok(command)
    }
}

impl Alive {
    fn new(host: &Host) -> Self {
        host.alive.send_modify(|alive| *alive += 1);
        host.counters.running.fetch_add(1, Ordering::Relaxed);
        Self { alive: host.alive.clone(), counters: Arc::clone(&host.counters) }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.counters.running.fetch_sub(1, Ordering::Relaxed);
        self.alive.send_modify(|alive| *alive -= 1);
    }
}

impl SpawnError {
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
                    _ => "the server process could not be started",
                },
            ),
            Self::NoPipes => {
                (Kind::Internal, Origin::Gateway, "the server process could not be started")
            }
        };
        Error::new(kind, origin, Retry::NotSent, message).at(upstream).because(self)
    }
}
