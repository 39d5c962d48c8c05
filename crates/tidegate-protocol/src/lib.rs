//! MCP and JSON-RPC on the wire: envelopes, ids, eras, headers, SSE and line codecs.
//!
//! Everything here is a function of bytes. The crate must not know a runtime, a socket, a clock, a
//! policy or a configuration; it decides what a message *is*, never what to do with it. Bytes that
//! came in are kept: an [`Envelope`] is the original buffer and the places in it that matter.
//!
//! ```
//! use tidegate_protocol::{Bytes, Envelope, Field, Kind};
//!
//! let wire = br#"{"jsonrpc":"2.0","id":"a-1","method":"tools/call","params":{"name":"add","big":12345678901234567890}}"#;
//! let call = Envelope::parse(Bytes::from_static(wire))?;
//! assert_eq!(call.kind(), Kind::Request);
//! assert_eq!(call.name().as_deref(), Some("add"));
//!
//! // The id is replaced for the next hop; every other byte stays as it was.
//! let upstream = call.edit(&[(Field::Id, b"7")]);
//! assert_eq!(upstream.id().and_then(|id| id.as_u64()), Some(7));
//! assert_eq!(upstream.params(), call.params());
//! # Ok::<(), tidegate_protocol::ParseError>(())
//! ```
//!
//! Start with [`envelope`]; then [`id`] and [`version`], [`mod@classify`] with [`mirror`] for HTTP
//! requests, [`rpc`] for the messages the proxy makes itself, and the two framings, [`sse`] and
//! [`mod@line`].

pub mod envelope;
pub mod id;
mod text;
pub mod version;

pub mod classify;
pub mod header;
pub mod mirror;
pub mod refusal;
pub mod rpc;

pub mod line;
pub mod sse;

pub use bytes::Bytes;

pub use crate::{
    classify::classify,
    envelope::{
        Envelope, Field, Kind, Limits, ParseError, ParseErrorKind, holds_answer, split_batch,
    },
    id::Id,
    refusal::Refusal,
    version::{Era, Version},
};
