//! One attempt to go on with a stream: a GET, and what its answer means.

use std::sync::{Arc, Weak};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST},
};
use tidegate_http_client::{Attempt, Exchange, Fault, headers::detached};
use tidegate_pool::CheckoutError;
use tidegate_protocol::{Envelope, Era, Id, Kind, Version, rpc};
use tidegate_service::{Call, Cx, Operation, Session, Timeouts};
use tokio::time::{self, Instant};

use super::{counters::count, state::Purpose};
use crate::{
    course::{Answer, Core},
    session::{self, Mark},
};

/// The largest request that may be kept for the sake of its id, in bytes.
const MAX_KEPT: usize = 4096;

/// What it takes to ask for the rest of a stream, or to take the request back.
#[derive(Debug)]
pub(crate) struct Source {
    /// The client's headers. A list, since to copy a map costs more and every call does.
    headers: Vec<(HeaderName, HeaderValue)>,
    version: Option<Version>,
    session: Option<Session>,
    timeouts: Option<Arc<Timeouts>>,
    /// The id of the request that is answered, if it can be taken back.
    request: Option<Id>,
    /// Whether the protocol has resumption.
    is_resumable: bool,
    /// The id that the reader wanted to go on from.
    pub(super) last: Option<HeaderValue>,
    pub(super) purpose: Purpose,
}

/// What came of an attempt.
pub(super) enum Outcome {
    Opened(Exchange, Attempt),
    /// It may pass.
    Failed(Fault),
    /// It will not pass: the stream ends with this.
    Refused(Fault),
    /// Nobody needs the stream any more.
    Over(Fault),
}

impl Source {
    /// Of a legacy call that is about to be made and has an answer.
    pub(crate) fn of(operation: &Operation, cx: &Cx) -> Option<Self> {
        let (purpose, last) = match operation {
            Operation::Send(message) if message.kind() == Kind::Request => (Purpose::Answer, None),
            Operation::Listen { last_event_id } => (Purpose::Unasked, last_event_id.clone()),
            Operation::Send(_) | Operation::EndSession => return None,
        };
        if cx.era == Era::Modern {
            return None;
        }
        let mut headers = Vec::with_capacity(cx.headers.len());
        let kept = cx.headers.iter().filter(|(name, _)| !is_set_anew(name));
        headers.extend(kept.map(|(name, value)| (name.clone(), value.clone())));
        Some(Self {
            headers,
            version: cx.version,
            session: cx.session.clone(),
            timeouts: cx.timeouts.clone(),
            request: match operation {
                Operation::Send(message) if !message.is_method("initialize") => {
                    message.id().map(|id| lasting(message, id))
                }
                Operation::Send(_) | Operation::Listen { .. } | Operation::EndSession => None,
            },
            is_resumable: cx.version != Some(Version::V2024_11_05),
            last,
            purpose,
        })
    }

    /// The same in memory of its own, for a stream that may last: the client's headers share the
    /// buffer that they were read into.
    pub(crate) fn detached(&self) -> Self {
        let own = |(name, value): &(HeaderName, HeaderValue)| (name.clone(), detached(value));
        Self {
            headers: self.headers.iter().map(own).collect(),
            version: self.version,
            session: self.session.clone(),
            timeouts: self.timeouts.clone(),
            request: self.request.as_ref().map(Id::detach),
            is_resumable: self.is_resumable,
            last: self.last.as_ref().map(detached),
            purpose: self.purpose,
        }
    }

    pub(crate) const fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Whether the client has cancelled the request; then there may be no answer to wait for.
    pub(super) fn is_cancelled(&self) -> bool {
        let request = self.request.as_ref().map(Mark::of);
        request.is_some_and(|request| session::is_cancelled(self.session(), request))
    }

    pub(crate) const fn is_resumable(&self) -> bool {
        self.is_resumable
    }

    /// Takes the request back.
    pub(crate) fn cancellation(&self, reason: &str) -> Option<Call> {
        let id = String::from_utf8_lossy(self.request.as_ref()?.token()).into_owned();
        let params = format!(r#"{{"requestId":{id},"reason":{}}}"#, rpc::quote(reason));
        let note = rpc::notification("notifications/cancelled", &params);
        Some(self.call(Operation::Send(Envelope::parse(note).ok()?)))
    }

    /// Asks for what follows an event.
    fn listen(&self, last_event_id: Option<HeaderValue>) -> Call {
        self.call(Operation::Listen { last_event_id })
    }

    fn call(&self, operation: Operation) -> Call {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        let cx = Cx {
            version: self.version,
            session: self.session.clone(),
            timeouts: self.timeouts.clone(),
            headers,
            ..Cx::new(Era::Legacy)
        };
        Call { operation, cx }
    }
}

/// The id in a form that does not keep a large message alive.
fn lasting(request: &Envelope, id: Id) -> Id {
    if request.len() > MAX_KEPT { id.detach() } else { id }
}

/// Whether a GET has its own value of this, or none. Most of what a client sends is of this kind,
/// and the others cost a copy each.
fn is_set_anew(name: &HeaderName) -> bool {
    [HOST, ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, CONTENT_LENGTH].contains(name)
}

/// Waits until `at` and for a turn, then asks once for what follows `last`.
///
/// # Cancel safety
///
/// Dropped, it gives up its turn or its place in the line, and closes its connection.
pub(super) async fn attempt(
    core: Weak<Core>,
    source: Arc<Source>,
    last: Option<HeaderValue>,
    at: Instant,
) -> Outcome {
    let stopping = || Outcome::Over(Fault::Busy(CheckoutError::Closed));
    let Some(stopped) = core.upgrade().map(|core| core.client.stopped().clone()) else {
        return stopping();
    };
    let session = source.session().cloned();
    let session_over = async {
        match &session {
            Some(session) => session.ended().cancelled().await,
            None => std::future::pending().await,
        }
    };
    let going_on = async {
        time::sleep_until(at).await;
        let Some(core) = core.upgrade() else { return stopping() };
        ask(&core, &source, last).await
    };
    tokio::select! {
        biased;
        () = stopped.cancelled() => stopping(),
        outcome = going_on => outcome,
        () = session_over => Outcome::Over(Fault::SessionGone),
    }
}

async fn ask(core: &Arc<Core>, source: &Source, last: Option<HeaderValue>) -> Outcome {
    let Some(brake) = &core.brake else { return Outcome::Refused(Fault::Unsupported) };
    let attempt = async {
        let attempt = Attempt::new(Arc::clone(core.client.counters()));
        let is_answer = source.purpose == Purpose::Answer;
        (attempt, core.listen_again(source.listen(last), is_answer).await)
    };
    let Ok((mut attempt, answered)) = brake.run(attempt).await else {
        return failed(core, Fault::Busy(CheckoutError::QueueFull));
    };
    let fault = match answered {
        Ok((_, _, Answer::Events(exchange))) => {
            count(&core.resumption.opened);
            return Outcome::Opened(exchange, attempt);
        }
        Ok((StatusCode::NOT_FOUND, true, _)) => Fault::SessionGone,
        Ok((status, _, _)) => Fault::NotResumed(Some(status)),
        Err(Fault::Unsupported) if source.purpose == Purpose::Answer => Fault::NotResumed(None),
        Err(fault) => fault,
    };
    attempt.failed(fault.verdict().0);
    if matches!(fault, Fault::SessionGone)
        && let Some(session) = source.session()
    {
        // As anywhere else: the client hears of it at its next call and begins anew.
        session.end();
    }
    if may_pass(&fault) {
        return failed(core, fault);
    }
    count(&core.resumption.refused);
    Outcome::Refused(fault)
}

fn failed(core: &Core, fault: Fault) -> Outcome {
    count(&core.resumption.failed);
    Outcome::Failed(fault)
}

/// Whether the same attempt may succeed later.
fn may_pass(fault: &Fault) -> bool {
    match fault {
        Fault::Busy(CheckoutError::Closed) => false,
        Fault::Busy(_)
        | Fault::Resolve(_)
        | Fault::Connect(_)
        | Fault::Tls(_)
        | Fault::Unsent
        | Fault::ConnectTimeout(_)
        | Fault::HeadTimeout(_)
        | Fault::IdleTimeout(_)
        | Fault::Lost(_)
        | Fault::Cut(_) => true,
        Fault::Bare(status) | Fault::NotResumed(Some(status)) => {
            // A server that has not noticed the break yet says that the stream is open.
            let passing = [
                StatusCode::REQUEST_TIMEOUT,
                StatusCode::CONFLICT,
                StatusCode::TOO_EARLY,
                StatusCode::TOO_MANY_REQUESTS,
            ];
            status.is_server_error() && *status != StatusCode::NOT_IMPLEMENTED
                || passing.contains(status)
        }
        _ => false,
    }
}

/// Whether a stream that ended like this is worth going on with.
pub(super) const fn is_break(fault: &Fault) -> bool {
    matches!(fault, Fault::Cut(_) | Fault::CutEvent | Fault::IdleTimeout(_))
}
