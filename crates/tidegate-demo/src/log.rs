//! One replayable stream of events, as the legacy revisions have them.
//!
//! Calls push, one client reads. A client that comes back reads on after the last event it saw;
//! a newer reader takes the place of an older one, so each message goes out on one connection.
//! Bounded: the oldest events are forgotten first, and a reader that needs one of them ends.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::sink::Item;

/// How many events one stream keeps.
const EVENTS: usize = 1024;

/// How many bytes of events one stream keeps, besides its newest event.
const BYTES: usize = 1 << 20;

/// The events of one stream, numbered from 1.
#[derive(Debug)]
pub(crate) struct Log {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// The number of the oldest event that is kept.
    first: u64,
    events: VecDeque<Event>,
    bytes: usize,
    /// How many answers are still to come.
    owed: usize,
    /// Whether there is more than answers, so that a stream is needed.
    streaming: bool,
    closed: bool,
    /// Which reader is the current one; zero before the first.
    reader: u64,
}

#[derive(Clone, Debug)]
enum Event {
    Message(Bytes),
    /// Whoever reads this live is hung up on.
    Break,
}

/// How to answer the request that a log belongs to.
#[derive(Debug)]
pub(crate) enum Head {
    /// With these answers, and nothing else was sent.
    Answers(Vec<Bytes>),
    /// With a stream.
    Stream,
}

impl Log {
    /// A stream that ends after `owed` answers.
    pub(crate) fn new(owed: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                first: 1,
                events: VecDeque::new(),
                bytes: 0,
                owed,
                streaming: false,
                closed: owed == 0,
                reader: 0,
            }),
            changed: Notify::new(),
        })
    }

    /// A stream that ends only when it is closed.
    pub(crate) fn endless() -> Arc<Self> {
        Self::new(usize::MAX)
    }

    /// Adds what a call sends before its answer.
    pub(crate) fn push(&self, item: Item) {
        let mut state = self.state();
        state.streaming = true;
        match item {
            Item::Open => (),
            Item::Message(bytes) => state.append(Event::Message(bytes)),
            Item::Break => state.append(Event::Break),
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Takes the duty to give one of the owed answers.
    pub(crate) fn owe(self: &Arc<Self>) -> Owed {
        Owed(Some(Arc::clone(self)))
    }

    /// Ends the stream.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_waiters();
    }

    /// Whether nothing more will come.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Whether anybody ever read it.
    pub(crate) fn was_read(&self) -> bool {
        self.state().reader > 0
    }

    /// The number of the newest event.
    pub(crate) fn last(&self) -> u64 {
        self.state().next() - 1
    }

    /// Waits until it is clear how to answer.
    pub(crate) async fn head(&self) -> Head {
        loop {
            let changed = self.changed.notified();
            {
                let state = self.state();
                if state.streaming {
                    return Head::Stream;
                }
                if state.closed {
                    let answers = state.events.iter().filter_map(Event::message).collect();
                    return Head::Answers(answers);
                }
            }
            changed.await;
        }
    }

    /// Reads on after event `after`; nothing if events in between are forgotten.
    pub(crate) fn read_after(self: &Arc<Self>, after: u64) -> Option<Reader> {
        let mut state = self.state();
        if after + 1 < state.first || after >= state.next() {
            return None;
        }
        // A first reader is live from the start; one that comes back has been hung up on already.
        let live = if state.reader == 0 { 1 } else { state.next() };
        state.reader += 1;
        let reader = Reader { log: Arc::clone(self), number: state.reader, next: after + 1, live };
        drop(state);
        self.changed.notify_waiters();
        Some(reader)
    }

    fn paid(&self, answer: Option<Bytes>) {
        let mut state = self.state();
        if let Some(answer) = answer {
            state.append(Event::Message(answer));
        } else {
            // A cancelled call has no answer, which only a stream can say.
            state.streaming = true;
        }
        state.owed = state.owed.saturating_sub(1);
        state.closed |= state.owed == 0;
        drop(state);
        self.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    fn append(&mut self, event: Event) {
        if self.closed {
            return;
        }
        self.bytes += event.len();
        self.events.push_back(event);
        while self.events.len() > EVENTS || (self.bytes > BYTES && self.events.len() > 1) {
            if let Some(oldest) = self.events.pop_front() {
                self.bytes -= oldest.len();
                self.first += 1;
            }
        }
    }
}

impl Event {
    fn len(&self) -> usize {
        self.message().map_or(0, |bytes| bytes.len())
    }

    fn message(&self) -> Option<Bytes> {
        match self {
            Self::Message(bytes) => Some(bytes.clone()),
            Self::Break => None,
        }
    }
}

/// The duty to give one answer; dropping it says that there will be none.
#[derive(Debug)]
pub(crate) struct Owed(Option<Arc<Log>>);

impl Owed {
    /// Gives the answer.
    pub(crate) fn pay(mut self, answer: Bytes) {
        if let Some(log) = self.0.take() {
            log.paid(Some(answer));
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(log) = self.0.take() {
            log.paid(None);
        }
    }
}

/// One connection's place in a log.
#[derive(Debug)]
pub(crate) struct Reader {
    log: Arc<Log>,
    number: u64,
    next: u64,
    /// From which event on a break counts.
    live: u64,
}

impl Reader {
    /// The next message and its number; nothing when this connection is to end.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses nothing.
    pub(crate) async fn next(&mut self) -> Option<(u64, Bytes)> {
        let log = Arc::clone(&self.log);
        loop {
            let changed = log.changed.notified();
            if let Some(read) = self.look() {
                return read;
            }
            changed.await;
        }
    }

    /// The next step, if there is one: a message, or the end.
    fn look(&mut self) -> Option<Option<(u64, Bytes)>> {
        let state = self.log.state();
        loop {
            if state.reader != self.number {
                return Some(None);
            }
            let index = self.next.checked_sub(state.first).map(usize::try_from);
            let Some(Ok(index)) = index else { return Some(None) };
            let Some(event) = state.events.get(index) else {
                return state.closed.then_some(None);
            };
            let number = self.next;
            self.next += 1;
            match event {
                Event::Message(bytes) => return Some(Some((number, bytes.clone()))),
                Event::Break if number >= self.live => return Some(None),
                Event::Break => (),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Head, Log};
    use crate::sink::Item;

    fn message(text: &'static str) -> Item {
        Item::Message(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn answers_alone_need_no_stream() {
        let log = Log::new(2);
        let (one, two) = (log.owe(), log.owe());
        two.pay(Bytes::from_static(b"2"));
        one.pay(Bytes::from_static(b"1"));
        match log.head().await {
            Head::Answers(answers) => assert_eq!(answers, ["2", "1"]),
            Head::Stream => panic!("a stream"),
        }
    }

    #[tokio::test]
    async fn a_cancelled_call_ends_its_stream_without_an_answer() {
        let log = Log::new(1);
        drop(log.owe());
        assert!(matches!(log.head().await, Head::Stream));
        let mut reader = log.read_after(0).expect("a reader");
        assert_eq!(reader.next().await, None);
    }

    #[tokio::test]
    async fn a_reader_that_comes_back_goes_on_behind_the_break() {
        let log = Log::new(1);
        let owed = log.owe();
        log.push(message("a"));
        log.push(Item::Break);
        let mut first = log.read_after(0).expect("a reader");
        assert_eq!(first.next().await, Some((1, Bytes::from_static(b"a"))));
        assert_eq!(first.next().await, None);

        let mut second = log.read_after(1).expect("a reader");
        owed.pay(Bytes::from_static(b"answer"));
        assert_eq!(second.next().await, Some((3, Bytes::from_static(b"answer"))));
        assert_eq!(second.next().await, None);
    }

    #[tokio::test]
    async fn a_newer_reader_ends_the_older_one() {
        let log = Log::endless();
        let mut older = log.read_after(0).expect("a reader");
        let mut newer = log.read_after(0).expect("a reader");
        log.push(message("a"));
        assert_eq!(older.next().await, None);
        assert_eq!(newer.next().await, Some((1, Bytes::from_static(b"a"))));
    }

    #[tokio::test]
    async fn a_forgotten_event_cannot_be_read_after() {
        let log = Log::endless();
        for _ in 0..super::EVENTS + 2 {
            log.push(message("a"));
        }
        assert!(log.read_after(0).is_none());
        assert!(log.read_after(2).is_some());
        assert!(log.read_after(log.last()).is_some());
        assert!(log.read_after(log.last() + 1).is_none());
    }
}
