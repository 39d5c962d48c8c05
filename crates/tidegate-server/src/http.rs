//! One HTTP request: read it, call the edge, write the response.
//!
//! The three methods of the endpoint part ways here. `POST` carries messages of both eras; `GET`
//! and `DELETE` exist only in the legacy one. The paths of HTTP+SSE (2024-11-05) are for `pair`.

mod batch;
mod body;
mod cors;
mod error;
mod guard;
mod late;
mod pair;
mod post;
mod read;
mod stream;
mod write;

use std::{
    convert::Infallible,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::Arc,
};

use ::http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header, request::Parts,
    uri::PathAndQuery,
};
use futures_util::FutureExt as _;
use hyper::body::Incoming;
use tidegate_protocol::{
    Era, Version,
    header::{LAST_EVENT_ID, MCP_PROTOCOL_VERSION, MCP_SESSION_ID},
};
use tidegate_service::{Body, Call, Cx, Operation, Tasks, Upstream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use self::error::legacy_failure;

pub(crate) use self::body::OutBody;
pub(crate) use self::guard::Guard;
use self::{error::Rejection, pair::Pairs, read::Budget, stream::Listening};
use crate::{
    connection::{Entered, Handover},
    listen::Intake,
    params::Params,
    stats::{Counters, Refused, Stats},
};

/// Turns HTTP requests into calls and replies into HTTP responses. Clones share it.
#[derive(Clone)]
pub struct Front(Arc<Shared>);

struct Shared {
    edge: Upstream,
    params: Params,
    guard: Guard,
    budget: Budget,
    counters: Arc<Counters>,
    places: Arc<Semaphore>,
    drain: CancellationToken,
    pairs: Arc<Pairs>,
    /// What must outlive a connection runs here: that of the listener.
    tasks: Tasks,
}

impl Front {
    /// A front before `edge`. Cancelling `drain` stops accepting, closes connections after their
    /// current response, and ends streams that would never end by themselves.
    pub fn new(edge: Upstream, params: Params, drain: CancellationToken) -> Self {
        let counters = Arc::new(Counters::default());
        Self(Arc::new(Shared {
            edge,
            guard: Guard::new(&params, STRICTEST),
            budget: Budget::new(params.limits.body_budget, Arc::clone(&counters)),
            places: Arc::new(Semaphore::new(params.limits.max_connections)),
            pairs: Arc::new(Pairs::new(&params.pairs)),
            tasks: Tasks::default(),
            counters,
            drain,
            params,
        }))
    }

    /// The counters now.
    pub fn stats(&self) -> Stats {
        self.0.counters.snapshot()
    }

    /// The same front, with the rules that hold for one listener's address, and its tasks.
    pub(crate) fn for_listener(&self, address: SocketAddr, tasks: &Tasks) -> Arc<Self> {
        let shared = &self.0;
        Arc::new(Self(Arc::new(Shared {
            edge: shared.edge.clone(),
            params: shared.params.clone(),
            guard: Guard::new(&shared.params, address),
            budget: shared.budget.clone(),
            counters: Arc::clone(&shared.counters),
            places: Arc::clone(&shared.places),
            drain: shared.drain.clone(),
            pairs: Arc::clone(&shared.pairs),
            tasks: tasks.clone(),
        })))
    }

    pub(crate) fn params(&self) -> &Params {
        &self.0.params
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.0.counters
    }

    pub(crate) fn draining(&self) -> &CancellationToken {
        &self.0.drain
    }

    pub(crate) fn intake(&self) -> Intake {
        Intake {
            places: Arc::clone(&self.0.places),
            counters: Arc::clone(&self.0.counters),
            drain: self.0.drain.clone(),
        }
    }

    /// Answers one request. A panic on the way costs this request and no other.
    pub(crate) async fn respond(
        &self,
        request: Request<Incoming>,
        entered: Entered,
        handover: Option<Arc<Handover>>,
    ) -> Result<Response<OutBody>, Infallible> {
        let (head, body) = request.into_parts();
        let is_http2 = head.version == ::http::Version::HTTP_2;
        let handover = handover.filter(|_| may_hand_over(&head));
        let allowed_origin = self.0.guard.cors_origin(&head.headers);
        // Boxed: the HTTP library keeps room for this future as long as there is a connection, and
        // most of that time is spent on a stream, or on nothing.
        let answer = Box::pin(self.answer(head, body, &entered));
        let answered = AssertUnwindSafe(answer).catch_unwind().await;
        let mut response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(rejection)) => self.refuse(&rejection),
            Err(_panic) => self.refuse(&Rejection::internal()),
        };
        if let Some(origin) = allowed_origin {
            cors::allow(response.headers_mut(), origin);
        }
        Ok(response.map(|body| match handover {
            Some(handover) if body.is_endless() => body.handed_over(entered, handover),
            _ => body.holding(entered, is_http2),
        }))
    }

    async fn answer(
        &self,
        head: Parts,
        body: Incoming,
        entered: &Entered,
    ) -> Result<Response<OutBody>, Rejection> {
        self.0.guard.check(&head)?;
        if let Some(at) = self.0.pairs.at(&head) {
            return self.pair(at, head, body).await;
        }
        match head.method {
            Method::POST => self.post(head, body, entered).await,
            Method::GET => self.get(head).await,
            Method::DELETE => self.delete(head).await,
            Method::OPTIONS => cors::preflight(&head.headers).ok_or_else(Rejection::method),
            _ => Err(Rejection::method()),
        }
    }

    /// Opens the stream of what the server says unasked.
    async fn get(&self, head: Parts) -> Result<Response<OutBody>, Rejection> {
        if !speaks_legacy(&head.headers) {
            return Err(Rejection::method());
        }
        read::accepts_events(&head.headers)?;
        let last_event_id = head.headers.get(LAST_EVENT_ID).cloned();
        let cx = legacy_context(head)?;
        let call = Call { operation: Operation::Listen { last_event_id }, cx };
        let reply = self.0.edge.answer(call).await;
        let reply = reply.map_err(|error| Rejection::from_error(Era::Legacy, None, &error))?;
        let listening = match &reply.body {
            // A client has come back for the answer to a call.
            Body::Stream(frames) if frames.is_answer() => Listening::No,
            _ => Listening::ToSession,
        };
        Ok(write::reply(reply, self, Era::Legacy, None, listening))
    }

    /// Ends a session.
    async fn delete(&self, head: Parts) -> Result<Response<OutBody>, Rejection> {
        if !speaks_legacy(&head.headers) {
            return Err(Rejection::method());
        }
        let call = Call { operation: Operation::EndSession, cx: legacy_context(head)? };
        let reply = self.0.edge.answer(call).await;
        let reply = reply.map_err(|error| Rejection::from_error(Era::Legacy, None, &error))?;
        Ok(write::reply(reply, self, Era::Legacy, None, Listening::No))
    }

    fn refuse(&self, rejection: &Rejection) -> Response<OutBody> {
        if let Some(reason) = rejection.reason {
            self.0.counters.refused(reason);
        }
        rejection.to_response()
    }
}

/// Whether a connection can go on with the response itself: the client takes chunks, and nothing is
/// said about the connection that the HTTP library would have to heed.
fn may_hand_over(head: &Parts) -> bool {
    let keeps_alive = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"keep-alive");
    head.version == ::http::Version::HTTP_11
        && head.headers.get_all(header::CONNECTION).iter().all(keeps_alive)
        && !head.headers.contains_key(header::EXPECT)
}

/// Whether a request without a body speaks the legacy era: it names a session, a legacy version,
/// or an event to go on from.
fn speaks_legacy(headers: &HeaderMap) -> bool {
    match headers.get(MCP_PROTOCOL_VERSION) {
        Some(version) => {
            let version = version.to_str().ok().and_then(Version::parse);
            version.is_none_or(|version| version.era() == Era::Legacy)
        }
        None => headers.contains_key(MCP_SESSION_ID) || headers.contains_key(LAST_EVENT_ID),
    }
}

fn legacy_context(head: Parts) -> Result<Cx, Rejection> {
    let version = legacy_version(&head.headers)?;
    Ok(context(Era::Legacy, version, &head.uri, head.headers))
}

/// The version that a legacy request names, if it names one.
fn legacy_version(headers: &HeaderMap) -> Result<Option<Version>, Rejection> {
    let Some(value) = headers.get(MCP_PROTOCOL_VERSION) else { return Ok(None) };
    let known = value.to_str().ok().and_then(Version::parse);
    known.filter(|version| version.era() == Era::Legacy).map(Some).ok_or_else(|| {
        Rejection::invalid(
            StatusCode::BAD_REQUEST,
            Refused::Headers,
            "unsupported MCP-Protocol-Version; supported: 2024-11-05, 2025-03-26, 2025-06-18, \
             2025-11-25, 2026-07-28",
        )
    })
}

fn context(era: Era, version: Option<Version>, uri: &Uri, headers: HeaderMap) -> Cx {
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    Cx { version, path, headers, ..Cx::new(era) }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Until a listener says otherwise, a front has the rules of a loopback one.
const STRICTEST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The media types of the endpoint.
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
