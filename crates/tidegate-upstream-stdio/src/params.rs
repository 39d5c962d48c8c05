//! How to start and to treat one server command.

use std::{
    collections::BTreeMap, ffi::OsString, fmt, num::NonZeroU32, path::PathBuf, sync::Arc,
    time::Duration,
};

use tidegate_service::Timeouts;

/// Everything an upstream of this crate is told. Plain data; nothing here is read from elsewhere.
#[derive(Clone)]
pub struct Params {
    /// The upstream's configured name, for logs and errors.
    pub name: Arc<str>,
    /// The program and its arguments. They reach the process as they are; no shell sees them.
    pub command: Vec<OsString>,
    /// The whole environment of the process. Nothing is inherited.
    pub env: BTreeMap<OsString, OsString>,
    /// The folder the process starts in; this process's own where `None`.
    pub cwd: Option<PathBuf>,
    /// The user the process runs as; this process's own where `None`.
    pub user: Option<u32>,
    /// The group the process runs as; this process's own where `None`.
    pub group: Option<u32>,
    /// What the kernel lets one process of the tree use.
    pub rlimits: Rlimits,
    /// Whether legacy sessions get a process each. Modern calls share one in any case.
    pub sharing: Sharing,
    /// How many processes may exist at a time, those that start or end included.
    pub max_processes: NonZeroU32,
    /// How many callers may wait for a process; one more is refused at once.
    pub max_waiting: usize,
    /// How long a caller waits for one of [`Self::max_processes`] to come free.
    pub acquire_timeout: Duration,
    /// How many processes are kept ready for new sessions, greeted as the latest clients were. Only
    /// where sessions have a process each.
    pub min_idle: u32,
    /// How long a shared process without calls is kept. A session's own process is kept as long as
    /// the session, and spares until they are taken.
    pub idle_timeout: Option<Duration>,
    /// How old a process gets before it is replaced.
    pub max_age: Option<Duration>,
    /// How many requests a process takes before it is replaced. Handshakes and what the proxy asks
    /// for itself are none of them.
    pub max_calls: Option<u64>,
    /// How much memory the tree of a process may have resident before it is replaced, in bytes.
    pub max_rss: Option<u64>,
    /// How long a start may take, from the spawn to the answer to the first request.
    pub start_timeout: Duration,
    /// How many starts may fail in a row before the server counts as down.
    pub start_attempts: NonZeroU32,
    /// How long a server that is down is left alone before it is tried again; longer with every
    /// further failure.
    pub down_for: Duration,
    /// How long a process may take to end after its stdin was closed, and again after SIGTERM.
    pub stop_grace: Duration,
    /// The longest line that is read from a process, in bytes.
    pub max_line: usize,
    /// How many requests one process works on at a time; more are refused.
    pub max_in_flight: usize,
    /// How long a request may stay without any sign of life, unless its route says otherwise. There
    /// is nothing to connect to.
    pub timeouts: Timeouts,
}

/// Who shares a process among legacy sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody: each session has a process of its own.
    #[default]
    Session,
    /// All sessions of one protocol version share a process, which is told that its client can do
    /// nothing, so that it never asks what only one client could answer.
    Shared,
    /// As [`Self::Shared`], until the server shows that it needs a client; from then on as
    /// [`Self::Session`].
    Auto,
}

/// Limits of the kernel on each process of a tree, see setrlimit(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rlimits {
    /// Open files (`RLIMIT_NOFILE`).
    pub open_files: Option<u64>,
    /// Bytes of address space (`RLIMIT_AS`).
    pub address_space: Option<u64>,
    /// CPU time (`RLIMIT_CPU`), in whole seconds, rounded up.
    pub cpu: Option<Duration>,
}

impl Params {
    /// A server with the defaults: a process per session, at most 128 of them, none kept ready,
    /// unused ones kept for 10 min, 30 s to start, 5 s to stop, lines of 16 MiB, 1024 requests at a
    /// time, 5 min of silence.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, command: Vec<OsString>) -> Self {
        Self {
            name: name.into(),
            command,
            env: BTreeMap::new(),
            cwd: None,
            user: None,
            group: None,
            rlimits: Rlimits::default(),
            sharing: Sharing::default(),
            max_processes: NonZeroU32::MIN.saturating_add(127),
            max_waiting: 1024,
            acquire_timeout: Duration::from_secs(10),
            min_idle: 0,
            idle_timeout: Some(Duration::from_secs(600)),
            max_age: None,
            max_calls: None,
            max_rss: None,
            start_timeout: Duration::from_secs(30),
            start_attempts: NonZeroU32::MIN.saturating_add(4),
            down_for: Duration::from_secs(30),
            stop_grace: Duration::from_secs(5),
            max_line: 16 << 20,
            max_in_flight: 1024,
            timeouts: Timeouts::default(),
        }
    }
}

impl fmt::Debug for Params {
    /// Leaves out the values of the environment and the arguments, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Params")
            .field("name", &self.name)
            .field("program", &self.command.first())
            .field("env", &self.env.keys())
            .finish_non_exhaustive()
    }
}
