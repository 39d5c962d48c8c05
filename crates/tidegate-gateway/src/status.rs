//! How the proxy is: in short for `/health`, at length for the status socket.
//!
//! The long report is a JSON object. What an upstream has to say differs by its kind; what cannot
//! be told is left out, and whoever prints a report must not mind.
//!
//! | key of an upstream | says |
//! |---|---|
//! | `kind` | `stdio` or `http` |
//! | `sharing` | `configured`: as in the file; `now`: what came of it; `moved_s`, `why`: if it changed |
//! | `processes` | how many, by what they are doing; `max_processes` is beside it |
//! | `connections` | `in_use`, `idle`, `max` |
//! | `in_flight` | calls that are not answered |
//! | `waiting` | calls that wait for a process or connection |
//! | `restarts` | processes that ended unasked, each to be replaced when it is needed |
//! | `start_failures` | starts that failed |
//! | `down` | `null`, or `for_s`, `retry_in_s` and `why` callers are turned away |
//! | `last_failure` | `null`, or `ago_s`, `why` and the end of its `stderr` of a failed start |
//! | `resident_bytes`, `cpu_s` | memory and processor time of all its processes |

use std::{net::SocketAddr, path::Path, sync::Arc};

use serde_json::{Map, Value, json};
use tidegate_config::{Config, Sharing, Upstream};
use tidegate_server::{
    observe::Health,
    status::{Report, StatusSocket},
};
use tidegate_service::Tasks;
use tidegate_upstream_stdio::StdioUpstream;
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
            Leaf::Sse(sse, _) => {
                let stats = sse.stats();
                let in_use = stats.http.calls.in_use + stats.http.streams.in_use;
                json!({ "kind": "sse", "connections_in_use": in_use, "sessions": stats.streams })
            }
            Leaf::Stdio(stdio) => {
                let stats = stdio.stats();
                let now = sharing_now(stdio);
                let processes = stats.running;
                json!({ "kind": "stdio", "processes": processes, "sharing": now, "down": stats.down })
            }
        });
        let report = json!({
            "live": true,
            "ready": ready,
            "reason": self.state(),
            "connections": census.connections,
            "streams": census.streams,
            "sessions": census.sessions,
            "tasks": census.tasks,
            "children": census.children,
            "upstreams": upstreams,
        });
        Health { ready, report: format!("{report}\n") }
    }

    /// What the status socket says.
    pub(crate) fn status(&self) -> String {
        let census = self.counted.census();
        let upstreams = self.upstreams(|name, leaf| match leaf {
            Leaf::Http(http, _) => {
                let stats = http.stats();
                connections("http", stats.calls.in_use, &stats)
            }
            Leaf::Sse(sse, _) => {
                let stats = sse.stats();
                connections("sse", stats.in_flight, &stats.http)
            }
            Leaf::Stdio(stdio) => processes(stdio, self.sharing(name)),
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
fn processes(stdio: &StdioUpstream, configured: &str) -> Value {
    let stats = stdio.stats();
    let (exits, states) = (&stats.exits, &stats.states);
    let moved = stdio.moved();
    json!({
        "kind": "stdio",
        "sharing": {
            "configured": configured,
            "now": sharing_now(stdio),
            "moved_s": moved.map(|moved| moved.at.elapsed().as_secs()),
            "why": moved.map(|moved| moved.why),
        },
        "processes": {
            "starting": states.starting,
            "spare": states.spare,
            "serving": states.serving,
            "stopping": states.stopping,
        },
        "max_processes": stats.places.max,
        "in_flight": stats.in_flight,
        "waiting": stats.places.waiting,
        "restarts": exits.finished + exits.failed + exits.signaled + exits.broken,
        "start_failures": stats.start_failures,
        "resident_bytes": stats.resident_bytes,
        "cpu_s": stats.cpu.as_secs_f64(),
        "down": down(stdio),
        "last_failure": stdio.last_failure().map(|failure| json!({
            "ago_s": failure.at.elapsed().as_secs(),
            "why": failure.reason,
            "stderr": last_lines(failure.last_words.as_deref().unwrap_or_default()),
        })),
    })
}

fn sharing_now(stdio: &StdioUpstream) -> &'static str {
    if stdio.shares() { "shared" } else { "session" }
}

fn down(stdio: &StdioUpstream) -> Option<Value> {
    let down = stdio.down()?;
    let next = down.next_try.map(|next| next.saturating_duration_since(Instant::now()));
    Some(json!({
        "for_s": down.since.elapsed().as_secs(),
        "retry_in_s": next.unwrap_or_default().as_secs(),
        "why": stdio.last_failure().map(|failure| failure.reason),
    }))
}

/// The last of what a process said, for a page that a person reads.
fn last_lines(words: &str) -> Vec<&str> {
    const LINES: usize = 5;
    let lines: Vec<&str> = words.lines().collect();
    lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().to_vec()
}

/// An upstream over HTTP. Calls and long streams have a pool each.
fn connections(kind: &str, in_flight: usize, stats: &tidegate_upstream_http::Stats) -> Value {
    let (calls, streams) = (&stats.calls, &stats.streams);
    json!({
        "kind": kind,
        "connections": {
            "in_use": calls.in_use + streams.in_use,
            "idle": calls.idle + streams.idle,
            "max": calls.max + streams.max,
        },
        "in_flight": in_flight,
        "waiting": calls.waiting + streams.waiting,
    })
}
