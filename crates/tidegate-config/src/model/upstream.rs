//! One MCP server: a child process or a URL.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use http::{HeaderMap, Uri};

use crate::Secret;

/// An MCP server and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// A child process that speaks over its stdin and stdout.
    Stdio(StdioUpstream),
    /// A server that speaks Streamable HTTP.
    Http(HttpUpstream),
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
    /// From starting a child to its first answer. Default 30 s.
    pub start_timeout: Duration,
    /// From closing a child's stdin to SIGTERM, and from there to SIGKILL; may be zero.
    /// Default 5 s.
    pub stop_grace: Duration,
    /// Longest line a child may print, bytes. Default 16 MiB.
    pub max_line: usize,
    /// Most requests one child may have unanswered. Default 1024.
    pub max_in_flight: usize,
    /// From sending a request to its answer. Default 5 min.
    pub request_timeout: Duration,
}

/// How to reach and treat an HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUpstream {
    /// Absolute `http` or `https` URL with a host, without credentials and fragment.
    pub url: Uri,
    /// For connecting, TLS included. Default 2 s.
    pub connect_timeout: Duration,
    /// From sending a request to the first byte of the answer. Default 5 min.
    pub request_timeout: Duration,
    /// Between two pieces of an answer or a stream. Default 5 min.
    pub idle_timeout: Duration,
    /// Most connections at once. Default 1024.
    pub max_connections: usize,
    /// How long an unused connection is kept. Default 60 s.
    pub pool_idle: Duration,
    /// Largest JSON answer, and largest single event of a stream, bytes. Default 16 MiB.
    pub max_response: usize,
    /// Content of `ca_file`: PEM certificates trusted besides the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Headers added to every request, all marked sensitive.
    pub headers: HeaderMap,
}
