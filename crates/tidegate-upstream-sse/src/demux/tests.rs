//! Scripts of messages and moments, and who gets what.

mod pressure;

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tidegate_protocol::{Bytes, Envelope, Id};
use tokio::time::Instant;

use super::{Demux, Effects, MAX_ASKS, MAX_CALLS, Step, Unopened};
use crate::stats::Counters;

const PATIENCE: Duration = Duration::from_secs(30);

struct Rig {
    demux: Demux,
    counters: Arc<Counters>,
    now: Instant,
    refused: Vec<Id>,
    taken_back: Vec<Id>,
}

fn message(text: &str) -> Envelope {
    Envelope::parse(Bytes::from(text.to_owned())).unwrap()
}

fn id(text: &str) -> Id {
    Id::parse(Bytes::from(text.to_owned())).unwrap()
}

impl Rig {
    fn new() -> Self {
        let counters = Arc::new(Counters::default());
        let demux = Demux::new(Arc::clone(&counters), PATIENCE);
        Self { demux, counters, now: Instant::now(), refused: Vec::new(), taken_back: Vec::new() }
    }

    fn fx(&mut self, change: impl FnOnce(&mut Demux, Instant, &mut Effects)) {
        let mut fx = Effects::default();
        change(&mut self.demux, self.now, &mut fx);
        self.refused.extend(fx.refuse);
        self.taken_back.extend(fx.take_back);
    }

    fn open(&mut self, id_text: &str, token: &str) -> Result<(), Unopened> {
        let params = if token.is_empty() {
            String::new()
        } else {
            format!(r#","params":{{"_meta":{{"progressToken":{token}}}}}"#)
        };
        let request = format!(r#"{{"jsonrpc":"2.0","id":{id_text},"method":"m"{params}}}"#);
        self.demux.open(&message(&request), &id(id_text), self.now)
    }

    fn receive(&mut self, text: &str) {
        self.fx(|demux, now, fx| demux.receive(message(text), now, fx));
    }

    fn ask(&mut self, ask: u64) {
        self.receive(&format!(r#"{{"jsonrpc":"2.0","id":{ask},"method":"roots/list"}}"#));
    }

    /// What the reader of a call finds, as a word.
    fn finds(&mut self, id_text: &str) -> &'static str {
        let cx = Context::from_waker(Waker::noop());
        match self.demux.poll(&id(id_text), &cx) {
            Poll::Pending => "nothing",
            Poll::Ready(Step::Message(_)) => "message",
            Poll::Ready(Step::Answer(_)) => "answer",
            Poll::Ready(Step::Cancelled) => "cancelled",
            Poll::Ready(Step::Broken) => "broken",
            Poll::Ready(Step::Overflowed(why)) => why.as_str(),
            Poll::Ready(Step::Died) => "died",
        }
    }

    fn hears(&mut self, listener: u64) -> Option<Option<Envelope>> {
        let cx = Context::from_waker(Waker::noop());
        match self.demux.poll_listener(listener, &cx) {
            Poll::Pending => None,
            Poll::Ready(heard) => Some(heard.map(Result::unwrap)),
        }
    }
}

#[test]
fn answers_go_by_type_and_value_and_only_once() {
    let mut rig = Rig::new();
    for id in ["1", "\"1\""] {
        rig.open(id, "").unwrap();
    }
    rig.receive(r#"{"jsonrpc":"2.0","id":"1","result":{}}"#);
    assert_eq!((rig.finds("1"), rig.finds("\"1\"")), ("nothing", "answer"));
    rig.receive(r#"{"jsonrpc":"2.0","id":"1","result":{}}"#);
    rig.receive(r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}"#);
    rig.receive(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#);
    assert_eq!(rig.counters.stray_answers.load(Relaxed), 3);
    assert_eq!(rig.finds("1"), "nothing");
    assert_eq!(rig.counters.in_flight.load(Relaxed), 1);
}

#[test]
fn progress_goes_by_its_token_and_the_rest_to_the_listener() {
    let mut rig = Rig::new();
    rig.open("1", "\"t\"").unwrap();
    rig.open("2", "7").unwrap();
    let progress = |token: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1}}}}"#
        )
    };
    rig.receive(&progress("7"));
    assert_eq!((rig.finds("1"), rig.finds("2"), rig.finds("2")), ("nothing", "message", "nothing"));
    rig.receive(&progress("\"7\""));
    assert_eq!((rig.finds("1"), rig.finds("2")), ("nothing", "nothing"));
    let listener = rig.demux.listen().key;
    assert!(rig.hears(listener).flatten().is_some(), "it has waited");
    assert!(rig.hears(listener).is_none());
}

#[test]
fn a_question_goes_to_whoever_can_be_meant() {
    let mut rig = Rig::new();
    rig.open("1", "").unwrap();
    rig.ask(1);
    assert_eq!(rig.finds("1"), "message");
    rig.open("2", "").unwrap();
    let listener = rig.demux.listen().key;
    rig.ask(2);
    assert!(rig.hears(listener).flatten().is_some());
    // Nobody but these two calls reads: the one that showed life last is meant.
    rig.fx(|demux, _, fx| demux.unlisten(listener, fx));
    rig.now += Duration::from_secs(1);
    assert!(rig.demux.client_answers(&message(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), rig.now));
    rig.ask(3);
    assert_eq!((rig.finds("1"), rig.finds("2")), ("message", "nothing"));
    // The news that it is taken back follows it, and its answer is a stray one then.
    let note = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}"#;
    rig.receive(note);
    assert_eq!(rig.finds("1"), "message");
    assert!(
        !rig.demux.client_answers(&message(r#"{"jsonrpc":"2.0","id":3,"result":{}}"#), rig.now)
    );
    // What a reader leaves unread is for the next one.
    rig.receive(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#);
    assert_eq!(rig.finds("2"), "answer");
    rig.ask(4);
    rig.fx(|demux, now, fx| demux.leave(&id("1"), now, fx));
    let listener = rig.demux.listen().key;
    let heard = rig.hears(listener).flatten().unwrap();
    assert_eq!(heard.id(), Some(id("4")));
}

#[test]
fn what_waits_too_long_or_is_too_much_is_refused_or_dropped() {
    let mut rig = Rig::new();
    rig.ask(1);
    rig.receive(r#"{"jsonrpc":"2.0","method":"m"}"#);
    let due = rig.demux.due().unwrap();
    rig.fx(|demux, _, fx| demux.expire(due - Duration::from_millis(1), fx));
    assert!(rig.refused.is_empty());
    rig.fx(|demux, _, fx| demux.expire(due, fx));
    assert_eq!(rig.refused, [id("1")]);
    assert_eq!(rig.counters.notifications_dropped.load(Relaxed), 1);
    assert_eq!(rig.demux.due(), None);

    // Notifications make room for questions, and these for nobody.
    for n in 0..300 {
        rig.receive(&format!(r#"{{"jsonrpc":"2.0","method":"m","params":{{"n":{n}}}}}"#));
    }
    assert_eq!(rig.counters.notifications_dropped.load(Relaxed), 1 + 44);
    for ask in 0..MAX_ASKS as u64 + 1 {
        rig.ask(ask);
    }
    assert_eq!(rig.refused.split_off(1), [id(&MAX_ASKS.to_string())]);
    assert_eq!(rig.counters.notifications_dropped.load(Relaxed), 1 + 300);
}

#[test]
fn an_id_is_free_again_when_it_is_answered_taken_back_or_old() {
    let mut rig = Rig::new();
    rig.open("1", "").unwrap();
    assert_eq!(rig.open("1", ""), Err(Unopened::SameId));
    rig.fx(|demux, now, fx| demux.leave(&id("1"), now, fx));
    assert_eq!(rig.open("1", ""), Err(Unopened::SameId), "its answer may still come");
    rig.receive(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!((rig.open("1", ""), rig.finds("1")), (Ok(()), "nothing"));
    let note = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    rig.fx(|demux, _, fx| demux.client_cancels(&message(note), fx));
    assert_eq!((rig.finds("1"), rig.open("1", "")), ("cancelled", Ok(())));
    rig.fx(|demux, now, fx| demux.leave(&id("1"), now, fx));
    rig.now += PATIENCE;
    assert_eq!(rig.open("1", ""), Ok(()));
    for n in 1..MAX_CALLS {
        rig.open(&format!("\"{n}\""), "").unwrap();
    }
    assert_eq!(rig.open("2", ""), Err(Unopened::Full));
}

#[test]
fn the_end_is_the_end_for_all() {
    let mut rig = Rig::new();
    rig.open("1", "").unwrap();
    rig.open("2", "").unwrap();
    rig.receive(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#);
    let listener = rig.demux.listen().key;
    rig.receive(r#"{"jsonrpc":"2.0","method":"m"}"#);
    rig.fx(|demux, _, fx| demux.die(fx));
    // What came before it is still read.
    assert_eq!((rig.finds("1"), rig.finds("2")), ("died", "answer"));
    assert!(rig.hears(listener).flatten().is_some());
    assert!(matches!(rig.hears(listener), Some(None)));
    assert_eq!(rig.open("3", ""), Err(Unopened::Over));
    assert_eq!(rig.counters.in_flight.load(Relaxed), 0);
}

#[test]
fn silence_is_measured_from_the_last_sign_of_life_unless_the_client_owes_an_answer() {
    let mut rig = Rig::new();
    let limit = Duration::from_secs(10);
    let start = rig.now;
    rig.open("1", "").unwrap();
    let until = |rig: &Rig, after: u64| {
        let now = start + Duration::from_secs(after);
        rig.demux.silent_until(&id("1"), limit, now).map(|until| until - start)
    };
    assert_eq!((until(&rig, 9), until(&rig, 10)), (Some(limit), None));
    rig.now = start + Duration::from_secs(4);
    rig.ask(1);
    assert_eq!(until(&rig, 50), Some(Duration::from_secs(60)));
    let answered = start + Duration::from_secs(50);
    rig.demux.client_answers(&message(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), answered);
    assert_eq!((until(&rig, 59), until(&rig, 60)), (Some(Duration::from_secs(60)), None));
}
