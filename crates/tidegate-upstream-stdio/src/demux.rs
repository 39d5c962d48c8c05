//! Who gets which message of one process. Pure: no IO, no clock, no task.
//!
//! Everything that crosses the pipe is known here under an id of ours: the clients' requests, their
//! progress tokens and subscriptions, and the server's own requests. Ids are never reused. What
//! cannot be attributed goes to the one client of a session's process, and to nobody where many
//! clients share a process; only that a list has changed concerns them all.
//!
//! The owner feeds in messages and moments, and carries out the [`Effects`]. Readers poll for what
//! is theirs and leave a waker.

mod asks;
mod ends;
mod listeners;
mod need;
mod notes;
mod pressure;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use rustc_hash::FxHashMap;
use tidegate_protocol::{Bytes, Envelope, Field, Id, Kind, rpc};
use tidegate_service::slow::{self, SlowClients, Slowness};
use tokio::time::Instant;

use self::{asks::Ask, listeners::Listeners};
pub(crate) use self::{listeners::Opened, need::Need};
use crate::{child::Death, stats::Counters};

/// A message on its way to a client; one of the server's requests under our id of it.
type Item = slow::Item<u64>;
type Mailbox = slow::Mailbox<u64>;

/// How many given-up ids are remembered, to tell late answers from second ones.
const TOMBSTONES: usize = 256;

/// How long a given-up request may still be logging. Until then nobody else's log lines can be
/// told from its own.
const ECHO: Duration = Duration::from_secs(300);

/// How a process's messages are attributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One legacy session owns the process.
    Session,
    /// Many legacy sessions share the process, which was told that its client can do nothing.
    Common,
    /// Modern requests of many clients share the process.
    Modern,
}

/// The state of one process's conversation.
#[derive(Debug)]
pub(crate) struct Demux {
    mode: Mode,
    /// How long something may wait without a reader.
    patience: Duration,
    counters: Arc<Counters>,
    calls: FxHashMap<u64, Call>,
    /// How many of `calls` have no answer yet.
    in_flight: usize,
    asks: FxHashMap<u64, Ask>,
    last_ask: u64,
    listeners: Listeners,
    /// What waits for a listener to come.
    outbox: Mailbox,
    /// How many messages sessions have missed that had a listener; where sessions share the process,
    /// of those that have none now.
    missed: FxHashMap<Owner, u64>,
    /// How the route of the one session treats clients that do not read.
    slow: Option<Arc<SlowClients>>,
    /// Whether some mailbox may be full whose reader is waited for.
    is_crowded: bool,
    /// Whether the owner was told not to read.
    is_held: bool,
    /// The highest id that was opened.
    newest: u64,
    tombstones: VecDeque<u64>,
    /// Given-up requests with a log level.
    echoes: VecDeque<(Instant, u64)>,
    /// Requests whose client left, and when they are given up.
    overdue: VecDeque<(Instant, u64)>,
    death: Option<Arc<Death>>,
}

/// What the owner has to do after a change.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Messages for the process, of our own making.
    pub(crate) lines: Vec<Bytes>,
    /// Readers that have something to read.
    pub(crate) wake: Vec<Waker>,
    /// The server has shown that it needs a client that can do this.
    pub(crate) need: Option<Need>,
    /// Much waits for some reader, which should have a turn.
    pub(crate) is_behind: bool,
}

/// Whose a request or a stream is, where sessions share a process: a number of the session's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Owner(pub(crate) u64);

/// A client's request, as it is opened.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) owner: Owner,
    /// The client's id.
    pub(crate) client_id: Id,
    /// The client's progress token.
    pub(crate) token: Option<Id>,
    pub(crate) nature: Nature,
    /// The task that the request waits for.
    pub(crate) task: Option<Box<str>>,
    /// Whether the request asked for log lines.
    pub(crate) logs: bool,
    /// Whether it is one of the calls after which a process is replaced.
    pub(crate) counts: bool,
    /// How its route treats clients that do not read, where that is not the one of the process.
    pub(crate) slow: Option<Arc<SlowClients>>,
    pub(crate) now: Instant,
}

/// What sets a request apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    Plain,
    /// The handshake: never cancelled, and its answer is its whole reply.
    Handshake,
    /// A subscription, which stays open.
    Listen,
}

/// What a reader finds.
#[derive(Debug)]
pub(crate) enum Step {
    /// A message on the way to the answer, ready to be sent.
    Message(Envelope),
    /// The answer, still with our ids.
    Answer(Envelope),
    /// There will be no answer: the client cancelled.
    Cancelled,
    /// The answer came and could not be read.
    Broken,
    /// The request was taken back, since its reader stood still.
    Overflowed(Slowness),
    /// The process died first.
    Dead(Arc<Death>),
}

#[derive(Debug)]
struct Call {
    owner: Owner,
    client_id: Id,
    token: Option<Id>,
    nature: Nature,
    task: Option<Box<str>>,
    logs: bool,
    mailbox: Mailbox,
    waker: Option<Waker>,
    /// The last sign of life.
    touched: Instant,
    phase: Phase,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a box would cost each call an allocation")]
enum Phase {
    /// No answer yet, and somebody waits for it.
    Open,
    /// No answer yet, and nobody waits for it any more.
    Left,
    /// Over; the reader has not noticed yet.
    Ended(Step),
}

impl Demux {
    pub(crate) fn new(mode: Mode, patience: Duration, counters: Arc<Counters>) -> Self {
        Self {
            mode,
            patience,
            counters,
            calls: FxHashMap::default(),
            in_flight: 0,
            asks: FxHashMap::default(),
            last_ask: 0,
            listeners: Listeners::default(),
            outbox: Mailbox::default(),
            missed: FxHashMap::default(),
            slow: None,
            is_crowded: false,
            is_held: false,
            newest: 0,
            tombstones: VecDeque::new(),
            echoes: VecDeque::new(),
            overdue: VecDeque::new(),
            death: None,
        }
    }

    /// How many requests the process is working on.
    pub(crate) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Why the process can serve no more, if so.
    pub(crate) const fn death(&self) -> Option<&Arc<Death>> {
        self.death.as_ref()
    }

    /// Notes a request that is about to be sent under this id, which must be new.
    pub(crate) fn open(&mut self, id: u64, opening: Opening) {
        self.newest = self.newest.max(id);
        self.in_flight += 1;
        self.counters.in_flight.fetch_add(1, Ordering::Relaxed);
        let Opening { owner, client_id, token, nature, task, logs, counts: _, slow, now } = opening;
        let mailbox = Mailbox::new(slow.or_else(|| self.slow.clone()));
        let phase = Phase::Open;
        let call = Call {
            owner,
            client_id,
            token,
            nature,
            task,
            logs,
            mailbox,
            waker: None,
            touched: now,
            phase,
        };
        self.calls.insert(id, call);
    }

    /// Takes in one message of the process.
    pub(crate) fn receive(&mut self, message: Envelope, now: Instant, fx: &mut Effects) {
        match message.kind() {
            Kind::Response | Kind::Error => {
                let id = message.id();
                if self.mode == Mode::Common {
                    fx.need = fx.need.or_else(|| Need::told_by(&message));
                }
                self.answered(id.as_ref(), Step::Answer(message), fx);
            }
            Kind::Notification => self.notified(message, now, fx),
            Kind::Request => self.asked(&message, now, fx),
        }
    }

    /// Takes in an answer that is no valid message but says whose it is.
    pub(crate) fn receive_broken(&mut self, id: &Id, fx: &mut Effects) {
        self.answered(Some(id), Step::Broken, fx);
    }

    /// What the reader of this request finds.
    pub(crate) fn poll(&mut self, id: u64, cx: &Context<'_>) -> Poll<Step> {
        let Some(call) = self.calls.get_mut(&id) else { return Poll::Ready(Step::Cancelled) };
        if let Some(item) = call.mailbox.pop() {
            return Poll::Ready(Step::Message(item.message));
        }
        if call.is_unanswered() {
            if !call.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                call.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        match self.calls.remove(&id).map(|call| call.phase) {
            Some(Phase::Ended(step)) => Poll::Ready(step),
            Some(Phase::Open | Phase::Left) | None => Poll::Ready(Step::Cancelled),
        }
    }

    /// The reader of this request has left.
    ///
    /// A legacy request goes on, since leaving means nothing; its answer will be dropped. A modern
    /// one is cancelled.
    pub(crate) fn leave(&mut self, id: u64, now: Instant, fx: &mut Effects) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.waker = None;
        let unread = std::mem::take(&mut call.mailbox);
        if !call.is_unanswered() {
            self.calls.remove(&id);
        } else if self.mode != Mode::Modern {
            call.phase = Phase::Left;
            self.overdue.push_back((now + self.patience, id));
        } else {
            self.give_up(id, now, fx);
        }
        self.put_elsewhere(unread, fx);
    }

    /// Stops waiting for the answer, and tells the process so.
    pub(crate) fn give_up(&mut self, id: u64, now: Instant, fx: &mut Effects) {
        let Some(call) = self.calls.remove(&id) else { return };
        if call.is_unanswered() {
            if call.nature != Nature::Handshake {
                fx.lines.push(cancelled(id));
            }
            self.bury(id, call.logs, now);
        }
        // Whoever still reads sees that there is nothing more to come.
        fx.wake.extend(call.waker);
        self.put_elsewhere(call.mailbox, fx);
    }

    /// Until when this request may stay silent, or `None` if its time is up.
    ///
    /// While the client owes the server an answer, the server owes none.
    pub(crate) fn silent_until(&self, id: u64, limit: Duration, now: Instant) -> Option<Instant> {
        let until = if self.owes_client_answer(id) {
            now + limit
        } else {
            self.calls.get(&id)?.touched + limit
        };
        (now < until).then_some(until)
    }

    /// A client takes back requests that it knows by this id. Returns what to tell the process.
    ///
    /// A client that uses one id for several requests at a time means all of them, but never those
    /// of another session.
    pub(crate) fn client_cancels(
        &mut self,
        owner: Owner,
        note: &Envelope,
        now: Instant,
        fx: &mut Effects,
    ) {
        let Some(client_id) = note.cancelled_request() else { return };
        let meant = |call: &Call| {
            call.is_unanswered()
                && call.nature != Nature::Handshake
                && call.owner == owner
                && call.client_id == client_id
        };
        let mut ids: Vec<u64> =
            self.calls.iter().filter(|(_, call)| meant(call)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        for id in ids {
            let token = id.to_string();
            let edited = note.edit(&[(Field::CancelledRequest, token.as_bytes())]);
            fx.lines.push(edited.into_bytes());
            let logs = self.calls.get(&id).is_some_and(|call| call.logs);
            self.end(id, Step::Cancelled, fx);
            self.bury_quietly(id, logs, now);
        }
    }

    fn answered(&mut self, id: Option<&Id>, end: Step, fx: &mut Effects) {
        // Our ids are integers; a string that looks like one is somebody else's.
        let id = id.and_then(Id::as_u64);
        match id.and_then(|id| self.calls.get(&id)).map(|call| &call.phase) {
            Some(Phase::Open) => self.end(id.unwrap_or_default(), end, fx),
            Some(Phase::Left) => {
                self.counters.late_answers.increment();
                self.end(id.unwrap_or_default(), end, fx);
            }
            Some(Phase::Ended(Step::Cancelled)) => self.counters.late_answers.increment(),
            Some(Phase::Ended(_)) => self.counters.duplicate_answers.increment(),
            None => self.count_stray(id),
        }
    }

    fn count_stray(&mut self, id: Option<u64>) {
        let buried = id.and_then(|id| self.tombstones.iter().position(|other| *other == id));
        if let Some(at) = buried {
            self.tombstones.remove(at);
            self.echoes.retain(|(_, other)| Some(*other) != id);
            self.counters.late_answers.increment();
        } else if id.is_some_and(|id| (1..=self.newest).contains(&id)) {
            self.counters.duplicate_answers.increment();
        } else {
            self.counters.unknown_answers.increment();
        }
    }

    /// Ends a request that has no answer yet.
    fn end(&mut self, id: u64, end: Step, fx: &mut Effects) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.is_unanswered()) else {
            return;
        };
        self.in_flight = self.in_flight.saturating_sub(1);
        self.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
        fx.wake.extend(call.waker.take());
        if matches!(call.phase, Phase::Left) {
            self.calls.remove(&id);
        } else {
            call.phase = Phase::Ended(end);
        }
    }

    /// Remembers a request that was removed without an answer.
    fn bury(&mut self, id: u64, logs: bool, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.bury_quietly(id, logs, now);
    }

    fn bury_quietly(&mut self, id: u64, logs: bool, now: Instant) {
        if self.tombstones.len() == TOMBSTONES {
            self.tombstones.pop_front();
        }
        self.tombstones.push_back(id);
        // On a common process any call may have made it talk.
        if logs || self.mode == Mode::Common {
            self.echoes.push_back((now + ECHO, id));
        }
    }

    /// The live request that has this token of ours.
    fn by_token(&self, token: &Id) -> Option<u64> {
        let as_text = token.as_text();
        let id = match &as_text {
            Some(text) => text.parse().ok()?,
            None => token.as_u64()?,
        };
        let call = self.calls.get(&id).filter(|call| matches!(call.phase, Phase::Open))?;
        // The server must not change the type, and a number that merely fits is no token of ours.
        let expected = call.token.as_ref()?;
        (expected.as_text().is_some() == as_text.is_some()).then_some(id)
    }

    /// The only request in flight, if its client still reads.
    fn sole_reader(&self) -> Option<u64> {
        if self.in_flight != 1 {
            return None;
        }
        let mut unanswered = self.calls.iter().filter(|(_, call)| call.is_unanswered());
        unanswered.next().filter(|(_, call)| call.takes_messages()).map(|(id, _)| *id)
    }

    /// The most recent request in flight whose client still reads.
    fn latest_reader(&self) -> Option<u64> {
        self.calls.iter().filter(|(_, call)| call.takes_messages()).map(|(id, _)| *id).max()
    }
}

/// Tells the process that nobody waits for an answer.
fn cancelled(id: u64) -> Bytes {
    rpc::notification("notifications/cancelled", &format!(r#"{{"requestId":{id}}}"#))
}

impl Drop for Demux {
    fn drop(&mut self) {
        self.counters.in_flight.fetch_sub(self.in_flight, Ordering::Relaxed);
    }
}

impl Call {
    const fn is_unanswered(&self) -> bool {
        match self.phase {
            Phase::Open | Phase::Left => true,
            Phase::Ended(_) => false,
        }
    }

    fn takes_messages(&self) -> bool {
        matches!(self.phase, Phase::Open) && self.nature != Nature::Handshake
    }
}
