//! Which era an inbound POST belongs to.
//!
//! Decided for each request anew: `_meta` in the body first, the version header as a cross-check,
//! never by what came before on the connection.

use std::borrow::Cow;

use http::HeaderMap;

use crate::{
    envelope::{Envelope, Kind},
    header::MCP_PROTOCOL_VERSION,
    mirror::{self, single},
    refusal::Refusal,
    rpc::code,
    version::{Era, Version},
};

/// The era of a posted message. For [`Era::Modern`], the headers have been checked against the body
/// ([`mirror::check`]).
///
/// # Errors
/// When the message contradicts itself or its headers, names a version that is not served, or uses
/// a method that its era does not have.
pub fn classify(headers: &HeaderMap, envelope: &Envelope) -> Result<Era, Refusal> {
    let header = header_version(headers)?;
    let header_era = header.as_deref().map(era_of);
    match envelope.kind() {
        Kind::Response | Kind::Error if header_era == Some(Era::Modern) => {
            let message = "a modern client has nothing to respond to";
            Err(Refusal::new(400, code::INVALID_REQUEST, message))
        }
        Kind::Response | Kind::Error => legacy(header.as_deref()),
        Kind::Request | Kind::Notification if is_modern(envelope) => {
            mirror::check(headers, envelope).map(|()| Era::Modern)
        }
        Kind::Notification if header_era == Some(Era::Modern) => {
            mirror::check(headers, envelope).map(|()| Era::Modern)
        }
        Kind::Notification => legacy(header.as_deref()),
        Kind::Request if header_era == Some(Era::Modern) => Err(without_envelope(envelope)),
        // The version of an `initialize` is in its params; a header means nothing yet.
        Kind::Request if is_initialize(envelope) => Ok(Era::Legacy),
        Kind::Request => legacy(header.as_deref()),
    }
}

/// The era of a message on a transport without headers, by its body alone.
#[must_use]
pub fn era_of_body(envelope: &Envelope) -> Era {
    if is_modern(envelope) { Era::Modern } else { Era::Legacy }
}

/// The value of `MCP-Protocol-Version`, if it is there.
///
/// # Errors
/// When it is repeated or no text.
pub fn header_version(headers: &HeaderMap) -> Result<Option<Cow<'_, str>>, Refusal> {
    let Some(value) = single(headers, &MCP_PROTOCOL_VERSION)? else { return Ok(None) };
    let text = mirror::plain(value)
        .map_err(|error| mirror::mismatch(format!("header {MCP_PROTOCOL_VERSION}: {error}")))?;
    Ok(Some(text))
}

/// Whether `_meta` names a protocol version that is not one of the legacy revisions, which is how
/// a modern request looks.
fn is_modern(envelope: &Envelope) -> bool {
    envelope.version_token().is_some()
        && envelope.known_version().is_none_or(|version| version.era() == Era::Modern)
}

/// The era that a version header claims. Revisions are dates, so that a later one than all that
/// are known is modern as well.
fn era_of(version: &str) -> Era {
    match Version::parse(version) {
        Some(version) => version.era(),
        None if version > Version::V2026_07_28.as_str() && version.starts_with("2") => Era::Modern,
        None => Era::Legacy,
    }
}

fn is_initialize(envelope: &Envelope) -> bool {
    envelope.is_method("initialize")
}

/// A request with a modern header and no modern body.
fn without_envelope(envelope: &Envelope) -> Refusal {
    if is_initialize(envelope) {
        return mirror::mismatch(format!(
            "header {MCP_PROTOCOL_VERSION} names a revision without initialize"
        ));
    }
    if envelope.meta_version().is_some() {
        return mirror::mismatch(format!("header {MCP_PROTOCOL_VERSION} differs from the body"));
    }
    mirror::invalid_params("io.modelcontextprotocol/protocolVersion")
}

/// A legacy message, whose version header must name a revision that is served, if it is there.
fn legacy(header: Option<&str>) -> Result<Era, Refusal> {
    match header {
        Some(version) if Version::parse(version).is_none() => {
            Err(mirror::unsupported(version, Era::Legacy))
        }
        _ => Ok(Era::Legacy),
    }
}

#[cfg(test)]
mod tests;
