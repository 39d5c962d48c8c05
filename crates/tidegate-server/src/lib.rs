//! Face clients: listeners, the HTTP front for both protocol eras, and the ops endpoints.
//!
//! One [`Front`] turns HTTP requests into [`Call`]s for the edge service and [`Reply`]s back into
//! HTTP responses, for every protocol version at once, HTTP+SSE of 2024-11-05 included. A [`Listener`] accepts connections for it,
//! HTTP/1.1 and HTTP/2 with prior knowledge on the same port, and bounds every wait on a client.
//! [`observe`] answers health and metrics on a listener of its own and [`status`] tells an operator
//! more over a Unix socket; neither can change anything.
//!
//! This crate must not know upstreams, routes or configuration files, and it names no metric: it
//! counts into [`Stats`].
//!
//! ```
//! use tidegate_server::{Front, Listener, Params};
//! use tidegate_service::{Call, Error, Reply, Tasks, Upstream};
//! use tokio_util::sync::CancellationToken;
//! use tower::service_fn;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let edge = Upstream::new(service_fn(async |_: Call| Ok::<_, Error>(Reply::accepted())));
//! let drain = CancellationToken::new();
//! let front = Front::new(edge, Params::default(), drain.clone());
//! let listener = Listener::bind("127.0.0.1:0".parse().expect("an address"))?;
//! assert_ne!(listener.address().port(), 0);
//! let tasks = Tasks::default();
//! listener.serve(&front, &tasks);
//! drain.cancel();
//! tasks.stop().await;
//! # Ok(()) }
//! ```
//!
//! The path of a request: [`listen`] accepts, `connection` speaks HTTP, `http` reads the request,
//! calls the edge and writes the response.
//!
//! [`Call`]: tidegate_service::Call
//! [`Reply`]: tidegate_service::Reply

mod connection;
mod http;
pub mod listen;
pub mod observe;
pub mod params;
pub mod stats;
pub mod status;

pub use crate::{
    http::{Front, legacy_failure},
    listen::Listener,
    params::{Limits, Pair, Params, Security, Timeouts},
    stats::{Refused, Stats},
};
