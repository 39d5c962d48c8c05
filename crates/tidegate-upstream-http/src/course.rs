//! The course of a call: one request out, its answer back.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, response};
use http_body_util::Full;
use hyper::body::Incoming;
use tidegate_pool::{Lease, Pool, Reason};
use tidegate_protocol::{Envelope, Era, Kind as MessageKind};
use tidegate_service::{Body, Call, Error, EventStream, Operation, Reply, Session};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    answer::{self, Asked, Plan},
    dial::{Dialer, Lane},
    events::Events,
    exchange::{Exchange, Limits},
    fault::Fault,
    headers::{self, Always, Purpose},
    link::{HeadError, Link, Outgoing},
    params::Reconnect,
    resume::{Brake, Level, Resuming, Source, level_of},
    session,
    stats::{Attempt, Counters, OpenStream},
};

/// What all clones of an upstream share.
pub(crate) struct Core {
    pub(crate) name: Arc<str>,
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) always: Always,
    /// Connections for calls.
    pub(crate) calls: Pool<Box<Link>>,
    /// Connections for streams without an end, so that they cannot starve calls.
    pub(crate) streams: Pool<Box<Link>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) request_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_response: usize,
    /// How streams that break are taken up again, if they are.
    pub(crate) reconnect: Option<Reconnect>,
    pub(crate) brake: Option<Brake>,
    pub(crate) stopped: CancellationToken,
}

/// What is sent, and how the answer is to be read.
struct Plea {
    /// `None` once it has left, or if there is nothing to ask.
    request: Option<Outgoing>,
    asked: Asked,
    /// Whether it is a message that deserves an answer.
    is_request: bool,
    /// Whether the server's session id goes with it.
    in_session: bool,
    /// Where to keep the id that comes with the answer to `initialize`.
    unbound: Option<Session>,
    /// What it takes to go on with a stream that answers.
    source: Option<Arc<Source>>,
    /// The log level that the session has from now on, if the server agrees.
    level: Option<Level>,
    /// Whether the answer is a stream that may be silent for long and has no end.
    is_endless: bool,
    /// The end of the caller's patience.
    cap: Option<Instant>,
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
        let mut attempt = Attempt::new(Arc::clone(&core.counters));
        let mut plea = core.plead(call);
        async move {
            let answered = match &mut plea {
                Ok(plea) => core.exchange(plea).await,
                Err(fault) => Err(std::mem::replace(fault, Fault::TooLate)),
            };
            match answered {
                Ok((head, answer)) => {
                    let source = plea.ok().and_then(|plea| plea.source);
                    Ok(core.reply(head, answer, attempt, source))
                }
                Err(fault) => {
                    attempt.failed(fault.verdict().0);
                    Err(fault.at(&core.name))
                }
            }
        }
    }

    fn reply(
        self: &Arc<Self>,
        head: Head,
        answer: Answer,
        mut attempt: Attempt,
        source: Option<Arc<Source>>,
    ) -> Reply {
        let body = match answer {
            Answer::Events(exchange) => {
                let open = OpenStream::new(Arc::clone(&self.counters));
                let name = Arc::clone(&self.name);
                let events = Events::new(exchange, self.max_response, attempt, name, open);
                Body::Stream(match (source, self.reconnect) {
                    (Some(source), Some(policy)) => {
                        EventStream::new(Resuming::new(self, policy, source, events))
                    }
                    _ => EventStream::new(events),
                })
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

    async fn exchange(&self, plea: &mut Plea) -> Result<(Head, Answer), Fault> {
        if plea.request.is_none() {
            // There is no session to end.
            return Ok((Head::default(), Answer::Empty));
        }
        let (lease, response) = self.deliver(plea).await?;
        let (parts, body) = response.into_parts();
        let limits =
            Limits { idle: (!plea.is_endless).then_some(self.idle_timeout), cap: plea.cap };
        let exchange = Exchange::new(lease, body, limits);
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
        plea.is_endless &= !is_answer;
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
            session::keep(session, &head.headers, &self.dialer.target().endpoint)?;
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
            Plan::Events => Ok(Answer::Events(exchange)),
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
        let id = session::id_for(&cx, &self.dialer.target().endpoint)?;
        let source = self.reconnect.and_then(|_| Source::of(&operation, &cx)).map(Arc::new);
        let mut plea = Plea {
            request: None,
            asked: Asked::Send,
            is_request: false,
            in_session: id.is_some(),
            unbound: None,
            source,
            level: None,
            is_endless: false,
            cap: cx.deadline,
        };
        let (method, purpose, bytes) = match operation {
            Operation::Send(envelope) => {
                plea.is_request = envelope.kind() == MessageKind::Request;
                // Nothing else is special, so the method of most calls need not be decoded.
                let is = |name| envelope.method().as_deref() == Some(name);
                match cx.era {
                    Era::Modern => plea.is_endless = is("subscriptions/listen"),
                    Era::Legacy if id.is_some() => {
                        if plea.source.is_some() && is("logging/setLevel") {
                            plea.level = level_of(&envelope);
                        } else if envelope.kind() == MessageKind::Notification
                            && is("notifications/cancelled")
                        {
                            session::set_cancelled(cx.session.as_ref(), &envelope);
                        }
                    }
                    Era::Legacy => plea.unbound = cx.session.filter(|_| is("initialize")),
                }
                (Method::POST, Purpose::Send, envelope.into_bytes())
            }
            Operation::Listen { last_event_id } => {
                plea.asked = Asked::Listen;
                plea.is_endless = true;
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
        self.always.add_to(&mut headers, purpose, id);
        let mut request = Request::new(Full::new(bytes));
        *request.method_mut() = method;
        *request.uri_mut() = self.dialer.target().path.clone();
        *request.headers_mut() = headers;
        plea.request = Some(request);
        Ok(plea)
    }

    /// Sends a request exactly once and waits for the head of its response.
    ///
    /// A kept connection that turns out to be closed before anything was written is replaced by a
    /// new one. That is not a second attempt: the server has seen nothing.
    async fn deliver(
        &self,
        plea: &mut Plea,
    ) -> Result<(Lease<Box<Link>>, Response<Incoming>), Fault> {
        let (lane, pool) = match plea.is_endless {
            true => (Lane::Streams, &self.streams),
            false => (Lane::Calls, &self.calls),
        };
        let mut lease = pool.checkout_within(plea.cap).await.map_err(Fault::Busy)?;
        let mut start = lease.taken_at();
        if plea.cap.is_some_and(|cap| cap <= start) {
            return Err(Fault::TooLate);
        }
        if lease.item().is_none() {
            start = self.dial_into(lane, &mut lease, plea.cap).await?;
        }
        loop {
            let deadline = start + self.request_timeout;
            let deadline = plea.cap.map_or(deadline, |cap| cap.min(deadline));
            let (Some(link), Some(request)) = (lease.item(), plea.request.take()) else {
                return Err(Fault::Unsent);
            };
            let is_new = link.is_new();
            let fault = match link.exchange(request, deadline).await {
                Ok(response) => return Ok((lease, response)),
                Err(HeadError::Unsent(returned)) if !is_new => {
                    lease.close(Reason::Broken);
                    plea.request = Some(*returned);
                    start = self.dial_into(lane, &mut lease, plea.cap).await?;
                    continue;
                }
                Err(HeadError::Unsent(_)) => Fault::Unsent,
                Err(HeadError::TimedOut) => {
                    Fault::HeadTimeout(deadline.saturating_duration_since(start))
                }
                Err(HeadError::Failed(fault)) => fault,
            };
            lease.retire(Reason::Broken);
            return Err(fault);
        }
    }

    /// Makes a connection for a lease; says when it was ready.
    async fn dial_into(
        &self,
        lane: Lane,
        lease: &mut Lease<Box<Link>>,
        cap: Option<Instant>,
    ) -> Result<Instant, Fault> {
        // Rare and large, so it does not ride along in the future of every call.
        let link = Box::pin(self.dialer.dial(lane, cap)).await?;
        lease.fill(Box::new(link));
        Ok(Instant::now())
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

impl Drop for Core {
    fn drop(&mut self) {
        self.stopped.cancel();
    }
}
