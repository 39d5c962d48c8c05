//! The seam: one call type, one reply type, one error type, one boxed service.
//!
//! Everything that carries a call implements
//! `tower::Service<Call, Response = Reply, Error = Error>`. This crate knows no transport, no
//! policy and no configuration; it must stay small, because every sibling rebuilds when it changes.
//!
//! ```
//! use tidegate_protocol::{Envelope, Era, Version};
//! use tidegate_service::{Body, Call, Cx, Error, Reply, Upstream};
//! use tower::service_fn;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // An upstream that answers every request with an empty result.
//! let upstream = Upstream::new(service_fn(async |call: Call| {
//!     let id = call.envelope().and_then(Envelope::id);
//!     let bytes = id.map(|id| tidegate_protocol::rpc::result(&id, "{}"));
//!     match bytes.map(Envelope::parse) {
//!         Some(Ok(answer)) => Ok(Reply::one(answer)),
//!         _ => Ok(Reply::accepted()),
//!     }
//! }));
//! let ping = Envelope::parse(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.into())?;
//! let reply = upstream.answer(Call::send(ping, Cx::new(Era::Legacy))).await?;
//! assert!(matches!(reply.body, Body::One(_)));
//! # Ok(()) }
//! ```
//!
//! The map: [`Call`] travels inward, [`Reply`] outward, [`Error`] instead of a reply.
//! [`Upstream`] is any
//! service that carries calls. [`Session`] is what a legacy session is to the layers that share it,
//! [`Timeouts`] what a route says about a call's waits, [`slow`] about clients that do not read.
//! [`Admission`] is how two siblings cooperate without knowing each other. [`Tasks`] is the only way
//! to start a task.

mod admission;
mod call;
mod error;
mod reply;
mod session;
pub mod slow;
mod tasks;
mod timeouts;
mod upstream;

pub use crate::{
    admission::Admission,
    call::{Call, Cx, Operation},
    error::{Error, Kind, Origin, Retry},
    reply::{Body, EventStream, Frame, Reply, Verdict},
    session::{Session, SessionUse},
    tasks::{OnError, Tasks},
    timeouts::Timeouts,
    upstream::{Answer, Upstream},
};
