//! The headers in which a modern request repeats parts of its body.
//!
//! Balancers may read them instead of the body; so they must say what the body says. The body is
//! the source of truth, and a difference is refused.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    envelope::{Envelope, Kind},
    header::{MCP_METHOD, MCP_NAME, MCP_PROTOCOL_VERSION},
    refusal::Refusal,
    rpc::{self, code},
    text,
    version::{Era, Version},
};

const PREFIX: &[u8] = b"=?base64?";
const SUFFIX: &[u8] = b"?=";

/// Methods that the modern era removed. Their names are refused whatever an upstream offers.
pub const REMOVED_METHODS: [&str; 5] =
    ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];

const TASK_METHODS: [&str; 3] = ["tasks/get", "tasks/update", "tasks/cancel"];

/// Why a mirrored value cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// Marked as base64, and is none, or not padded as it must be.
    #[error("malformed base64")]
    Base64,
    /// Decodes to bytes that are no UTF-8.
    #[error("not UTF-8")]
    Utf8,
    /// Has bytes outside visible ASCII, space and tab, which must be sent as base64.
    #[error("unencoded characters")]
    Unencoded,
}

/// The text that a mirrored header value stands for.
///
/// A value with both markers, `=?base64?` and `?=`, is decoded; any other is literal. White space
/// around the value is no part of it.
///
/// # Errors
/// When the value is marked as base64 and is none, or has bytes that need the marking.
pub fn decode(value: &HeaderValue) -> Result<Cow<'_, str>, MirrorError> {
    let Some(encoded) = marked(trim(value.as_bytes())) else { return plain(value) };
    let bytes = STANDARD.decode(encoded).map_err(|_| MirrorError::Base64)?;
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| MirrorError::Utf8)
}

/// The text of a header value that is never encoded, without white space around it.
///
/// # Errors
/// When the value has bytes outside visible ASCII, space and tab.
pub fn plain(value: &HeaderValue) -> Result<Cow<'_, str>, MirrorError> {
    let value = trim(value.as_bytes());
    if !value.iter().all(is_plain) {
        return Err(MirrorError::Unencoded);
    }
    std::str::from_utf8(value).map(Cow::Borrowed).map_err(|_| MirrorError::Utf8)
}

/// The header value that stands for `text`: the text itself where a header can carry it, base64
/// between markers where it cannot or would be mistaken for that.
#[must_use]
pub fn encode(text: &str) -> HeaderValue {
    let bytes = text.as_bytes();
    let literal =
        bytes.iter().all(is_plain) && trim(bytes).len() == bytes.len() && marked(bytes).is_none();
    if literal && let Ok(value) = HeaderValue::from_bytes(bytes) {
        return value;
    }
    let encoded = format!("=?base64?{}?=", STANDARD.encode(bytes));
    // Base64 and its markers are visible ASCII.
    HeaderValue::try_from(encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Checks the headers of a modern POST against its body: `MCP-Protocol-Version`, then what `_meta`
/// must have, `Mcp-Method`, whether the method still exists, and `Mcp-Name`.
///
/// Of notifications, for which no mirrored headers are defined, only those that are present are
/// compared.
///
/// # Errors
/// The first check that fails, as the refusal to send.
pub fn check(headers: &HeaderMap, envelope: &Envelope) -> Result<(), Refusal> {
    if envelope.kind() == Kind::Notification {
        return check_notification(headers, envelope);
    }
    let Some(version) = envelope.version_token() else {
        return Err(invalid_params("io.modelcontextprotocol/protocolVersion"));
    };
    must_equal(headers, &MCP_PROTOCOL_VERSION, version, plain)?;
    if envelope.known_version().is_none_or(|version| version.era() != Era::Modern) {
        return Err(unsupported(&envelope.meta_version().unwrap_or_default(), Era::Modern));
    }
    if !envelope.has_client_capabilities() {
        return Err(invalid_params("io.modelcontextprotocol/clientCapabilities"));
    }
    must_equal(headers, &MCP_METHOD, envelope.method_token().unwrap_or(b"\"\""), plain)?;
    if let Some(removed) = envelope.method_among(&REMOVED_METHODS) {
        let method = REMOVED_METHODS.get(removed).unwrap_or(&"");
        let message = format!("method not found: {method}");
        return Err(Refusal::new(404, code::METHOD_NOT_FOUND, message));
    }
    match envelope.name_token() {
        // Of the tasks methods only these three are given the header.
        Some(_) if envelope.names_task() && envelope.method_among(&TASK_METHODS).is_none() => {
            Ok(())
        }
        Some(name) => must_equal(headers, &MCP_NAME, name, decode),
        None if envelope.should_name() && headers.contains_key(MCP_NAME) => {
            Err(mismatch(format!("header {MCP_NAME} names what the body does not")))
        }
        None => Ok(()),
    }
}

fn check_notification(headers: &HeaderMap, envelope: &Envelope) -> Result<(), Refusal> {
    let pairs =
        [(&MCP_PROTOCOL_VERSION, envelope.version_token()), (&MCP_METHOD, envelope.method_token())];
    for (name, expected) in pairs {
        if let Some(expected) = expected
            && headers.contains_key(name)
        {
            must_equal(headers, name, expected, plain)?;
        }
    }
    Ok(())
}

/// Compares a header with a string of the body, which is given as its JSON token.
fn must_equal(
    headers: &HeaderMap,
    name: &HeaderName,
    expected: &[u8],
    read: fn(&HeaderValue) -> Result<Cow<'_, str>, MirrorError>,
) -> Result<(), Refusal> {
    let Some(value) = single(headers, name)? else {
        return Err(mismatch(format!("header {name} is missing")));
    };
    if is_verbatim(value.as_bytes(), expected) {
        return Ok(());
    }
    let value =
        read(value).map_err(|error| mismatch(format!("header {name} is malformed: {error}")))?;
    if text::unquote(expected).is_none_or(|expected| value != expected) {
        return Err(mismatch(format!("header {name} differs from the body")));
    }
    Ok(())
}

/// Whether a header says the same as a JSON string token byte for byte, with nothing to decode on
/// either side. True of nearly all that match.
fn is_verbatim(value: &[u8], token: &[u8]) -> bool {
    matches!(token, [b'"', inner @ .., b'"'] if inner == value)
        && value.iter().all(|byte| matches!(byte, b'!'..=b'~') && *byte != b'\\')
        && !value.starts_with(PREFIX)
}

/// The one value of a header. Repeats are refused, since readers disagree about which one counts.
pub(crate) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(mismatch(format!("header {name} is repeated")));
    }
    Ok(first)
}

pub(crate) fn mismatch(message: String) -> Refusal {
    Refusal::new(400, code::HEADER_MISMATCH, message)
}

pub(crate) fn invalid_params(key: &str) -> Refusal {
    Refusal::new(400, code::INVALID_PARAMS, format!("_meta lacks {key}"))
}

/// The refusal of a version, which names the era's revisions, newest first.
///
/// A modern client is not told of legacy revisions: what an upstream's `server/discover` lists must
/// cover what errors list, and all that the proxy knows of that list is that it is modern.
pub(crate) fn unsupported(requested: &str, era: Era) -> Refusal {
    let supported: Vec<String> = Version::ALL
        .into_iter()
        .rev()
        .filter(|version| version.era() == era)
        .map(|version| rpc::quote(version.as_str()))
        .collect();
    let data = format!(
        r#"{{"supported":[{}],"requested":{}}}"#,
        supported.join(","),
        rpc::quote(requested)
    );
    let refusal = Refusal::new(400, code::UNSUPPORTED_VERSION, "unsupported protocol version");
    Refusal { data: Some(data), ..refusal }
}

/// What stands between the markers, where both are there.
fn marked(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)
}

const fn is_plain(byte: &u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~')
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests;
