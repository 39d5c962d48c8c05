//! What a scraper sees, and when.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod calls;
mod catalogue;
mod openmetrics;

use http::StatusCode;
use tidegate_protocol::{Bytes, Envelope, Era};
use tidegate_service::{Body, Call, Cx, Error, Operation, Reply};
use tidegate_telemetry::Telemetry;
use tower::{Service, util::BoxCloneSyncService};

use crate::openmetrics::Scrape;

pub(crate) type Upstream = BoxCloneSyncService<Call, Reply, Error>;

pub(crate) const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
pub(crate) const TOOL_ERROR: &str =
    r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}"#;
pub(crate) const RPC_ERROR: &str =
    r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}"#;
pub(crate) const ASKS_BACK: &str =
    r#"{"jsonrpc":"2.0","id":9,"method":"sampling/createMessage","params":{}}"#;

pub(crate) fn message(text: &str) -> Envelope {
    Envelope::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

pub(crate) fn request(method: &str) -> Call {
    let wire = format!(r#"{{"jsonrpc":"2.0","id":1,"method":{method:?}}}"#);
    Call::send(message(&wire), Cx::new(Era::Legacy))
}

pub(crate) fn other(operation: Operation) -> Call {
    Call { operation, cx: Cx::new(Era::Modern) }
}

pub(crate) fn empty(status: StatusCode) -> Reply {
    Reply::with(status, Body::Empty)
}

pub(crate) fn scrape(telemetry: &Telemetry) -> Scrape {
    let text = telemetry.render();
    Scrape::read(&text).unwrap_or_else(|fault| panic!("{fault}\n{text}"))
}

/// Calls without asking for readiness first; every service here is always ready.
pub(crate) fn call<S: Service<Call>>(service: &mut S, call: Call) -> S::Future {
    service.call(call)
}
