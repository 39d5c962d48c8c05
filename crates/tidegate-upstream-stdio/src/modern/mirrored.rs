//! Tool arguments that a modern HTTP client repeats in headers, and whether it told the truth.
//!
//! A tool's schema marks such an argument with `x-mcp-header`; the client then sends its value as
//! `Mcp-Param-{that}` (2026-07-28, Streamable HTTP). A server on stdio sees no headers, so the
//! comparison that an HTTP server must make is made here. Pure.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use tidegate_protocol::{Envelope, Refusal, header::MCP_PARAM_PREFIX, mirror, rpc::code};

/// The deepest nesting of marked arguments that is looked for.
const MAX_DEPTH: usize = 16;

/// What the tools of one server want repeated in headers.
#[derive(Debug, Default)]
pub(super) struct Mirrored {
    tools: HashMap<String, Vec<Marked>>,
}

/// One marked argument.
#[derive(Debug, PartialEq, Eq)]
struct Marked {
    header: HeaderName,
    /// The names of the properties on the way to it, from the arguments inward.
    path: Vec<String>,
}

impl Mirrored {
    /// Learns the tools of one page of `tools/list`. Returns the cursor of the next.
    pub(super) fn learn(&mut self, result: &[u8]) -> Option<String> {
        let page: Value = serde_json::from_slice(result).ok()?;
        for tool in page.get("tools").and_then(Value::as_array).into_iter().flatten() {
            let Some(name) = tool.get("name").and_then(Value::as_str) else { continue };
            let mut marked = Vec::new();
            if let Some(schema) = tool.get("inputSchema") {
                collect(schema, &mut Vec::new(), &mut marked);
            }
            self.tools.insert(name.to_owned(), marked);
        }
        page.get("nextCursor").and_then(Value::as_str).map(str::to_owned)
    }

    /// Compares the headers of a `tools/call` with its arguments; `None` if the tool is not known
    /// at all.
    pub(super) fn check(
        &self,
        headers: &HeaderMap,
        call: &Envelope,
    ) -> Option<Result<(), Refusal>> {
        let marked = self.tools.get(&*call.name()?)?;
        if marked.is_empty() {
            return Some(Ok(()));
        }
        let arguments = call.arguments().and_then(|raw| serde_json::from_slice(raw).ok());
        let arguments: Value = arguments.unwrap_or_default();
        Some(marked.iter().try_for_each(|each| each.check(headers, &arguments)))
    }
}

impl Marked {
    fn check(&self, headers: &HeaderMap, arguments: &Value) -> Result<(), Refusal> {
        let argument = self.path.iter().try_fold(arguments, |value, name| value.get(name));
        let argument = argument.filter(|value| !value.is_null());
        let mut values = headers.get_all(&self.header).iter();
        match (argument, values.next(), values.next()) {
            (None, None, _) => Ok(()),
            (_, Some(_), Some(_)) => Err(self.differs("is repeated")),
            (None, Some(_), None) => Err(self.differs("repeats an argument that is not there")),
            (Some(_), None, _) => Err(self.differs("is missing")),
            (Some(argument), Some(value), None) => self.compare(argument, value),
        }
    }

    fn compare(&self, argument: &Value, value: &HeaderValue) -> Result<(), Refusal> {
        let text = mirror::decode(value).map_err(|_| self.differs("is malformed"))?;
        let same = match argument {
            Value::String(string) => *string == text,
            Value::Bool(truth) => text == if *truth { "true" } else { "false" },
            // By value, since 42 and 42.0 are one integer; those allowed here fit a double.
            Value::Number(number) => {
                number.as_f64().is_some_and(|number| text.parse() == Ok(number))
            }
            // What cannot be marked cannot be repeated.
            Value::Null | Value::Array(_) | Value::Object(_) => true,
        };
        if same { Ok(()) } else { Err(self.differs("differs from the body")) }
    }

    fn differs(&self, how: &str) -> Refusal {
        Refusal {
            status: 400,
            code: code::HEADER_MISMATCH,
            message: format!("header {} {how}", self.header).into(),
            data: None,
        }
    }
}

/// Finds the marks below one schema. Only `properties` lead to an argument for certain.
fn collect(schema: &Value, path: &mut Vec<String>, marked: &mut Vec<Marked>) {
    if path.len() >= MAX_DEPTH {
        return;
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flat_map(Map::iter) {
        path.push(name.clone());
        let mark = property.get("x-mcp-header").and_then(Value::as_str);
        let header = mark.map(|mark| format!("{MCP_PARAM_PREFIX}{mark}").to_ascii_lowercase());
        if let Some(Ok(header)) = header.map(HeaderName::try_from) {
            marked.push(Marked { header, path: path.clone() });
        }
        collect(property, path, marked);
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};
    use serde_json::json;
    use tidegate_protocol::{Bytes, Envelope};

    use super::Mirrored;

    fn learned() -> Mirrored {
        let page = json!({
            "tools": [
                {"name": "plain", "inputSchema": {"type": "object"}},
                {"name": "deploy", "inputSchema": {"type": "object", "properties": {
                    "region": {"type": "string", "x-mcp-header": "Region"},
                    "count": {"type": "integer", "x-mcp-header": "Count"},
                    "dry": {"type": "boolean", "x-mcp-header": "Dry"},
                    "where": {"type": "object", "properties": {
                        "zone": {"type": "string", "x-mcp-header": "Zone"}}},
                    "odd": {"type": "string", "x-mcp-header": "not a token"},
                    "list": {"type": "array", "items": {"type": "object", "properties": {
                        "deep": {"type": "string", "x-mcp-header": "Deep"}}}},
                }}},
            ],
            "nextCursor": "more",
        });
        let mut mirrored = Mirrored::default();
        assert_eq!(mirrored.learn(page.to_string().as_bytes()).as_deref(), Some("more"));
        mirrored
    }

    #[track_caller]
    fn check(arguments: &serde_json::Value, headers: &[(&'static str, &str)], passes: bool) {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": "deploy", "arguments": arguments}});
        let call = Envelope::parse(Bytes::from(call.to_string())).unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let checked = learned().check(&map, &call).unwrap();
        assert_eq!(checked.is_ok(), passes, "{arguments} {headers:?} {checked:?}");
        if let Err(refusal) = checked {
            assert_eq!((refusal.status, refusal.code), (400, -32020));
        }
    }

    #[test]
    fn what_is_marked_must_be_repeated_as_it_is() {
        let region = json!({"region": "eu"});
        check(&region, &[("mcp-param-region", "eu")], true);
        check(&region, &[("mcp-param-region", " eu ")], true);
        check(&region, &[("mcp-param-region", "=?base64?ZXU=?=")], true);
        check(&region, &[("mcp-param-region", "=?base64?ZXU?=")], false);
        check(&region, &[("mcp-param-region", "=?base64?Z!U=?=")], false);
        check(&region, &[("mcp-param-region", "EU")], false);
        check(&region, &[], false);
        check(&region, &[("mcp-param-region", "eu"), ("mcp-param-region", "eu")], false);
        check(&json!({"where": {"zone": "a"}}), &[("mcp-param-zone", "a")], true);
        check(&json!({"where": {"zone": "a"}}), &[], false);
    }

    #[test]
    fn integers_compare_by_value_and_truth_by_its_word() {
        for (value, header, passes) in
            [(json!(42), "42", true), (json!(42), "42.0", true), (json!(42), "43", false)]
        {
            check(&json!({"count": value}), &[("mcp-param-count", header)], passes);
        }
        check(&json!({"dry": true}), &[("mcp-param-dry", "true")], true);
        check(&json!({"dry": true}), &[("mcp-param-dry", "True")], false);
    }

    #[test]
    fn what_is_absent_null_or_unmarked_is_not_expected() {
        check(&json!({}), &[], true);
        check(&json!({"region": null}), &[], true);
        check(&json!({}), &[("mcp-param-region", "eu")], false);
        check(&json!({"odd": "x", "list": [{"deep": "y"}]}), &[], true);
        check(&json!({}), &[("mcp-param-unknown", "x")], true);
    }
}
