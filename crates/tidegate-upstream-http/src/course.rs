//! The course of a call: one request out, its answer back.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, response};
use http_body_util::Full;
use tidegate_http_client::{
    Attempt, Client, Errand, Exchange, Fault, Lane, OpenStream, Reconnect, Wait,
    answer::{self, Asked, Plan},
    headers::{self, Purpose},
};
use tidegate_protocol::{Envelope, Era, Kind as MessageKind};
use tidegate_service::{Body, Call, Error, EventStream, OnError, Operation, Reply, Session, Tasks};
use tokio::time::Instant;
use tracing::debug;

use crate::{
    events::Events,
    resume::{self, Brake, Level, Resuming, Source, level_of},
    session,
    timed::{Term, Timed},
};

/// How long it may take to tell a server that a call is called off.
const CALLING_OFF: Duration = Duration::from_secs(5);

/// What all clones of an upstream share.
pub(crate) struct Core {
    pub(crate) client: Arc<Client>,
    pub(crate) max_response: usize,
    /// How streams that break are taken up again, if they are.
    pub(crate) reconnect: Option<Reconnect>,
    pub(crate) brake: Option<Brake>,
    pub(crate) resumption: Arc<resume::Counters>,
    pub(crate) tasks: Tasks,
}

/// What is sent, and how the answer is to be read.
struct Plea {
    /// Without a request if there is nothing to ask.
    errand: Errand,
    asked: Asked,
    /// Whether it is a message that deserves an answer.
    is_request: bool,
    /// Whether the server's session id goes with it.
    in_session: bool,
    /// Where to keep the id that comes with the answer to `initialize`.
    unbound: Option<Session>,
    /// What it takes to go on with a stream, or to take a request back.
    source: Option<Arc<Source>>,
    /// What a stream that answers is.
    term: Term,
    /// When the call was made.
    started: Instant,
    /// The log level that the session has from now on, if the server agrees.
    level: Option<Level>,
}

/// What the client gets to see of a response head.
#[derive(Default)]
struct Head {
    status: StatusCode,
    headers: HeaderMap,
}

/// What came back.
pub(crate) enum Answer {
    Empty,
    One(Envelope),
    Events(Exchange),
}

impl Core {
    /// Everything that needs no wait happens before the future exists, which keeps it small.
    pub(crate) fn answer(
        core: Arc<Self>,
        call: Call,
    ) -> impl Future<Output = Result<Reply, Error>> + Send + 'static {
        let mut attempt = Attempt::new(Arc::clone(core.client.counters()));
        let mut plea = core.plead(call);
        async move {
            let answered = match &mut plea {
                Ok(plea) => core.exchange(plea).await,
                Err(fault) => Err(std::mem::replace(fault, Fault::TooLate)),
            };
            match (answered, plea) {
                (Ok((head, answer)), Ok(plea)) => Ok(core.reply(head, answer, attempt, plea)),
                (Ok(_), Err(fault)) => Err(fault.at(core.client.name())),
                (Err(fault), plea) => {
                    attempt.failed(fault.verdict().0);
                    if let Some(source) = plea.ok().and_then(|plea| plea.source)
                        && was_too_slow(&fault)
                    {
                        core.call_off(&source);
                    }
                    Err(fault.at(core.client.name()))
                }
            }
        }
    }

    fn reply(
        self: &Arc<Self>,
        head: Head,
        answer: Answer,
        mut attempt: Attempt,
        plea: Plea,
    ) -> Reply {
        let body = match answer {
            Answer::Events(exchange) => {
                let open = OpenStream::new(Arc::clone(self.client.counters()));
                let name = Arc::clone(self.client.name());
                let events = Events::new(exchange, self.max_response, attempt, name, open);
                Body::Stream(self.stream(events, plea))
            }
            Answer::Empty => {
                attempt.answered();
                Body::Empty
            }
            Answer::One(envelope) => {
                attempt.answered();
                Body::One(envelope)
            }
        };
        Reply { status: head.status, headers: head.headers, body }
    }

    fn stream(self: &Arc<Self>, events: Events, plea: Plea) -> EventStream {
        let Plea { errand: Errand { wait, .. }, source, term, started, .. } = plea;
        let source = source.map(|source| Arc::new(source.detached()));
        match (&source, self.reconnect) {
            (Some(resumed), Some(policy)) if resumed.is_resumable() => {
                let events = Resuming::new(self, policy, Arc::clone(resumed), events);
                EventStream::new(Timed::new(events, self, &wait, started, term, source))
            }
            _ => EventStream::new(Timed::new(events, self, &wait, started, term, source)),
        }
    }

    /// Tells the server that nobody waits for the answer any more. Whether it hears it does not
    /// matter to anybody, so that this has little time and no second chance.
    pub(crate) fn call_off(self: &Arc<Self>, source: &Source) {
        let Some(mut call) = source.cancellation("the proxy waited too long for the answer") else {
            return;
        };
        call.cx.deadline = Some(Instant::now() + CALLING_OFF);
        let (core, stopping) = (Arc::clone(self), self.tasks.stopping().clone());
        let sending = async move {
            let mut plea = core.plead(call)?;
            core.exchange(&mut plea).await.map(drop)
        };
        self.tasks.spawn("upstream-http-cancellation", OnError::Log, async move {
            tokio::select! {
                () = stopping.cancelled() => (),
                sent = sending => {
                    if let Err(fault) = sent {
                        debug!(?fault, "a call was not called off");
                    }
                }
            }
            Ok(())
        });
    }

    async fn exchange(&self, plea: &mut Plea) -> Result<(Head, Answer), Fault> {
        if plea.errand.request.is_none() {
            // There is no session to end.
            return Ok((Head::default(), Answer::Empty));
        }
        let (parts, exchange) = self.client.send(&mut plea.errand).await?;
        let plan = match self.plan(&parts, plea) {
            Ok(plan) => plan,
            Err(fault) => {
                exchange.discard();
                return Err(fault);
            }
        };
        let mut head = Head { status: parts.status, headers: headers::end_to_end(parts.headers) };
        if plan == Plan::Done {
            exchange.skip_now();
            head.status = StatusCode::OK;
            return Ok((head, Answer::Empty));
        }
        let bare = || answer::bare(head.status, plea.asked, plea.in_session);
        let answer = self.read(exchange, plan, bare).await?;
        plea.learn(head.status, &answer);
        if plea.is_request && head.status.is_success() && matches!(answer, Answer::Empty) {
            // Its client would wait for an answer that never comes.
            return Err(Fault::NoAnswer);
        }
        Ok((head, answer))
    }

    /// Asks for the stream behind an event, and says with the answer whether it was asked in a
    /// session of the server's.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes its connection.
    pub(crate) async fn listen_again(
        &self,
        call: Call,
        is_answer: bool,
    ) -> Result<(StatusCode, bool, Answer), Fault> {
        let mut plea = self.plead(call)?;
        // The rest of an answer comes in time or not at all.
        if is_answer {
            plea.errand.lane = Lane::Calls;
        }
        let (head, answer) = self.exchange(&mut plea).await?;
        Ok((head.status, plea.in_session, answer))
    }

    fn plan(&self, head: &response::Parts, plea: &Plea) -> Result<Plan, Fault> {
        if plea.asked == Asked::Listen && head.status == StatusCode::METHOD_NOT_ALLOWED {
            session::set_without_stream(plea.session());
        }
        let plan = answer::plan(head.status, &head.headers, plea.asked)?;
        if let Some(session) = &plea.unbound
            && head.status.is_success()
        {
            session::keep(session, &head.headers, &self.client.target().endpoint)?;
        }
        Ok(plan)
    }

    /// Reads the body as planned; `bare` decides where only the status counts.
    async fn read(
        &self,
        exchange: Exchange,
        plan: Plan,
        bare: impl Fn() -> Result<(), Fault>,
    ) -> Result<Answer, Fault> {
        match plan {
            Plan::Events => Ok(Answer::Events(exchange.without_limits())),
            Plan::Done | Plan::Skip => exchange.skip().await.map(|()| Answer::Empty),
            Plan::Bare => {
                exchange.skip_now();
                bare().map(|()| Answer::Empty)
            }
            Plan::MustBeEmpty => match exchange.collect(self.max_response).await? {
                nothing if nothing.is_empty() => Ok(Answer::Empty),
                _ => Err(Fault::NotEmpty),
            },
            Plan::Json { or_bare } => {
                let bytes = exchange.collect(self.max_response).await?;
                if bytes.is_empty() && !or_bare {
                    return Ok(Answer::Empty);
                }
                match Envelope::parse(bytes) {
                    Ok(envelope) => Ok(Answer::One(envelope)),
                    Err(_) if or_bare => bare().map(|()| Answer::Empty),
                    Err(error) => Err(Fault::Message(error)),
                }
            }
        }
    }

    /// Makes the request.
    fn plead(&self, call: Call) -> Result<Plea, Fault> {
        let Call { operation, cx } = call;
        let id = session::id_for(&cx, &self.client.target().endpoint)?;
        let source = Source::of(&operation, &cx).map(Arc::new);
        let mut plea = Plea {
            errand: Errand { request: None, lane: Lane::Calls, wait: Wait::of(&cx) },
            asked: Asked::Send,
            is_request: false,
            in_session: id.is_some(),
            unbound: None,
            source,
            term: Term::Answer,
            started: Instant::now(),
            level: None,
        };
        let (method, purpose, bytes) = match operation {
            Operation::Send(envelope) => {
                plea.is_request = envelope.kind() == MessageKind::Request;
                // Nothing else is special, so the method of most calls need not be decoded.
                let is = |name| envelope.is_method(name);
                match cx.era {
                    Era::Modern if is("subscriptions/listen") => {
                        plea.errand.lane = Lane::Streams;
                        plea.term = Term::Subscription;
                    }
                    Era::Modern => (),
                    Era::Legacy if id.is_some() => {
                        let session = cx.session.as_ref();
                        match envelope.kind() {
                            MessageKind::Request if is("logging/setLevel") => {
                                plea.level = level_of(&envelope);
                            }
                            MessageKind::Notification if is("notifications/cancelled") => {
                                session::set_cancelled(session, &envelope);
                            }
                            MessageKind::Response | MessageKind::Error => {
                                session::set_answered(session, &envelope);
                            }
                            MessageKind::Request | MessageKind::Notification => (),
                        }
                    }
                    Era::Legacy => plea.unbound = cx.session.filter(|_| is("initialize")),
                }
                (Method::POST, Purpose::Send, envelope.into_bytes())
            }
            Operation::Listen { last_event_id } => {
                plea.asked = Asked::Listen;
                plea.term = Term::Unasked;
                plea.errand.lane = Lane::Streams;
                if session::is_without_stream(cx.session.as_ref()) {
                    // It has said so once.
                    return Err(Fault::Unsupported);
                }
                (Method::GET, Purpose::Listen(last_event_id), Bytes::new())
            }
            Operation::EndSession if id.is_none() => return Ok(plea),
            Operation::EndSession => {
                plea.asked = Asked::End;
                (Method::DELETE, Purpose::End, Bytes::new())
            }
        };
        let mut headers = cx.headers;
        self.client.always().add_to(&mut headers, purpose, id);
        let mut request = Request::new(Full::new(bytes));
        *request.method_mut() = method;
        *request.uri_mut() = self.client.target().path.clone();
        *request.headers_mut() = headers;
        plea.errand.request = Some(request);
        Ok(plea)
    }
}

impl Plea {
    fn session(&self) -> Option<&Session> {
        self.source.as_deref().and_then(Source::session)
    }

    /// What the answer says about the session.
    fn learn(&self, status: StatusCode, answer: &Answer) {
        let is_refusal =
            matches!(answer, Answer::One(message) if message.kind() == MessageKind::Error);
        if let (Some(level), Some(session)) = (self.level, self.session())
            && status.is_success()
            && !is_refusal
        {
            session::set_level(session, level);
        }
    }
}

/// Whether a server that has the request may still be at it, though nobody waits any more.
const fn was_too_slow(fault: &Fault) -> bool {
    matches!(fault, Fault::HeadTimeout(_) | Fault::IdleTimeout(_) | Fault::Deadline(_))
}
