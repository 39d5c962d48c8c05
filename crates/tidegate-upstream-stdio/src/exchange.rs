//! One request and what comes of it: an answer, or a stream that ends with one.
//!
//! An [`Exchange`] is the guard of a request that was queued. Dropped before its end, it leaves:
//! a modern request is then cancelled, a legacy one goes on without a reader.

#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use http::StatusCode;
use tidegate_protocol::{Bytes, Envelope, Era, Field, Id, Kind as MessageKind, rpc::code};
use tidegate_service::{
    Body, Error, EventStream, Frame, Kind, Origin, Reply, Retry, Timeouts, slow::SlowClients,
};
use tokio::time::{self, Instant, Sleep};

use crate::{
    child::{Child, Death, Refused},
    demux::{Nature, Opening, Owner, Step},
    params::Params,
};

/// How often an open-ended wait looks around; it has nothing to see.
const IDLE_LOOK: Duration = Duration::from_secs(86_400);

/// How long a request may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How long it may stay without a sign of life before anything has come.
    pub(crate) first: Option<Duration>,
    /// The same after that.
    pub(crate) between: Option<Duration>,
    /// When it must be over.
    pub(crate) deadline: Option<Instant>,
}

/// Who asks, and how that is to be understood.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The client's id of the request.
    pub(crate) id: Id,
    pub(crate) owner: Owner,
    pub(crate) era: Era,
    /// Whether the request is one of [`crate::Params::max_calls`].
    pub(crate) counts: bool,
    /// How the route treats clients that do not read, where that is not the one of the process.
    pub(crate) slow: Option<Arc<SlowClients>>,
}

/// A request that was queued and is not over.
#[derive(Debug)]
pub(crate) struct Exchange {
    child: Arc<Child>,
    id: u64,
    client_id: Id,
    nature: Nature,
    era: Era,
    started: Instant,
    /// `None` once a subscription runs.
    patience: Option<Patience>,
    /// Something has come.
    begun: bool,
    over: bool,
    /// It ended because the process is to be replaced.
    replaced: bool,
}

/// What came for the client.
#[derive(Debug)]
pub(crate) enum Received {
    /// Something on the way.
    Message(Envelope),
    /// The answer, with the client's ids; the last thing that comes.
    Answer(Envelope),
}

/// The rest of an exchange as a stream.
struct Rest {
    first: Option<Envelope>,
    exchange: Exchange,
    sleep: Pin<Box<Sleep>>,
}

impl Exchange {
    /// Queues a request. The envelope keeps the client's ids; the process sees ours.
    ///
    /// # Errors
    /// When nothing was queued.
    ///
    /// # Cancel safety
    /// Until it returns, nothing was queued; after that the exchange owns what was.
    pub(crate) async fn start(
        child: Arc<Child>,
        request: &Envelope,
        caller: Caller,
        patience: Patience,
    ) -> Result<Self, Refused> {
        let started = Instant::now();
        let id = child.mint();
        let caller = Caller { id: keep(request, &caller.id), ..caller };
        let opening = opening(request, &caller, started);
        let Caller { id: client_id, era, .. } = caller;
        let nature = opening.nature;
        let line = rekeyed(request, id, opening.token.as_ref());
        child.open(id, &line, opening, patience.until(started)).await?;
        let patience = Some(patience);
        let (begun, over, replaced) = (false, false, false);
        Ok(Self { child, id, client_id, nature, era, started, patience, begun, over, replaced })
    }

    /// The reply, whose shape is decided by what comes first.
    pub(crate) async fn reply(mut self) -> Result<Reply, Error> {
        let first = self.first().await;
        self.reply_from(first)
    }

    /// The reply to a subscription; `None` if the process was to be replaced before it said
    /// anything.
    pub(crate) async fn reply_unless_replaced(mut self) -> Result<Option<Reply>, Error> {
        let first = self.first().await;
        if self.replaced { Ok(None) } else { self.reply_from(first).map(Some) }
    }

    fn reply_from(self, first: Option<Result<Received, Error>>) -> Result<Reply, Error> {
        match first {
            Some(Ok(Received::Answer(answer))) => {
                let status = self.status(&answer);
                Ok(Reply::with(status, Body::One(answer)))
            }
            Some(Ok(Received::Message(message))) => Ok(self.into_stream(Some(message))),
            // Cancelled: a stream that ends without an answer is what clients expect.
            None => Ok(self.into_stream(None)),
            Some(Err(error)) => Err(error),
        }
    }

    /// The first thing that comes; `None` if the client cancelled.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped; the exchange can be asked again.
    pub(crate) async fn first(&mut self) -> Option<Result<Received, Error>> {
        let mut sleep = pin!(time::sleep_until(self.look_at(self.started)));
        let first = poll_fn(|cx| self.poll_next(cx, sleep.as_mut())).await;
        if self.nature == Nature::Listen {
            self.patience = None;
        }
        first
    }

    fn into_stream(self, first: Option<Envelope>) -> Reply {
        let sleep = Box::pin(time::sleep_until(self.look_at(Instant::now())));
        Reply::stream(EventStream::new(Rest { first, exchange: self, sleep }))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        mut sleep: Pin<&mut Sleep>,
    ) -> Poll<Option<Result<Received, Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        loop {
            if let Poll::Ready(step) = self.child.poll(self.id, cx) {
                return Poll::Ready(self.take(step));
            }
            ready!(sleep.as_mut().poll(cx));
            match self.extension(Instant::now()) {
                Some(later) => sleep.as_mut().reset(later),
                None => {
                    self.over = true;
                    let now = Instant::now();
                    let error = self.timed_out(now);
                    self.child.change(|state, fx| state.demux.give_up(self.id, now, fx));
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn take(&mut self, step: Step) -> Option<Result<Received, Error>> {
        let name = &self.child.params.name;
        self.over = !matches!(step, Step::Message(_));
        match step {
            Step::Message(message) => {
                self.begun = true;
                Some(Ok(Received::Message(message)))
            }
            Step::Answer(answer) => {
                let id = self.client_id.token();
                // A subscription's result names the subscription once more.
                let edits = [(Field::Id, id), (Field::SubscriptionId, id)];
                let listens = self.nature == Nature::Listen;
                let edits = if listens { edits.as_slice() } else { &edits[..1] };
                Some(Ok(Received::Answer(answer.edit(edits))))
            }
            Step::Cancelled => None,
            Step::Broken => Some(Err(Error::new(
                Kind::Protocol,
                Origin::Upstream,
                Retry::Never,
                "the server's answer is not a valid message",
            )
            .at(name))),
            Step::Overflowed(why) => Some(Err(why.error().at(name))),
            Step::Dead(death) => {
                self.replaced = *death == Death::Replaced;
                Some(Err(Death::error(&death, name)))
            }
        }
    }

    /// When to look whether the time is up.
    fn look_at(&self, now: Instant) -> Instant {
        self.patience.map_or(now + IDLE_LOOK, |patience| patience.of_stage(self.begun).until(now))
    }

    /// Until when the wait goes on, or `None` if the time is up.
    fn extension(&self, now: Instant) -> Option<Instant> {
        let Some(patience) = self.patience.map(|patience| patience.of_stage(self.begun)) else {
            return Some(now + IDLE_LOOK);
        };
        let until = match patience.first {
            Some(limit) => {
                self.child.look(|state| state.demux.silent_until(self.id, limit, now))?
            }
            None => now + IDLE_LOOK,
        };
        let until = patience.deadline.map_or(until, |deadline| deadline.min(until));
        (now < until).then_some(until)
    }

    /// To be asked while the exchange is still known to the process.
    fn timed_out(&self, now: Instant) -> Error {
        let is_late = |patience: Patience| patience.deadline.is_some_and(|until| until <= now);
        let message = match self.patience {
            Some(patience) if self.begun && is_late(patience) => {
                waited(now - self.started, "for the end of the answer")
            }
            Some(Patience { between: Some(limit), .. }) if self.begun => {
                waited(limit, "for more of the answer")
            }
            _ => waited(now - self.started, "for the server process to answer"),
        };
        Error::new(Kind::Timeout, Origin::Upstream, Retry::Never, message)
            .at(&self.child.params.name)
    }

    /// The HTTP status that goes with an answer.
    fn status(&self, answer: &Envelope) -> StatusCode {
        if self.era == Era::Legacy || answer.kind() != MessageKind::Error {
            return StatusCode::OK;
        }
        match answer.error_code() {
            Some(code::METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
            Some(
                code::HEADER_MISMATCH | code::MISSING_CLIENT_CAPABILITY | code::UNSUPPORTED_VERSION,
            ) => StatusCode::BAD_REQUEST,
            Some(_) | None => StatusCode::OK,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.over {
            self.child.leave(self.id);
        }
    }
}

impl Stream for Rest {
    type Item = Result<Frame, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::Message(first))));
        }
        let next = ready!(this.exchange.poll_next(cx, this.sleep.as_mut()));
        let frame =
            |(Received::Message(message) | Received::Answer(message))| Frame::Message(message);
        Poll::Ready(next.map(|next| next.map(frame)))
    }
}

impl Caller {
    /// The one client of a session's own process.
    pub(crate) const fn alone(id: Id) -> Self {
        Self { id, owner: Owner(0), era: Era::Legacy, counts: true, slow: None }
    }

    /// A modern client, of whom a process knows nothing from before.
    pub(crate) const fn modern(id: Id, slow: Option<Arc<SlowClients>>) -> Self {
        Self { id, owner: Owner(0), era: Era::Modern, counts: true, slow }
    }

    /// The same for a request that only makes calls possible. If these counted, a process could be
    /// spent before it has served anybody.
    pub(crate) fn uncounted(self) -> Self {
        Self { counts: false, ..self }
    }
}

impl Patience {
    /// With a call: as its route says, else as the upstream does.
    pub(crate) fn with_call(
        params: &Params,
        route: Option<&Timeouts>,
        deadline: Option<Instant>,
    ) -> Self {
        let Timeouts { request, idle, .. } = *route.unwrap_or(&params.timeouts);
        Self { first: request, between: idle, deadline }
    }

    /// With what has one limit for everything.
    pub(crate) const fn with_silence(limit: Duration, deadline: Option<Instant>) -> Self {
        Self { first: Some(limit), between: Some(limit), deadline }
    }

    /// When to give up on something that begins now.
    pub(crate) fn until(&self, now: Instant) -> Instant {
        let silent = now + self.first.unwrap_or(IDLE_LOOK);
        self.deadline.map_or(silent, |deadline| deadline.min(silent))
    }

    /// What is left of it once something has come, or all of it before that.
    const fn of_stage(self, begun: bool) -> Self {
        if begun { Self { first: self.between, ..self } } else { self }
    }
}

/// `waited 300 s for …`.
pub(crate) fn waited(time: Duration, what: &str) -> Cow<'static, str> {
    match time.as_secs() {
        0 => format!("waited {} ms {what}", time.as_millis()).into(),
        seconds => format!("waited {seconds} s {what}").into(),
    }
}

/// The id in a form that does not keep a large message alive.
fn keep(request: &Envelope, id: &Id) -> Id {
    if request.len() > 4096 { id.detach() } else { id.clone() }
}

fn opening(request: &Envelope, caller: &Caller, now: Instant) -> Opening {
    let era = caller.era;
    let (nature, task) = match era {
        Era::Legacy if request.is_method("initialize") => (Nature::Handshake, None),
        Era::Legacy if request.is_method("tasks/result") => {
            (Nature::Plain, request.name().map(|task| task.into_owned().into_boxed_str()))
        }
        Era::Modern if request.is_method("subscriptions/listen") => (Nature::Listen, None),
        Era::Legacy | Era::Modern => (Nature::Plain, None),
    };
    Opening {
        owner: caller.owner,
        client_id: caller.id.clone(),
        token: request.progress_token().map(|token| keep(request, &token)),
        nature,
        task,
        logs: era == Era::Modern && request.log_level().is_some(),
        counts: caller.counts,
        slow: caller.slow.clone(),
        now,
    }
}

/// The request as the process sees it. Our id serves as the progress token too, in the type that
/// the client chose.
fn rekeyed(request: &Envelope, id: u64, token: Option<&Id>) -> Bytes {
    let digits = id.to_string();
    match token.map(Id::as_text) {
        None => request.edited_bytes(&[(Field::Id, digits.as_bytes())]),
        Some(None) => {
            let edits = [(Field::Id, digits.as_bytes()), (Field::ProgressToken, digits.as_bytes())];
            request.edited_bytes(&edits)
        }
        Some(Some(_)) => {
            let quoted = format!("\"{digits}\"");
            let edits = [(Field::Id, digits.as_bytes()), (Field::ProgressToken, quoted.as_bytes())];
            request.edited_bytes(&edits)
        }
    }
}
