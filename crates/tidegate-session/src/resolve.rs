//! From the session header of a call to its session.
//!
//! `initialize` opens a session, if the upstream keeps one; `DELETE` ends it; everything between
//! must name it. A session belongs to one route: on any other it is unknown.

mod initialize;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::StreamExt as _;
use http::StatusCode;
use tidegate_protocol::{Era, Kind as MessageKind, Version, header::MCP_SESSION_ID};
use tidegate_service::{
    Answer, Body, Call, Error, EventStream, Kind, Operation, Reply, Session, Upstream,
};
use tower::{Layer, Service};

use crate::store::{EndCause, Store};

/// Puts session resolution in front of one route.
#[derive(Clone, Debug)]
pub struct ResolveLayer {
    store: Store,
    route: Arc<str>,
}

/// A service that gives each legacy call its session.
#[derive(Clone, Debug)]
pub struct Resolve {
    inner: Upstream,
    store: Store,
    route: Arc<str>,
}

impl ResolveLayer {
    /// Makes the layer; sessions of `route` are found only through it.
    pub fn new(store: &Store, route: &str) -> Self {
        Self { store: store.clone(), route: Arc::from(route) }
    }
}

impl Layer<Upstream> for ResolveLayer {
    type Service = Resolve;

    fn layer(&self, inner: Upstream) -> Resolve {
        Resolve { inner, store: self.store.clone(), route: Arc::clone(&self.route) }
    }
}

impl Service<Call> for Resolve {
    type Response = Reply;
    type Error = Error;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call) -> Answer {
        let header = call.cx.headers.remove(MCP_SESSION_ID);
        match call.cx.era {
            // The header has no meaning in the modern era and goes no further.
            Era::Modern => self.inner.answer(call),
            Era::Legacy if is_initialize(&call) => {
                initialize::open(self.inner.clone(), self.store.clone(), &self.route, call)
            }
            Era::Legacy => match header {
                Some(id) => {
                    match id.to_str().ok().and_then(|id| self.store.find(id, &self.route)) {
                        Some(session) => self.within(session, call),
                        None => refuse(unknown()),
                    }
                }
                None => self.without(call),
            },
        }
    }
}

impl Resolve {
    /// A call that names its session.
    fn within(&mut self, session: Session, mut call: Call) -> Answer {
        let version = session.version();
        if call.cx.batched && version.is_some_and(|version| version != Version::V2025_03_26) {
            return refuse(no_batches());
        }
        call.cx.version = version.or(call.cx.version);
        call.cx.session = Some(session.clone());
        match call.operation {
            Operation::EndSession => self.end(session, call),
            Operation::Listen { .. } => {
                let ended = session.ended().clone();
                let reply = self.used(session, call);
                // A session's end closes its streams, whatever the upstream does.
                Box::pin(async move {
                    Ok(reply.await?.map_stream(|frames| {
                        EventStream::new(frames.take_until(ended.cancelled_owned()))
                    }))
                })
            }
            Operation::Send(_) => self.used(session, call),
        }
    }

    /// A legacy call outside any session. Upstreams without sessions take it; others refuse.
    fn without(&mut self, call: Call) -> Answer {
        let version = call.cx.version.unwrap_or(Version::V2025_03_26);
        match call.operation {
            Operation::Send(_) if call.cx.batched && version != Version::V2025_03_26 => {
                refuse(no_batches())
            }
            Operation::EndSession => refuse(Error::refused(
                Kind::SessionMissing,
                "DELETE needs the Mcp-Session-Id header of the session to end",
            )),
            Operation::Send(_) | Operation::Listen { .. } => self.inner.answer(call),
        }
    }

    /// Keeps the session from expiring until the reply is over.
    fn used(&mut self, session: Session, call: Call) -> Answer {
        let in_use = session.enter();
        let reply = self.inner.answer(call);
        let store = self.store.clone();
        Box::pin(async move {
            let reply = reply.await;
            // In the legacy era this status says one thing only: the upstream has forgotten the
            // session. The client hears it and initializes anew.
            let is_forgotten = match &reply {
                Ok(reply) => reply.status == StatusCode::NOT_FOUND,
                Err(error) => error.kind == Kind::SessionUnknown,
            };
            if is_forgotten {
                store.remove(session.id(), EndCause::Upstream);
            }
            Ok(reply?.on_end(move |_| drop(in_use)))
        })
    }

    fn end(&mut self, session: Session, call: Call) -> Answer {
        if !self.store.remove(session.id(), EndCause::Client) {
            return refuse(unknown());
        }
        let ended = self.inner.answer(call);
        Box::pin(async move {
            // What the upstream thinks of it does not matter: for the client the session is over.
            match ended.await {
                Ok(_) => (),
                Err(error) => tracing::debug!(error = %error.chain(), "session not ended upstream"),
            }
            Ok(Reply::with(StatusCode::OK, Body::Empty))
        })
    }
}

fn is_initialize(call: &Call) -> bool {
    call.envelope().is_some_and(|envelope| {
        envelope.kind() == MessageKind::Request && envelope.is_method("initialize")
    })
}

fn refuse(error: Error) -> Answer {
    Box::pin(std::future::ready(Err(error)))
}

fn unknown() -> Error {
    Error::refused(Kind::SessionUnknown, "unknown or ended session; send `initialize` without one")
}

fn no_batches() -> Error {
    Error::refused(
        Kind::BadRequest,
        "batches exist only in protocol version 2025-03-26; send one message per request",
    )
}
