//! An MCP server in a child process: start it, talk to it, see it out.
//!
//! A legacy session gets a process of its own, bound to the session, or a share in a common one
//! ([`Sharing`]); modern calls share one. Whoever shares is told apart by ids that are minted here.
//! There are never more processes than [`Params::max_processes`]; who finds none free waits in line,
//! for so long. Some may be kept ready for sessions to come ([`Params::min_idle`]). Processes are
//! replaced by age, use, idleness and memory, and a server that keeps failing to start is left alone
//! for a while. A process tree is owned: when nobody needs it any more it is asked to end, then
//! told, then killed, and always reaped.
//!
//! It must not know HTTP listening, routes, configuration files or metric names. It is told a
//! command ([`Params`]) and gives calls a reply ([`StdioUpstream`]) and numbers ([`Stats`]).
//!
//! ```
//! use tidegate_process::Spawner;
//! use tidegate_protocol::{Envelope, Era};
//! use tidegate_service::{Body, Call, Cx, Session, Tasks};
//! use tidegate_upstream_stdio::{Params, StdioUpstream};
//! use tower::ServiceExt as _;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Any MCP server; this one repeats what it is told.
//! let params = Params::new("echo", vec![tidegate_testkit::stdio_bin().into()]);
//! let tasks = Tasks::default();
//! let upstream = StdioUpstream::new(params, Spawner::new(), tasks.clone());
//!
//! let mut cx = Cx::new(Era::Legacy);
//! cx.session = Some(Session::new("an unguessable id"));
//! let hello = r#"{"jsonrpc":"2.0","id":"a","method":"initialize","params":{
//!     "protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"me","version":"1"}}}"#;
//! let hello = Envelope::parse(hello.into())?;
//! let reply = upstream.clone().oneshot(Call::send(hello, cx)).await?;
//! let Body::One(answer) = reply.body else { return Err("expected one answer".into()) };
//! assert_eq!(answer.result_version().as_deref(), Some("2025-11-25"));
//!
//! upstream.stop().await;
//! assert_eq!(upstream.stats().running, 0);
//! tasks.stop().await;
//! # Ok(()) }
//! ```
//!
//! The map, from the outside in: `upstream` is the service. `legacy` serves sessions, `modern` the
//! other era; `single` is one process for many callers, `spares` are processes for sessions to come.
//! `host` is what all processes of an upstream have in common: places, starts, failures; `upkeep`
//! replaces them. `exchange` is one request and what comes of it, `listen` the stream of what comes
//! unasked; `demux` decides who gets which message, without IO; `child` is the handle to a process,
//! `io` is its one task.

mod child;
mod demux;
mod exchange;
mod host;
mod io;
mod legacy;
mod listen;
mod modern;
mod params;
mod single;
mod spares;
mod stats;
mod upkeep;
mod upstream;

pub use crate::{
    params::{Params, Rlimits, Sharing},
    stats::{Down, Exits, Failure, Moved, Recycled, States, Stats},
    upstream::StdioUpstream,
};
