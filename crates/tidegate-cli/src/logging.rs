//! Logs, to stderr.

use std::io::{self, IsTerminal as _};

use anyhow::{Context as _, anyhow};
use tidegate_config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

/// Begins to log as configured. Once per process.
pub(crate) fn start(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.level).context("cannot use log.level")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match log.format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow!(error).context("cannot start to log"))
}
