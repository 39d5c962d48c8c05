//! Metrics, and the only place where one has a name.
//!
//! Calls are measured at the seam: a layer around each route and one around each leaf see every
//! call come, answer and end, so nothing further inside needs to count for the sake of a graph.
//! What is no call (sessions, children, pools, connections) is counted by its owner as plain
//! numbers, and a source reads those when a scraper asks. This crate must not know who they are: it
//! depends on the seam alone, opens no port and decides nothing.
//!
//! ```
//! use tidegate_protocol::{Bytes, Envelope, Era};
//! use tidegate_service::{Call, Cx, Error, Reply};
//! use tidegate_telemetry::{Gauge, Label, Telemetry};
//! use tower::{Layer as _, ServiceExt as _, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let telemetry = Telemetry::new();
//! let answer = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
//! let answer = Envelope::parse(answer)?;
//! let upstream = service_fn(move |_: Call| {
//!     let answer = answer.clone();
//!     async move { Ok::<_, Error>(Reply::one(answer)) }
//! });
//! let route = telemetry.route_layer("files", "files-server").layer(upstream);
//! telemetry.register_source(|samples| {
//!     let labels = [(Label::Upstream, "files"), (Label::State, "serving")];
//!     samples.gauge(Gauge::StdioProcesses, &labels, 3_usize);
//! });
//!
//! let ping = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
//! route.oneshot(Call::send(Envelope::parse(ping)?, Cx::new(Era::Legacy))).await?;
//!
//! let text = telemetry.render();
//! assert!(text.contains(
//!     "tidegate_requests_total{route=\"files\",upstream=\"files-server\",method=\"ping\",\
//!      outcome=\"ok\",era=\"legacy\"} 1\n"
//! ));
//! assert!(text.contains("tidegate_stdio_processes{upstream=\"files\",state=\"serving\"} 3\n"));
//! # Ok(()) }
//! ```
//!
//! The map: [`Telemetry`] is the handle. `names` is the table of every family and label, `labels`
//! the closed sets that label values come from. `route` and `attempt` are the layers, `future`
//! what they share, `histogram` a lock-free one. [`Samples`] is what sources fill, `process` what
//! the kernel tells, `exposition` the way to text.

mod attempt;
mod exposition;
mod future;
mod histogram;
mod labels;
mod names;
mod process;
mod route;
mod samples;
mod telemetry;

pub use crate::{
    attempt::{Attempt, AttemptLayer, AttemptService},
    exposition::CONTENT_TYPE,
    future::Measured,
    labels::{METHODS, OUTCOMES},
    names::{Counter, Gauge, Histogram, Label},
    route::{InFlight, RouteLayer, RouteService},
    samples::{Count, Samples, Times},
    telemetry::Telemetry,
};
