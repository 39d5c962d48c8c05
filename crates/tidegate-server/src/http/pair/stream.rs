//! The stream of one client: takes what it posts, makes the calls, and says what comes of them.
//!
//! All of it happens while the response body is polled, so it stands still as long as the client
//! does not read. Messages are taken in the order in which they came: a request may be overtaken
//! by the answers to others, but a notification or an answer is with the upstream before the next
//! message is sent, as it would be if the client had waited for its POST to return.

use std::{
    collections::VecDeque,
    fmt,
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use http::StatusCode;
use tidegate_protocol::{Envelope, Era, Id, Kind as MessageKind, Version, rpc, sse};
use tidegate_service::{Call, Error, Frame, Kind, Origin, Retry};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    calls::{Asked, Calls, Event, Head, What},
    draining,
    listening::{Listening, Silence},
    open::{Agreed, Open, Posted},
};
use crate::http::{Front, error::Rejection};

/// The frames for one client. Its drop ends the session.
pub(super) struct PairStream {
    front: Front,
    open: Arc<Open>,
    stage: Stage,
    agreed: Agreed,
    calls: Calls,
    /// Requests without an answer.
    unanswered: Vec<Unanswered>,
    /// Something is under way that must have arrived before the next message is sent.
    is_held: bool,
    listening: Option<Listening>,
    /// When `initialize` must have come.
    due: Pin<Box<Sleep>>,
    drain: Pin<Box<WaitForCancellationFutureOwned>>,
    is_draining: bool,
    /// What has come of a call that was just looked at.
    events: VecDeque<Event>,
    buffer: Vec<Event>,
}

#[derive(Debug)]
struct Unanswered {
    id: Id,
    /// The client does not want to hear of it any more.
    is_taken_back: bool,
}

/// How far the client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has not been told where to post.
    New,
    /// It has not initialized.
    Fresh,
    /// It has.
    Serving,
    /// The session is over; what is under way is finished.
    Ending,
}

impl PairStream {
    pub(super) fn new(front: Front, open: Arc<Open>) -> Self {
        let due = Box::pin(sleep(front.params().timeouts.initialize));
        let drain = Box::pin(front.draining().clone().cancelled_owned());
        Self {
            front,
            open,
            stage: Stage::New,
            agreed: Agreed::default(),
            calls: Calls::default(),
            unanswered: Vec::new(),
            is_held: false,
            listening: None,
            due,
            drain,
            is_draining: false,
            events: VecDeque::new(),
            buffer: Vec::new(),
        }
    }

    /// The first event: where to post. A path alone, so that it is of the origin that the client
    /// has asked, whatever that is called there.
    fn endpoint(&self) -> Option<Frame> {
        let uri = format!("{}?sessionId={}", self.open.pair().messages, self.open.id());
        let raw = sse::encode_event("endpoint", None, uri.as_bytes()).ok()?;
        let block = sse::Block { raw, data: None, id: None, event: None, retry: None };
        Some(Frame::Block(block))
    }

    /// What is next to be said, if that is known.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        loop {
            while let Some(event) = self.events.pop_front() {
                if let Some(message) = self.became(event) {
                    return Poll::Ready(Some(Frame::Message(message)));
                }
            }
            // One message at a time, so that neither side can keep the other from being heard.
            let posted = match self.stage {
                Stage::New | Stage::Fresh | Stage::Serving if !self.is_held => self.open.next(cx),
                _ => None,
            };
            let has_news = posted.is_some();
            if let Some(refusal) = posted.and_then(|posted| self.take(posted)) {
                return Poll::Ready(Some(Frame::Message(refusal)));
            }
            if self.calls.poll(cx, &mut self.buffer).is_ready() {
                self.events.extend(self.buffer.drain(..));
                continue;
            }
            match self.poll_listening(cx) {
                Poll::Ready(Some(message)) => return Poll::Ready(Some(Frame::Message(message))),
                Poll::Ready(None) => continue,
                Poll::Pending => (),
            }
            if has_news || self.poll_reason_to_end(cx) {
                continue;
            }
            if self.stage == Stage::Ending && self.unanswered.is_empty() {
                return Poll::Ready(None);
            }
            return Poll::Pending;
        }
    }

    /// What the upstream says unasked; `None` if it will say no more.
    fn poll_listening(&mut self, cx: &mut Context<'_>) -> Poll<Option<Envelope>> {
        let Some(listening) = &mut self.listening else { return Poll::Pending };
        listening.poll(cx).map(|heard| match heard {
            Ok(message) => Some(message),
            Err(Silence::None) => {
                self.listening = None;
                None
            }
            Err(Silence::Ended) => {
                self.end();
                None
            }
        })
    }

    /// Whether the stream has just learned that it must end.
    fn poll_reason_to_end(&mut self, cx: &mut Context<'_>) -> bool {
        if self.stage == Stage::Ending {
            return false;
        }
        if !self.is_draining && self.drain.as_mut().poll(cx).is_ready() {
            self.is_draining = true;
            // It never ends by itself.
            self.listening = None;
        }
        let is_done = self.is_draining && self.unanswered.is_empty() && !self.is_held;
        let is_late = !is_done
            && self.stage == Stage::Fresh
            && !self.is_held
            && self.due.as_mut().poll(cx).is_ready();
        if is_late {
            tracing::debug!("an HTTP+SSE client did not initialize in time");
        }
        if is_done || is_late {
            self.end();
        }
        is_done || is_late
    }

    /// Sends a message on, or says why not.
    fn take(&mut self, posted: Posted) -> Option<Envelope> {
        let Posted { message, is_initialize, headers, held } = posted;
        let method = message.method();
        let what = match message.kind() {
            MessageKind::Request if is_initialize => What::Initialize,
            MessageKind::Request => What::Request,
            MessageKind::Notification if method.as_deref() == Some("notifications/initialized") => {
                What::Initialized
            }
            _ => What::Note,
        };
        if let Some(id) = message.cancelled_request()
            && method.as_deref() == Some("notifications/cancelled")
        {
            let meant = self.unanswered.iter_mut().filter(|each| each.id == id);
            meant.for_each(|each| each.is_taken_back = true);
        }
        let id = message.id().filter(|_| message.kind() == MessageKind::Request);
        if let Some(requested) = message.meta_version() {
            // A client that speaks both eras asks like this first, and goes on when it is told.
            return unsupported(id.as_ref()?, &requested);
        }
        if let Some(id) = &id {
            if let Some(error) = self.refusal(what) {
                return explained(id, &error);
            }
            // A copy, since the message may stand in a large buffer.
            self.unanswered.push(Unanswered { id: id.detach(), is_taken_back: false });
        }
        self.is_held = what != What::Request;
        let cx = self.open.cx(headers, &self.agreed);
        let call = self.front.0.edge.answer(Call::send(message, cx));
        let asked = Asked { id: id.map(|id| id.detach()), what };
        self.calls.begin(
            asked,
            Box::pin(async move {
                let reply = call.await;
                drop(held);
                reply
            }),
        );
        None
    }

    /// Why a request is not sent on.
    fn refusal(&self, what: What) -> Option<Error> {
        let limit = self.front.params().limits.max_pair_calls;
        if self.is_draining {
            Some(draining())
        } else if what == What::Initialize && self.stage == Stage::Serving {
            let message = "the session is initialized already; open another stream for another one";
            Some(Error::refused(Kind::BadRequest, message))
        } else if self.unanswered.len() >= limit {
            let message = format!("{limit} requests of this client are under way already");
            Some(Error::new(Kind::Overloaded, Origin::Gateway, Retry::NotSent, message))
        } else {
            None
        }
    }

    /// Takes note of what came of a call; what the client is to be told.
    fn became(&mut self, event: Event) -> Option<Envelope> {
        match event {
            Event::Head(asked, head) => {
                self.begun(&asked, head);
                None
            }
            Event::Message(message) => {
                self.note_version(&message);
                Some(message)
            }
            Event::Over(asked, error) => {
                if asked.what != What::Request {
                    self.is_held = false;
                }
                let place =
                    self.unanswered.iter().position(|each| Some(&each.id) == asked.id.as_ref());
                let was = place.map(|place| self.unanswered.swap_remove(place));
                let error = error?;
                if error.kind == Kind::SessionUnknown {
                    self.end();
                }
                match asked.id {
                    Some(_) if was.is_some_and(|was| was.is_taken_back) => None,
                    Some(id) => explained(&id, &error),
                    None => {
                        tracing::debug!(error = %error.chain(), "a notification was not taken");
                        None
                    }
                }
            }
        }
    }

    fn begun(&mut self, asked: &Asked, head: Head) {
        if head.status == StatusCode::NOT_FOUND && self.agreed.session.is_some() {
            // What that means to the session, its resolution has said; here it is over as well.
            self.end();
        }
        match asked.what {
            What::Initialize => self.agreed.session = head.session,
            What::Initialized if head.status.is_success() && !self.is_draining => {
                let cx = self.open.own_cx(&self.agreed);
                let edge = self.front.0.edge.clone();
                self.listening.get_or_insert_with(|| Listening::new(edge, cx));
            }
            What::Initialized | What::Request | What::Note => (),
        }
    }

    /// The answer to `initialize` has come: the client may go on.
    fn note_version(&mut self, message: &Envelope) {
        if self.stage != Stage::Fresh || message.kind() != MessageKind::Response {
            return;
        }
        if let Some(version) = message.result_version() {
            self.agreed.version = Version::parse(&version);
            self.stage = Stage::Serving;
            self.is_held = false;
        }
    }

    fn end(&mut self) {
        self.front.0.pairs.close(&self.open);
        self.stage = Stage::Ending;
        self.listening = None;
    }
}

/// The answer to a request of the modern era, which has no such transport.
fn unsupported(id: &Id, requested: &str) -> Option<Envelope> {
    let legacy = Version::ALL.into_iter().rev().filter(|version| version.era() == Era::Legacy);
    let supported: Vec<String> = legacy.map(|version| rpc::quote(version.as_str())).collect();
    let (supported, requested) = (supported.join(","), rpc::quote(requested));
    let data = format!(r#"{{"supported":[{supported}],"requested":{requested}}}"#);
    let message = "HTTP+SSE is a transport of earlier protocol versions";
    let code = rpc::code::UNSUPPORTED_VERSION;
    Envelope::parse(rpc::error(Some(id), code, message, Some(&data))).ok()
}

/// The error that answers a request. In-band, since its POST has been answered.
fn explained(id: &Id, error: &Error) -> Option<Envelope> {
    let rejection = Rejection::from_error(Era::Legacy, Some(id.clone()), error);
    Envelope::parse(rejection.body()).ok()
}

impl Stream for PairStream {
    type Item = Result<Frame, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.stage == Stage::New {
            self.stage = Stage::Fresh;
            return Poll::Ready(self.endpoint().map(Ok));
        }
        self.poll_step(cx).map(|frame| frame.map(Ok))
    }
}

impl Drop for PairStream {
    fn drop(&mut self) {
        self.front.0.pairs.close(&self.open);
        let unanswered = self.unanswered.drain(..).filter(|each| !each.is_taken_back);
        let unanswered: Vec<Id> = unanswered.map(|each| each.id).collect();
        self.open.close(&self.agreed, &unanswered);
    }
}

impl fmt::Debug for PairStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairStream").field("stage", &self.stage).finish_non_exhaustive()
    }
}
