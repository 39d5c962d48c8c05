//! JSON-RPC messages that the proxy makes itself.

use bytes::Bytes;

use crate::{id::Id, text};

/// Error codes. Those of Tidegate lie outside the range JSON-RPC reserves and never change meaning.
pub mod code {
    /// The bytes are no JSON.
    pub const PARSE_ERROR: i64 = -32700;
    /// JSON, but no message of the protocol.
    pub const INVALID_REQUEST: i64 = -32600;
    /// The method does not exist or is not offered.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// The parameters do not fit the method.
    pub const INVALID_PARAMS: i64 = -32602;
    /// The receiver failed.
    pub const INTERNAL_ERROR: i64 = -32603;
    /// Legacy: no such resource.
    pub const RESOURCE_NOT_FOUND: i64 = -32002;
    /// 2025-11-25: the client must visit a URL first.
    pub const URL_ELICITATION_REQUIRED: i64 = -32042;
    /// Modern: a header is missing, malformed or differs from the body.
    pub const HEADER_MISMATCH: i64 = -32020;
    /// Modern: the request needs a capability that it does not declare.
    pub const MISSING_CLIENT_CAPABILITY: i64 = -32021;
    /// Modern: the protocol version is not served.
    pub const UNSUPPORTED_VERSION: i64 = -32022;

    /// The upstream's pool had no room in time.
    pub const POOL_EXHAUSTED: i64 = -31001;
    /// The upstream did not answer in time.
    pub const UPSTREAM_TIMEOUT: i64 = -31002;
    /// No endpoint is healthy, or all have failed.
    pub const NO_ENDPOINT: i64 = -31003;
    /// The circuit breaker is open.
    pub const CIRCUIT_OPEN: i64 = -31004;
    /// A rate limit was hit.
    pub const RATE_LIMITED: i64 = -31005;
    /// The proxy sheds load.
    pub const OVERLOADED: i64 = -31006;
    /// The upstream died; whether the call had an effect is unknown.
    pub const UPSTREAM_DIED: i64 = -31007;
    /// The upstream broke the protocol.
    pub const UPSTREAM_PROTOCOL: i64 = -31008;
    /// The proxy is shutting down.
    pub const DRAINING: i64 = -31009;
    /// Events of a stream were lost.
    pub const STREAM_GAP: i64 = -31010;
    /// A policy forbids the call.
    pub const BLOCKED: i64 = -31011;
    /// The client did not read what came for it.
    pub const SLOW_CLIENT: i64 = -31012;
}

/// An error response. `id` is null when the request's id is unknown; `data` is raw JSON.
#[must_use]
pub fn error(id: Option<&Id>, code: i64, message: &str, data: Option<&str>) -> Bytes {
    let data_len = data.map_or(0, str::len);
    let mut out = Vec::with_capacity(96 + message.len() + data_len);
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id.map_or(b"null", Id::token));
    out.extend_from_slice(br#","error":{"code":"#);
    out.extend_from_slice(code.to_string().as_bytes());
    out.extend_from_slice(br#","message":"#);
    text::quote_into(&mut out, message);
    if let Some(data) = data {
        out.extend_from_slice(br#","data":"#);
        out.extend_from_slice(data.as_bytes());
    }
    out.extend_from_slice(b"}}");
    Bytes::from(out)
}

/// A result response; `raw` is the result as JSON.
#[must_use]
pub fn result(id: &Id, raw: &str) -> Bytes {
    let mut out = Vec::with_capacity(40 + id.token().len() + raw.len());
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id.token());
    out.extend_from_slice(br#","result":"#);
    out.extend_from_slice(raw.as_bytes());
    out.push(b'}');
    Bytes::from(out)
}

/// A request; `params` is a raw JSON object, or absent when empty.
#[must_use]
pub fn request(id: &Id, method: &str, params: &str) -> Bytes {
    let mut out = Vec::with_capacity(64 + id.token().len() + method.len() + params.len());
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id.token());
    out.push(b',');
    method_and_params(&mut out, method, params);
    Bytes::from(out)
}

/// A notification; `params` is a raw JSON object, or absent when empty.
#[must_use]
pub fn notification(method: &str, params: &str) -> Bytes {
    let mut out = Vec::with_capacity(48 + method.len() + params.len());
    out.extend_from_slice(br#"{"jsonrpc":"2.0","#);
    method_and_params(&mut out, method, params);
    Bytes::from(out)
}

/// `text` as a JSON string token, for building `data` and `params`.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    text::quote_into(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

fn method_and_params(out: &mut Vec<u8>, method: &str, params: &str) {
    out.extend_from_slice(br#""method":"#);
    text::quote_into(out, method);
    if !params.is_empty() {
        out.extend_from_slice(br#","params":"#);
        out.extend_from_slice(params.as_bytes());
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Id, error, notification, quote, request, result};

    fn value(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn messages_are_what_they_should_be() {
        let id = Id::from_str("a\"b");
        assert_eq!(
            value(&error(Some(&id), -31001, "no \"room\"\n", Some(r#"{"k":1}"#))),
            json!({"jsonrpc": "2.0", "id": "a\"b",
                "error": {"code": -31001, "message": "no \"room\"\n", "data": {"k": 1}}})
        );
        assert_eq!(
            value(&error(None, -32700, "", None)),
            json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": ""}})
        );
        assert_eq!(
            value(&result(&Id::from_u64(3), "{}")),
            json!({"jsonrpc": "2.0", "id": 3, "result": {}})
        );
        assert_eq!(
            value(&request(&Id::from_u64(3), "ping", "")),
            json!({"jsonrpc": "2.0", "id": 3, "method": "ping"})
        );
        assert_eq!(
            value(&notification("notifications/cancelled", r#"{"requestId":1}"#)),
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        );
    }

    #[test]
    fn quoting_round_trips() {
        let odd: String = (0..0x300).filter_map(char::from_u32).chain(['\u{2028}', '😀']).collect();
        assert_eq!(serde_json::from_str::<String>(&quote(&odd)).unwrap(), odd);
    }
}
