//! What travels inward.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, uri::PathAndQuery};
use tidegate_protocol::{Envelope, Era, Version};
use tokio::time::Instant;

use crate::{Session, Timeouts, slow::SlowClients};

/// One thing a client wants, with what the layers have learned about it.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is wanted.
    pub operation: Operation,
    /// What is known about the caller and the call.
    pub cx: Cx,
}

/// What a client wants from an upstream.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Deliver one message: a request, a notification, or a client's answer to a server's request.
    Send(Envelope),
    /// Open the stream of what the server says unasked (the GET of the legacy era).
    Listen {
        /// The event after which the client wants to go on.
        last_event_id: Option<HeaderValue>,
    },
    /// End the session (the DELETE of the legacy era).
    EndSession,
}

/// The context of a call. Plain fields, each owned by one layer.
#[derive(Clone, Debug)]
pub struct Cx {
    /// The protocol era of this request; decides what a disconnect and a 404 mean.
    pub era: Era,
    /// The protocol version, where the request or its session tells.
    pub version: Option<Version>,
    /// The legacy session; set by session resolution.
    pub session: Option<Session>,
    /// What the client asked for, as it came; routes are chosen by its path.
    pub path: PathAndQuery,
    /// The client's headers. Until the route's header policy has run these are all of them;
    /// after it, only those that may reach the upstream.
    pub headers: HeaderMap,
    /// The moment after which nobody waits for the reply, nor for the rest of one that has begun.
    pub deadline: Option<Instant>,
    /// How long the upstream may be waited for, where the route says so; else as it says itself.
    pub timeouts: Option<Arc<Timeouts>>,
    /// How often this call was sent before.
    pub attempt: u32,
    /// How the route treats clients that do not read.
    pub slow: Option<Arc<SlowClients>>,
    /// Whether the message came as a member of a batch, which only 2025-03-26 allows. The server
    /// splits batches up, but only session resolution knows the version.
    pub batched: bool,
}

impl Call {
    /// A call that delivers one message.
    pub const fn send(envelope: Envelope, cx: Cx) -> Self {
        Self { operation: Operation::Send(envelope), cx }
    }

    /// The message of a [`Operation::Send`].
    pub const fn envelope(&self) -> Option<&Envelope> {
        match &self.operation {
            Operation::Send(envelope) => Some(envelope),
            Operation::Listen { .. } | Operation::EndSession => None,
        }
    }
}

impl Cx {
    /// A context that knows only the era.
    pub fn new(era: Era) -> Self {
        Self {
            era,
            version: None,
            session: None,
            path: PathAndQuery::from_static("/"),
            headers: HeaderMap::new(),
            deadline: None,
            timeouts: None,
            attempt: 0,
            slow: None,
            batched: false,
        }
    }
}
