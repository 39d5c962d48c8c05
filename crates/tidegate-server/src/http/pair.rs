//! HTTP+SSE, the transport of 2024-11-05: one stream down, single messages up.
//!
//! A GET opens a stream, whose first event names the path to post to; every answer comes on that
//! stream. The stream is the client's session: behind it is an ordinary legacy session, opened by
//! the client's `initialize`, which ends with the stream. What a client posts waits in [`Open`]
//! until the response body of the stream, a [`stream::PairStream`], takes it and makes the call;
//! so a client that does not read holds up nobody but itself, and there is no queue of answers.

mod calls;
mod listening;
mod open;
mod stream;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use http::{Method, Response, request::Parts};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tidegate_protocol::{Envelope, Era, Kind as MessageKind};
use tidegate_service::{
    Call, Error, EventStream, Kind, OnError, Operation, Origin, Reply, Retry, Upstream,
};
use tokio::time;

use self::{
    open::{Farewell, Full, Open, Posted},
    stream::PairStream,
};
use super::{
    Front, OutBody, cors, error::Rejection, legacy_version, read, speaks_legacy, stream::Listening,
    write,
};
use crate::params::Pair;

/// How long the upstream may take to hear that a session is over.
const FAREWELL: Duration = Duration::from_secs(5);

/// The paths of HTTP+SSE, and the streams that are open.
pub(super) struct Pairs {
    by_path: HashMap<Box<str>, At>,
    open: Mutex<HashMap<Box<str>, Arc<Open>>>,
}

/// What a path is for.
#[derive(Clone, Debug)]
pub(super) enum At {
    Stream(Arc<Pair>),
    Messages(Arc<Pair>),
}

impl Pairs {
    pub(super) fn new(pairs: &[Pair]) -> Self {
        let mut by_path = HashMap::new();
        for pair in pairs.iter().cloned().map(Arc::new) {
            by_path.insert(pair.stream.as_str().into(), At::Stream(Arc::clone(&pair)));
            by_path.insert(pair.messages.as_str().into(), At::Messages(pair));
        }
        Self { by_path, open: Mutex::default() }
    }

    /// Whether a request is one of HTTP+SSE.
    pub(super) fn at(&self, head: &Parts) -> Option<At> {
        if self.by_path.is_empty() {
            return None;
        }
        let at = self.by_path.get(head.uri.path())?;
        if let At::Stream(pair) = at
            && pair.stream == pair.endpoint
            && (head.method != Method::GET || speaks_legacy(&head.headers))
        {
            return None;
        }
        Some(at.clone())
    }

    /// Whoever knows the id is let in, so it is unguessable.
    fn open(&self, pair: Arc<Pair>, head: Parts, max_waiting: usize) -> Arc<Open> {
        let id: Box<str> = format!("{:032x}", rand::random::<u128>()).into();
        let open = Arc::new(Open::new(id.clone(), pair, head.headers, max_waiting));
        self.open.lock().insert(id, Arc::clone(&open));
        open
    }

    fn find(&self, head: &Parts, pair: &Pair) -> Option<Arc<Open>> {
        let mut params = head.uri.query()?.split('&');
        let id = params.find_map(|param| param.strip_prefix("sessionId="))?;
        let found = self.open.lock().get(id).cloned();
        found.filter(|open| open.pair().messages == pair.messages)
    }

    /// From now on messages for this stream are refused.
    fn close(&self, open: &Open) {
        self.open.lock().remove(open.id());
    }
}

impl Front {
    pub(super) async fn pair(
        &self,
        at: At,
        head: Parts,
        body: Incoming,
    ) -> Result<Response<OutBody>, Rejection> {
        match (at, &head.method) {
            (_, &Method::OPTIONS) => cors::preflight(&head.headers).ok_or_else(Rejection::method),
            (At::Stream(pair), &Method::GET) => self.open_pair(pair, head),
            (At::Stream(_), _) => Err(Rejection::only_get()),
            (At::Messages(pair), &Method::POST) => self.take(&pair, head, body).await,
            (At::Messages(_), _) => Err(Rejection::only_post()),
        }
    }

    /// Opens a client's stream.
    fn open_pair(&self, pair: Arc<Pair>, head: Parts) -> Result<Response<OutBody>, Rejection> {
        read::accepts_events(&head.headers)?;
        if self.draining().is_cancelled() {
            return Err(Rejection::from_error(Era::Legacy, None, &draining()));
        }
        let shared = &self.0;
        let slow = pair.slow.clone();
        let open = shared.pairs.open(pair, head, shared.params.limits.max_pair_waiting);
        // Made before anything else can fail: its drop is what ends the session.
        let stream = PairStream::new(self.clone(), Arc::clone(&open));
        let (edge, stopping) = (shared.edge.clone(), shared.tasks.stopping().clone());
        shared.tasks.spawn("sse-session", OnError::Log, async move {
            tokio::select! {
                () = async {
                    let farewell = open.closed().await;
                    drop(time::timeout(FAREWELL, see_out(edge, farewell)).await);
                } => (),
                // All sessions end then.
                () = stopping.cancelled() => (),
            }
            Ok(())
        });
        let reply = Reply::stream(EventStream::new(stream).read_by(slow));
        Ok(write::reply(reply, self, Era::Legacy, None, Listening::No))
    }

    /// Takes in one message of a client.
    async fn take(
        &self,
        pair: &Pair,
        head: Parts,
        body: Incoming,
    ) -> Result<Response<OutBody>, Rejection> {
        read::readable(&head.headers)?;
        let open = self.0.pairs.find(&head, pair).ok_or_else(unknown)?;
        let (bytes, held) = read::body(body, self.params(), &self.0.budget).await?;
        let message = Envelope::parse_with(bytes, &self.json_limits())
            .map_err(|error| Rejection::from_parse(&error))?;
        let is_initialize = message.kind() == MessageKind::Request
            && message.method().as_deref() == Some("initialize");
        if !is_initialize {
            // On `initialize` the header means nothing yet.
            legacy_version(&head.headers)?;
        }
        let posted = Posted { message, is_initialize, headers: head.headers, held };
        match open.post(posted) {
            Ok(()) => Ok(write::reply(Reply::accepted(), self, Era::Legacy, None, Listening::No)),
            Err(Full::Waiting) => Err(Rejection::overloaded(
                "too many messages of this client wait already; it does not read its stream",
            )),
            Err(Full::Closed) => Err(unknown()),
        }
    }
}

/// Takes back what is still under way, and ends the session.
async fn see_out(edge: Upstream, farewell: Farewell) {
    let Some(cx) = farewell.cx else { return };
    for note in farewell.notes {
        let call = Call::send(note, cx.clone());
        drop(edge.answer(call).await);
    }
    let end = Call { operation: Operation::EndSession, cx };
    if let Err(error) = edge.answer(end).await {
        tracing::debug!(error = %error.chain(), "session not ended");
    }
}

fn unknown() -> Rejection {
    let message = "unknown or ended session; open the stream anew";
    Rejection::from_error(Era::Legacy, None, &Error::refused(Kind::SessionUnknown, message))
}

fn draining() -> Error {
    Error::new(Kind::Draining, Origin::Gateway, Retry::NotSent, "the proxy is shutting down")
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pairs").field("by_path", &self.by_path).finish_non_exhaustive()
    }
}
