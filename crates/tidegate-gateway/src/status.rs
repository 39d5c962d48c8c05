//! How the proxy is: in short for `/health`, at length for the status socket.
//!
//! The long report is a JSON object. What an upstream has to say differs by its kind; what cannot
//! be told is left out, and whoever prints a report must not mind.
//!
//! | key of an upstream | says |
//! |---|---|
//! | `kind` | `stdio` or `http` |
//! | `sharing` | `configured`: as in the file |
//! | `processes` | how many, by what they are doing |
//! | `connections` | `in_use`, `idle`, `max` |
//! | `in_flight` | calls that are not answered |
//! | `waiting` | calls that wait for a process or connection |
//! | `restarts` | processes that ended unasked, each to be replaced when it is needed |
//! | `start_failures` | processes that could not be started |

use std::{net::SocketAddr, path::Path, sync::Arc};

use serde_json::{Map, Value, json};
use tidegate_config::{Config, Sharing, Upstream};
use tidegate_server::{
    observe::Health,
    status::{Report, StatusSocket},
};
use tidegate_service::Tasks;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{census::Counted, stack::Leaf};

/// Knows where everything that can be told is. Clones are cheap.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    counted: Counted,
    draining: CancellationToken,
    fixed: Arc<Fixed>,
}

/// What never changes.
#[derive(Debug)]
struct Fixed {
    started: Instant,
    listeners: Vec<String>,
    ops: Option<String>,
    /// By upstream; stdio only.
    sharing: Vec<(String, &'static str)>,
}

impl Reporter {
    pub(crate) fn new(
        config: &Config,
        (listeners, ops): (&[SocketAddr], Option<SocketAddr>),
        counted: Counted,
        draining: CancellationToken,
    ) -> Self {
        let fixed = Fixed {
            started: Instant::now(),
            listeners: listeners.iter().map(SocketAddr::to_string).collect(),
            ops: ops.map(|address| address.to_string()),
            sharing: sharing(config),
        };
        Self { counted, draining, fixed: Arc::new(fixed) }
    }

    /// What `/health` says.
    pub(crate) fn health(&self) -> Health {
        let ready = !self.draining.is_cancelled();
        let census = self.counted.census();
        let upstreams = self.upstreams(|_, leaf| match leaf {
            Leaf::Http(http, _) => {
                let stats = http.stats();
                let in_use = stats.calls.in_use + stats.streams.in_use;
                json!({ "kind": "http", "connections_in_use": in_use })
            }
            Leaf::Stdio(stdio) => json!({ "kind": "stdio", "processes": stdio.stats().running }),
        });
        let report = json!({
            "live": true,
            "ready": ready,
            "reason": self.state(),
            "connections": census.connections,
            "streams": census.streams,
            "sessions": census.sessions,
            "upstreams": upstreams,
        });
        Health { ready, report: format!("{report}\n") }
    }

    /// What the status socket says.
    pub(crate) fn status(&self) -> String {
        let census = self.counted.census();
        let upstreams = self.upstreams(|name, leaf| match leaf {
            Leaf::Http(http, _) => connections(&http.stats()),
            Leaf::Stdio(stdio) => processes(&stdio.stats(), self.sharing(name)),
        });
        let report = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "state": self.state(),
            "uptime_s": self.fixed.started.elapsed().as_secs(),
            "listeners": self.fixed.listeners,
            "ops": self.fixed.ops,
            "connections": census.connections,
            "streams": census.streams,
            "sessions": census.sessions,
            "upstreams": upstreams,
        });
        format!("{report}\n")
    }

    /// Opens the status socket in `directory`. A proxy without one serves all the same: the
    /// directory may be missing in a small container.
    pub(crate) fn serve(&self, directory: &Path, tasks: &Tasks) {
        let this = self.clone();
        let report: Report = Arc::new(move || this.status());
        match StatusSocket::bind(directory) {
            Ok(socket) => socket.serve(report, tasks),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                warn!(%error, cause, "`tidegate status` will not find this proxy; set state_dir");
            }
        }
    }

    fn state(&self) -> &'static str {
        if self.draining.is_cancelled() { "draining" } else { "serving" }
    }

    fn sharing(&self, upstream: &str) -> &'static str {
        let found = self.fixed.sharing.iter().find(|(name, _)| name == upstream);
        found.map_or("session", |(_, sharing)| sharing)
    }

    fn upstreams(&self, tell: impl Fn(&str, &Leaf) -> Value) -> Map<String, Value> {
        let leaves = self.counted.leaves.iter();
        leaves.map(|(name, leaf)| (name.to_string(), tell(name, leaf))).collect()
    }
}

fn sharing(config: &Config) -> Vec<(String, &'static str)> {
    let stdio = config.upstreams.iter().filter_map(|(name, upstream)| match upstream {
        Upstream::Stdio(stdio) => Some((name, stdio.processes.sharing)),
        Upstream::Http(_) => None,
    });
    stdio
        .map(|(name, sharing)| {
            let text = match sharing {
                Sharing::Session => "session",
                Sharing::Shared => "shared",
                Sharing::Auto => "auto",
            };
            (name.clone(), text)
        })
        .collect()
}

/// An upstream over stdio.
fn processes(stats: &tidegate_upstream_stdio::Stats, sharing: &str) -> Value {
    let exits = &stats.exits;
    json!({
        "kind": "stdio",
        "sharing": { "configured": sharing },
        "processes": { "running": stats.running },
        "in_flight": stats.in_flight,
        "restarts": exits.finished + exits.failed + exits.signaled + exits.broken,
        "start_failures": stats.spawn_failed,
    })
}

/// An upstream over HTTP. Calls and long streams have a pool each.
fn connections(stats: &tidegate_upstream_http::Stats) -> Value {
    let (calls, streams) = (&stats.calls, &stats.streams);
    json!({
        "kind": "http",
        "connections": {
            "in_use": calls.in_use + streams.in_use,
            "idle": calls.idle + streams.idle,
            "max": calls.max + streams.max,
        },
        "in_flight": calls.in_use,
        "waiting": calls.waiting + streams.waiting,
    })
}
