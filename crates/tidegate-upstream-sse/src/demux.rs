//! Who gets which message of one stream. Pure: no IO, no clock, no task.
//!
//! All of it belongs to one client, so ids are kept as both ends wrote them; what has to be told
//! apart is the client's calls. An answer goes to the call with its id, progress to the call with
//! its token, a request of the server to a stream that somebody reads. The rest is for the
//! session's GET stream, and waits for one within bounds.

mod pressure;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tidegate_protocol::{Envelope, Id, Kind};
use tidegate_service::slow::{self, SlowClients, Slowness};
use tokio::time::Instant;

use crate::stats::{Counters, Lasting};

/// A message on its way to the client, with the id that a request of the server has.
type Item = slow::Item<Id>;
type Mailbox = slow::Mailbox<Id>;

/// The most requests that one client may have unanswered.
const MAX_CALLS: usize = 1024;
/// The most requests of the server that one client may have unanswered.
const MAX_ASKS: usize = 256;

/// The state of one stream's conversation.
#[derive(Debug)]
pub(crate) struct Demux {
    counters: Arc<Counters>,
    /// How long something may wait without a reader.
    patience: Duration,
    calls: HashMap<Id, Call>,
    /// Requests of the server that the client has not answered, and where they went.
    asks: HashMap<Id, Place>,
    /// Open GET streams, the newest last.
    listeners: Vec<Listener>,
    last_listener: u64,
    /// What waits for one.
    held: Mailbox,
    /// How many messages found no room there, or were not taken in time, since somebody listened.
    missed: u64,
    /// How the session's route treats clients that do not read.
    slow: Option<Arc<SlowClients>>,
    /// Whether some mailbox may be full whose reader is waited for.
    is_crowded: bool,
    /// Whether the owner was told not to read.
    is_paused: bool,
    /// The stream has ended.
    is_over: bool,
}

/// What the owner has to do after a change.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Readers that have something to read.
    pub(crate) wake: Vec<Waker>,
    /// Requests of the server that nobody took.
    pub(crate) refuse: Vec<Id>,
    /// Calls that the server need not go on with.
    pub(crate) take_back: Vec<Id>,
}

/// Why a call cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// Another call has this id and no answer yet.
    SameId,
    /// There are too many.
    Full,
    /// The stream has ended.
    Over,
}

/// What the reader of a call finds.
#[derive(Debug)]
pub(crate) enum Step {
    /// A message on the way to the answer.
    Message(Envelope),
    Answer(Envelope),
    /// There will be no answer: the client took the request back.
    Cancelled,
    /// The answer came and could not be read.
    Broken,
    /// The request was taken back, since its reader stood still.
    Overflowed(Slowness),
    /// The stream ended first.
    Died,
}

/// A GET stream that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    /// To poll it by.
    pub(crate) key: u64,
    /// How many messages are missing since somebody listened last.
    pub(crate) missed: u64,
}

#[derive(Debug)]
struct Call {
    token: Option<Id>,
    /// Its answer is all that it gets.
    is_handshake: bool,
    mailbox: Mailbox,
    waker: Option<Waker>,
    /// The last sign of life.
    touched: Instant,
    phase: Phase,
    in_flight: Option<Lasting>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a box would cost each call an allocation")]
enum Phase {
    Open,
    /// Its reader left. The id is not free before the answer has come, or until then.
    Left(Instant),
    Ended(Step),
}

#[derive(Debug)]
struct Listener {
    key: u64,
    mailbox: Mailbox,
    waker: Option<Waker>,
    /// Whether it takes no more, and then why, until that was told.
    overflowed: Option<Option<Slowness>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Call(Id),
    Listener,
}

impl Demux {
    pub(crate) fn new(counters: Arc<Counters>, patience: Duration) -> Self {
        Self {
            counters,
            patience,
            calls: HashMap::new(),
            asks: HashMap::new(),
            listeners: Vec::new(),
            last_listener: 0,
            held: Mailbox::default(),
            missed: 0,
            slow: None,
            is_crowded: false,
            is_paused: false,
            is_over: false,
        }
    }

    /// Notes a request that is about to be sent.
    pub(crate) fn open(
        &mut self,
        request: &Envelope,
        id: &Id,
        now: Instant,
    ) -> Result<(), Unopened> {
        if self.is_over {
            return Err(Unopened::Over);
        }
        if self.calls.len() >= MAX_CALLS || self.calls.contains_key(id) {
            self.calls.retain(|_, call| !matches!(call.phase, Phase::Left(until) if until <= now));
        }
        if self.calls.contains_key(id) {
            return Err(Unopened::SameId);
        }
        if self.calls.len() >= MAX_CALLS {
            return Err(Unopened::Full);
        }
        let in_flight = Lasting::new(&self.counters, |counters| &counters.in_flight);
        let call = Call {
            token: request.progress_token().map(|token| token.detach()),
            is_handshake: request.method().as_deref() == Some("initialize"),
            mailbox: Mailbox::new(self.slow.clone()),
            waker: None,
            touched: now,
            phase: Phase::Open,
            in_flight: Some(in_flight),
        };
        self.calls.insert(id.detach(), call);
        Ok(())
    }

    /// Takes in one message of the server.
    pub(crate) fn receive(&mut self, message: Envelope, now: Instant, fx: &mut Effects) {
        match message.kind() {
            Kind::Response | Kind::Error => {
                self.answered(message.id().as_ref(), Step::Answer(message), fx);
            }
            Kind::Request => self.asked(message, now, fx),
            Kind::Notification => self.notified(message, now, fx),
        }
    }

    /// Takes in an answer that is no valid message but says whose it is.
    pub(crate) fn receive_broken(&mut self, id: &Id, fx: &mut Effects) {
        self.answered(Some(id), Step::Broken, fx);
    }

    fn answered(&mut self, id: Option<&Id>, step: Step, fx: &mut Effects) {
        let call = id.and_then(|id| self.calls.get_mut(id));
        match (call, id) {
            (Some(call), _) if matches!(call.phase, Phase::Open) => call.end(step, fx),
            (Some(Call { phase: Phase::Left(_), .. }), Some(id)) => {
                self.counters.stray_answers.fetch_add(1, Relaxed);
                self.calls.remove(id);
            }
            // A second answer, or one to what was never asked.
            _ => {
                self.counters.stray_answers.fetch_add(1, Relaxed);
            }
        }
    }

    fn asked(&mut self, request: Envelope, now: Instant, fx: &mut Effects) {
        let Some(id) = request.id().map(|id| id.detach()) else { return };
        if self.asks.len() >= MAX_ASKS {
            return self.refuse(id, fx);
        }
        // The only call that is read must be meant. Among several it cannot be told, so that the
        // stream for everything else comes first.
        let mut readers = self.calls.iter().filter(|(_, call)| call.takes_messages());
        let sole = readers.next().filter(|_| readers.next().is_none());
        let place = match sole {
            Some((id, _)) => Place::Call(id.clone()),
            None if self.is_listened_to() => Place::Listener,
            None => self.latest_reader().map_or(Place::Listener, Place::Call),
        };
        self.asks.insert(id.clone(), place.clone());
        self.put(&place, Item { message: request, ask: Some(id), since: now }, fx);
    }

    fn notified(&mut self, note: Envelope, now: Instant, fx: &mut Effects) {
        let place = match note.method().as_deref() {
            Some("notifications/progress") => {
                let token = note.notified_progress();
                let meant = |call: &Call| token.is_some() && call.token == token;
                let open = self.calls.iter_mut().filter(|(_, call)| call.is_unanswered());
                let mut meant = open.filter(|(_, call)| meant(call));
                meant.next().map_or(Place::Listener, |(id, call)| {
                    call.touched = now;
                    if call.takes_messages() { Place::Call(id.clone()) } else { Place::Listener }
                })
            }
            Some("notifications/cancelled") => {
                // The news follows the request.
                let taken_back = note.cancelled_request().and_then(|id| self.asks.remove(&id));
                match taken_back {
                    Some(Place::Call(id)) if self.reads(&id) => Place::Call(id),
                    _ => Place::Listener,
                }
            }
            _ => Place::Listener,
        };
        self.put(&place, Item { message: note, ask: None, since: now }, fx);
    }

    /// Nobody will read it.
    fn drop_item(&mut self, item: Item, fx: &mut Effects) {
        match item.ask {
            Some(id) => {
                self.asks.remove(&id);
                self.refuse(id, fx);
            }
            None => {
                self.counters.notifications_dropped.fetch_add(1, Relaxed);
            }
        }
    }

    fn refuse(&self, id: Id, fx: &mut Effects) {
        self.counters.asks_refused.fetch_add(1, Relaxed);
        fx.refuse.push(id);
    }

    /// What the reader of this call finds.
    pub(crate) fn poll(&mut self, id: &Id, cx: &Context<'_>) -> Poll<Step> {
        let Some(call) = self.calls.get_mut(id) else { return Poll::Ready(Step::Cancelled) };
        if let Some(item) = call.mailbox.pop() {
            return Poll::Ready(Step::Message(item.message));
        }
        if call.is_unanswered() {
            call.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        match self.calls.remove(id).map(|call| call.phase) {
            Some(Phase::Ended(step)) => Poll::Ready(step),
            Some(Phase::Open | Phase::Left(_)) | None => Poll::Ready(Step::Cancelled),
        }
    }

    /// The reader of this call has left. The server goes on, since leaving means nothing; its
    /// answer will be dropped.
    pub(crate) fn leave(&mut self, id: &Id, now: Instant, fx: &mut Effects) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let mut unread = std::mem::take(&mut call.mailbox);
        call.waker = None;
        if call.is_unanswered() {
            call.phase = Phase::Left(now + self.patience);
        } else {
            self.calls.remove(id);
        }
        while let Some(item) = unread.pop() {
            match item.ask {
                Some(_) => self.put_aside(item, fx),
                None => self.drop_item(item, fx),
            }
        }
    }

    /// The request has not reached the server.
    pub(crate) fn forget(&mut self, id: &Id) {
        self.calls.remove(id);
    }

    /// A client takes a request back.
    pub(crate) fn client_cancels(&mut self, note: &Envelope, fx: &mut Effects) {
        let Some(id) = note.cancelled_request() else { return };
        let Some(call) = self.calls.get_mut(&id).filter(|call| !call.is_handshake) else { return };
        match call.phase {
            Phase::Open => call.end(Step::Cancelled, fx),
            Phase::Left(_) => self.forget(&id),
            Phase::Ended(_) => (),
        }
    }

    /// A client answers a request of the server. Whether there is one that is not answered yet.
    pub(crate) fn client_answers(&mut self, answer: &Envelope, now: Instant) -> bool {
        let place = answer.id().and_then(|id| self.asks.remove(&id));
        if let Some(Place::Call(id)) = &place
            && let Some(call) = self.calls.get_mut(id)
        {
            // From here on it is the server's turn again.
            call.touched = now;
        }
        if place.is_none() {
            self.counters.stray_client_answers.fetch_add(1, Relaxed);
        }
        place.is_some()
    }

    /// Until when this call may stay silent, or `None` if its time is up. While the client owes the
    /// server an answer, the server owes none.
    pub(crate) fn silent_until(&self, id: &Id, limit: Duration, now: Instant) -> Option<Instant> {
        let touched = if self.asks.is_empty() { self.calls.get(id)?.touched } else { now };
        let until = touched + limit;
        (now < until).then_some(until)
    }

    /// Opens a GET stream, which gets what has been waiting and, as long as it is the newest, what
    /// comes.
    pub(crate) fn listen(&mut self) -> Opened {
        self.last_listener += 1;
        let key = self.last_listener;
        let mailbox = std::mem::replace(&mut self.held, Mailbox::new(self.slow.clone()));
        self.listeners.push(Listener { key, mailbox, waker: None, overflowed: None });
        Opened { key, missed: std::mem::take(&mut self.missed) }
    }

    /// The next message of a GET stream, or why it ended; `None` at its end.
    pub(crate) fn poll_listener(
        &mut self,
        key: u64,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<Envelope, Slowness>>> {
        let Some(listener) = self.listeners.iter_mut().find(|open| open.key == key) else {
            return Poll::Ready(None);
        };
        if let Some(item) = listener.mailbox.pop() {
            return Poll::Ready(Some(Ok(item.message)));
        }
        if let Some(why) = &mut listener.overflowed {
            return Poll::Ready(why.take().map(Err));
        }
        if self.is_over {
            return Poll::Ready(None);
        }
        listener.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The reader of a GET stream has left. What it did not read waits for the next one, before
    /// what came later.
    pub(crate) fn unlisten(&mut self, key: u64, fx: &mut Effects) {
        let Some(at) = self.listeners.iter().position(|open| open.key == key) else { return };
        let mut unread = self.listeners.remove(at).mailbox;
        let mut newer = std::mem::replace(&mut self.held, Mailbox::new(self.slow.clone()));
        for mailbox in [&mut unread, &mut newer] {
            while let Some(item) = mailbox.pop() {
                self.put_aside(item, fx);
            }
        }
    }

    fn put_aside(&mut self, item: Item, fx: &mut Effects) {
        if let Some(place) = item.ask.as_ref().and_then(|id| self.asks.get_mut(id)) {
            *place = Place::Listener;
        }
        self.put(&Place::Listener, item, fx);
    }

    /// When something will have waited too long for a GET stream.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.held.oldest().map(|since| since + self.patience)
    }

    /// Drops what has waited too long.
    pub(crate) fn expire(&mut self, now: Instant, fx: &mut Effects) {
        while self.due().is_some_and(|due| due <= now)
            && let Some(item) = self.held.pop()
        {
            self.miss(item, fx);
        }
    }

    /// The stream has ended, and with it everything that waits for something.
    pub(crate) fn die(&mut self, fx: &mut Effects) {
        self.is_over = true;
        self.calls.retain(|_, call| !matches!(call.phase, Phase::Left(_)));
        for call in self.calls.values_mut().filter(|call| call.is_unanswered()) {
            call.end(Step::Died, fx);
        }
        fx.wake.extend(self.listeners.iter_mut().filter_map(|open| open.waker.take()));
        self.held = Mailbox::default();
        self.asks.clear();
    }

    fn is_listened_to(&self) -> bool {
        self.listeners.iter().any(|open| open.overflowed.is_none())
    }

    fn reads(&self, id: &Id) -> bool {
        self.calls.get(id).is_some_and(Call::takes_messages)
    }

    /// The call that was last alive among those that are read.
    fn latest_reader(&self) -> Option<Id> {
        let readers = self.calls.iter().filter(|(_, call)| call.takes_messages());
        readers.max_by_key(|(_, call)| call.touched).map(|(id, _)| id.clone())
    }
}

impl Call {
    const fn is_unanswered(&self) -> bool {
        !matches!(self.phase, Phase::Ended(_))
    }

    const fn takes_messages(&self) -> bool {
        matches!(self.phase, Phase::Open) && !self.is_handshake
    }

    fn end(&mut self, step: Step, fx: &mut Effects) {
        self.phase = Phase::Ended(step);
        drop(self.in_flight.take());
        fx.wake.extend(self.waker.take());
    }
}
