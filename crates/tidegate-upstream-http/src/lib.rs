//! An MCP server over Streamable HTTP.
//!
//! [`HttpUpstream`] sends the bytes of a message as they came over a kept connection, HTTP/1.1 or
//! HTTP/2, plain or TLS, and gives back what the server answers: one message, or events as soon as each is
//! complete. A request leaves once. It maps the proxy's session to the server's, and it must not
//! know clients, routes, retries or other upstreams.
//!
//! ```
//! use tidegate_protocol::{Envelope, Era};
//! use tidegate_service::{Call, Cx, Kind, Retry, Tasks};
//! use tidegate_upstream_http::{HttpUpstream, Params};
//! use tower::ServiceExt as _;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tasks = Tasks::default();
//! // Nobody listens on the discard port here, and the caller hears that at once.
//! let params = Params::new("search", "http://127.0.0.1:9/mcp".parse()?);
//! let upstream = HttpUpstream::new(params, tasks.clone())?;
//! let ping = Envelope::parse(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.into())?;
//! let error = upstream.clone().oneshot(Call::send(ping, Cx::new(Era::Legacy))).await.unwrap_err();
//! assert_eq!((error.kind, error.retry), (Kind::Unreachable, Retry::NotSent));
//!
//! upstream.stop().await;
//! tasks.stop().await;
//! # Ok(()) }
//! ```
//!
//! The map: `upstream` is the service and `course` what a call goes through; `session` is what the
//! server keeps, `events` the stream it answers with, `resume` goes on where that broke off, and
//! `timed` ends what takes too long.
//! Connections and what crosses them are in [`tidegate_http_client`].

mod course;
mod events;
mod resume;
mod session;
mod timed;
mod upstream;

pub use tidegate_http_client::{Attempts, Http2, Params, Reconnect, SetupError, Stats};

pub use crate::{resume::Resumption, session::UpstreamSession, upstream::HttpUpstream};
