//! Mirrored headers: what is encoded decodes to itself, and no difference passes.

#![no_main]

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use tidegate_protocol::{
    Bytes, Envelope, Era, classify,
    header::{MCP_METHOD, MCP_NAME, MCP_PROTOCOL_VERSION},
    mirror::{decode, encode},
    rpc::quote,
};

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input) {
        let wire = encode(text);
        assert!(wire.to_str().is_ok());
        assert_eq!(decode(&wire).expect("own encoding"), text);
    }
    let (header, name) = input.split_at(input.len() / 2);
    let (Ok(header), Ok(name)) = (HeaderValue::from_bytes(header), std::str::from_utf8(name)) else {
        return;
    };
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":{},"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#,
        quote(name)
    );
    let call = Envelope::parse(Bytes::from(body)).expect("a valid call");
    let mut headers = HeaderMap::new();
    headers.insert(MCP_PROTOCOL_VERSION, HeaderValue::from_static("2026-07-28"));
    headers.insert(MCP_METHOD, HeaderValue::from_static("tools/call"));
    headers.insert(MCP_NAME, header.clone());
    let equal = decode(&header).is_ok_and(|text| text == name);
    assert_eq!(classify(&headers, &call) == Ok(Era::Modern), equal);
    headers.insert(MCP_NAME, encode(name));
    assert_eq!(classify(&headers, &call), Ok(Era::Modern));
    // Whatever the version header says, the answer is a verdict.
    headers.insert(MCP_PROTOCOL_VERSION, header);
    classify(&headers, &call).ok();
});
