//! An MCP server over HTTP+SSE, the transport of 2024-11-05.
//!
//! Such a server has one stream for each client: a GET opens it, its first event says where to post
//! messages, and whatever the server says comes on it. So a legacy session of the proxy has such a
//! stream of its own, and they end together. [`SseUpstream`] sends the client's messages as they
//! are, with the client's ids, since nobody else's are on that stream; it gives each answer to the
//! call that asked, with the progress that names its token, and the rest to the session's GET
//! stream. It must not know clients, routes, retries or other upstreams.
//!
//! ```
//! use std::time::Duration;
//! use tidegate_protocol::{Envelope, Era};
//! use tidegate_service::{Call, Cx, Kind, Retry, Session, Tasks};
//! use tidegate_upstream_sse::{Params, SseUpstream};
//! use tower::ServiceExt as _;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tasks = Tasks::default();
//! // Nobody listens on the discard port here, and the caller hears that at once.
//! let upstream = SseUpstream::new(Params::new("old", "http://127.0.0.1:9/sse".parse()?), tasks.clone())?;
//! let hello = Envelope::parse(r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#.into())?;
//! let cx = Cx { session: Some(Session::new("s")), ..Cx::new(Era::Legacy) };
//! let error = upstream.clone().oneshot(Call::send(hello, cx)).await.unwrap_err();
//! assert_eq!((error.kind, error.retry), (Kind::Unreachable, Retry::NotSent));
//!
//! upstream.stop().await;
//! tasks.stop().await;
//! # Ok(()) }
//! ```
//!
//! The map: `upstream` is the service; `opening` opens a stream and learns where to post, which
//! `endpoint` checks; `wire` is what a session holds of it, with the task that reads; `demux` says
//! whose each message is, and `exchange` is one call. Connections are in [`tidegate_http_client`].

mod demux;
mod endpoint;
mod exchange;
mod opening;
mod stats;
mod upstream;
mod wire;

pub use tidegate_http_client::{Client, Http2, Params, SetupError};

pub use crate::{stats::Stats, upstream::SseUpstream};
