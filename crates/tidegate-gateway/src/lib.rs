//! Compose the parts into a running proxy: lower the configuration, build the stacks, run, stop.
//!
//! The only crate that knows all others. It wires; a decision that needs a loop belongs in one of
//! the parts.
//!
//! ```
//! use tidegate_config::{Flags, load};
//! use tidegate_gateway::{Gateway, Stop};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let flags = Flags {
//!     upstream: Some("http://127.0.0.1:3001/mcp".into()),
//!     listen: vec!["127.0.0.1:0".into()],
//!     ops: Some("off".into()),
//!     ..Flags::default()
//! };
//! let gateway = Gateway::start(load(&flags)?.config).await?;
//! assert_eq!(gateway.addresses().len(), 1);
//! let outcome = gateway.stop(Stop::Graceful).await;
//! assert!(outcome.is_clean());
//! # Ok(()) }
//! ```
//!
//! The map: [`gateway`] starts and holds everything, `stop` takes it down in order, `stack` says
//! which layer a call meets when, `rules` chooses routes and filters headers, `lower` turns the
//! configuration into each part's parameters, `transport` finds out what an HTTP server speaks, `processes` is where children start, `observe` turns
//! counters into metrics, `status` says how the proxy is.

mod census;
pub mod gateway;
mod lower;
mod observe;
mod processes;
mod rules;
mod stack;
mod status;
mod stop;
mod transport;

pub use crate::{
    census::Census,
    gateway::{Finished, Gateway, StartError},
    stop::{Outcome, Stop},
};
pub use tidegate_server::status::{Answer, reports};
