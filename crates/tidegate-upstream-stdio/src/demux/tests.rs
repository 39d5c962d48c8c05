//! Behavior of the demultiplexer, as data: what goes in, who gets what.

mod pressure;

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use serde_json::{Value, json};
use tidegate_protocol::{Bytes, Envelope, Id};
use tokio::time::Instant;

use super::{Demux, ECHO, Effects, Mode, Nature, Opening, Owner, Step};
use crate::{
    child::Death,
    stats::{Counters, Stats},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A conversation: the demultiplexer, what the process was sent, and a clock.
struct Talk {
    demux: Demux,
    counters: Arc<Counters>,
    now: Instant,
    sent: Vec<Value>,
}

impl Talk {
    fn new(mode: Mode) -> Self {
        let counters = Arc::<Counters>::default();
        let demux = Demux::new(mode, PATIENCE, Arc::clone(&counters));
        Self { demux, counters, now: Instant::now(), sent: Vec::new() }
    }

    fn open(&mut self, id: u64, client_id: &Value) {
        self.open_as(id, client_id, None, Nature::Plain);
    }

    fn open_as(&mut self, id: u64, client_id: &Value, token: Option<&Value>, nature: Nature) {
        let opening = Opening {
            owner: Owner::default(),
            client_id: token_of(client_id),
            token: token.map(token_of),
            nature,
            task: None,
            logs: false,
            counts: true,
            slow: None,
            now: self.now,
        };
        self.demux.open(id, opening);
    }

    fn open_with(&mut self, id: u64, task: Option<&str>, logs: bool) {
        let task = task.map(Box::from);
        let client_id = Id::from_u64(id);
        let nature = Nature::Plain;
        let now = self.now;
        let owner = Owner::default();
        self.demux.open(
            id,
            Opening {
                owner,
                client_id,
                token: None,
                nature,
                task,
                logs,
                counts: true,
                slow: None,
                now,
            },
        );
    }

    /// The process says something. Returns how many readers were woken.
    fn says(&mut self, message: &Value) -> usize {
        let now = self.now;
        self.act(|demux, fx| demux.receive(envelope(message), now, fx))
    }

    fn act(&mut self, act: impl FnOnce(&mut Demux, &mut Effects)) -> usize {
        let mut fx = Effects::default();
        act(&mut self.demux, &mut fx);
        self.sent.extend(fx.lines.iter().map(|line| serde_json::from_slice(line).unwrap()));
        fx.wake.len()
    }

    /// All that a request's reader finds: messages, then `null` if there may be more, or the end
    /// as a string or the answer.
    fn reads(&mut self, id: u64) -> Vec<Value> {
        let mut found = Vec::new();
        loop {
            let end = match self.demux.poll(id, &Context::from_waker(Waker::noop())) {
                Poll::Ready(Step::Message(message)) => {
                    found.push(value(&message));
                    continue;
                }
                Poll::Ready(Step::Answer(answer)) => value(&answer),
                Poll::Ready(Step::Cancelled) => "cancelled".into(),
                Poll::Ready(Step::Broken) => "broken".into(),
                Poll::Ready(Step::Dead(_)) => "dead".into(),
                Poll::Ready(Step::Overflowed(why)) => why.as_str().into(),
                Poll::Pending => Value::Null,
            };
            found.push(end);
            return found;
        }
    }

    fn listen(&mut self) -> u64 {
        self.demux.listen(Owner::default(), None).key
    }

    fn hears(&mut self, key: u64) -> Vec<Value> {
        let mut found = Vec::new();
        loop {
            match self.demux.poll_listener(key, &Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(Ok(message))) => found.push(value(&message)),
                Poll::Ready(Some(Err(why))) => found.push(why.as_str().into()),
                Poll::Ready(None) => {
                    found.push("end".into());
                    return found;
                }
                Poll::Pending => return found,
            }
        }
    }

    fn stats(&self) -> Stats {
        self.counters.snapshot()
    }
}

fn envelope(message: &Value) -> Envelope {
    Envelope::parse(Bytes::from(message.to_string())).unwrap()
}

fn value(envelope: &Envelope) -> Value {
    serde_json::from_slice(envelope.bytes()).unwrap()
}

fn token_of(value: &Value) -> Id {
    Id::parse(Bytes::from(value.to_string())).unwrap()
}

fn answer(id: impl Into<Value>) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "result": {}})
}

fn note(method: &str) -> Value {
    json!({"jsonrpc": "2.0", "method": method})
}

fn progress(token: impl Into<Value>) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/progress",
        "params": {"progressToken": token.into(), "progress": 1}})
}

fn ask(id: impl Into<Value>, method: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": method})
}

fn cancelled(id: impl Into<Value>) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": {"requestId": id.into()}})
}

#[test]
fn an_answer_wakes_its_reader_and_no_other() {
    let mut talk = Talk::new(Mode::Modern);
    talk.open(1, &json!(7));
    talk.open(2, &json!(7));
    assert_eq!((talk.reads(1), talk.reads(2)), (vec![Value::Null], vec![Value::Null]));
    assert_eq!(talk.says(&answer(2)), 1);
    assert_eq!(talk.demux.in_flight(), 1);
    assert_eq!(talk.reads(2), [answer(2)]);
    assert_eq!(talk.reads(1), [Value::Null]);
    assert_eq!(talk.stats().in_flight, 1);
}

#[test]
fn answers_nobody_waits_for_are_dropped_and_told_apart() {
    let mut talk = Talk::new(Mode::Session);
    talk.open(1, &json!(1));
    talk.open(2, &json!(2));
    let strangers = [
        json!(3),
        json!(0),
        json!(-1),
        json!("1"),
        json!(18_446_744_073_709_551_615_u64),
        json!("a"),
    ];
    for id in strangers {
        talk.says(&answer(id));
    }
    talk.says(&json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "?"}}));
    assert_eq!(talk.stats().unknown_answers, 7);
    talk.says(&answer(1));
    talk.says(&answer(1));
    assert_eq!(talk.reads(1), [answer(1)]);
    talk.says(&answer(1));
    assert_eq!(talk.stats().duplicate_answers, 2);
    let now = talk.now;
    talk.act(|demux, fx| demux.give_up(2, now, fx));
    talk.says(&answer(2));
    talk.says(&answer(2));
    assert_eq!((talk.stats().late_answers, talk.stats().duplicate_answers), (1, 3));
    assert_eq!(talk.stats().in_flight, 0);
}

#[test]
fn an_answer_that_cannot_be_read_ends_the_wait() {
    let mut talk = Talk::new(Mode::Session);
    talk.open(1, &json!(1));
    talk.act(|demux, fx| demux.receive_broken(&Id::from_u64(1), fx));
    talk.act(|demux, fx| demux.receive_broken(&Id::from_u64(9), fx));
    assert_eq!(talk.reads(1), ["broken"]);
    assert_eq!(talk.stats().unknown_answers, 1);
}

#[test]
fn a_legacy_reader_that_leaves_does_not_stop_its_request() {
    let mut talk = Talk::new(Mode::Session);
    talk.open(1, &json!(1));
    let now = talk.now;
    talk.act(|demux, fx| demux.leave(1, now, fx));
    assert_eq!((talk.demux.in_flight(), talk.sent.len()), (1, 0));
    talk.says(&answer(1));
    assert_eq!((talk.demux.in_flight(), talk.stats().late_answers), (0, 1));
}

#[test]
fn a_legacy_request_without_a_reader_is_given_up_in_the_end() {
    let mut talk = Talk::new(Mode::Session);
    talk.open(1, &json!(1));
    let start = talk.now;
    talk.act(|demux, fx| demux.leave(1, start, fx));
    assert_eq!(talk.demux.due(), Some(start + PATIENCE));
    talk.act(|demux, fx| demux.tick(start + PATIENCE / 2, fx));
    assert_eq!(talk.demux.in_flight(), 1);
    talk.act(|demux, fx| demux.tick(start + PATIENCE, fx));
    assert_eq!((talk.demux.in_flight(), talk.demux.due()), (0, None));
    assert_eq!(talk.sent, [cancelled(1)]);
    assert_eq!(talk.stats().in_flight, 0);
}

#[test]
fn a_modern_reader_that_leaves_cancels() {
    let mut talk = Talk::new(Mode::Modern);
    talk.open(5, &json!("x"));
    let now = talk.now;
    talk.act(|demux, fx| demux.leave(5, now, fx));
    assert_eq!(talk.sent, [cancelled(5)]);
    assert_eq!(talk.demux.in_flight(), 0);
    talk.says(&progress(5));
    talk.says(&answer(5));
    assert_eq!((talk.stats().notifications_dropped, talk.stats().late_answers), (1, 1));
}

#[test]
fn progress_goes_to_the_owner_of_the_token_with_the_owners_token() {
    for mode in [Mode::Session, Mode::Modern] {
        let mut talk = Talk::new(mode);
        talk.open_as(1, &json!(1), Some(&json!("same")), Nature::Plain);
        talk.open_as(2, &json!(1), Some(&json!("same")), Nature::Plain);
        talk.open_as(3, &json!(2), Some(&json!(77)), Nature::Plain);
        talk.says(&progress("2"));
        talk.says(&progress(3));
        // Ours, but of the wrong type, or not in use, or not a token at all.
        for stray in [json!(2), json!("3"), json!("9"), json!("same"), json!(-1)] {
            talk.says(&progress(stray));
        }
        assert_eq!(talk.reads(1), [Value::Null]);
        assert_eq!(talk.reads(2), [progress("same"), Value::Null]);
        assert_eq!(talk.reads(3), [progress(77), Value::Null]);
        assert_eq!(talk.stats().notifications_dropped, 5);
        talk.says(&answer(3));
        talk.says(&progress(3));
        assert_eq!(talk.reads(3), [answer(3)], "nothing follows an answer");
    }
}

#[test]
fn a_sessions_messages_go_to_the_only_call_else_to_a_listener_else_wait() {
    let mut talk = Talk::new(Mode::Session);
    let log = note("notifications/message");
    talk.says(&log);
    let key = talk.listen();
    assert_eq!(talk.hears(key), std::slice::from_ref(&log), "what waited comes first");
    talk.open(1, &json!(1));
    talk.says(&log);
    assert_eq!(talk.reads(1), [log.clone(), Value::Null]);
    talk.says(&note("notifications/tools/list_changed"));
    assert_eq!(talk.hears(key), [note("notifications/tools/list_changed")]);
    talk.open(2, &json!(2));
    talk.says(&log);
    assert_eq!((talk.reads(1), talk.hears(key)), (vec![Value::Null], vec![log]));
    talk.act(|demux, fx| demux.unlisten(key, fx));
    let now = talk.now;
    talk.act(|demux, fx| demux.leave(2, now, fx));
    talk.says(&note("notifications/tools/list_changed"));
    assert_eq!(talk.reads(1), [Value::Null], "two are in flight, even if one has no reader");
    talk.says(&answer(2));
    talk.says(&note("notifications/resources/updated"));
    assert_eq!(talk.reads(1), [note("notifications/resources/updated"), Value::Null]);
}

#[test]
fn the_newest_listener_gets_everything_and_hands_on_what_it_did_not_read() {
    let mut talk = Talk::new(Mode::Session);
    let old = talk.listen();
    let new = talk.listen();
    talk.says(&note("a"));
    talk.says(&ask("q", "roots/list"));
    assert_eq!(talk.hears(old), Vec::<Value>::new());
    talk.act(|demux, fx| demux.unlisten(new, fx));
    assert_eq!(talk.hears(old), [note("a"), ask(1, "roots/list")]);
    talk.act(|demux, fx| demux.unlisten(old, fx));
    talk.says(&note("b"));
    let again = talk.listen();
    assert_eq!(talk.hears(again), [note("b")]);
    talk.act(|demux, fx| demux.close_listeners(fx));
    assert_eq!(talk.hears(again), ["end"]);
}

#[test]
fn a_servers_request_is_rekeyed_out_and_its_answer_back() {
    let mut talk = Talk::new(Mode::Session);
    talk.open(1, &json!("c"));
    talk.says(&ask("s-1", "sampling/createMessage"));
    talk.says(&ask(1, "elicitation/create"));
    let expected = [ask(1, "sampling/createMessage"), ask(2, "elicitation/create"), Value::Null];
    assert_eq!(talk.reads(1), expected);
    let now = talk.now;
    let mut told = |id: Value| {
        let line = talk.demux.client_answers(&envelope(&answer(id)), now);
        line.map(|line| serde_json::from_slice::<Value>(&line).unwrap())
    };
    assert_eq!(told(json!(2)), Some(answer(1)));
    assert_eq!(told(json!(2)), None, "answered before");
    assert_eq!(told(json!("1")), None, "of another type");
    assert_eq!(told(json!(3)), None, "never asked");
    assert_eq!(told(json!(1)), Some(answer("s-1")));
    assert_eq!(talk.stats().stray_client_answers, 3);
}

#[test]
fn a_servers_request_finds_a_reader_where_it_can() {
    let mut talk = Talk::new(Mode::Session);
    talk.open(1, &json!(1));
    talk.open(2, &json!(2));
    // No listener: the most recent call.
    talk.says(&ask(1, "roots/list"));
    assert_eq!(talk.reads(2), [ask(1, "roots/list"), Value::Null]);
    let key = talk.listen();
    talk.says(&ask(2, "roots/list"));
    assert_eq!(talk.hears(key), [ask(2, "roots/list")]);
    // What a reader leaves unread goes elsewhere.
    talk.act(|demux, fx| demux.unlisten(key, fx));
    talk.says(&ask(3, "roots/list"));
    let now = talk.now;
    talk.act(|demux, fx| demux.leave(2, now, fx));
    let key = talk.listen();
    assert_eq!(talk.hears(key), [ask(3, "roots/list")]);
}

#[test]
fn a_servers_request_for_a_task_goes_to_whoever_waits_for_the_task() {
    let mut talk = Talk::new(Mode::Session);
    talk.open_with(1, Some("t1"), false);
    talk.open_with(2, Some("t2"), false);
    talk.open_with(3, None, false);
    let mut question = ask(1, "elicitation/create");
    question["params"] =
        json!({"_meta": {"io.modelcontextprotocol/related-task": {"taskId": "t1"}}});
    talk.says(&question);
    assert_eq!(talk.reads(1), [question, Value::Null]);
}

#[test]
fn a_ping_that_nobody_can_take_is_answered_here() {
    let mut talk = Talk::new(Mode::Session);
    talk.says(&ask("p", "ping"));
    assert_eq!(talk.sent, [answer("p")]);
    let key = talk.listen();
    talk.says(&ask("p", "ping"));
    assert_eq!(talk.hears(key), [ask(1, "ping")]);
}

#[test]
fn a_server_that_takes_a_request_back_is_heard_where_the_request_went() {
    let mut talk = Talk::new(Mode::Session);
    talk.open(1, &json!(1));
    talk.says(&ask("q", "roots/list"));
    talk.says(&cancelled("q"));
    talk.says(&cancelled("never asked"));
    assert_eq!(talk.reads(1), [ask(1, "roots/list"), cancelled(1), Value::Null]);
    assert_eq!(talk.stats().notifications_dropped, 1);
    let now = talk.now;
    assert!(talk.demux.client_answers(&envelope(&answer(1)), now).is_none());
    // The call is over: the news take another way.
    talk.says(&ask("r", "roots/list"));
    talk.says(&answer(1));
    talk.says(&cancelled("r"));
    let key = talk.listen();
    assert_eq!(talk.hears(key), [cancelled(2)]);
}

#[test]
fn a_request_that_no_client_takes_is_refused_when_its_time_is_up() {
    let mut talk = Talk::new(Mode::Session);
    talk.says(&ask("q", "roots/list"));
    talk.says(&note("n"));
    let due = talk.now + PATIENCE;
    assert_eq!(talk.demux.due(), Some(due));
    talk.act(|demux, fx| demux.tick(due, fx));
    assert_eq!(talk.sent.len(), 1);
    assert_eq!(
        (&talk.sent[0]["id"], &talk.sent[0]["error"]["code"]),
        (&json!("q"), &json!(-32603))
    );
    assert_eq!((talk.stats().asks_refused, talk.demux.due()), (1, None));
    let key = talk.listen();
    assert_eq!(talk.hears(key), [note("n")], "notifications wait on");
}

#[test]
fn an_outbox_that_runs_over_loses_notifications_and_refuses_requests() {
    let mut talk = Talk::new(Mode::Session);
    for n in 0..300 {
        talk.says(&note(&format!("n{n}")));
    }
    assert_eq!(talk.stats().notifications_dropped, 300 - 256);
    for n in 0..300 {
        talk.says(&ask(n, "roots/list"));
    }
    assert_eq!(talk.stats().notifications_dropped, 300, "requests take their place");
    assert_eq!((talk.sent.len(), talk.stats().asks_refused), (44, 44));
    let key = talk.listen();
    assert_eq!(talk.hears(key).len(), 256);
}

#[test]
fn a_client_cancels_by_its_own_id_and_type() {
    let mut talk = Talk::new(Mode::Session);
    talk.open(11, &json!(1));
    talk.open(12, &json!("1"));
    talk.open_as(13, &json!(2), None, Nature::Handshake);
    let now = talk.now;
    for id in [json!("1"), json!(2), json!(3), json!(12)] {
        talk.act(|demux, fx| {
            demux.client_cancels(Owner::default(), &envelope(&cancelled(id)), now, fx)
        });
    }
    assert_eq!(talk.sent, [cancelled(12)]);
    assert_eq!(talk.reads(11), [Value::Null]);
    assert_eq!(talk.reads(12), ["cancelled"]);
    assert_eq!(talk.reads(13), [Value::Null]);
    talk.says(&answer(12));
    assert_eq!((talk.stats().late_answers, talk.demux.in_flight()), (1, 2));
}

#[test]
fn one_client_id_in_flight_twice_is_cancelled_twice() {
    let mut talk = Talk::new(Mode::Session);
    talk.open(1, &json!("a"));
    talk.open(2, &json!("a"));
    let now = talk.now;
    talk.act(|demux, fx| {
        demux.client_cancels(Owner::default(), &envelope(&cancelled("a")), now, fx)
    });
    assert_eq!(talk.sent, [cancelled(1), cancelled(2)]);
    assert_eq!(talk.demux.in_flight(), 0);
}

#[test]
fn a_shared_process_cannot_reach_anybody_it_does_not_name() {
    let mut talk = Talk::new(Mode::Modern);
    talk.open(1, &json!(1));
    for method in ["notifications/message", "notifications/tools/list_changed", "x"] {
        talk.says(&note(method));
    }
    assert_eq!(talk.stats().notifications_dropped, 3);
    talk.says(&ask("q", "sampling/createMessage"));
    talk.says(&ask("p", "ping"));
    assert_eq!(talk.stats().violations, 2);
    let codes: Vec<_> = talk.sent.iter().map(|line| line["error"]["code"].clone()).collect();
    assert_eq!(codes, [-32601, -32601]);
    assert_eq!(talk.reads(1), [Value::Null]);
}

#[test]
fn log_lines_of_a_shared_process_reach_the_only_one_who_can_have_caused_them() {
    let mut talk = Talk::new(Mode::Modern);
    let log = note("notifications/message");
    talk.open(1, &json!(1));
    talk.open_with(2, None, true);
    talk.says(&log);
    assert_eq!(talk.reads(2), [log.clone(), Value::Null]);
    talk.open_with(3, None, true);
    talk.says(&log);
    assert_eq!((talk.reads(2), talk.reads(3)), (vec![Value::Null], vec![Value::Null]));
    // A cancelled request may go on logging, until it answers or is forgotten.
    let now = talk.now;
    talk.act(|demux, fx| demux.leave(3, now, fx));
    talk.says(&log);
    assert_eq!(talk.reads(2), [Value::Null]);
    talk.now += ECHO;
    talk.says(&log);
    assert_eq!(talk.reads(2), [log, Value::Null]);
    assert_eq!(talk.stats().notifications_dropped, 2);
}

#[test]
fn a_subscription_hears_what_names_it_and_ends_in_either_way() {
    const KEY: &str = "io.modelcontextprotocol/subscriptionId";
    let news = |id: Value| {
        json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed",
            "params": {"_meta": {KEY: id}}})
    };
    let mut talk = Talk::new(Mode::Modern);
    talk.open_as(1, &json!("mine"), None, Nature::Listen);
    talk.open_as(2, &json!(9), None, Nature::Listen);
    talk.open(3, &json!(3));
    for id in [json!(2), json!("2"), json!(3), json!(9), json!("mine")] {
        talk.says(&news(id));
    }
    assert_eq!(talk.reads(1), [Value::Null]);
    assert_eq!(talk.reads(2), [news(json!(9)), Value::Null]);
    assert_eq!(talk.stats().notifications_dropped, 4);
    talk.says(&cancelled(1));
    talk.says(&cancelled(3));
    let end = talk.reads(1);
    assert_eq!(end[0]["result"]["_meta"][KEY], 1, "still ours: the reader replaces it");
    assert_eq!(end[0]["result"]["resultType"], "complete");
    assert_eq!(talk.reads(3), [Value::Null], "a server cannot cancel a plain request");
}

#[test]
fn death_reaches_everybody_once() {
    let mut talk = Talk::new(Mode::Session);
    talk.open(1, &json!(1));
    talk.open(2, &json!(2));
    talk.open(3, &json!(3));
    let key = talk.listen();
    talk.says(&answer(3));
    talk.hears(key);
    talk.reads(1);
    let now = talk.now;
    talk.act(|demux, fx| demux.leave(2, now, fx));
    let death = Arc::new(Death::Stopped);
    assert_eq!(talk.act(|demux, fx| demux.die(&death, fx)), 2, "one reader, one listener");
    assert_eq!(talk.reads(1), ["dead"]);
    assert_eq!(talk.reads(3), [answer(3)], "an answer that came is an answer");
    assert_eq!(talk.hears(key), ["end"]);
    assert_eq!((talk.demux.in_flight(), talk.stats().in_flight), (0, 0));
    assert_eq!(talk.demux.due(), None);
}

#[test]
fn silence_is_measured_from_the_last_sign_of_life_and_not_while_the_client_thinks() {
    let mut talk = Talk::new(Mode::Session);
    talk.open(1, &json!(1));
    let start = talk.now;
    let limit = Duration::from_secs(10);
    let until = |talk: &Talk, at| talk.demux.silent_until(1, limit, start + at);
    assert_eq!(until(&talk, limit / 2), Some(start + limit));
    assert_eq!(until(&talk, limit), None);
    talk.now = start + limit / 2;
    talk.says(&note("notifications/message"));
    assert_eq!(until(&talk, limit), Some(start + limit + limit / 2));
    talk.says(&ask("q", "roots/list"));
    assert_eq!(until(&talk, limit * 9), Some(start + limit * 10));
    let late = start + limit * 9;
    talk.demux.client_answers(&envelope(&answer(1)), late).unwrap();
    assert_eq!(until(&talk, limit * 9), Some(late + limit));
    assert_eq!(until(&talk, limit * 10), None);
}

#[test]
fn a_handshake_gets_its_answer_and_nothing_else() {
    let mut talk = Talk::new(Mode::Session);
    talk.open_as(1, &json!(0), Some(&json!(0)), Nature::Handshake);
    talk.says(&note("notifications/message"));
    talk.says(&progress(1));
    talk.says(&ask(1, "roots/list"));
    talk.says(&answer(1));
    assert_eq!(talk.reads(1), [answer(1)]);
    let key = talk.listen();
    let rest = [note("notifications/message"), progress(0), ask(1, "roots/list")];
    assert_eq!(talk.hears(key), rest);
}

#[test]
fn sessions_that_share_a_process_cancel_only_their_own() {
    let mut talk = Talk::new(Mode::Common);
    for (id, owner) in [(1, Owner(1)), (2, Owner(2))] {
        let opening = Opening {
            owner,
            client_id: Id::from_u64(7),
            token: None,
            nature: Nature::Plain,
            task: None,
            logs: false,
            counts: true,
            slow: None,
            now: talk.now,
        };
        talk.demux.open(id, opening);
    }
    let now = talk.now;
    talk.act(|demux, fx| demux.client_cancels(Owner(3), &envelope(&cancelled(7)), now, fx));
    assert_eq!((talk.sent.len(), talk.demux.in_flight()), (0, 2));
    talk.act(|demux, fx| demux.client_cancels(Owner(2), &envelope(&cancelled(7)), now, fx));
    assert_eq!(talk.sent[0]["params"]["requestId"], 2);
    assert_eq!((talk.reads(1), talk.reads(2)), (vec![Value::Null], vec!["cancelled".into()]));
}

#[test]
fn a_process_of_many_sessions_is_answered_at_once_and_its_need_is_noticed() {
    let mut talk = Talk::new(Mode::Common);
    let mut fx = Effects::default();
    let ask = |method: &str| envelope(&json!({"jsonrpc": "2.0", "id": 5, "method": method}));
    talk.demux.receive(ask("ping"), talk.now, &mut fx);
    assert_eq!(fx.need, None);
    talk.demux.receive(ask("sampling/createMessage"), talk.now, &mut fx);
    talk.demux.receive(ask("roots/list"), talk.now, &mut fx);
    assert_eq!(fx.need, Some(super::Need::Sampling), "the first one counts");
    let answers: Vec<Value> =
        fx.lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
    assert_eq!((&answers[0]["id"], &answers[0]["result"]), (&json!(5), &json!({})));
    assert_eq!((&answers[1]["id"], &answers[1]["error"]["code"]), (&json!(5), &json!(-32601)));
    assert_eq!((answers.len(), talk.stats().violations), (3, 2));
}

#[test]
fn a_log_line_of_a_shared_process_needs_exactly_one_possible_reader() {
    let mut talk = Talk::new(Mode::Common);
    let line = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}});
    talk.says(&line);
    assert_eq!(talk.stats().notifications_dropped, 1, "nobody's");
    talk.open(1, &json!(1));
    talk.says(&line);
    assert_eq!(talk.reads(1), [line.clone(), Value::Null]);
    talk.open(2, &json!(1));
    talk.says(&line);
    assert_eq!(talk.stats().notifications_dropped, 2, "one of two");
    // The reader of the second leaves, but its call goes on and may be what the line is about.
    let now = talk.now;
    talk.act(|demux, fx| demux.leave(2, now, fx));
    talk.says(&line);
    assert_eq!((talk.stats().notifications_dropped, talk.reads(1)), (3, vec![Value::Null]));
}

#[test]
fn a_log_line_of_a_shared_process_may_be_of_a_call_that_was_taken_back() {
    for timed_out in [false, true] {
        let mut talk = Talk::new(Mode::Common);
        let line = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}});
        talk.open(1, &json!(1));
        talk.open(2, &json!(2));
        let now = talk.now;
        if timed_out {
            talk.act(|demux, fx| demux.give_up(1, now, fx));
        } else {
            let note = envelope(&cancelled(1));
            talk.act(|demux, fx| demux.client_cancels(Owner::default(), &note, now, fx));
            talk.reads(1);
        }
        talk.says(&line);
        assert_eq!(talk.reads(2), [Value::Null], "timed out: {timed_out}");
        talk.says(&json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
        talk.says(&line);
        assert_eq!(talk.reads(2), [line, Value::Null], "the server is done with the other");
    }
}

#[test]
fn subscriptions_part_from_a_process_that_is_replaced_and_other_calls_stay() {
    let mut talk = Talk::new(Mode::Modern);
    talk.open_as(1, &json!("s"), None, Nature::Listen);
    talk.open(2, &json!("c"));
    assert_eq!(talk.act(Demux::part_with_listens), 0);
    assert_eq!(talk.sent, [cancelled(1)]);
    assert_eq!((talk.reads(1), talk.reads(2)), (vec!["dead".into()], vec![Value::Null]));
    assert_eq!(talk.demux.in_flight(), 1);
}
