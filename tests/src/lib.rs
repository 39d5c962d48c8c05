//! What the end-to-end tests share: a gateway in this process, a client that speaks raw bytes, and
//! an upstream that writes down every byte it gets.
//!
//! ```
//! use tidegate_tests::{Proxy, Recorder, http};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let upstream = Recorder::start().await;
//! let proxy = Proxy::to_url(&upstream.url()).await;
//! let answer = http::post(proxy.address(), &[], r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
//! assert_eq!(answer.status, 200);
//! assert_eq!(upstream.requests().len(), 1);
//! proxy.stop().await;
//! # }
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "test support: a broken expectation is a failed test"
)]

mod binary;
pub mod client;
mod dice;
mod events;
pub mod frames;
pub mod http;
pub mod mark;
mod metrics;
mod old;
mod old_server;
pub mod parsers;
mod proxy;
mod recorder;
mod script;

pub use crate::{
    binary::{Binary, program},
    client::Client,
    dice::Dice,
    events::Events,
    mark::Mark,
    metrics::Metrics,
    old::OldClient,
    old_server::OldServer,
    proxy::{Proxy, config, http_upstream, modern_headers, stdio_upstream, timeouts},
    recorder::{Recorded, Recorder},
    script::{Exchange, Scripted},
};
