//! What a valid configuration is: plain data, checked, with units resolved.
//!
//! Durations are [`Duration`], sizes are bytes, paths are absolute. Defaults live in
//! `defaults.yaml` (and, for one upstream or route, in
//! `upstream-defaults.yaml` and `route-defaults.yaml`), in the notation of the
//! file, so that `config show` and this model cannot disagree about them.

mod upstream;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

pub use upstream::{
    CallTimeouts, Http2, HttpUpstream, Processes, Reconnect, Rlimits, Sharing, StdioUpstream,
    Transport, Upstream,
};

/// Everything a gateway needs to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where clients are served; at least one. Default `127.0.0.1:8080`.
    pub listeners: Vec<Listener>,
    /// Where `/metrics` and `/health` are served; `None` for `ops: off`. Default `127.0.0.1:9464`.
    pub ops: Option<Ops>,
    /// Worker threads, at least 1. Default: the number of CPUs.
    pub workers: usize,
    /// Where the proxy keeps what must outlive it or be found by others on this machine: the list
    /// of its children, and the socket of `tidegate status`. Absolute; need not exist; `None` for
    /// `state_dir: off`. Default: `tidegate` in `$XDG_RUNTIME_DIR` where that directory exists,
    /// else `tidegate-UID` in the system's directory for temporary files.
    pub state_dir: Option<PathBuf>,
    /// What one client, and all together, may send.
    pub limits: Limits,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// Which `Host` and `Origin` values are let in.
    pub security: Security,
    /// MCP servers by name; at least one. A name is 1 to 63 of `a-z A-Z 0-9 _ -`, since it is
    /// also a metric label.
    pub upstreams: BTreeMap<String, Upstream>,
    /// Which path leads to which upstream; at least one, paths are distinct.
    pub routes: Vec<Route>,
    /// What is logged, and how.
    pub log: Log,
}

/// A socket that clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// IP and port; port 0 lets the system choose.
    pub address: SocketAddr,
}

/// The socket for metrics and health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ops {
    /// IP and port; port 0 lets the system choose. Differs from every listener.
    pub address: SocketAddr,
}

/// Bounds on what is taken in from clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body, bytes. Default 16 MiB.
    pub max_body: usize,
    /// Largest request head, all header lines together, bytes. Default 32 KiB, at least 8 KiB.
    pub max_header_bytes: usize,
    /// Largest single header value, bytes. Default 8 KiB.
    pub max_header_value: usize,
    /// Most header lines in one request. Default 64.
    pub max_headers: usize,
    /// Longest request target, bytes. Default 4 KiB.
    pub max_uri: usize,
    /// Most client connections at once, over all listeners. Default 10,000.
    pub max_connections: usize,
    /// Most bytes of request bodies held while they are being read, over all connections.
    /// Default 256 MiB, at least `max_body`.
    pub body_budget: usize,
    /// Most legacy sessions at once. Default 10,000.
    pub max_sessions: usize,
    /// Deepest JSON nesting in a message. Default 64.
    pub max_depth: usize,
    /// Most messages in one batch (2025-03-26 only). Default 32.
    pub max_batch: usize,
    /// Most memory for events that are kept for clients that may come back, over all routes, bytes.
    /// Default 64 MiB, at least the `replay_max_bytes` of every route.
    pub replay_budget: usize,
    /// Most memory for messages that wait for clients that do not read, over all routes, bytes. One
    /// stream may have as much as it leaves to all others. Default 128 MiB, at least twice the
    /// `slow_client_buffer` of every route.
    pub slow_client_budget: usize,
}

/// Bounds on how long clients may keep things waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From accepting a connection to its first byte. Default 5 s.
    pub first_byte: Duration,
    /// From the first byte of a request head to its end. Default 10 s.
    pub headers: Duration,
    /// Between two pieces of a request body. Default 15 s.
    pub body_idle: Duration,
    /// An idle connection between two requests. Default 75 s.
    pub keep_alive: Duration,
    /// How long a client may refuse to take bytes of an answer. Default 60 s.
    pub write_stall: Duration,
    /// How long a client hears nothing before a comment tells it and all between that the proxy is
    /// still there. Default 15 s.
    pub heartbeat: Duration,
    /// A legacy session without any traffic. Default 30 min.
    pub session_idle: Duration,
    /// How long calls in flight may finish after a stop was asked for; may be zero. Default 10 s.
    pub drain: Duration,
}

/// Defenses against requests that a browser was tricked into making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// Host names, lower case, let in besides those of loopback; `name` matches any port,
    /// `name:port` one. On a listener that is not loopback an empty list lets every host in.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that are let in, lower case, as browsers write them:
    /// `https://app.example` without a slash and without a default port.
    pub allowed_origins: Vec<String>,
}

/// One path and the upstream behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The exact request path: absolute, no `%`, `//`, dot segment or trailing slash.
    pub path: String,
    /// A key of [`Config::upstreams`].
    pub upstream: String,
    /// Where clients of HTTP+SSE (2024-11-05) are served; `None` for `sse: off`. Default off.
    pub sse: Option<SsePaths>,
    /// Which credentials of the client go on to the upstream.
    pub forward: Forward,
    /// How long calls may take. What the file leaves out is as the upstream has it.
    pub timeouts: CallTimeouts,
    /// The same for calls of these tools. What the file leaves out is as the route has it.
    pub tools: BTreeMap<String, CallTimeouts>,
    /// Whether the server is asked for progress that no client asked for.
    pub progress: Progress,
    /// What is kept for clients that lose a stream.
    pub replay: Replay,
    /// What is done about clients that do not read.
    pub slow_client: SlowClient,
}

/// What is done about clients that do not read as fast as their server talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowClient {
    /// Default [`SlowPolicy::Pause`].
    pub policy: SlowPolicy,
    /// Most memory for messages that wait for one stream, where its server cannot wait, and until
    /// it does; bytes. Default 8 MiB.
    pub buffer: usize,
    /// [`SlowPolicy::End`]: how long a client may take nothing of what is ready for it, at most
    /// [`Timeouts::write_stall`]. Default 10 s.
    pub after: Duration,
}

/// What becomes of a stream that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowPolicy {
    /// Its server is not read either, where that holds up nobody else; else it is ended when its
    /// buffer is full.
    Pause,
    /// It is ended when its buffer is full or the client has taken nothing for too long.
    End,
}

/// Whose event ids clients of 2025-03-26 to 2025-11-25 see, and what is kept for those that come
/// back with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Default [`ReplayMode::Auto`].
    pub mode: ReplayMode,
    /// How long events are kept, and how long a call goes on whose client is away. Default 5 min.
    pub window: Duration,
    /// Most events kept of one stream. Default 1000.
    pub max_events: usize,
    /// Most memory for what is kept of one stream, bytes. Default 4 MiB.
    pub max_bytes: usize,
    /// How long an answer may take before a client of 2025-11-25 is given an event id to come back
    /// with; may be zero. Default 1 s.
    pub prime_after: Duration,
    /// How long an answer is streamed to a client of 2025-11-25 before it is asked to come back for
    /// the rest. Off by default.
    pub poll_after: Option<Duration>,
}

/// Who asks a server for progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Clients, if they want it.
    Client,
    /// The proxy too, where the client did not: a server that goes on then shows it, which extends
    /// [`CallTimeouts::idle`].
    Always,
}

/// Who makes event ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayMode {
    /// The proxy, for upstreams that have none: those over stdio.
    Auto,
    /// The proxy.
    On,
    /// The upstream, if it does.
    Off,
}

/// The two paths of HTTP+SSE (2024-11-05), written as [`Route::path`] is. No other route has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SsePaths {
    /// Where the stream is opened. May be the path of the route. Default `sse` below that.
    pub path: String,
    /// Where messages are posted. Default `messages` below the path of the route.
    pub messages: String,
}

/// Client credentials that are passed on. All off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// Pass `Authorization` on.
    pub authorization: bool,
    /// Pass `Cookie` on, and `Set-Cookie` back.
    pub cookies: bool,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Comma-separated `level` or `target=level`. Default `info`.
    pub level: String,
    /// Default [`LogFormat::Text`].
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
