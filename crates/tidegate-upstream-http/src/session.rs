//! The upstream's half of a legacy session.
//!
//! The client knows the proxy's session id; the server knows its own. The server's id hangs on the
//! session, and it goes to no other server: it is a secret between two.

use std::{
    collections::VecDeque,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    sync::{Arc, OnceLock},
};

use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use tidegate_http_client::{Fault, headers};
use tidegate_protocol::{Envelope, Era, Id, header::MCP_SESSION_ID};
use tidegate_service::{Cx, Session};
use tokio::time::Instant;
use tracing::debug;

use crate::resume::Level;

/// How many cancelled requests of a session are remembered, and how many of the server's that are
/// not answered.
const MAX_MARKS: usize = 64;

/// What an [`crate::HttpUpstream`] hangs on a legacy session with [`Session::bind`].
#[derive(Debug)]
pub struct UpstreamSession {
    /// The id the server gave, marked sensitive.
    pub id: HeaderValue,
    /// The URL of the server that gave it.
    pub endpoint: Arc<str>,
    /// The log level that the client has set.
    level: Mutex<Option<Level>>,
    /// The requests that the client has cancelled last.
    cancelled: Mutex<VecDeque<Mark>>,
    asked: Mutex<Asked>,
    /// Set once the server has said that it has no GET stream.
    without_stream: OnceLock<()>,
}

/// What the server has asked its client.
#[derive(Debug, Default)]
struct Asked {
    /// The requests that are not answered.
    open: VecDeque<Mark>,
    /// When the client has answered last.
    answered: Option<Instant>,
}

/// What a client owes its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Debt {
    /// Nothing was asked.
    None,
    /// An answer.
    Open,
    /// Nothing since then.
    Paid(Instant),
}

impl UpstreamSession {
    fn new(id: HeaderValue, endpoint: Arc<str>) -> Self {
        Self {
            id,
            endpoint,
            level: Mutex::default(),
            cancelled: Mutex::default(),
            asked: Mutex::default(),
            without_stream: OnceLock::new(),
        }
    }

    pub(crate) fn level(&self) -> Option<Level> {
        *self.level.lock()
    }
}

/// Stands for a request of a session. Ids are the client's to choose, so one that chooses two of
/// the same mark confuses itself only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl Mark {
    pub(crate) fn of(id: &Id) -> Self {
        Self(BuildHasherDefault::<DefaultHasher>::default().hash_one(id))
    }
}

/// The client has sent `notifications/cancelled`.
pub(crate) fn set_cancelled(session: Option<&Session>, notification: &Envelope) {
    let bound = session.and_then(Session::binding::<UpstreamSession>);
    if let (Some(bound), Some(id)) = (bound, notification.cancelled_request()) {
        let mut cancelled = bound.cancelled.lock();
        if cancelled.len() == MAX_MARKS {
            cancelled.pop_front();
        }
        cancelled.push_back(Mark::of(&id));
    }
}

/// Whether nobody waits for the answer to a request any more.
pub(crate) fn is_cancelled(session: Option<&Session>, request: Mark) -> bool {
    let bound = session.and_then(Session::binding::<UpstreamSession>);
    bound.is_some_and(|bound| bound.cancelled.lock().contains(&request))
}

/// The server asks its client something.
pub(crate) fn set_asked(session: &Session, request: &Envelope) {
    let bound = session.binding::<UpstreamSession>();
    if let (Some(bound), Some(id)) = (bound, request.id()) {
        let mut asked = bound.asked.lock();
        if asked.open.len() == MAX_MARKS {
            asked.open.pop_front();
        }
        asked.open.push_back(Mark::of(&id));
    }
}

/// The client answers.
pub(crate) fn set_answered(session: Option<&Session>, answer: &Envelope) {
    let bound = session.and_then(Session::binding::<UpstreamSession>);
    if let (Some(bound), Some(id)) = (bound, answer.id()) {
        let mark = Mark::of(&id);
        let mut asked = bound.asked.lock();
        asked.open.retain(|open| *open != mark);
        asked.answered = Some(Instant::now());
    }
}

/// Whether the client has something to answer.
pub(crate) fn debt(session: &Session) -> Debt {
    let Some(bound) = session.binding::<UpstreamSession>() else { return Debt::None };
    let asked = bound.asked.lock();
    match asked.answered {
        _ if !asked.open.is_empty() => Debt::Open,
        Some(at) => Debt::Paid(at),
        None => Debt::None,
    }
}

/// The server has taken the client's log level.
pub(crate) fn set_level(session: &Session, level: Level) {
    if let Some(bound) = session.binding::<UpstreamSession>() {
        *bound.level.lock() = Some(level);
    }
}

/// Whether the server has said in this session that it has no GET stream.
pub(crate) fn is_without_stream(session: Option<&Session>) -> bool {
    let bound = session.and_then(Session::binding::<UpstreamSession>);
    bound.is_some_and(|bound| bound.without_stream.get().is_some())
}

/// The server has said that it has no GET stream.
pub(crate) fn set_without_stream(session: Option<&Session>) {
    if let Some(bound) = session.and_then(Session::binding::<UpstreamSession>) {
        bound.without_stream.get_or_init(|| ());
    }
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
    answered: &HeaderMap,
    endpoint: &Arc<str>,
) -> Result<(), Fault> {
    let mut ids = answered.get_all(MCP_SESSION_ID).iter();
    let Some(id) = ids.next() else { return Ok(()) };
    let is_visible = id.as_bytes().iter().all(|byte| matches!(byte, 0x21..=0x7E));
    if id.is_empty() || !is_visible || ids.next().is_some() {
        return Err(Fault::SessionId);
    }
    let mut id = headers::detached(id);
    id.set_sensitive(true);
    if !session.bind(Arc::new(UpstreamSession::new(id, Arc::clone(endpoint)))) {
        // Two `initialize` at once. The first id stands.
        debug!("the session is bound already");
    }
    Ok(())
}
