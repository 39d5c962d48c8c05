//! The MCP messages that the benches exchange, and the check that an answer is the right one.
//!
//! Requests are written by hand, so that the client costs little and its cost does not drift with
//! a JSON library; answers are parsed for real, since a wrong answer makes a number worthless.

use std::{borrow::Cow, io::Write as _};

use bytes::BytesMut;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The revision that legacy sessions negotiate.
pub const LEGACY_VERSION: &str = "2025-06-18";
/// The modern revision, sent with every modern request.
pub const MODERN_VERSION: &str = "2026-07-28";

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"tidegate-load","version":"0"}}"#;

/// Which of the two families of protocol revisions a request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Era {
    /// Handshake and session (2025-06-18 here).
    Legacy,
    /// Stateless requests that carry their own metadata (2026-07-28).
    Modern,
}

impl Era {
    /// The word used in reports and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        }
    }
}

/// The head of a message and of the parameters that the fixture understands, in one borrowed parse.
#[derive(Debug, Deserialize)]
pub(crate) struct Message<'a> {
    #[serde(borrow, default)]
    pub(crate) id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) method: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) params: Params<'a>,
}

/// Parameters of any request; what a method does not use stays empty.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Params<'a> {
    #[serde(borrow, default)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) arguments: Arguments<'a>,
    #[serde(borrow, default, rename = "_meta")]
    pub(crate) meta: Meta<'a>,
    #[serde(borrow, default, rename = "protocolVersion")]
    pub(crate) protocol_version: Option<&'a RawValue>,
}

/// Arguments of the fixture's three tools.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Arguments<'a> {
    #[serde(borrow, default)]
    pub(crate) text: Option<&'a RawValue>,
    #[serde(default)]
    pub(crate) events: u32,
    #[serde(default)]
    pub(crate) interval_ms: u64,
    #[serde(default)]
    pub(crate) bytes: usize,
}

/// The metadata that tells a modern request from a legacy one, and names its progress.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Meta<'a> {
    #[serde(borrow, default, rename = "io.modelcontextprotocol/protocolVersion")]
    pub(crate) version: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "progressToken")]
    pub(crate) progress_token: Option<&'a RawValue>,
}

/// 64 bytes that no other request of the run carries, so that an answer that reaches the wrong
/// connection is seen even though all connections use the same request ids.
#[must_use]
pub fn unique_text(connection: usize, sequence: u64) -> String {
    format!("c{connection:05}-r{sequence:012}-the-rest-is-only-here-to-fill-64-bytes-----")
}

/// Appends a `tools/call` of `echo` with request id `id`.
pub fn write_call(out: &mut Vec<u8>, era: Era, id: u64, text: &str) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    write_number(out, id);
    out.extend_from_slice(
        br#","method":"tools/call","params":{"name":"echo","arguments":{"text":""#,
    );
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(br#""}"#);
    write_end(out, era);
}

/// Appends a `tools/call` of `stream` with request id `id`, which is also its progress token in the
/// legacy era.
pub fn write_stream_call(out: &mut Vec<u8>, era: Era, id: u64, events: u32) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    write_number(out, id);
    out.extend_from_slice(
        br#","method":"tools/call","params":{"name":"stream","arguments":{"events":"#,
    );
    write_number(out, events.into());
    out.push(b'}');
    if era == Era::Legacy {
        out.extend_from_slice(br#","_meta":{"progressToken":"#);
        write_number(out, id);
        out.push(b'}');
    }
    write_end(out, era);
}

fn write_end(out: &mut Vec<u8>, era: Era) {
    if era == Era::Modern {
        out.push(b',');
        out.extend_from_slice(META.as_bytes());
    }
    out.extend_from_slice(b"}}");
}

/// Appends the `initialize` request of a legacy session.
pub fn write_initialize(out: &mut Vec<u8>, id: u64) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    write_number(out, id);
    out.extend_from_slice(br#","method":"initialize","params":{"protocolVersion":""#);
    out.extend_from_slice(LEGACY_VERSION.as_bytes());
    out.extend_from_slice(
        br#"","capabilities":{},"clientInfo":{"name":"tidegate-load","version":"0"}}}"#,
    );
}

/// The notification that ends the handshake of a legacy session.
pub const INITIALIZED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// Appends the request for a modern stream of what the server says unasked.
pub fn write_listen(out: &mut Vec<u8>, id: u64) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    write_number(out, id);
    out.extend_from_slice(br#","method":"subscriptions/listen","params":{"notifications":{}"#);
    write_end(out, Era::Modern);
}

/// Whether this is what [`write_listen`] wrote.
pub(crate) fn is_listen(body: &[u8]) -> bool {
    memmem::find(body, br#""method":"subscriptions/listen""#).is_some()
}

/// How long each event of a stream is, with the blank line.
pub const EVENT_LENGTH: usize = 100;
/// How many digits the number of an event has.
pub(crate) const EVENT_DIGITS: usize = 10;
/// What stands behind the number of an event, and nowhere else in a stream.
pub(crate) const EVENT_MARK: u8 = b'~';

/// Appends one event of a stream, which carries its number.
pub(crate) fn put_event(out: &mut BytesMut, number: u64) {
    const HEAD: &[u8] =
        br#"data: {"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"#;
    let mut digits = [b'0'; EVENT_DIGITS];
    let mut left = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    out.extend_from_slice(HEAD);
    out.extend_from_slice(b"\"/");
    out.extend_from_slice(&digits);
    out.extend_from_slice(&[EVENT_MARK]);
    out.extend_from_slice(b"\"}}\n\n");
}

pub(crate) fn write_number(out: &mut Vec<u8>, number: u64) {
    // Writing to a Vec cannot fail.
    write!(out, "{number}").ok();
}

/// Why an answer was not the one that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Mismatch(String);

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mismatch {}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
}

fn result_of(answer: &[u8], id: u64) -> Result<&RawValue, Mismatch> {
    let parsed: Answer<'_> = serde_json::from_slice(answer)
        .map_err(|error| Mismatch(format!("not JSON-RPC ({error}): {}", excerpt(answer))))?;
    let right_id = parsed.id.is_some_and(|raw| raw.get().parse() == Ok(id));
    match parsed.result {
        Some(result) if right_id => Ok(result),
        _ => Err(Mismatch(format!("not the result of id {id}: {}", excerpt(answer)))),
    }
}

/// Checks that `answer` is a successful result for request `id`.
///
/// # Errors
///
/// When it is not JSON, carries another id, or is an error.
pub fn check_result(answer: &[u8], id: u64) -> Result<(), Mismatch> {
    result_of(answer, id).map(drop)
}

/// Checks an event stream: as many notifications as were asked for, then the result of `id`.
///
/// # Errors
///
/// When one is missing or too many, or the result is not the last or not that of this call.
pub fn check_stream(stream: &[u8], id: u64, events: u32) -> Result<(), Mismatch> {
    let mut left = events;
    let mut data = stream
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_prefix(b"data:"))
        .map(<[u8]>::trim_ascii)
        .filter(|data| !data.is_empty());
    for event in data.by_ref() {
        if memmem::find(event, br#""notifications/progress""#).is_none() {
            result_of(event, id)?;
            return match (left, data.next()) {
                (0, None) => Ok(()),
                (0, Some(more)) => Err(Mismatch(format!("after the result: {}", excerpt(more)))),
                _ => Err(Mismatch(format!("{left} of {events} events missing for id {id}"))),
            };
        }
        left = left.checked_sub(1).ok_or_else(|| Mismatch(format!("too many events: {id}")))?;
    }
    Err(Mismatch(format!("the stream has no result for id {id}")))
}

/// Checks that `answer` is the result of the call that [`write_call`] wrote with this id and text.
///
/// # Errors
///
/// As [`check_result`], and when the text is not echoed.
pub fn check_echo(answer: &[u8], id: u64, text: &str) -> Result<(), Mismatch> {
    let result = result_of(answer, id)?;
    if memmem::find(result.get().as_bytes(), text.as_bytes()).is_some() {
        Ok(())
    } else {
        Err(Mismatch(format!("answer of another call under id {id}: {}", excerpt(answer))))
    }
}

/// The first bytes of a message, for an error text.
pub(crate) fn excerpt(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.get(..240).unwrap_or(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unique_text_is_64_bytes_long() {
        assert_eq!(unique_text(0, 0).len(), 64);
        assert_eq!(unique_text(99_999, 999_999_999_999).len(), 64);
    }

    #[test]
    fn an_event_of_a_stream_has_its_length_and_is_valid_json() {
        let mut out = BytesMut::new();
        put_event(&mut out, 12);
        assert_eq!(out.len(), EVENT_LENGTH, "{out:?}");
        let data = out.strip_prefix(b"data: ").unwrap();
        let value: serde_json::Value = serde_json::from_slice(data).unwrap();
        assert_eq!(value["params"]["uri"], "/0000000012~");
        let mut body = Vec::new();
        write_listen(&mut body, 4);
        assert!(is_listen(&body) && serde_json::from_slice::<serde_json::Value>(&body).is_ok());
    }

    #[test]
    fn a_call_is_valid_json_in_both_eras() {
        for era in [Era::Legacy, Era::Modern] {
            let mut body = Vec::new();
            write_call(&mut body, era, 12, "hello");
            let message: Message<'_> = serde_json::from_slice(&body).unwrap();
            assert_eq!(message.id.unwrap().get(), "12");
            assert_eq!(message.method, "tools/call");
            assert_eq!(message.params.arguments.text.unwrap().get(), r#""hello""#);
            assert_eq!(message.params.meta.version.is_some(), era == Era::Modern);
        }
    }

    #[test]
    fn a_stream_is_checked_event_by_event() {
        let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#;
        let result = r#"{"jsonrpc":"2.0","id":4,"result":{}}"#;
        let stream = |events: &[&str]| {
            events
                .iter()
                .map(|data| format!("event: message\ndata: {data}\n\n"))
                .collect::<String>()
        };
        let check = |events: &[&str]| check_stream(stream(events).as_bytes(), 4, 2);
        assert_eq!(check(&[progress, progress, result]), Ok(()));
        assert!(check(&[progress, result]).is_err(), "one is lost");
        assert!(check(&[progress, progress, progress, result]).is_err(), "one comes twice");
        assert!(check(&[progress, progress]).is_err(), "no result");
        assert!(check(&[progress, progress, result, progress]).is_err(), "not the end");
        assert!(check_stream(stream(&[result]).as_bytes(), 5, 0).is_err(), "another call");
        for era in [Era::Legacy, Era::Modern] {
            let mut body = Vec::new();
            write_stream_call(&mut body, era, 12, 7);
            let message: Message<'_> = serde_json::from_slice(&body).unwrap();
            assert_eq!((&*message.params.name, message.params.arguments.events), ("stream", 7));
            assert_eq!(message.params.meta.version.is_some(), era == Era::Modern);
        }
    }

    #[test]
    fn the_check_refuses_another_id_another_text_an_error_and_garbage() {
        let good = br#"{"jsonrpc":"2.0","id":4,"result":{"content":[{"text":"abc"}]}}"#;
        assert_eq!(check_echo(good, 4, "abc"), Ok(()));
        assert!(check_echo(good, 5, "abc").is_err());
        assert!(check_echo(good, 4, "abd").is_err());
        assert!(check_result(br#"{"jsonrpc":"2.0","id":"4","result":{}}"#, 4).is_err());
        assert!(check_result(br#"{"jsonrpc":"2.0","id":4,"error":{"code":-1}}"#, 4).is_err());
        assert!(check_result(b"<html>", 4).is_err());
    }
}
