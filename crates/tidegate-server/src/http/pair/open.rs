//! What a client's posts and its stream share: the messages that wait, and how it all ended.

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    task::{Context, Waker},
};

use http::{HeaderMap, HeaderValue, uri::PathAndQuery};
use parking_lot::Mutex;
use tidegate_protocol::{
    Envelope, Era, Id, Version,
    header::{MCP_PROTOCOL_VERSION, MCP_SESSION_ID},
    rpc,
};
use tidegate_service::Cx;
use tokio_util::sync::CancellationToken;

use crate::{http::read::Held, params::Pair};

/// One open stream of a client.
pub(super) struct Open {
    id: Box<str>,
    pair: Arc<Pair>,
    /// That of the endpoint.
    path: PathAndQuery,
    /// Those of the GET.
    headers: HeaderMap,
    max_waiting: usize,
    state: Mutex<State>,
    closed: CancellationToken,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Posted>,
    /// The stream, when it has seen that nothing waits.
    waker: Option<Waker>,
    is_closed: bool,
    /// What is left to say when the stream is closed.
    farewell: Farewell,
}

/// A message that a client has posted.
pub(super) struct Posted {
    pub(super) message: Envelope,
    pub(super) is_initialize: bool,
    pub(super) headers: HeaderMap,
    /// Its part of the memory for bodies, until it has been sent on.
    pub(super) held: Held,
}

/// What the upstream must hear when a client is gone.
#[derive(Default)]
pub(super) struct Farewell {
    /// The context of the session; `None` if there is none.
    pub(super) cx: Option<Cx>,
    /// A `notifications/cancelled` for each request that has no answer.
    pub(super) notes: Vec<Envelope>,
}

/// What is known of the session that `initialize` has opened.
#[derive(Clone, Debug, Default)]
pub(super) struct Agreed {
    /// The session's id, which the client never sees; `None` where the upstream keeps no sessions.
    pub(super) session: Option<HeaderValue>,
    pub(super) version: Option<Version>,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Waiting,
    Closed,
}

impl Open {
    pub(super) fn new(
        id: Box<str>,
        pair: Arc<Pair>,
        headers: HeaderMap,
        max_waiting: usize,
    ) -> Self {
        let closed = CancellationToken::new();
        let path = pair.endpoint.parse().unwrap_or_else(|_| PathAndQuery::from_static("/"));
        Self { id, pair, path, headers, max_waiting, state: Mutex::default(), closed }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn pair(&self) -> &Pair {
        &self.pair
    }

    /// Leaves a message for the stream. When as many wait as may, one more is refused.
    pub(super) fn post(&self, posted: Posted) -> Result<(), Full> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(Full::Closed);
        }
        if state.waiting.len() >= self.max_waiting {
            return Err(Full::Waiting);
        }
        state.waiting.push_back(posted);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// The next message; leaves a waker if there is none.
    pub(super) fn next(&self, cx: &Context<'_>) -> Option<Posted> {
        let mut state = self.state.lock();
        let next = state.waiting.pop_front();
        if next.is_none() {
            state.waker = Some(cx.waker().clone());
        }
        next
    }

    /// The context of a call, with the headers that came with its message.
    pub(super) fn cx(&self, mut headers: HeaderMap, agreed: &Agreed) -> Cx {
        headers.remove(MCP_PROTOCOL_VERSION);
        headers.remove(MCP_SESSION_ID);
        if let Some(session) = &agreed.session {
            headers.insert(MCP_SESSION_ID, session.clone());
        }
        // Before this version there was no such header, and an older server need not know it.
        if let Some(version) = agreed.version.filter(|version| *version >= Version::V2025_06_18) {
            let value = HeaderValue::from_static(version.as_str());
            headers.insert(MCP_PROTOCOL_VERSION, value);
        }
        Cx { version: agreed.version, path: self.path.clone(), headers, ..Cx::new(Era::Legacy) }
    }

    /// The context of what the client did not ask for itself.
    pub(super) fn own_cx(&self, agreed: &Agreed) -> Cx {
        self.cx(self.headers.clone(), agreed)
    }

    /// The stream is gone, with these requests unanswered. What still waits is dropped.
    pub(super) fn close(&self, agreed: &Agreed, unanswered: &[Id]) {
        let cx = agreed.session.as_ref().map(|_| self.own_cx(agreed));
        let notes = unanswered.iter().filter_map(cancelled).collect();
        let mut state = self.state.lock();
        state.is_closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        state.farewell = Farewell { cx, notes };
        drop((state, waiting));
        self.closed.cancel();
    }

    /// Waits until the stream is gone.
    pub(super) async fn closed(&self) -> Farewell {
        self.closed.cancelled().await;
        std::mem::take(&mut self.state.lock().farewell)
    }
}

fn cancelled(id: &Id) -> Option<Envelope> {
    let id = String::from_utf8_lossy(id.token());
    let params = format!(r#"{{"requestId":{id},"reason":"the client is gone"}}"#);
    Envelope::parse(rpc::notification("notifications/cancelled", &params)).ok()
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The id lets in whoever knows it.
        f.debug_struct("Open").field("pair", &self.pair).finish_non_exhaustive()
    }
}
