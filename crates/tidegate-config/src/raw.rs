//! The file's shape: every key it may have, decoded one by one, not yet checked against each other.
//!
//! A key belongs here only if something reads it. Adding one: a field here, its default in
//! `defaults.yaml`, a field in the model, a line in `validate`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::decode::{Account, Count, Field, Size, Span, Text, Toggle};

/// A list of fields, each good or bad for itself.
pub(crate) type List<T> = Vec<Field<T>>;

/// A mapping with names of the user's choice.
pub(crate) type Named<T> = BTreeMap<String, Field<T>>;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawConfig {
    pub(crate) version: Field<Count>,
    pub(crate) listeners: Field<List<RawListener>>,
    pub(crate) ops: Field<Option<RawOps>>,
    pub(crate) workers: Field<Count>,
    pub(crate) state_dir: Field<Option<Text>>,
    pub(crate) limits: Field<RawLimits>,
    pub(crate) timeouts: Field<RawTimeouts>,
    pub(crate) security: Field<RawSecurity>,
    pub(crate) upstreams: Field<Named<RawUpstream>>,
    pub(crate) routes: Field<List<RawRoute>>,
    pub(crate) log: Field<RawLog>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawListener {
    pub(crate) address: Field<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawOps {
    pub(crate) address: Field<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawLimits {
    pub(crate) max_body: Field<Size>,
    pub(crate) max_header_bytes: Field<Size>,
    pub(crate) max_header_value: Field<Size>,
    pub(crate) max_headers: Field<Count>,
    pub(crate) max_uri: Field<Size>,
    pub(crate) max_connections: Field<Count>,
    pub(crate) body_budget: Field<Size>,
    pub(crate) max_sessions: Field<Count>,
    pub(crate) max_depth: Field<Count>,
    pub(crate) max_batch: Field<Count>,
    pub(crate) replay_budget: Field<Size>,
    pub(crate) slow_client_budget: Field<Size>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawTimeouts {
    pub(crate) first_byte: Field<Span>,
    pub(crate) headers: Field<Span>,
    pub(crate) body_idle: Field<Span>,
    pub(crate) keep_alive: Field<Span>,
    pub(crate) write_stall: Field<Span>,
    pub(crate) heartbeat: Field<Span>,
    pub(crate) session_idle: Field<Span>,
    pub(crate) drain: Field<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawSecurity {
    pub(crate) allowed_hosts: Field<List<Text>>,
    pub(crate) allowed_origins: Field<List<Text>>,
}

/// Exactly one of `stdio`, `http` and `url`, the short form of `http: { url: … }`; beside `url`
/// an `http` without a URL may set the rest.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawUpstream {
    pub(crate) stdio: Field<RawStdio>,
    pub(crate) http: Field<RawHttp>,
    pub(crate) url: Field<Text>,
    pub(crate) timeouts: Field<RawCallTimeouts>,
}

/// Of an upstream, a route or a tool; the last two leave out what they do not change.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawCallTimeouts {
    pub(crate) connect: Field<Span>,
    pub(crate) request: Field<Option<Span>>,
    pub(crate) idle: Field<Option<Span>>,
    pub(crate) total: Field<Option<Span>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawStdio {
    pub(crate) command: Field<List<Text>>,
    pub(crate) env: Field<Named<Text>>,
    pub(crate) clear_env: Field<Toggle>,
    pub(crate) inherit_env: Field<List<Text>>,
    pub(crate) cwd: Field<Text>,
    pub(crate) user: Field<Account>,
    pub(crate) group: Field<Account>,
    pub(crate) rlimits: Field<RawRlimits>,
    pub(crate) sharing: Field<Text>,
    pub(crate) max_processes: Field<Count>,
    pub(crate) max_waiting: Field<Count>,
    pub(crate) acquire_timeout: Field<Span>,
    pub(crate) min_idle: Field<Count>,
    pub(crate) idle_timeout: Field<Option<Span>>,
    pub(crate) max_age: Field<Option<Span>>,
    pub(crate) max_calls: Field<Option<Count>>,
    pub(crate) max_rss: Field<Option<Size>>,
    pub(crate) start_timeout: Field<Span>,
    pub(crate) start_attempts: Field<Count>,
    pub(crate) down_for: Field<Span>,
    pub(crate) stop_grace: Field<Span>,
    pub(crate) max_line: Field<Size>,
    pub(crate) max_in_flight: Field<Count>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawRlimits {
    pub(crate) nofile: Field<Option<Count>>,
    #[serde(rename = "as")]
    pub(crate) address_space: Field<Option<Size>>,
    pub(crate) cpu: Field<Option<Span>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawHttp {
    pub(crate) url: Field<Text>,
    pub(crate) transport: Field<Text>,
    pub(crate) max_connections: Field<Count>,
    pub(crate) max_waiting: Field<Count>,
    pub(crate) acquire_timeout: Field<Span>,
    pub(crate) min_idle_connections: Field<Count>,
    pub(crate) http2: Field<Text>,
    pub(crate) reconnect: Field<Text>,
    pub(crate) reconnect_stall: Field<Span>,
    pub(crate) reconnect_attempts: Field<Count>,
    pub(crate) reconnect_base: Field<Span>,
    pub(crate) reconnect_max: Field<Span>,
    pub(crate) reconnect_for: Field<Span>,
    pub(crate) reconnect_at_once: Field<Count>,
    pub(crate) reconnect_rate: Field<Count>,
    pub(crate) pool_idle: Field<Span>,
    pub(crate) max_connection_age: Field<Option<Span>>,
    pub(crate) max_connection_requests: Field<Option<Count>>,
    pub(crate) max_response: Field<Size>,
    pub(crate) ca_file: Field<Text>,
    pub(crate) headers: Field<Named<Text>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawRoute {
    #[serde(rename = "match")]
    pub(crate) matches: Field<RawMatch>,
    pub(crate) upstream: Field<Text>,
    pub(crate) sse: Field<Option<RawSse>>,
    pub(crate) forward: Field<RawForward>,
    pub(crate) timeouts: Field<RawCallTimeouts>,
    pub(crate) progress: Field<Text>,
    pub(crate) tools: Field<Named<RawTool>>,
    pub(crate) replay: Field<Text>,
    pub(crate) replay_window: Field<Span>,
    pub(crate) replay_max_events: Field<Count>,
    pub(crate) replay_max_bytes: Field<Size>,
    pub(crate) replay_prime_after: Field<Span>,
    pub(crate) replay_poll_after: Field<Option<Span>>,
    pub(crate) slow_client: Field<Text>,
    pub(crate) slow_client_buffer: Field<Size>,
    pub(crate) slow_client_after: Field<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawTool {
    pub(crate) timeouts: Field<RawCallTimeouts>,
}

/// `true` stands for the default paths, `false` for `off`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawSse {
    pub(crate) path: Field<Text>,
    pub(crate) messages: Field<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawMatch {
    pub(crate) path: Field<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawForward {
    pub(crate) authorization: Field<Toggle>,
    pub(crate) cookies: Field<Toggle>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawLog {
    pub(crate) level: Field<Text>,
    pub(crate) format: Field<Text>,
}

/// The full key of what had this name in the file of an earlier release.
pub(crate) fn renamed(name: &str) -> Option<&'static str> {
    match name {
        "connect_timeout" => Some("upstreams.NAME.timeouts.connect"),
        "request_timeout" => Some("upstreams.NAME.timeouts.request"),
        "idle_timeout" => Some("upstreams.NAME.timeouts.idle"),
        _ => None,
    }
}

/// The full key of a name that stands in the wrong section; the first where there are several.
pub(crate) fn home_of(name: &str) -> Option<String> {
    const HOMES: [(&str, &[&str]); 24] = [
        ("limits", &["max_body", "max_header_bytes", "max_header_value", "max_headers"]),
        ("limits", &["max_uri", "body_budget", "max_sessions", "max_depth", "max_batch"]),
        ("limits", &["replay_budget", "slow_client_budget"]),
        ("timeouts", &["first_byte", "headers", "body_idle", "keep_alive", "write_stall"]),
        ("timeouts", &["session_idle", "drain", "heartbeat"]),
        ("security", &["allowed_hosts", "allowed_origins"]),
        ("upstreams.NAME.stdio", &["command", "env", "clear_env", "inherit_env", "cwd"]),
        ("upstreams.NAME.stdio", &["start_timeout", "stop_grace", "max_line", "max_in_flight"]),
        ("upstreams.NAME.stdio", &["user", "group", "rlimits", "sharing", "max_processes"]),
        ("upstreams.NAME.stdio", &["min_idle", "max_age", "max_calls", "max_rss"]),
        ("upstreams.NAME.stdio", &["start_attempts", "down_for"]),
        ("upstreams.NAME.stdio", &["max_waiting", "acquire_timeout"]),
        ("upstreams.NAME.stdio.rlimits", &["nofile", "as", "cpu"]),
        ("upstreams.NAME.timeouts", &["connect", "request", "idle", "total"]),
        ("upstreams.NAME.http", &["url", "reconnect_stall"]),
        ("routes[0]", &["progress", "tools"]),
        ("upstreams.NAME.http", &["pool_idle", "max_response", "ca_file", "max_connections"]),
        (
            "upstreams.NAME.http",
            &[
                "max_connection_age",
                "max_connection_requests",
                "min_idle_connections",
                "http2",
                "transport",
            ],
        ),
        ("routes[0]", &["replay", "replay_window", "replay_max_events"]),
        ("routes[0]", &["replay_max_bytes", "replay_prime_after", "replay_poll_after"]),
        ("routes[0]", &["slow_client", "slow_client_buffer", "slow_client_after"]),
        (
            "upstreams.NAME.http",
            &["reconnect", "reconnect_attempts", "reconnect_base", "reconnect_max"],
        ),
        ("upstreams.NAME.http", &["reconnect_for", "reconnect_at_once", "reconnect_rate"]),
        ("log", &["level", "format"]),
    ];
    let (section, _) = HOMES.iter().find(|(_, names)| names.contains(&name))?;
    Some(format!("{section}.{name}"))
}
