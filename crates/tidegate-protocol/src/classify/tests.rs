//! The classification table, row by row.

use http::{HeaderMap, HeaderValue};

use super::{classify, era_of_body};
use crate::{
    Bytes, Envelope, Era, Id,
    header::{MCP_METHOD, MCP_PROTOCOL_VERSION},
    rpc::code,
};

fn envelope(text: &str) -> Envelope {
    Envelope::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn meta(version: &str) -> String {
    format!(
        r#"{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"{version}","io.modelcontextprotocol/clientCapabilities":{{}}}}}}"#
    )
}

/// The era, or the status and code of the refusal; the method header is always right.
fn class(version: Option<&str>, text: &str) -> Result<Era, (u16, i64)> {
    let message = envelope(text);
    let mut headers = HeaderMap::new();
    if let Some(version) = version {
        headers.insert(MCP_PROTOCOL_VERSION, HeaderValue::from_str(version).unwrap());
    }
    if let Some(method) = message.method() {
        headers.insert(MCP_METHOD, HeaderValue::from_str(&method).unwrap());
    }
    classify(&headers, &message).map_err(|refusal| (refusal.status, refusal.code))
}

fn request(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
}

fn notification(params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{params}}}"#)
}

const MODERN: Option<&str> = Some("2026-07-28");
const LEGACY: [Option<&str>; 5] =
    [None, Some("2024-11-05"), Some("2025-03-26"), Some("2025-06-18"), Some("2025-11-25")];

#[test]
fn a_modern_body_makes_a_modern_request() {
    let list = request("tools/list", &meta("2026-07-28"));
    assert_eq!(class(MODERN, &list), Ok(Era::Modern));
    for header in LEGACY {
        assert_eq!(class(header, &list), Err((400, code::HEADER_MISMATCH)));
    }
    for version in ["2026-07-29", "2099-01-01", "v999.0.0", "1999-01-01", ""] {
        let text = request("server/discover", &meta(version));
        assert_eq!(class(Some(version), &text), Err((400, code::UNSUPPORTED_VERSION)), "{version}");
        assert_eq!(class(MODERN, &text), Err((400, code::HEADER_MISMATCH)), "{version}");
    }
}

#[test]
fn initialize_is_legacy_unless_anything_says_modern() {
    let plain = request("initialize", r#"{"protocolVersion":"2025-11-25"}"#);
    for header in LEGACY.into_iter().chain([Some("anything")]) {
        assert_eq!(class(header, &plain), Ok(Era::Legacy), "{header:?}");
    }
    assert_eq!(class(MODERN, &plain), Err((400, code::HEADER_MISMATCH)));
    assert_eq!(class(Some("2027-01-01"), &plain), Err((400, code::HEADER_MISMATCH)));
    let modern = request("initialize", &meta("2026-07-28"));
    assert_eq!(class(MODERN, &modern), Err((404, code::METHOD_NOT_FOUND)));
}

#[test]
fn requests_without_envelope_follow_their_header() {
    for params in ["{}", r#"{"_meta":{"progressToken":1}}"#] {
        let list = request("tools/list", params);
        for header in LEGACY {
            assert_eq!(class(header, &list), Ok(Era::Legacy), "{header:?}");
        }
        assert_eq!(class(MODERN, &list), Err((400, code::INVALID_PARAMS)));
        assert_eq!(class(Some("2027-01-01"), &list), Err((400, code::INVALID_PARAMS)));
        for odd in ["banana", "2025-01-01", "2025-11-25, 2025-11-25", ""] {
            assert_eq!(class(Some(odd), &list), Err((400, code::UNSUPPORTED_VERSION)), "{odd}");
        }
    }
    // A legacy revision in `_meta` is no modern envelope.
    let mixed = request("tools/list", &meta("2025-11-25"));
    assert_eq!(class(Some("2025-11-25"), &mixed), Ok(Era::Legacy));
    assert_eq!(class(MODERN, &mixed), Err((400, code::HEADER_MISMATCH)));
}

#[test]
fn notifications_follow_their_header() {
    assert_eq!(class(MODERN, &notification("{}")), Ok(Era::Modern));
    assert_eq!(class(MODERN, &notification(&meta("2026-07-28"))), Ok(Era::Modern));
    for header in LEGACY {
        assert_eq!(class(header, &notification("{}")), Ok(Era::Legacy));
    }
    let modern = notification(&meta("2026-07-28"));
    assert_eq!(class(Some("2025-11-25"), &modern), Err((400, code::HEADER_MISMATCH)));
}

#[test]
fn responses_are_legacy_only() {
    for answer in [r#""result":{}"#, r#""error":{"code":1,"message":""}"#] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,{answer}}}"#);
        for header in LEGACY {
            assert_eq!(class(header, &text), Ok(Era::Legacy));
        }
        assert_eq!(class(MODERN, &text), Err((400, code::INVALID_REQUEST)));
    }
}

#[test]
fn a_repeated_or_unreadable_version_header_is_refused() {
    let list = envelope(&request("tools/list", "{}"));
    let mut headers = HeaderMap::new();
    headers.append(MCP_PROTOCOL_VERSION, HeaderValue::from_static("2025-06-18"));
    headers.append(MCP_PROTOCOL_VERSION, HeaderValue::from_static("2025-06-18"));
    assert_eq!(classify(&headers, &list).unwrap_err().code, code::HEADER_MISMATCH);
    headers.insert(MCP_PROTOCOL_VERSION, HeaderValue::from_bytes(b"2025-06-18\xff").unwrap());
    assert_eq!(classify(&headers, &list).unwrap_err().code, code::HEADER_MISMATCH);
}

#[test]
fn without_headers_the_body_decides() {
    let era = |text: &str| era_of_body(&envelope(text));
    assert_eq!(era(&request("tools/list", &meta("2026-07-28"))), Era::Modern);
    assert_eq!(era(&request("server/discover", &meta("v999"))), Era::Modern);
    assert_eq!(era(&request("initialize", "{}")), Era::Legacy);
    assert_eq!(era(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Era::Legacy);
}

#[test]
fn a_refusal_is_a_json_rpc_error() {
    let headers = HeaderMap::from_iter([(MCP_PROTOCOL_VERSION, HeaderValue::from_static("no"))]);
    let refusal = classify(&headers, &envelope(&request("tools/list", "{}"))).unwrap_err();
    let body = Envelope::parse(refusal.body(Some(&Id::from_u64(1)))).unwrap();
    assert_eq!(body.error_code(), Some(code::UNSUPPORTED_VERSION));
    assert_eq!(body.id(), Some(Id::from_u64(1)));
}
