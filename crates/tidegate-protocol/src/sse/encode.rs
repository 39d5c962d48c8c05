//! Writing blocks that the proxy makes itself.

use bytes::Bytes;

use super::Block;
use crate::line;

/// An id or event name that would break out of its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an SSE {field} must not contain CR, LF or NUL")]
pub struct BadField {
    /// Which field it was meant for.
    pub field: &'static str,
}

/// A block that carries one JSON message.
///
/// Line breaks between the message's tokens become spaces. `message` must be JSON, which has no
/// raw ones elsewhere.
#[must_use]
pub fn encode(message: &[u8]) -> Bytes {
    block("message", None, message)
}

/// A block that carries one JSON message under an event id.
///
/// # Errors
/// When the id contains CR, LF or NUL.
pub fn encode_with_id(id: &str, message: &[u8]) -> Result<Bytes, BadField> {
    encode_event("message", Some(id), message)
}

/// A block with any event name, such as the `endpoint` of 2024-11-05.
///
/// # Errors
/// When the name or the id contains CR, LF or NUL.
pub fn encode_event(event: &str, id: Option<&str>, data: &[u8]) -> Result<Bytes, BadField> {
    check("event", event)?;
    if let Some(id) = id {
        check("id", id)?;
    }
    Ok(block(event, id, data))
}

/// The block that opens a resumable stream: an id, empty data, and how long to wait before
/// reconnecting, in milliseconds.
///
/// # Errors
/// When the id contains CR, LF or NUL.
pub fn priming(id: &str, retry: Option<u64>) -> Result<Bytes, BadField> {
    check("id", id)?;
    let retry = retry.map_or_else(String::new, |wait| format!("retry: {wait}\n"));
    Ok(Bytes::from(format!("id: {id}\n{retry}data: \n\n")))
}

/// A comment, which receivers ignore. Line breaks become spaces.
#[must_use]
pub fn comment(text: &str) -> Bytes {
    let mut out = Vec::with_capacity(text.len() + 4);
    out.extend_from_slice(b": ");
    line::push_unbroken(&mut out, text.as_bytes());
    out.extend_from_slice(b"\n\n");
    Bytes::from(out)
}

fn block(event: &str, id: Option<&str>, data: &[u8]) -> Bytes {
    // Exact, since `Bytes` takes over a full vector without another allocation.
    let id_line = id.map_or(0, |id| id.len() + 5);
    let mut out = Vec::with_capacity(id_line + event.len() + data.len() + 16);
    if let Some(id) = id {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    line::push_unbroken(&mut out, data);
    out.extend_from_slice(b"\n\n");
    Bytes::from(out)
}

impl Block {
    /// The block of [`encode_with_id`], already taken apart.
    ///
    /// # Errors
    /// When the id contains CR, LF or NUL.
    pub fn message(id: &str, message: &[u8]) -> Result<Self, BadField> {
        check("id", id)?;
        let raw = block("message", Some(id), message);
        let end = raw.len() - 2;
        let data = raw.slice(end - message.len()..end);
        let id = raw.slice(4..4 + id.len());
        let event = Some(Bytes::from_static(b"message"));
        Ok(Self { data: Some(data), id: Some(id), event, retry: None, raw })
    }

    /// The same block under another id, or under none; all other lines stay as they are.
    ///
    /// # Errors
    /// When the id contains CR, LF or NUL.
    pub fn under(&self, id: Option<&str>) -> Result<Self, BadField> {
        let mut out = Vec::with_capacity(self.raw.len() + id.map_or(0, |id| id.len() + 5));
        if let Some(id) = id {
            check("id", id)?;
            out.extend_from_slice(b"id: ");
            out.extend_from_slice(id.as_bytes());
            out.push(b'\n');
        }
        for line in self.lines().filter(|line| !is_id(line)) {
            out.extend_from_slice(line);
        }
        Ok(Self::read(Bytes::from(out), 0))
    }
}

/// Whether a line, its end included, is an id field.
fn is_id(line: &[u8]) -> bool {
    line.strip_prefix(b"id").is_some_and(|rest| matches!(rest, [] | [b':' | b'\r' | b'\n', ..]))
}

const fn breaks(text: &str) -> bool {
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        if matches!(byte, b'\r' | b'\n' | 0) {
            return true;
        }
        rest = tail;
    }
    false
}

const fn check(field: &'static str, text: &str) -> Result<(), BadField> {
    if breaks(text) { Err(BadField { field }) } else { Ok(()) }
}
