//! The one place where a failure becomes an HTTP status and a JSON-RPC error.
//!
//! The eras differ. A modern client reads the status, so it gets one that fits. A legacy client
//! drops bodies that come with an error status, and takes 404 for the end of its session; so once
//! its request has been accepted it hears of failures in-band, with status 200.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicU64, Ordering},
};

use http::{HeaderValue, Response, StatusCode, header};
use tidegate_protocol::{Era, Id, ParseError, Refusal, rpc, rpc::code};
use tidegate_service::{Error, Kind};

use super::{JSON, OutBody};
use crate::stats::Refused;

/// Seconds after which a client may try again what was refused for lack of room.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");
const ALLOW: HeaderValue = HeaderValue::from_static("POST");
const ALLOW_GET: HeaderValue = HeaderValue::from_static("GET");

/// A refusal on its way to the client.
#[derive(Debug)]
pub(crate) struct Rejection {
    pub(super) status: StatusCode,
    code: i64,
    /// Set where the request never became a call.
    pub(super) reason: Option<Refused>,
    may_retry: bool,
    /// What `Allow` says with a 405.
    allow: HeaderValue,
    /// Boxed, since a refusal is the rare case of many results.
    said: Box<Said>,
}

/// What the JSON-RPC error says.
#[derive(Debug, Default)]
struct Said {
    message: Cow<'static, str>,
    data: Option<String>,
    id: Option<Id>,
}

impl Rejection {
    /// A request that cannot become a call.
    pub(super) fn invalid(status: StatusCode, reason: Refused, message: &'static str) -> Self {
        Self {
            status,
            code: code::INVALID_REQUEST,
            reason: Some(reason),
            may_retry: false,
            allow: ALLOW,
            said: Box::new(Said { message: Cow::Borrowed(message), ..Said::default() }),
        }
    }

    pub(super) fn method() -> Self {
        Self::invalid(
            StatusCode::METHOD_NOT_ALLOWED,
            Refused::Negotiation,
            "this endpoint takes POST; GET and DELETE need a legacy session",
        )
    }

    /// Another method than GET where an HTTP+SSE client opens its stream.
    pub(super) fn only_get() -> Self {
        let message = "this path takes GET, which opens the stream of HTTP+SSE (2024-11-05)";
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self { allow: ALLOW_GET, ..Self::invalid(status, Refused::Negotiation, message) }
    }

    /// Another method than POST where an HTTP+SSE client posts its messages.
    pub(super) fn only_post() -> Self {
        let message = "this path takes POST, which brings the messages of HTTP+SSE (2024-11-05)";
        Self::invalid(StatusCode::METHOD_NOT_ALLOWED, Refused::Negotiation, message)
    }

    pub(super) fn overloaded(message: &'static str) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let rejection = Self::invalid(status, Refused::Overloaded, message);
        Self { code: code::OVERLOADED, may_retry: true, ..rejection }
    }

    pub(super) fn internal() -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: code::INTERNAL_ERROR,
            reason: None,
            may_retry: false,
            allow: ALLOW,
            said: Box::new(Said {
                message: "the proxy failed on this request".into(),
                ..Said::default()
            }),
        }
    }

    pub(super) fn from_parse(error: &ParseError) -> Self {
        let message = Cow::Owned(error.to_string());
        Self {
            status: StatusCode::BAD_REQUEST,
            code: error.code(),
            reason: Some(Refused::Message),
            may_retry: false,
            allow: ALLOW,
            said: Box::new(Said { message, data: None, id: error.id.clone() }),
        }
    }

    pub(super) fn from_refusal(refusal: Refusal, id: Option<Id>) -> Self {
        Self {
            status: StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST),
            code: refusal.code,
            reason: Some(Refused::Message),
            may_retry: false,
            allow: ALLOW,
            said: Box::new(Said { message: refusal.message, data: refusal.data, id }),
        }
    }

    /// A failed call. `id` is that of the request, if it was one and so deserves an answer.
    pub(super) fn from_error(era: Era, id: Option<Id>, error: &Error) -> Self {
        let (status, code) = meaning(error);
        let in_band = era == Era::Legacy && id.is_some() && !is_about_the_request(error.kind);
        let message = Cow::Owned(error.message().to_owned());
        Self {
            status: if in_band { StatusCode::OK } else { status },
            code,
            reason: None,
            may_retry: status == StatusCode::SERVICE_UNAVAILABLE,
            allow: ALLOW,
            said: Box::new(Said { message, data: Some(data(error)), id }),
        }
    }

    /// The JSON-RPC error alone, for the places where the HTTP head has gone out already.
    pub(super) fn body(&self) -> bytes::Bytes {
        let Said { message, data, id } = &*self.said;
        rpc::error(id.as_ref(), self.code, message, data.as_deref())
    }

    pub(super) fn to_response(&self) -> Response<OutBody> {
        let mut response = Response::new(OutBody::full(self.body()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, JSON);
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, self.allow.clone());
        }
        if self.may_retry {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if self.reason.is_some_and(ends_connection) {
            // What follows on such a connection may be the rest of a refused body.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The message that tells a legacy client of a failed call whose stream has begun already.
pub fn legacy_failure(id: &Id, error: &Error) -> bytes::Bytes {
    Rejection::from_error(Era::Legacy, Some(id.clone()), error).body()
}

/// Status for those who read it, and the JSON-RPC code.
fn meaning(error: &Error) -> (StatusCode, i64) {
    match error.kind {
        Kind::BadRequest | Kind::SessionMissing => (StatusCode::BAD_REQUEST, code::INVALID_REQUEST),
        Kind::SessionUnknown | Kind::NotRouted => (StatusCode::NOT_FOUND, code::INVALID_REQUEST),
        Kind::Unsupported => (StatusCode::METHOD_NOT_ALLOWED, code::INVALID_REQUEST),
        Kind::PoolExhausted => (StatusCode::SERVICE_UNAVAILABLE, code::POOL_EXHAUSTED),
        Kind::Timeout => (StatusCode::GATEWAY_TIMEOUT, code::UPSTREAM_TIMEOUT),
        Kind::Unreachable => (StatusCode::BAD_GATEWAY, code::NO_ENDPOINT),
        Kind::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, code::OVERLOADED),
        Kind::Died => (StatusCode::BAD_GATEWAY, code::UPSTREAM_DIED),
        Kind::Protocol | Kind::TooLarge => (StatusCode::BAD_GATEWAY, code::UPSTREAM_PROTOCOL),
        // Not 404, which would end the session, nor 405, which clients take for "no such stream".
        Kind::StreamGap => (StatusCode::GONE, code::STREAM_GAP),
        // Its stream has begun, so that nobody sees the status.
        Kind::SlowClient => (StatusCode::INTERNAL_SERVER_ERROR, code::SLOW_CLIENT),
        Kind::Draining => (StatusCode::SERVICE_UNAVAILABLE, code::DRAINING),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, code::INTERNAL_ERROR),
    }
}

/// Failures that a legacy client must see in the status: there the protocol defines one.
const fn is_about_the_request(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::BadRequest
            | Kind::SessionMissing
            | Kind::SessionUnknown
            | Kind::NotRouted
            | Kind::Unsupported
    )
}

const fn ends_connection(reason: Refused) -> bool {
    match reason {
        Refused::Headers | Refused::TooLarge | Refused::Stalled | Refused::Overloaded => true,
        Refused::Host | Refused::Origin | Refused::Negotiation | Refused::Message => false,
    }
}

/// What a program may want to know of a failure that the proxy reports.
fn data(error: &Error) -> String {
    static REQUEST: AtomicU64 = AtomicU64::new(1);
    let number = REQUEST.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(request_id = number, error = %error.chain(), "call failed");
    let upstream = error
        .upstream()
        .map(|name| format!(r#","upstream":{}"#, rpc::quote(name)))
        .unwrap_or_default();
    format!(
        r#"{{"tidegate":{{"kind":"{}","origin":"{}","retryable":{}{upstream},"requestId":"{number}"}}}}"#,
        error.kind.as_str(),
        error.origin.as_str(),
        error.retry.is_safe(),
    )
}
