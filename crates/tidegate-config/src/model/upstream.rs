//! One MCP server: a child process or a URL.

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf, time::Duration};

use http::{HeaderMap, Uri};

use crate::Secret;

/// An MCP server and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// A child process that speaks over its stdin and stdout.
    Stdio(StdioUpstream),
    /// A server that speaks HTTP.
    Http(HttpUpstream),
}

impl Upstream {
    /// How long calls may take.
    pub const fn timeouts(&self) -> &CallTimeouts {
        match self {
            Self::Stdio(stdio) => &stdio.timeouts,
            Self::Http(http) => &http.timeouts,
        }
    }
}

/// How to start and treat a child process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StdioUpstream {
    /// The program, absolute; it was an executable file when the configuration was checked.
    pub program: PathBuf,
    /// Its arguments, without the program.
    pub args: Vec<String>,
    /// The child's whole environment: nothing else may be inherited. Made of `PATH`, `HOME`,
    /// `LANG`, `LC_ALL`, `TMPDIR`, `USER`, `SHELL` and `TERM` unless `clear_env`, then those named
    /// by `inherit_env`, then `env`.
    pub env: BTreeMap<String, Secret>,
    /// The child's working directory, absolute; `None` for that of the proxy.
    pub cwd: Option<PathBuf>,
    /// The user the child runs as; `None` for that of the proxy.
    pub user: Option<u32>,
    /// The group the child runs as; `None` for that of the proxy.
    pub group: Option<u32>,
    /// What the kernel lets a child use. All off by default.
    pub rlimits: Rlimits,
    /// How many children there are, and for how long.
    pub processes: Processes,
    /// From starting a child to its first answer. Default 30 s.
    pub start_timeout: Duration,
    /// Starts that may fail in a row before the server counts as down. Default 5.
    pub start_attempts: NonZeroU32,
    /// How long a server that is down is left alone; longer with every further failure.
    /// Default 30 s.
    pub down_for: Duration,
    /// From closing a child's stdin to SIGTERM, and from there to SIGKILL; may be zero.
    /// Default 5 s.
    pub stop_grace: Duration,
    /// Longest line a child may print, bytes. Default 16 MiB.
    pub max_line: usize,
    /// Most requests one child may have unanswered. Default 1024.
    pub max_in_flight: usize,
    /// How long calls may take.
    pub timeouts: CallTimeouts,
}

/// How long the calls of an upstream, a route or a tool may take. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallTimeouts {
    /// For a connection, TLS included; `None` only over stdio, where there is none. Default 2 s.
    pub connect: Option<Duration>,
    /// From sending a request to the first message of its answer. Default 5 min.
    pub request: Option<Duration>,
    /// Between two messages of an answer; progress is one. Default 5 min.
    pub idle: Option<Duration>,
    /// From the call to the end of its answer, whatever comes. Subscriptions have no end. Default
    /// 1 h.
    pub total: Option<Duration>,
}

/// Who shares a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Every legacy session has its own.
    Session,
    /// All legacy sessions of one protocol version share one.
    Shared,
    /// As `Shared`, until the server shows that it needs a client of its own.
    Auto,
}

/// How many children an upstream may have, and when they are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processes {
    /// Who shares a child. Default [`Sharing::Session`].
    pub sharing: Sharing,
    /// Most children at once. Default 128.
    pub max_processes: NonZeroU32,
    /// Most callers that may wait for a child; may be zero. Default 1024.
    pub max_waiting: usize,
    /// How long a caller waits for a child. Default 10 s.
    pub acquire_timeout: Duration,
    /// Children kept ready for new sessions, at most `max_processes`; zero where `sharing` is
    /// [`Sharing::Shared`]. Default 0.
    pub min_idle: u32,
    /// How long a child that nobody uses is kept; `None` for ever. Default 10 min.
    pub idle_timeout: Option<Duration>,
    /// The age at which a child is replaced. Off by default.
    pub max_age: Option<Duration>,
    /// The number of requests after which a child is replaced, without handshakes and what the proxy
    /// asks for itself. Off by default.
    pub max_calls: Option<u64>,
    /// The resident memory, in bytes, at which a child is replaced. Off by default.
    pub max_rss: Option<u64>,
}

/// Limits of the kernel on a child, see setrlimit(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rlimits {
    /// Open files (`nofile`).
    pub open_files: Option<u64>,
    /// Bytes of address space (`as`).
    pub address_space: Option<u64>,
    /// CPU time (`cpu`), whole seconds.
    pub cpu: Option<Duration>,
}

/// When HTTP/2 is spoken to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2 {
    /// Never.
    Off,
    /// If the server chooses it in the TLS handshake; never without TLS.
    Auto,
    /// Always, without TLS too.
    Always,
}

/// Which transport an HTTP server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Streamable HTTP, since 2025-03-26.
    Http,
    /// HTTP+SSE of 2024-11-05.
    Sse,
}

/// How legacy streams that break are taken up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// How long a stream that can be resumed may bring nothing, not even a comment, before it is
    /// taken to be broken. Default 2 min.
    pub stall: Duration,
    /// Attempts in a row that may bring nothing. Default 10.
    pub attempts: NonZeroU32,
    /// Limit of the first pause, at most `max`; it doubles with each attempt. Default 500 ms.
    pub base: Duration,
    /// Largest limit of a pause. Default 10 s.
    pub max: Duration,
    /// How long a stream without any sign of life is worth attempts. Default 5 min.
    pub window: Duration,
    /// Streams of the upstream that reconnect at once. Default 16.
    pub at_once: usize,
    /// Reconnects of the upstream in a second. Default 100.
    pub per_second: NonZeroU32,
}

/// How to reach and treat an HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUpstream {
    /// Absolute `http` or `https` URL with a host, without credentials and fragment.
    pub url: Uri,
    /// What is spoken there; with [`Transport::Sse`] the URL is where streams are opened. Default
    /// [`Transport::Http`].
    pub transport: Transport,
    /// How long calls may take.
    pub timeouts: CallTimeouts,
    /// Most connections at once. Default 1024.
    pub max_connections: usize,
    /// Most calls that may wait for a connection; may be zero. Default 1024.
    pub max_waiting: usize,
    /// How long a call waits for a connection. Default 5 s.
    pub acquire_timeout: Duration,
    /// Connections kept ready for calls, also before the first, at most `max_connections`.
    /// Default 0.
    pub min_idle_connections: usize,
    /// How long an unused connection is kept. Default 60 s.
    pub pool_idle: Duration,
    /// The age at which a connection is replaced, in use or not; its call is finished first. Off by
    /// default.
    pub max_connection_age: Option<Duration>,
    /// The number of requests after which a connection is replaced. Off by default.
    pub max_connection_requests: Option<u64>,
    /// Largest JSON answer, and largest single event of a stream, bytes. Default 16 MiB.
    pub max_response: usize,
    /// Whether calls share HTTP/2 connections. Default [`Http2::Auto`].
    pub http2: Http2,
    /// How legacy streams that break are taken up again; `None` for not at all.
    pub reconnect: Option<Reconnect>,
    /// Content of `ca_file`: PEM certificates trusted besides the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Headers added to every request, all marked sensitive.
    pub headers: HeaderMap,
}
