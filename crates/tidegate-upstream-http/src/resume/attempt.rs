//! One attempt to go on with a stream: a GET, and what its answer means.

use std::sync::{Arc, Weak};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST},
};
use tidegate_http_client::{Attempt, Exchange, Fault, headers::detached};
use tidegate_pool::CheckoutError;
use tidegate_protocol::{Era, Kind, Version};
use tidegate_service::{Call, Cx, Operation, Session};
use tokio::time::{self, Instant};

use super::{counters::count, state::Purpose};
use crate::{
    course::{Answer, Core},
    session::{self, Mark},
};

/// What it takes to ask for the rest of a stream.
#[derive(Debug)]
pub(crate) struct Source {
    /// The client's headers. A list, since to copy a map costs more and every call does.
    headers: Vec<(HeaderName, HeaderValue)>,
    version: Option<Version>,
    session: Option<Session>,
    deadline: Option<Instant>,
    /// The request that is answered.
    request: Option<Mark>,
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
    /// Of a call that is about to be made; `None` if its protocol knows no resumption.
    pub(crate) fn of(operation: &Operation, cx: &Cx) -> Option<Self> {
        let (purpose, last) = match operation {
            Operation::Send(message) if message.kind() == Kind::Request => (Purpose::Answer, None),
            Operation::Listen { last_event_id } => (Purpose::Unasked, last_event_id.clone()),
            Operation::Send(_) | Operation::EndSession => return None,
        };
        if cx.era == Era::Modern || cx.version == Some(Version::V2024_11_05) {
            return None;
        }
        let mut headers = Vec::with_capacity(cx.headers.len());
        let kept = cx.headers.iter().filter(|(name, _)| !is_set_anew(name));
        headers.extend(kept.map(|(name, value)| (name.clone(), value.clone())));
        Some(Self {
            headers,
            version: cx.version,
            session: cx.session.clone(),
            deadline: cx.deadline,
            request: match operation {
                Operation::Send(message) => message.id().as_ref().map(Mark::of),
                Operation::Listen { .. } | Operation::EndSession => None,
            },
            last,
            purpose,
        })
    }

    /// The same in memory of its own, for a stream that may last: the client's headers share the
    /// buffer that they were read into.
    pub(super) fn detached(&self) -> Self {
        let own = |(name, value): &(HeaderName, HeaderValue)| (name.clone(), detached(value));
        Self {
            headers: self.headers.iter().map(own).collect(),
            session: self.session.clone(),
            last: self.last.as_ref().map(detached),
            ..*self
        }
    }

    pub(crate) const fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Whether the client has cancelled the request; then there may be no answer to wait for.
    pub(super) fn is_cancelled(&self) -> bool {
        self.request.is_some_and(|request| session::is_cancelled(self.session(), request))
    }

    fn call(&self, last_event_id: Option<HeaderValue>) -> Call {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        let cx = Cx {
            version: self.version,
            session: self.session.clone(),
            deadline: self.deadline,
            headers,
            ..Cx::new(Era::Legacy)
        };
        Call { operation: Operation::Listen { last_event_id }, cx }
    }
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
    let deadline_passed = async {
        match source.deadline {
            Some(deadline) => time::sleep_until(deadline).await,
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
        () = deadline_passed => Outcome::Over(Fault::Deadline),
    }
}

async fn ask(core: &Arc<Core>, source: &Source, last: Option<HeaderValue>) -> Outcome {
    let Some(brake) = &core.brake else { return Outcome::Refused(Fault::Unsupported) };
    let attempt = async {
        let attempt = Attempt::new(Arc::clone(core.client.counters()));
        let is_answer = source.purpose == Purpose::Answer;
        (attempt, core.listen_again(source.call(last), is_answer).await)
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
