//! One stream of a session: what comes for it, what came, and whose turn it is to read.
//!
//! There is one reader at a time, and it polls what comes itself: no task and no queue stands
//! between. Each reader has a turn; who comes next takes the turn over, with all that is still to
//! come, and the earlier reader sees its stream end. A stream whose client left is read by a
//! [`Drain`], which is a reader like any other.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::HeaderValue;
use parking_lot::Mutex;
use tidegate_protocol::{
    Bytes, Envelope, holds_answer,
    sse::{self, Block},
};
use tidegate_service::{Error, EventStream, Frame, Kind, SessionUse};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Account, RETRY, ReplayParams,
    account::Counters,
    drain::Drain,
    id::{EventId, Text},
    journal::Journal,
    log::{BASE_COST, Log, Missed},
    source::{Source, Stage},
};

/// A stream that can be resumed.
#[derive(Debug)]
pub(super) struct Line {
    /// The place before the first event.
    start: EventId,
    /// Whether the client was given that place.
    is_primed: bool,
    params: ReplayParams,
    account: Account,
    journal: Weak<Journal>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    log: Log,
    source: Source,
    /// The server's own id of the last event, if it has such ids.
    upstream_id: Option<HeaderValue>,
    /// Whose turn it is. Grows with every reader.
    turn: u64,
    /// The next event that the client is given; `u64::MAX` while it is away.
    unread: u64,
    /// Since when the client is away.
    left: Option<Instant>,
    /// Proof that the account knows of an idle line.
    ticket: Option<u64>,
    waker: Option<Waker>,
}

/// What a reader sees.
pub(super) enum Seen {
    /// An event, under this number.
    Event(u64, Frame),
    /// What is no event: a comment, or a wish how long to wait.
    Aside(Frame),
    Failed(Error),
    /// There is no more, or it is somebody else's turn.
    Ended,
}

/// How a client left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub(super) at: Instant,
    /// Whether it took the event that only says where the stream begins.
    pub(super) was_primed: bool,
}

impl Line {
    pub(super) fn new(
        journal: &Arc<Journal>,
        number: u64,
        source: Source,
        is_primed: bool,
        params: ReplayParams,
    ) -> Self {
        journal.account.counters().opened(BASE_COST);
        Self {
            start: EventId { key: journal.key, stream: number, event: 0 },
            is_primed,
            params,
            account: journal.account.clone(),
            journal: Arc::downgrade(journal),
            state: Mutex::new(State {
                log: Log::default(),
                source,
                upstream_id: None,
                turn: 0,
                unread: 1,
                left: None,
                ticket: None,
                waker: None,
            }),
        }
    }

    pub(super) const fn number(&self) -> u64 {
        self.start.stream
    }

    /// Whether the stream answers a request.
    pub(super) fn is_answer(&self) -> bool {
        self.state.lock().source.asked.is_some()
    }

    /// How long a reader may wait on end for what its stream answers with.
    pub(super) fn poll_after(&self) -> Option<Duration> {
        self.params.poll_after.filter(|_| self.is_primed && self.is_answer())
    }

    /// The event that only says where the stream begins, for a client that is given one.
    pub(super) fn priming(&self) -> Option<Block> {
        let id = self.start.text();
        let raw = sse::priming(id.as_str(), Some(RETRY)).ok().filter(|_| self.is_primed)?;
        let id = Some(Bytes::copy_from_slice(id.as_str().as_bytes()));
        Some(Block { raw, data: Some(Bytes::new()), id, event: None, retry: Some(RETRY) })
    }

    /// Begins to read after the event `cursor`. Returns the turn.
    pub(super) fn resume(&self, cursor: u64, now: Instant) -> Result<u64, Error> {
        let earlier;
        let turn = {
            let mut state = self.state.lock();
            // Whoever reads now must not suffer from an attempt that fails.
            let unread = state.unread;
            self.expire(&mut state, now, unread);
            let came_late = state.left.is_some_and(|left| self.is_too_long(now, left));
            let checked = if came_late { Err(Missed::Evicted) } else { state.log.check(cursor) };
            if let Err(missed) = checked {
                drop(state);
                return Err(self.gap(missed));
            }
            earlier = self.take_turn(&mut state, cursor + 1);
            state.turn
        };
        self.counters().resumed.fetch_add(1, Ordering::Relaxed);
        // Whoever read before sees that it is over.
        earlier.into_iter().for_each(Waker::wake);
        Ok(turn)
    }

    /// What to ask the server for so that the stream goes on, if it does not by itself: what
    /// follows on this event of the server's, or what it says from now on.
    pub(super) fn wanted(&self) -> Option<Option<HeaderValue>> {
        let state = self.state.lock();
        matches!(state.source.stage, Stage::Away).then(|| state.upstream_id.clone())
    }

    /// Goes on with what the server says; without a stream, there is no more.
    pub(super) fn attach(&self, turn: u64, frames: Option<EventStream>) {
        let stage = frames.map_or(Stage::Over, Stage::Frames);
        let mut state = self.state.lock();
        // If somebody else has taken over meanwhile, he asked the server too.
        if state.turn == turn {
            state.source.stage = stage;
        }
    }

    /// Messages for the stream were lost before they came here. Whoever goes on from an earlier event
    /// is told so from now on.
    pub(super) fn skip(&self) -> Error {
        let mut state = self.state.lock();
        let before = state.log.bytes();
        let evicted = state.log.skip();
        self.counters().moved(before, state.log.bytes());
        drop(state);
        self.counters().evicted(evicted);
        self.gap(Missed::Evicted)
    }

    /// What the reader whose turn it is finds at `at`.
    pub(super) fn poll_read(&self, turn: u64, at: u64, cx: &mut Context<'_>) -> Poll<Seen> {
        let seen = {
            let mut state = self.state.lock();
            if state.turn != turn {
                return Poll::Ready(Seen::Ended);
            }
            if at < state.log.next() {
                return Poll::Ready(self.read_again(&mut state, at));
            }
            let Poll::Ready(next) = state.source.stage.poll(cx) else {
                if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    state.waker = Some(cx.waker().clone());
                }
                return Poll::Pending;
            };
            let seen = self.take_in(&mut state, next);
            if let Seen::Event(number, _) = &seen
                && state.left.is_none()
            {
                state.unread = number + 1;
            }
            seen
        };
        self.keep_within_budget();
        Poll::Ready(seen)
    }

    /// The client has left. Its call goes on if it can come back for the answer.
    pub(super) fn leave(self: &Arc<Self>, turn: u64, left: Left, in_use: SessionUse) {
        let now = left.at;
        // Outlives the lock, as do what is dropped with it.
        let earlier;
        let mut state = self.state.lock();
        if state.turn != turn {
            return;
        }
        let has_id = self.is_primed && left.was_primed || state.log.next() > 1;
        earlier = self.take_turn(&mut state, u64::MAX);
        state.left = Some(now);
        let journal = self.journal.upgrade().filter(|journal| !journal.ended.is_cancelled());
        let is_call = state.source.asked.is_some();
        let place = if has_id && is_call && state.source.stage.is_live() {
            journal.as_ref().and_then(Journal::drain_place)
        } else {
            None
        };
        if let Some(place) = place {
            let turn = state.turn;
            drop(state);
            let until = now + self.params.limits.age;
            let line = Arc::clone(self);
            let drain = Drain::new((line, turn), until, place, in_use);
            // Refused when the proxy stops, and then the drop ends it.
            drop(self.account.hand_over(drain));
            return;
        }
        let was_live = state.source.stage.is_live();
        // What a server says unasked waits there until somebody listens again.
        let rest = if is_call { Stage::Over } else { Stage::Away };
        let unread = was_live.then(|| std::mem::replace(&mut state.source.stage, rest));
        let is_lost = was_live && is_call || !has_id;
        if !is_lost {
            state.ticket = Some(self.account.idle(Arc::downgrade(self)));
        }
        drop(state);
        drop((unread, earlier));
        if is_lost && let Some(journal) = journal {
            journal.remove(self.number());
        }
    }

    /// Whoever read while the client was away has done so. What is still to come is lost; what came
    /// waits for the client.
    pub(super) fn drained(self: &Arc<Self>, turn: u64) {
        let mut state = self.state.lock();
        if state.turn != turn {
            return;
        }
        if !state.source.stage.is_live() {
            state.ticket = Some(self.account.idle(Arc::downgrade(self)));
            return;
        }
        let rest = std::mem::replace(&mut state.source.stage, Stage::Over);
        drop(state);
        drop(rest);
        if let Some(journal) = self.journal.upgrade() {
            journal.remove(self.number());
        }
    }

    /// The number that the next event will have.
    pub(super) fn next(&self) -> u64 {
        self.state.lock().log.next()
    }

    /// The signal that the session has ended, unless that is long ago.
    pub(super) fn session_end(&self) -> Option<CancellationToken> {
        self.journal.upgrade().map(|journal| journal.ended.clone())
    }

    /// Whether the client has been away for too long at `now`. Drops events that are too old.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let unread = state.unread;
        self.expire(&mut state, now, unread);
        state.left.is_some_and(|left| self.is_too_long(now, left))
    }

    /// Gives up the whole log for lack of room, unless somebody has come back to it.
    pub(super) fn evict_whole(&self) {
        let mut state = self.state.lock();
        // The account has forgotten the ticket.
        if state.ticket.take().is_none() {
            return;
        }
        let before = state.log.bytes();
        let mut evicted = 0;
        while state.log.evict() {
            evicted += 1;
        }
        self.counters().moved(before, state.log.bytes());
        drop(state);
        self.counters().evicted(evicted);
        if let Some(journal) = self.journal.upgrade() {
            journal.remove(self.number());
        }
    }

    fn is_too_long(&self, now: Instant, left: Instant) -> bool {
        now.duration_since(left) >= self.params.limits.age
    }

    fn gap(&self, missed: Missed) -> Error {
        self.journal.upgrade().map_or_else(gone, |journal| journal.gap(Some(missed)))
    }

    fn read_again(&self, state: &mut State, at: u64) -> Seen {
        let Some(block) = state.log.get(at).cloned() else {
            // It went for lack of room while somebody was taking the stream over.
            return Seen::Failed(self.gap(Missed::Evicted));
        };
        state.unread = at + 1;
        self.counters().replayed.fetch_add(1, Ordering::Relaxed);
        Seen::Event(at, Frame::Block(block))
    }

    fn take_in(&self, state: &mut State, next: Option<Result<Frame, Error>>) -> Seen {
        match next {
            Some(Ok(Frame::Message(message) | Frame::Stamped { message, .. })) => {
                self.message(state, message)
            }
            Some(Ok(Frame::Block(block))) => self.block(state, block),
            Some(Err(error)) => self.failed(state, error),
            None => {
                self.ended(state);
                Seen::Ended
            }
        }
    }

    fn message(&self, state: &mut State, message: Envelope) -> Seen {
        match Block::message(self.next_id(state).as_str(), message.bytes()) {
            Ok(block) => {
                let number = self.append(state, block.clone());
                Seen::Event(number, Frame::Stamped { message, block })
            }
            // Our ids have no line breaks.
            Err(_) => Seen::Aside(Frame::Message(message)),
        }
    }

    fn block(&self, state: &mut State, block: Block) -> Seen {
        if let Some(id) = &block.id {
            let value = HeaderValue::from_bytes(id).ok();
            state.upstream_id = value.filter(|id| !id.is_empty());
        }
        if block.data.is_none() {
            // No event, but an id in it would take the place of ours in the client's memory.
            let kept = if block.id.is_some() { block.under(None).ok() } else { None };
            return Seen::Aside(Frame::Block(kept.unwrap_or(block)));
        }
        match block.under(Some(self.next_id(state).as_str())) {
            Ok(block) => {
                let number = self.append(state, block.clone());
                Seen::Event(number, Frame::Block(block))
            }
            Err(_) => Seen::Aside(Frame::Block(block)),
        }
    }

    fn ended(&self, state: &mut State) {
        // A server may close a stream before the answer and have the client come back for it.
        let goes_on = match &state.source.asked {
            None => true,
            Some(_) => state.upstream_id.is_some() && !ends_with_answer(&state.log),
        };
        state.source.stage = if goes_on { Stage::Away } else { Stage::Over };
    }

    /// What comes is cut off. Where the server can be asked for the rest, the client sees a cut
    /// stream as well and comes back; else it is told, in an event that is kept like any other.
    fn failed(&self, state: &mut State, error: Error) -> Seen {
        if error.kind == Kind::SessionUnknown
            && let Some(journal) = self.journal.upgrade()
        {
            journal.ended.cancel();
        }
        let can_ask = state.upstream_id.is_some() && error.kind != Kind::Timeout;
        let told = match &state.source.asked {
            Some(asked) if !can_ask => Envelope::parse((self.params.tell)(asked, &error)).ok(),
            Some(_) | None => None,
        };
        match told {
            Some(told) => {
                tracing::debug!(error = %error.chain(), "call failed after its stream began");
                state.source.stage = Stage::Over;
                self.message(state, told)
            }
            None => {
                state.source.stage = Stage::Away;
                Seen::Failed(error)
            }
        }
    }

    fn next_id(&self, state: &State) -> Text {
        EventId { event: state.log.next(), ..self.start }.text()
    }

    fn append(&self, state: &mut State, block: Block) -> u64 {
        let number = state.log.next();
        let before = state.log.bytes();
        let evicted = state.log.append(block, Instant::now(), &self.params.limits);
        let counters = self.counters();
        counters.moved(before, state.log.bytes());
        counters.evicted(evicted);
        counters.logged.fetch_add(1, Ordering::Relaxed);
        number
    }

    fn expire(&self, state: &mut State, now: Instant, unread: u64) {
        let before = state.log.bytes();
        let evicted = state.log.expire(now, self.params.limits.age, unread);
        self.counters().moved(before, state.log.bytes());
        self.counters().evicted(evicted);
    }

    /// Makes it somebody else's turn. Returns how to wake whoever had it.
    fn take_turn(&self, state: &mut State, unread: u64) -> Option<Waker> {
        state.turn += 1;
        state.unread = unread;
        state.left = None;
        if let Some(ticket) = state.ticket.take() {
            self.account.not_idle(ticket);
        }
        state.waker.take()
    }

    /// When nobody else has anything to give up, the log that grew does.
    fn keep_within_budget(&self) {
        if !self.account.is_over() || self.account.make_room() {
            return;
        }
        let mut state = self.state.lock();
        let mut evicted = 0;
        while self.account.is_over() {
            let before = state.log.bytes();
            if !state.log.evict() {
                break;
            }
            evicted += 1;
            self.counters().moved(before, state.log.bytes());
        }
        drop(state);
        self.counters().evicted(evicted);
    }

    fn counters(&self) -> &Counters {
        self.account.counters()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let ticket = state.ticket.take();
        let bytes = state.log.bytes();
        if let Some(ticket) = ticket {
            self.account.not_idle(ticket);
        }
        self.account.counters().closed(bytes);
    }
}

/// Whether the last event is an answer. If it is not kept, nothing says so.
fn ends_with_answer(log: &Log) -> bool {
    let last = log.next().checked_sub(1).and_then(|last| log.get(last));
    last.and_then(|block| block.data.as_ref()).is_some_and(holds_answer)
}

/// The session is over, and its logs with it.
fn gone() -> Error {
    Error::refused(Kind::SessionUnknown, "the session has ended")
}
