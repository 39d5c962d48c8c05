//! What bounds a client. Every limit has a default that suits a server at the edge.

use std::{sync::Arc, time::Duration};

use tidegate_service::slow::SlowClients;

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Params {
    /// Sizes and counts.
    pub limits: Limits,
    /// Waits.
    pub timeouts: Timeouts,
    /// Who may ask.
    pub security: Security,
    /// Where clients of HTTP+SSE (2024-11-05) are served.
    pub pairs: Vec<Pair>,
}

/// The two paths of HTTP+SSE (2024-11-05), and the path of the endpoint that they stand for.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The path that the calls are made for.
    pub endpoint: String,
    /// Where a client opens its stream with GET. May be `endpoint` too: a GET there that names
    /// neither a session, nor a version, nor an event is one of an HTTP+SSE client.
    pub stream: String,
    /// Where it posts its messages.
    pub messages: String,
    /// How a client is treated that does not read its stream.
    pub slow: Option<Arc<SlowClients>>,
}

/// Sizes in bytes, and counts.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest request body. Default 16 MiB; more is answered with 413.
    pub max_body: usize,
    /// All header names and values of a request together. Default 32 KiB; more is answered with
    /// 431.
    pub max_header_bytes: usize,
    /// The longest single header value. Default 8 KiB; more is answered with 431.
    pub max_header_value: usize,
    /// The most header lines. Default 64; more is answered with 431.
    pub max_headers: usize,
    /// The longest request target. Default 4 KiB; more is answered with 414.
    pub max_uri: usize,
    /// The most connections at once, over all listeners. Default 10,000; more are closed unheard.
    pub max_connections: usize,
    /// All request bodies in memory together. Default 256 MiB; more is answered with 503.
    pub body_budget: usize,
    /// The deepest nesting of a JSON body. Default 64.
    pub max_depth: u16,
    /// The most members of a batch. Default 32.
    pub max_batch: usize,
    /// HTTP+SSE: the most requests that one client may have unanswered. Default 128; more are
    /// answered with an error on its stream.
    pub max_pair_calls: usize,
    /// HTTP+SSE: the most messages of one client that wait to be sent on, which they do while it
    /// does not read. Default 64; more are answered with 503.
    pub max_pair_waiting: usize,
}

/// Waits for a client.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From accept to the first bytes that tell the protocol. Default 5 s.
    pub first_byte: Duration,
    /// From the first to the last byte of a request's head. Default 10 s.
    pub headers: Duration,
    /// Between two pieces of a request body, and for all of it beyond what a client at 1 kB/s
    /// needs. Default 15 s.
    pub body_idle: Duration,
    /// How long a connection may rest between requests. Default 75 s.
    pub keep_alive: Duration,
    /// How long a client may refuse to take bytes that are ready for it, on the whole connection or
    /// on one stream of several. Its route may say less. Default 60 s.
    pub write_stall: Duration,
    /// How long a stream may be silent before a comment keeps middleboxes awake. Default 15 s.
    pub heartbeat: Duration,
    /// HTTP+SSE: from opening the stream to `initialize`. Default 30 s.
    pub initialize: Duration,
}

/// Who may ask. On a loopback listener only loopback names are served unless more are listed;
/// that is what stops a web page from reaching a local server by DNS rebinding.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// Further `Host` names, without port. On other listeners an empty list means any.
    pub allowed_hosts: Vec<String>,
    /// Further `Origin` values, such as `https://app.example`. Loopback origins are welcome on a
    /// loopback listener; anything else is answered with 403.
    pub allowed_origins: Vec<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 16 << 20,
            max_header_bytes: 32 << 10,
            max_header_value: 8 << 10,
            max_headers: 64,
            max_uri: 4 << 10,
            max_connections: 10_000,
            body_budget: 256 << 20,
            max_depth: 64,
            max_batch: 32,
            max_pair_calls: 128,
            max_pair_waiting: 64,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(5),
            headers: Duration::from_secs(10),
            body_idle: Duration::from_secs(15),
            keep_alive: Duration::from_secs(75),
            write_stall: Duration::from_secs(60),
            heartbeat: Duration::from_secs(15),
            initialize: Duration::from_secs(30),
        }
    }
}
