//! The upstream's half of a legacy session.
//!
//! The client knows the proxy's session id; the server knows its own. The server's id hangs on the
//! session, and it goes to no other server: it is a secret between two.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use tidegate_http_client::Fault;
use tidegate_protocol::{Era, header::MCP_SESSION_ID};
use tidegate_service::{Cx, Session};
use tracing::debug;

/// What an [`crate::HttpUpstream`] hangs on a legacy session with [`Session::bind`].
#[derive(Debug)]
pub struct UpstreamSession {
    /// The id the server gave, marked sensitive.
    pub id: HeaderValue,
    /// The URL of the server that gave it.
    pub endpoint: Arc<str>,
}

/// The id to send to `endpoint`; `None` where the server gave none.
pub(crate) fn id_for(cx: &Cx, endpoint: &Arc<str>) -> Result<Option<HeaderValue>, Fault> {
    let Some(session) = cx.session.as_ref().filter(|_| cx.era == Era::Legacy) else {
        return Ok(None);
    };
    match session.binding::<UpstreamSession>() {
        Some(bound) if bound.endpoint == *endpoint => Ok(Some(bound.id.clone())),
        Some(_) => Err(Fault::ForeignSession),
        None if session.is_bound() => Err(Fault::ForeignSession),
        None => Ok(None),
    }
}

/// Keeps the id that came with the answer to `initialize`, if one did.
pub(crate) fn keep(
    session: &Session,
    headers: &HeaderMap,
    endpoint: &Arc<str>,
) -> Result<(), Fault> {
    let mut ids = headers.get_all(MCP_SESSION_ID).iter();
    let Some(id) = ids.next() else { return Ok(()) };
    let is_visible = id.as_bytes().iter().all(|byte| matches!(byte, 0x21..=0x7E));
    if id.is_empty() || !is_visible || ids.next().is_some() {
        return Err(Fault::SessionId);
    }
    let mut id = id.clone();
    id.set_sensitive(true);
    if !session.bind(Arc::new(UpstreamSession { id, endpoint: Arc::clone(endpoint) })) {
        // Two `initialize` at once. The first id stands.
        debug!("the session is bound already");
    }
    Ok(())
}
