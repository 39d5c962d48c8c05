//! Pooled, leased HTTP connections to one MCP server, and what goes over them.
//!
//! A [`Client`] sends a request over a kept connection, HTTP/1.1 or HTTP/2, plain or TLS, and gives
//! back the head of the response and an [`Exchange`], which reads the body. A request leaves once.
//! This crate must not know what a request is for, sessions, retries or other upstreams; the
//! upstreams that use it do.
//!
//! ```
//! use http::Request;
//! use tidegate_http_client::{Client, Errand, Fault, Lane, Params, Wait};
//! use tidegate_service::Tasks;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tasks = Tasks::default();
//! // Nobody listens on the discard port here, and the caller hears that at once.
//! let params = Params::new("search", "http://127.0.0.1:9/mcp".parse()?);
//! let client = Client::new(&params, tasks.clone())?;
//! let request = Request::get("/mcp").body(Default::default())?;
//! let mut errand = Errand { request: Some(request), lane: Lane::Calls, wait: Wait::default() };
//! assert!(matches!(client.send(&mut errand).await, Err(Fault::Connect(_))));
//!
//! client.stop().await;
//! tasks.stop().await;
//! # Ok(()) }
//! ```
//!
//! The map, inward: `client` has the connections; `params` says where to and `headers` what goes
//! along; `dial` makes a connection, `sharing` knows those that others use too, and `link` uses
//! one, alone or shared, with `relay` for its wakes, `timer` for its deadlines and `io` for its
//! bytes; `keep` looks after those that nobody uses. Outward: `answer` decides what a head means
//! and `exchange` reads the body; `fault` says what went wrong and `stats` counts.

pub mod answer;
mod client;
mod dial;
mod exchange;
mod fault;
pub mod headers;
mod io;
mod keep;
mod link;
mod params;
mod relay;
mod sharing;
mod stats;
mod timer;

pub use crate::{
    client::{Client, Errand, Wait},
    dial::Lane,
    exchange::{Exchange, Limits},
    fault::{BodyError, Fault},
    link::Outgoing,
    params::{Http2, Params, Reconnect, SetupError, Target},
    stats::{Attempt, Attempts, Counters, OpenStream, Stats},
};
