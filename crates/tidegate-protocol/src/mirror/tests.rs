//! The vectors of the header rules, and the order of the checks.

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::{MirrorError, check, decode, encode};
use crate::{Bytes, Envelope, Refusal, rpc::code};

fn value(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(bytes).unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, text) in pairs {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value(text.as_bytes()));
    }
    map
}

fn envelope(text: &str) -> Envelope {
    Envelope::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

const VERSION: (&str, &str) = ("MCP-Protocol-Version", "2026-07-28");
const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

fn request(method: &str, params: &str) -> Envelope {
    envelope(&format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}{META}}}}}"#
    ))
}

fn tool_call(name: &str) -> Envelope {
    request("tools/call", &format!("\"name\":{},", serde_json::to_string(name).unwrap()))
}

#[test]
fn the_published_vectors_hold() {
    for (text, wire) in [
        ("us-west1", "us-west1"),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
        ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
        ("us west 1", "us west 1"),
        ("file:///a%20b.txt", "file:///a%20b.txt"),
        ("https://h/r?id=1", "https://h/r?id=1"),
        ("", ""),
        ("\tx", "=?base64?CXg=?="),
        ("=?base64?x", "=?base64?x"),
    ] {
        assert_eq!(encode(text), wire, "{text:?}");
        assert_eq!(decode(&value(wire.as_bytes())).unwrap(), text, "{wire}");
    }
}

#[test]
fn only_both_markers_make_base64() {
    for (wire, text) in [
        ("=?base64?SGVsbG8=?=", "Hello"),
        ("SGVsbG8=", "SGVsbG8="),
        ("=?base64?SGVsbG8=", "=?base64?SGVsbG8="),
        ("=?BASE64?SGVsbG8=?=", "=?BASE64?SGVsbG8=?="),
        ("=?base64??=", ""),
        ("=?base64?=", "=?base64?="),
        ("  foo \t", "foo"),
        ("  =?base64?SGVsbG8=?= ", "Hello"),
    ] {
        assert_eq!(decode(&value(wire.as_bytes())).unwrap(), text, "{wire}");
    }
    for (wire, error) in [
        (&b"=?base64?SGVsbG8?="[..], MirrorError::Base64),
        (b"=?base64?SGVs!!!bG8=?=", MirrorError::Base64),
        (b"=?base64?SGVsbG8=SGVsbG8=?=", MirrorError::Base64),
        (b"=?base64?SGVsbG9=?=", MirrorError::Base64),
        (b"=?base64?/w==?=", MirrorError::Utf8),
        ("caf\u{e9}".as_bytes(), MirrorError::Unencoded),
    ] {
        assert_eq!(decode(&value(wire)).unwrap_err(), error);
    }
}

#[test]
fn headers_that_say_what_the_body_says_pass() {
    let call = tool_call("foo");
    for name in ["Mcp-Name", "mcp-name", "MCP-NAME"] {
        for text in ["foo", "  foo ", "=?base64?Zm9v?="] {
            let map = headers(&[VERSION, ("mcp-METHOD", "tools/call"), (name, text)]);
            assert_eq!(check(&map, &call), Ok(()), "{name}: {text}");
        }
    }
    let read = request("resources/read", r#""uri":"file:///a%20b.txt","#);
    let map =
        headers(&[VERSION, ("mcp-method", "resources/read"), ("mcp-name", "file:///a%20b.txt")]);
    assert_eq!(check(&map, &read), Ok(()));
    let list = request("tools/list", "");
    let map = headers(&[VERSION, ("mcp-method", "tools/list"), ("mcp-name", "whatever")]);
    assert_eq!(check(&map, &list), Ok(()));
    // An unnamed call is the upstream's to refuse.
    let map = headers(&[VERSION, ("mcp-method", "tools/call")]);
    assert_eq!(check(&map, &request("tools/call", "")), Ok(()));
    let map = headers(&[VERSION, ("mcp-method", "tasks/list")]);
    assert_eq!(check(&map, &request("tasks/list", r#""taskId":"t","#)), Ok(()));
}

#[test]
fn headers_that_differ_are_refused() {
    let call = tool_call("foo");
    let method = ("mcp-method", "tools/call");
    let name = ("mcp-name", "foo");
    for pairs in [
        vec![method, name],
        vec![VERSION, VERSION, method, name],
        vec![("mcp-protocol-version", "2025-11-25"), method, name],
        vec![("mcp-protocol-version", "2026-07-28, 2026-07-28"), method, name],
        vec![VERSION, name],
        vec![VERSION, ("mcp-method", "TOOLS/CALL"), name],
        vec![VERSION, ("mcp-method", "=?base64?dG9vbHMvY2FsbA==?="), name],
        vec![VERSION, method, method, name],
        vec![VERSION, method],
        vec![VERSION, method, ("mcp-name", "")],
        vec![VERSION, method, ("mcp-name", "Foo")],
        vec![VERSION, method, ("mcp-name", "foo, foo")],
        vec![VERSION, method, name, name],
        vec![VERSION, method, ("mcp-name", "=?base64?Zm9v=?=")],
        vec![VERSION, method, ("mcp-name", "caf\u{e9}")],
    ] {
        let refusal = check(&headers(&pairs), &call).unwrap_err();
        assert_eq!((refusal.status, refusal.code), (400, code::HEADER_MISMATCH), "{pairs:?}");
    }
    let unnamed = check(&headers(&[VERSION, method, name]), &request("tools/call", ""));
    assert_eq!(unnamed.unwrap_err().code, code::HEADER_MISMATCH);
    let task = request("tasks/get", r#""taskId":"t1","#);
    let map = headers(&[VERSION, ("mcp-method", "tasks/get"), ("mcp-name", "t2")]);
    assert_eq!(check(&map, &task).unwrap_err().code, code::HEADER_MISMATCH);
}

#[test]
fn the_first_fault_is_told() {
    let codes = |pairs: &[(&str, &str)], text: &str| {
        let Refusal { status, code, .. } = check(&headers(pairs), &envelope(text)).unwrap_err();
        (status, code)
    };
    let body = |meta: &str, method: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"_meta":{{{meta}}}}}}}"#)
    };
    let version = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#;
    let capabilities = r#""io.modelcontextprotocol/clientCapabilities":{}"#;
    let unknown = r#""io.modelcontextprotocol/protocolVersion":"v999.0.0""#;
    let full = format!("{version},{capabilities}");

    assert_eq!(codes(&[], &body("", "ping")), (400, code::INVALID_PARAMS));
    assert_eq!(codes(&[], &body(unknown, "ping")), (400, code::HEADER_MISMATCH));
    let strange = [("mcp-protocol-version", "v999.0.0")];
    assert_eq!(codes(&strange, &body(unknown, "ping")), (400, code::UNSUPPORTED_VERSION));
    assert_eq!(codes(&[VERSION], &body(version, "ping")), (400, code::INVALID_PARAMS));
    let null = format!(r#"{version},"io.modelcontextprotocol/clientCapabilities":null"#);
    assert_eq!(codes(&[VERSION], &body(&null, "ping")), (400, code::INVALID_PARAMS));
    assert_eq!(codes(&[VERSION], &body(&full, "ping")), (400, code::HEADER_MISMATCH));
    for method in super::REMOVED_METHODS {
        let pairs = [VERSION, ("mcp-method", method)];
        assert_eq!(codes(&pairs, &body(&full, method)), (404, code::METHOD_NOT_FOUND));
    }
}

#[test]
fn an_unsupported_version_names_the_supported_ones() {
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"\"9"}}}"#;
    let refusal = check(&headers(&[("mcp-protocol-version", "\"9")]), &envelope(text)).unwrap_err();
    let data: serde_json::Value = serde_json::from_str(&refusal.data.unwrap()).unwrap();
    assert_eq!(data, serde_json::json!({ "supported": ["2026-07-28"], "requested": "\"9" }));
}

#[test]
fn notifications_are_compared_where_they_have_headers() {
    let note = envelope(
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
    );
    assert_eq!(check(&headers(&[VERSION]), &note), Ok(()));
    assert_eq!(check(&headers(&[("mcp-method", "notifications/cancelled")]), &note), Ok(()));
    let refusal = check(&headers(&[("mcp-method", "tools/call")]), &note).unwrap_err();
    assert_eq!(refusal.code, code::HEADER_MISMATCH);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_text_survives_its_header(text in any::<String>()) {
        let wire = encode(&text);
        prop_assert!(wire.to_str().is_ok());
        let read = decode(&wire).unwrap();
        prop_assert_eq!(&*read, &*text);
    }

    #[test]
    fn decoding_is_total(bytes in any::<Vec<u8>>()) {
        if let Ok(wire) = HeaderValue::from_bytes(&bytes)
            && let Ok(text) = decode(&wire)
        {
            let again = encode(&text);
            prop_assert_eq!(decode(&again).unwrap(), text);
        }
    }
}
