//! How to start and to treat one server command.

use std::{collections::BTreeMap, ffi::OsString, fmt, path::PathBuf, sync::Arc, time::Duration};

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
    /// How long a start may take, from the spawn to the answer to the first request.
    pub start_timeout: Duration,
    /// How long a process may take to end after its stdin was closed, and again after SIGTERM.
    pub stop_grace: Duration,
    /// The longest line that is read from a process, in bytes.
    pub max_line: usize,
    /// How many requests one process works on at a time; more are refused.
    pub max_in_flight: usize,
    /// How long a request may stay without any sign of life.
    pub request_timeout: Duration,
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
