//! The client's end of one request: what is sent, and what comes back.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::wire::{Event, Events, Wire};

pub(super) const LEGACY: &str = "2025-11-25";
const MODERN: &str = "2026-07-28";
/// How long a head may take. The proxy has its own limits, all of them shorter.
const HEAD: Duration = Duration::from_secs(60);

/// What a request got.
pub(super) enum Opened {
    Stream(Reader),
    /// No stream: a status and a body.
    Other(u16, Value),
}

/// An event stream.
pub(super) struct Reader {
    wire: Wire,
    events: Events,
}

/// What an event says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Only where the stream is.
    Place,
    /// A numbered event of this stream.
    Note(String, u64),
    /// The answer, with the number after the last note.
    Answer {
        id: Value,
        name: String,
        number: u64,
    },
    /// An error in the place of the answer.
    Failed(i64, String),
    Unknown(String),
}

impl Reader {
    /// The next event; `None` at an orderly end.
    ///
    /// # Cancel safety
    ///
    /// What was read is kept.
    pub(super) async fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some(event) = self.events.next() {
                return Ok(Some(event));
            }
            match self.wire.chunk().await? {
                Some(chunk) => self.events.push(&chunk),
                None => return Ok(None),
            }
        }
    }

    /// Leaves with a reset.
    pub(super) fn reset(self) {
        self.wire.reset();
    }
}

/// Sends a request on a connection of its own.
pub(super) async fn open(
    address: SocketAddr,
    request: &[u8],
    window: Option<u32>,
) -> io::Result<Opened> {
    let mut wire = Wire::open(address, window).await?;
    wire.write(request).await?;
    let head = timeout(HEAD, wire.head()).await.map_err(io::Error::other)??;
    let head = head.ok_or(io::ErrorKind::UnexpectedEof)?;
    let is_stream = head.field("content-type") == Some("text/event-stream");
    if is_stream && head.status() == 200 && head.is_chunked() {
        return Ok(Opened::Stream(Reader { wire, events: Events::default() }));
    }
    let body = wire.take(head.length()).await?;
    let mut body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if let (Some(id), Some(members)) = (head.field("mcp-session-id"), body.as_object_mut()) {
        // Where its only reader finds it.
        members.insert("session".to_owned(), id.into());
    }
    Ok(Opened::Other(head.status(), body))
}

pub(super) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Vec<u8> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(&body);
    text.into_bytes()
}

/// A request of a legacy session.
pub(super) fn in_session(method: &str, path: &str, session: &str, body: Option<&Value>) -> Vec<u8> {
    let headers = [("mcp-session-id", session), ("mcp-protocol-version", LEGACY)];
    request(method, path, &headers, body)
}

/// The GET for what follows on `last`.
pub(super) fn listen(path: &str, session: &str, last: Option<&str>) -> Vec<u8> {
    let mut headers = vec![("mcp-session-id", session), ("mcp-protocol-version", LEGACY)];
    headers.extend(last.map(|last| ("last-event-id", last)));
    request("GET", path, &headers, None)
}

pub(super) fn call(id: &Value, tool: &str, arguments: &Value) -> Value {
    let params = json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": id}});
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
}

pub(super) fn modern_call(path: &str, id: &Value, tool: &str, arguments: &Value) -> Vec<u8> {
    let meta = json!({"io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {}, "progressToken": id});
    let params = json!({"name": tool, "arguments": arguments, "_meta": meta});
    let body = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params});
    let headers =
        [("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", tool)];
    request("POST", path, &headers, Some(&body))
}

/// Reads an event.
pub(super) fn said(event: &Event) -> Said {
    let data = event.data.as_deref().unwrap_or_default();
    if data.is_empty() {
        return Said::Place;
    }
    let message: Value = serde_json::from_str(data).unwrap_or_default();
    let numbered = |at: &str| {
        let inner = message.pointer(at)?;
        let name = inner.get("stream")?.as_str()?.to_owned();
        Some((name, inner.get("event")?.as_u64()?))
    };
    if let Some(failed) = failure(&message) {
        return failed;
    }
    if let Some((name, number)) = numbered("/result/structuredContent") {
        let id = message.get("id").cloned().unwrap_or_default();
        return Said::Answer { id, name, number };
    }
    match numbered("/params").or_else(|| numbered("/params/data")) {
        Some((name, number)) => Said::Note(name, number),
        None => Said::Unknown(data.chars().take(300).collect()),
    }
}

/// The error of a message, if it is one.
pub(super) fn failure(message: &Value) -> Option<Said> {
    let error = message.get("error")?;
    let code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
    let text = error.get("message").and_then(Value::as_str).unwrap_or_default();
    Some(Said::Failed(code, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::time::{Duration, Instant};

    use serde_json::json;
    use tokio::sync::Notify;

    use super::super::script::{Mistake, Script};
    use super::super::wire::{Event, Events};
    use super::{Said, said};
    use crate::dice::Dice;

    fn script(mistake: Option<Mistake>) -> Script {
        Script {
            name: "a.1".to_owned(),
            session: Some("s".to_owned()),
            start: Instant::now(),
            every: Duration::from_millis(100),
            count: Some(7),
            id: json!("x"),
            padding: 3,
            has_ids: true,
            dice: RefCell::new(Dice(1)),
            mistake,
            turn: Cell::default(),
            bell: Notify::new(),
            cut: Cell::default(),
            was_cut: Cell::default(),
            was_left: Cell::default(),
            refusals: Cell::default(),
            written: Cell::default(),
        }
    }

    fn told(script: &Script) -> Vec<Said> {
        let mut events = Events::default();
        for number in 1..=8 {
            events.push(&script.event(number));
        }
        std::iter::from_fn(|| events.next()).map(|event| said(&event)).collect()
    }

    #[test]
    fn what_a_server_says_is_what_a_client_reads() {
        let name = || "a.1".to_owned();
        let mut expected: Vec<Said> = (1..=7).map(|number| Said::Note(name(), number)).collect();
        expected.push(Said::Answer { id: json!("x"), name: name(), number: 8 });
        assert_eq!(told(&script(None)), expected);
        assert_ne!(told(&script(Some(Mistake::Loses))), expected);
    }

    #[test]
    fn time_says_what_is_due_and_a_stop_makes_it_all_due() {
        let script = script(None);
        let at = |tenths: u64| script.start + Duration::from_millis(100 * tenths);
        assert_eq!([0, 1, 5, 8, 99].map(|tenths| script.due(at(tenths), None)), [0, 1, 5, 8, 8]);
        assert_eq!(script.due(at(0), Some(at(2))), 8);
        let unasked = Script { count: None, ..script };
        let at = |tenths: u64| unasked.start + Duration::from_millis(100 * tenths);
        assert_eq!(unasked.due(at(99), Some(at(2))), 2);
        assert_eq!(unasked.due(at(99), None), 99);
    }

    #[test]
    fn an_error_and_a_stranger_are_told_apart() {
        let event = |data: &str| Event { id: None, data: Some(data.to_owned()) };
        let failed = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-31007,"message":"m"}}"#;
        assert_eq!(said(&event(failed)), Said::Failed(-31007, "m".to_owned()));
        assert_eq!(said(&event("")), Said::Place);
        assert!(matches!(said(&event("{}")), Said::Unknown(_)));
    }
}
