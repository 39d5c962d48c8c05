//! The proxy of a soak: its settings, its memory, its books.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::leak_check::{self, Sight};
use crate::place::Place;
use crate::process::Server;
use crate::servers::{accepts, free_address, says_ok};

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Its totals that say how streams went.
const TOTALS: [&str; 14] = [
    "tidegate_http_streams_resumed_total",
    "tidegate_http_stream_gaps_total",
    "tidegate_http_streams_given_up_total",
    "tidegate_http_reconnects_total",
    "tidegate_http_events_replayed_total",
    "tidegate_http_event_ids_reused_total",
    "tidegate_replay_streams_resumed_total",
    "tidegate_replay_events_logged_total",
    "tidegate_replay_events_replayed_total",
    "tidegate_replay_events_evicted_total",
    "tidegate_replay_gaps_total",
    "tidegate_stdio_dropped_messages_total",
    "tidegate_sessions_started_total",
    "tidegate_sessions_ended_total",
];

/// A running proxy.
pub(super) struct Proxy {
    server: Server,
    pub(super) address: SocketAddr,
    ops: SocketAddr,
}

/// What stands behind it.
pub(super) struct Behind {
    pub(super) web: SocketAddr,
    pub(super) bare: SocketAddr,
    /// The command of a child process.
    pub(super) child: Vec<String>,
    /// What all logs may take together, in MiB. The more streams, the more, or clients that come
    /// back would be told of gaps, and rightly so.
    pub(super) budget: u32,
}

impl Proxy {
    pub(super) fn start(place: &Place, binary: &Path, behind: &Behind) -> anyhow::Result<Self> {
        let (address, ops) = (free_address()?, free_address()?);
        let file = place.logs.join("soak.yaml");
        let settings = format!(
            "version: 1\nlisteners: [{{ address: \"{address}\" }}]\nops: {{ address: \"{ops}\" }}\n{}",
            settings(behind)
        );
        fs::write(&file, settings).with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = Command::new(binary);
        command.args(["serve", "--config"]).arg(&file);
        // One heap, so that the resident memory says what is in use and not which thread had it.
        command.env("MALLOC_ARENA_MAX", "1");
        let mut server = Server::start("tidegate (soak)", &mut command, place.log("soak"))?;
        server.wait_until(START_LIMIT, || accepts(address) && says_ok(ops, "/health/ready"))?;
        Ok(Self { server, address, ops })
    }

    pub(super) fn resident_kib(&self) -> Option<usize> {
        leak_check::resident_kib(self.server.pid())
    }

    pub(super) fn look(&self) -> anyhow::Result<Sight> {
        leak_check::look(self.server.pid(), self.ops)
    }

    /// Its own totals, each the sum of its series.
    pub(super) fn totals(&self) -> anyhow::Result<Vec<(&'static str, f64)>> {
        let page = leak_check::page(self.ops, "/metrics")?;
        let sum = |name: &str| -> f64 {
            let lines = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        Ok(TOTALS.map(|name| (name, sum(name))).into())
    }

    /// Ends it as an operator would; descendants that stay are an error.
    pub(super) fn end(self) -> anyhow::Result<()> {
        let status = self.server.end(STOP_LIMIT)?;
        ensure!(status.success(), "the proxy ended with {status}");
        Ok(())
    }
}

/// The settings that are not the default ones, which a report repeats.
pub(super) fn settings(behind: &Behind) -> String {
    let Behind { web, bare, child, budget } = behind;
    format!(
        "log: {{ level: error }}\n\
         limits: {{ replay_budget: {budget}MiB }}\n\
         timeouts: {{ drain: 5s }}\n\
         upstreams:\n  \
           web: {{ http: {{ url: \"http://{web}/mcp\", reconnect_stall: 5s, max_connections: 8192, pool_idle: 5s }} }}\n  \
           bare: {{ http: {{ url: \"http://{bare}/mcp\", max_connections: 8192, pool_idle: 5s }} }}\n  \
           own: {{ stdio: {{ command: {child:?}, stop_grace: 1s }} }}\n\
         routes:\n  \
           - {{ match: {{ path: /web }}, upstream: web }}\n  \
           - {{ match: {{ path: /kept }}, upstream: web, replay: on, replay_window: 1m }}\n  \
           - {{ match: {{ path: /bare }}, upstream: bare, replay: on, replay_window: 1m }}\n  \
           - {{ match: {{ path: /short }}, upstream: bare, replay: on, replay_max_events: 3 }}\n  \
           - {{ match: {{ path: /own }}, upstream: own, replay_window: 1m }}\n"
    )
}
