//! A small MCP server of both eras, over stdio and Streamable HTTP.
//!
//! It is what `tidegate serve --demo` puts behind the proxy, and the known-good end of the
//! conformance runs. It speaks the four legacy revisions with their handshake and sessions
//! (2024-11-05, 2025-03-26, 2025-06-18, 2025-11-25) and the stateless 2026-07-28, side by side on
//! one endpoint or one pipe, decided per message.
//!
//! It must not know the proxy, and it shares no code with it either: it parses and validates on
//! its own, so that a mistake in the proxy's reading of the protocol cannot hide in both ends.
//!
//! ```
//! use tidegate_demo::{Options, serve_stdio};
//! use tokio::io::AsyncReadExt as _;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let request = concat!(
//!     r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"add","#,
//!     r#""arguments":{"a":2,"b":40},"_meta":{"#,
//!     r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
//!     r#""io.modelcontextprotocol/clientCapabilities":{}}}}"#,
//!     "\n",
//! );
//! let (stdout, mut answers) = tokio::io::duplex(4096);
//! serve_stdio(Options::default(), request.as_bytes(), stdout).await?;
//!
//! let mut answer = String::new();
//! answers.read_to_string(&mut answer).await?;
//! assert!(answer.contains(r#""id":"a""#) && answer.contains(r#""text":"42""#));
//! # Ok(())
//! # }
//! ```
//!
//! Map of modules. The core does no IO: `message` (JSON-RPC on the wire), `json` (raw JSON
//! objects), `version`, `server` (what all peers share), `hub` (change notifications), `call`
//! (what a handler may do), `question` (what it may ask), `sink` and `log` (where its messages go), `calls`
//! (what runs and can be cancelled), `methods` (both eras), `legacy` (sessions), `modern`
//! (per-request envelopes), `seal` (tamper-proof request state), and what there is to call:
//! `catalogue`, `demo`, `conformance`. The transports are thin: `stdio`, `http`.

mod call;
mod calls;
mod catalogue;
mod conformance;
mod demo;
mod http;
mod hub;
mod json;
mod legacy;
mod log;
mod message;
mod methods;
mod modern;
mod question;
mod seal;
mod server;
mod sink;
mod stdio;
mod version;

use std::time::Duration;

pub use crate::{http::serve_http, stdio::serve_stdio};

/// What a demo server offers, and its bounds.
#[derive(Clone, Debug)]
pub struct Options {
    /// Adds the tools, resources and prompts that the official conformance suite calls.
    pub conformance: bool,
    /// Entries per page of a list; `None` means one page.
    pub page_size: Option<usize>,
    /// How often the resource `demo://clock` changes.
    pub clock_period: Duration,
    /// The longest message taken from a client, in bytes. A longer one is refused.
    pub max_message: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            conformance: false,
            page_size: None,
            clock_period: Duration::from_secs(1),
            max_message: 64 << 20,
        }
    }
}
