//! The headers in which a 2026-07-28 client repeats parts of its body, checked against the body.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderMap;
use serde_json::Value;

use crate::{
    json::Object,
    message::{Request, RpcError},
    server::Server,
};

/// The header that names the version.
pub(crate) const VERSION: &str = "mcp-protocol-version";

/// The only value of a header, without surrounding blanks.
///
/// # Errors
///
/// Header mismatch, if it is repeated or not visible ASCII.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, RpcError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(mismatch(format!("`{name}` is repeated")));
    }
    let text = value.to_str().map_err(|_| mismatch(format!("`{name}` is not plain ASCII")))?;
    Ok(Some(text.trim_matches([' ', '\t'])))
}

/// Checks that the version header is there and says what the body says.
///
/// # Errors
///
/// Header mismatch.
pub(crate) fn check_version(headers: &HeaderMap, named: &str) -> Result<(), RpcError> {
    equal(VERSION, single(headers, VERSION)?, named)
}

/// Checks that the method header is there and says what the body says.
///
/// # Errors
///
/// Header mismatch.
pub(crate) fn check_method(headers: &HeaderMap, method: &str) -> Result<(), RpcError> {
    equal("mcp-method", single(headers, "mcp-method")?, method)
}

/// Checks the name and parameter headers of the methods that have them.
///
/// # Errors
///
/// Header mismatch.
pub(crate) fn check_params(
    server: &Server,
    headers: &HeaderMap,
    request: &Request,
) -> Result<(), RpcError> {
    let source = match request.method.as_str() {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        _ => return Ok(()),
    };
    // A body without the source field fails later, for what it lacks.
    let Ok(Some(name)) = request.params.get::<String>(source) else { return Ok(()) };
    let sent = single(headers, "mcp-name")?.map(decode).transpose()?;
    equal("mcp-name", sent.as_deref(), &name)?;
    if request.method != "tools/call" {
        return Ok(());
    }
    let Some(tool) = server.catalogue.tool(server, &name) else { return Ok(()) };
    let arguments = request.params.get::<Object>("arguments").ok().flatten().unwrap_or_default();
    let arguments: serde_json::Map<String, Value> = arguments
        .iter()
        .filter_map(|(key, raw)| Some((key.to_owned(), serde_json::from_str(raw.get()).ok()?)))
        .collect();
    check_properties(headers, &tool.input, &Value::Object(arguments))
}

/// Walks the annotated properties of a schema next to the arguments.
fn check_properties(
    headers: &HeaderMap,
    schema: &Value,
    arguments: &Value,
) -> Result<(), RpcError> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Ok(());
    };
    for (key, property) in properties {
        let argument = arguments.get(key).unwrap_or(&Value::Null);
        if let Some(suffix) = property.get("x-mcp-header").and_then(Value::as_str) {
            let name = format!("mcp-param-{}", suffix.to_ascii_lowercase());
            let sent = single(headers, &name)?.map(decode).transpose()?;
            check_param(&name, sent.as_deref(), argument)?;
        }
        check_properties(headers, property, argument)?;
    }
    Ok(())
}

fn check_param(name: &str, sent: Option<&str>, argument: &Value) -> Result<(), RpcError> {
    let plain = match argument {
        Value::Null if sent.is_none() => return Ok(()),
        Value::Null => return Err(mismatch(format!("`{name}` has no value in the body"))),
        Value::String(text) => text.clone(),
        Value::Number(number) if same_number(sent, number) => return Ok(()),
        other => other.to_string(),
    };
    equal(name, sent, &plain)
}

/// Whether a header says the same number, in whatever notation.
fn same_number(sent: Option<&str>, number: &serde_json::Number) -> bool {
    let sent = sent.and_then(|sent| sent.parse::<f64>().ok());
    sent.zip(number.as_f64()).is_some_and(|(sent, number)| (sent - number).abs() < f64::EPSILON)
}

/// Decodes a header value: text between the two markers is base64, anything else is literal.
fn decode(value: &str) -> Result<String, RpcError> {
    let Some(encoded) = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?="))
    else {
        return Ok(value.to_owned());
    };
    let bytes = STANDARD.decode(encoded).map_err(|_| mismatch("a header has bad base64"))?;
    String::from_utf8(bytes).map_err(|_| mismatch("a header is not UTF-8"))
}

fn equal(name: &str, sent: Option<&str>, body: &str) -> Result<(), RpcError> {
    match sent {
        Some(sent) if sent == body => Ok(()),
        Some(_) => Err(mismatch(format!("`{name}` differs from the body"))),
        None => Err(mismatch(format!("`{name}` is missing"))),
    }
}

fn mismatch(message: impl Into<String>) -> RpcError {
    RpcError::new(RpcError::HEADER_MISMATCH, message)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::json;

    use super::{check_properties, decode};

    #[test]
    fn only_a_value_with_both_markers_is_decoded() {
        for (value, decoded) in [
            ("=?base64?SGVsbG8=?=", Some("Hello")),
            ("=?base64?SGVsbG8?=", None),
            ("=?base64?SGVs!!!bG8=?=", None),
            ("=?base64?/w==?=", None),
            ("SGVsbG8=", Some("SGVsbG8=")),
            ("=?base64?SGVsbG8=", Some("=?base64?SGVsbG8=")),
            ("=?BASE64?SGVsbG8=?=", Some("=?BASE64?SGVsbG8=?=")),
            ("file:///a%20b.txt", Some("file:///a%20b.txt")),
        ] {
            assert_eq!(decode(value).ok().as_deref(), decoded, "{value}");
        }
    }

    #[test]
    fn annotated_arguments_need_their_header_and_no_other_has_one() {
        let schema = json!({ "properties": {
            "region": { "type": "string", "x-mcp-header": "Region" },
            "shard": { "properties": { "n": { "type": "integer", "x-mcp-header": "Shard" } } },
        } });
        let check = |arguments, sent: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in sent {
                headers.append(*name, value.parse().unwrap());
            }
            check_properties(&headers, &schema, &arguments).is_ok()
        };
        assert!(check(json!({}), &[]));
        assert!(check(json!({ "region": null }), &[]));
        assert!(check(json!({ "region": "eu" }), &[("mcp-param-region", " eu ")]));
        assert!(!check(json!({ "region": "eu" }), &[("mcp-param-region", "EU")]));
        assert!(!check(json!({ "region": "eu" }), &[]));
        assert!(!check(json!({}), &[("mcp-param-region", "eu")]));
        let twice = [("mcp-param-region", "eu"), ("mcp-param-region", "eu")];
        assert!(!check(json!({ "region": "eu" }), &twice));
        assert!(check(json!({ "shard": { "n": 42 } }), &[("mcp-param-shard", "42.0")]));
        assert!(!check(json!({ "shard": { "n": 42 } }), &[("mcp-param-shard", "43")]));
    }
}
