//! A fast MCP server for the far end of a bench: both eras, over HTTP and over pipes.
//!
//! It does the least that a correct server can do, so that what is measured is the proxy in front
//! of it. [`answer`] holds all of MCP that it knows; [`http`] and [`pipe`] carry it.
//!
//! Tools: `echo {text}`; `big {bytes}` (that many bytes of text in one result); `stream {events,
//! interval_ms}` (progress notifications, then a result).

pub mod http;
pub mod pipe;
pub mod streams;

use serde_json::value::RawValue;

use crate::wire::{self, Message};

const LEGACY_TAIL: &[u8] = b"}]}}";
const MODERN_TAIL: &[u8] = br#"}],"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"fixture","version":"0"}}}}"#;
const TOOLS: &str = r#"[{"name":"echo","inputSchema":{"type":"object","properties":{"text":{"type":"string"}}}},{"name":"big","inputSchema":{"type":"object","properties":{"bytes":{"type":"integer"}}}},{"name":"stream","inputSchema":{"type":"object","properties":{"events":{"type":"integer"},"interval_ms":{"type":"integer"}}}}]"#;

/// What the carrier has to do with the bytes that [`answer`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A notification or a response: nothing was written and nothing is owed.
    Accepted,
    /// One complete response was written.
    Answered,
    /// The response to `initialize` was written; HTTP hands out a session id with it.
    Opened,
    /// An error response was written to a method that the server does not have (404 when modern).
    Unknown {
        /// Whether the request was a modern one.
        modern: bool,
    },
    /// The body was no JSON-RPC message; an error response was written.
    Malformed,
    /// Events are owed first; the response to send after them was written.
    Events(Events),
}

/// Progress notifications that go out before a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// How many are still owed.
    pub left: u32,
    sent: u64,
    /// The pause before each of them, in milliseconds; zero sends them flat out.
    pub interval_ms: u64,
    token: String,
}

impl Events {
    /// Appends the next notification, as one line of JSON without a line end.
    pub fn write_next(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            br#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"#,
        );
        out.extend_from_slice(self.token.as_bytes());
        out.extend_from_slice(br#","progress":"#);
        self.sent += 1;
        wire::write_number(out, self.sent);
        out.extend_from_slice(
            br#","message":"an event of a plausible size, about two hundred bytes on the wire"}}"#,
        );
        self.left = self.left.saturating_sub(1);
    }
}

/// Answers one JSON-RPC message, appending the response (if one is owed) to `out`.
pub fn answer(body: &[u8], out: &mut Vec<u8>) -> Kind {
    let Ok(message) = serde_json::from_slice::<Message<'_>>(body) else {
        out.extend_from_slice(
            br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error"}}"#,
        );
        return Kind::Malformed;
    };
    let Some(id) = message.id else { return Kind::Accepted };
    let modern = message.params.meta.version.is_some();
    match &*message.method {
        "tools/call" => call(&message, id, modern, out),
        "initialize" => {
            let version = message.params.protocol_version.map_or("\"2025-06-18\"", RawValue::get);
            open(out, id);
            out.extend_from_slice(br#"{"protocolVersion":"#);
            out.extend_from_slice(version.as_bytes());
            out.extend_from_slice(
                br#","capabilities":{"tools":{}},"serverInfo":{"name":"fixture","version":"0"}}}"#,
            );
            Kind::Opened
        }
        "ping" if !modern => {
            open(out, id);
            out.extend_from_slice(b"{}}");
            Kind::Answered
        }
        "server/discover" => {
            open(out, id);
            out.extend_from_slice(br#"{"supportedVersions":["2026-07-28","2025-11-25","2025-06-18","2025-03-26"],"capabilities":{"tools":{}},"ttlMs":60000,"cacheScope":"public","resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"fixture","version":"0"}}}}"#);
            Kind::Answered
        }
        "tools/list" => {
            open(out, id);
            out.extend_from_slice(br#"{"tools":"#);
            out.extend_from_slice(TOOLS.as_bytes());
            let end: &[u8] = if modern {
                br#","ttlMs":60000,"cacheScope":"public","resultType":"complete"}}"#
            } else {
                b"}}"
            };
            out.extend_from_slice(end);
            Kind::Answered
        }
        "" => Kind::Accepted,
        _ => {
            error(out, id, -32601, "method not found");
            Kind::Unknown { modern }
        }
    }
}

fn call(message: &Message<'_>, id: &RawValue, modern: bool, out: &mut Vec<u8>) -> Kind {
    let arguments = &message.params.arguments;
    match &*message.params.name {
        "echo" => match arguments.text.filter(|text| text.get().starts_with('"')) {
            Some(text) => write_text(out, id, text.get().as_bytes(), modern),
            None => error(out, id, -32602, "echo needs a text"),
        },
        "big" => {
            let text = format!("\"{}\"", "x".repeat(arguments.bytes));
            write_text(out, id, text.as_bytes(), modern);
        }
        "stream" => {
            write_text(out, id, b"\"done\"", modern);
            let token = message.params.meta.progress_token.map_or("0", RawValue::get).to_owned();
            return Kind::Events(Events {
                left: arguments.events,
                sent: 0,
                interval_ms: arguments.interval_ms,
                token,
            });
        }
        _ => error(out, id, -32602, "unknown tool"),
    }
    Kind::Answered
}

fn open(out: &mut Vec<u8>, id: &RawValue) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id.get().as_bytes());
    out.extend_from_slice(br#","result":"#);
}

fn write_text(out: &mut Vec<u8>, id: &RawValue, quoted: &[u8], modern: bool) {
    open(out, id);
    out.extend_from_slice(br#"{"content":[{"type":"text","text":"#);
    out.extend_from_slice(quoted);
    out.extend_from_slice(if modern { MODERN_TAIL } else { LEGACY_TAIL });
}

fn error(out: &mut Vec<u8>, id: &RawValue, code: i32, text: &str) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id.get().as_bytes());
    out.extend_from_slice(format!(r#","error":{{"code":{code},"message":"{text}"}}}}"#).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: &str) -> (Kind, serde_json::Value) {
        let mut out = Vec::new();
        let kind = answer(request.as_bytes(), &mut out);
        let value = if out.is_empty() {
            serde_json::Value::Null
        } else {
            serde_json::from_slice(&out).unwrap()
        };
        (kind, value)
    }

    #[test]
    fn echo_returns_the_text_under_the_same_id() {
        let (kind, value) = check(
            r#"{"jsonrpc":"2.0","id":"1","method":"tools/call","params":{"name":"echo","arguments":{"text":"a\"b"}}}"#,
        );
        assert_eq!(kind, Kind::Answered);
        assert_eq!(value["id"], "1");
        assert_eq!(value["result"]["content"][0]["text"], "a\"b");
        assert!(value["result"].get("resultType").is_none());
    }

    #[test]
    fn modern_results_say_that_they_are_complete() {
        let (kind, value) = check(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"x"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
        );
        assert_eq!(kind, Kind::Answered);
        assert_eq!(value["result"]["resultType"], "complete");
        let (_, value) = check(r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#);
        assert_eq!(value["result"]["supportedVersions"][0], "2026-07-28");
    }

    #[test]
    fn big_returns_exactly_the_bytes_asked_for() {
        let (_, value) = check(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"big","arguments":{"bytes":1000}}}"#,
        );
        assert_eq!(value["result"]["content"][0]["text"].as_str().unwrap().len(), 1000);
    }

    #[test]
    fn stream_owes_events_that_are_valid_json() {
        let (kind, _) = check(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"stream","arguments":{"events":2},"_meta":{"progressToken":"t"}}}"#,
        );
        let Kind::Events(mut events) = kind else { panic!("{kind:?}") };
        assert_eq!(events.left, 2);
        let mut progress = Vec::new();
        while events.left > 0 {
            let mut line = Vec::new();
            events.write_next(&mut line);
            let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(value["params"]["progressToken"], "t");
            progress.push(value["params"]["progress"].as_u64().unwrap());
        }
        assert_eq!(progress.len(), 2);
        assert!(progress.is_sorted());
    }

    #[test]
    fn what_owes_no_answer_gets_none_and_the_unknown_is_refused() {
        assert_eq!(
            check(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).0,
            Kind::Accepted
        );
        assert_eq!(check(r#"{"jsonrpc":"2.0","id":9,"result":{}}"#).0, Kind::Accepted);
        let (kind, value) = check(r#"{"jsonrpc":"2.0","id":9,"method":"nope"}"#);
        assert_eq!(kind, Kind::Unknown { modern: false });
        assert_eq!(value["error"]["code"], -32601);
        assert_eq!(check("{").1["error"]["code"], -32700);
    }
}
