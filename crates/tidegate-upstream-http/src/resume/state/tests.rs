//! The decisions as tables, on time that the tests make.

use std::{num::NonZeroU32, time::Duration};

use http::HeaderValue;
use tidegate_protocol::sse::{Block, Decoder};
use tokio::time::Instant;

use super::{Break, Next, Passage, Purpose, State};
use crate::Reconnect;

const POLICY: Reconnect = Reconnect {
    stall: Duration::from_secs(60),
    attempts: NonZeroU32::new(4).unwrap(),
    base: Duration::from_millis(100),
    max: Duration::from_millis(1_000),
    window: Duration::from_secs(60),
    at_once: 1,
    per_second: 1,
};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn block(text: &str) -> Block {
    let mut decoder = Decoder::new(1 << 20);
    decoder.push(text.to_owned().into());
    decoder.next().unwrap().unwrap_or_else(|| panic!("no block in {text:?}"))
}

/// A stream and a clock.
struct Stage {
    state: State,
    start: Instant,
    now: Instant,
    jitter: f64,
}

impl Stage {
    fn new(purpose: Purpose) -> Self {
        let now = Instant::now();
        Self { state: State::new(POLICY, purpose, None, now), start: now, now, jitter: 1.0 }
    }

    fn saw(&mut self, text: &str) -> Passage {
        self.state.saw(&block(text))
    }

    fn later(&mut self, by: Duration) -> &mut Self {
        self.now += by;
        self
    }

    /// The pause, or `None` where there is no reconnect.
    fn broke(&mut self, how: Break) -> Option<(Duration, u32)> {
        match self.state.broke(how, self.now, self.jitter) {
            Next::Reconnect { at, attempt } => Some((at - self.now, attempt)),
            Next::End | Next::GiveUp { .. } => None,
        }
    }

    fn next(&mut self, how: Break) -> Next {
        self.state.broke(how, self.now, self.jitter)
    }

    fn opened(&mut self) {
        self.state.opened(self.now);
    }

    fn last(&self) -> Option<String> {
        self.state.last().map(|id| id.to_str().unwrap().to_owned())
    }
}

const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#;
const ASK: &str = r#"{"jsonrpc":"2.0","id":9,"method":"roots/list"}"#;
const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
const FAILURE: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}"#;

#[test]
fn what_was_seen_decides_whether_a_stream_goes_on() {
    let with_id = |id: &str, data: &str| format!("id: {id}\ndata: {data}\n\n");
    let cases: [(&str, Vec<String>, bool, bool); 13] = [
        // What came, whether an answer goes on, and what comes unasked.
        ("nothing", vec![], false, true),
        ("an event without an id", vec![format!("data: {NOTE}\n\n")], false, true),
        ("an event with an id", vec![with_id("1", NOTE)], true, true),
        ("a priming event", vec!["id: 1\ndata:\n\n".into()], true, true),
        ("an id alone", vec!["id: 1\n\n".into()], true, true),
        ("a question of the server", vec![with_id("1", ASK)], true, true),
        ("the answer", vec![with_id("1", NOTE), with_id("2", RESULT)], false, false),
        ("an error is an answer", vec![with_id("1", FAILURE)], false, false),
        ("an answer in a batch", vec![with_id("1", &format!("[{NOTE}, {RESULT}]"))], false, false),
        ("a batch without an answer", vec![with_id("1", &format!("[{NOTE}]"))], true, true),
        ("a comment after an id", vec![with_id("1", NOTE), ": c\n\n".into()], true, true),
        ("the id was reset", vec![with_id("1", NOTE), "id\ndata: x\n\n".into()], false, true),
        ("garbage", vec![with_id("1", "{{{")], true, true),
    ];
    for (what, blocks, answer, unasked) in cases {
        for (purpose, goes_on) in [(Purpose::Answer, answer), (Purpose::Unasked, unasked)] {
            for how in [Break::Ended, Break::Cut] {
                let mut stage = Stage::new(purpose);
                for block in &blocks {
                    assert_eq!(stage.saw(block), Passage::Pass);
                }
                assert_eq!(stage.broke(how).is_some(), goes_on, "{what}, {purpose:?}, {how:?}");
            }
        }
    }
}

#[test]
fn a_stream_that_was_asked_for_behind_an_id_begins_with_it() {
    let now = Instant::now();
    let last = HeaderValue::from_static("e/7");
    let mut state = State::new(POLICY, Purpose::Unasked, Some(&last), now);
    assert_eq!(state.last(), Some(last));
    // It may be what is left of a call, and then its answer is the end.
    assert_eq!(state.saw(&block(&format!("data: {RESULT}\n\n"))), Passage::Pass);
    assert_eq!(state.broke(Break::Ended, now, 0.0), Next::End);
}

#[test]
fn an_id_that_fits_into_no_header_is_none() {
    let mut stage = Stage::new(Purpose::Unasked);
    stage.saw("id: \u{1}\ndata: x\n\n");
    assert_eq!(stage.last(), None);
    // An answer without one does not go on: anything might come instead.
    let mut answer = Stage::new(Purpose::Answer);
    answer.saw("id: 1\ndata: x\n\n");
    answer.saw("id: \u{1}\ndata: x\n\n");
    assert_eq!(answer.next(Break::Cut), Next::End);
    stage.saw("id: caf\u{e9} 7\ndata: x\n\n");
    assert_eq!(stage.state.last().unwrap().as_bytes(), "caf\u{e9} 7".as_bytes());
}

#[test]
fn the_pause_doubles_under_full_jitter_and_is_never_shorter_than_asked() {
    // (retry, jitter) and the pauses of four attempts in a row.
    let cases: [(Option<u64>, f64, [u64; 4]); 7] = [
        (None, 1.0, [100, 200, 400, 800]),
        (None, 0.5, [50, 100, 200, 400]),
        (None, 0.0, [0, 0, 0, 0]),
        (Some(50), 1.0, [100, 200, 400, 800]),
        (Some(300), 1.0, [300, 600, 1_000, 1_000]),
        (Some(300), 0.0, [300, 300, 300, 300]),
        (Some(5_000), 0.5, [5_000, 5_000, 5_000, 5_000]),
    ];
    for (retry, jitter, expected) in cases {
        let mut stage = Stage::new(Purpose::Answer);
        stage.jitter = jitter;
        stage.saw("id: 1\ndata: x\n\n");
        if let Some(retry) = retry {
            stage.saw(&format!("retry: {retry}\n\n"));
        }
        let mut how = Break::Cut;
        for (number, pause) in (1..).zip(expected) {
            assert_eq!(stage.broke(how), Some((ms(pause), number)), "{retry:?} {jitter}");
            stage.later(ms(pause));
            how = Break::Failed;
        }
    }
}

#[test]
fn many_attempts_do_not_overflow() {
    let policy = Reconnect { attempts: NonZeroU32::MAX, ..POLICY };
    let now = Instant::now();
    let mut state = State::new(policy, Purpose::Unasked, None, now);
    state.saw(&block("retry: 18446744073709551615\n\n"));
    for _ in 0..200 {
        let next = state.broke(Break::Failed, now, 1.0);
        assert!(
            matches!(next, Next::Reconnect { at, .. } if at == now + POLICY.window),
            "{next:?}"
        );
    }
}

#[test]
fn attempts_that_bring_nothing_are_bounded_and_an_event_begins_anew() {
    let mut stage = Stage::new(Purpose::Answer);
    stage.saw("id: 1\ndata: x\n\n");
    assert_eq!(stage.broke(Break::Cut), Some((ms(100), 1)));
    for attempt in 2..=4 {
        assert_eq!(stage.broke(Break::Failed).unwrap().1, attempt);
    }
    stage.later(ms(900));
    assert_eq!(stage.next(Break::Failed), Next::GiveUp { failures: 4, waited: ms(900) });

    // Streams that open and break at once bring nothing either.
    let mut stage = Stage::new(Purpose::Unasked);
    assert!(stage.broke(Break::Cut).is_some(), "the first one was no reconnect");
    for _ in 0..3 {
        stage.opened();
        assert!(stage.broke(Break::Cut).is_some());
    }
    stage.opened();
    assert!(matches!(stage.next(Break::Cut), Next::GiveUp { failures: 4, .. }));

    // Nor does what the reader had before.
    let mut stage = Stage::new(Purpose::Answer);
    stage.saw("id: 1\ndata: x\n\n");
    stage.broke(Break::Cut);
    stage.opened();
    assert_eq!(stage.saw("id: 1\ndata: x\n\n"), Passage::Drop);
    assert_eq!(stage.broke(Break::Cut), Some((ms(200), 2)));
    stage.opened();
    assert_eq!(stage.saw("id: 2\ndata: y\n\n"), Passage::Pass);
    assert_eq!(stage.broke(Break::Cut), Some((ms(100), 1)), "news");
}

#[test]
fn a_stream_that_held_for_long_was_no_failure() {
    let mut stage = Stage::new(Purpose::Unasked);
    for _ in 0..50 {
        stage.later(POLICY.max);
        assert_eq!(stage.broke(Break::Cut), Some((ms(100), 1)));
        stage.opened();
    }
}

#[test]
fn a_server_that_ends_its_streams_in_order_is_asked_again_for_as_long_as_it_lives() {
    // A stream of what comes unasked may have nothing to say for days.
    let mut stage = Stage::new(Purpose::Unasked);
    for round in 1..50 {
        let (pause, attempt) = stage.broke(Break::Ended).unwrap();
        assert!(attempt == round && pause <= POLICY.max, "{pause:?} {attempt}");
        stage.later(pause).opened();
    }

    // Even if it wants to be asked at once, for it may be broken.
    let mut stage = Stage::new(Purpose::Unasked);
    stage.broke(Break::Ended);
    stage.opened();
    stage.saw(": nothing\n\n");
    assert_eq!(stage.broke(Break::Ended), Some((ms(200), 2)));

    // A server that polls sets the pace itself, but an answer does not take forever.
    let mut stage = Stage::new(Purpose::Answer);
    stage.saw("id: 1\nretry: 700\ndata:\n\n");
    let mut polls = 0;
    while let Some((pause, attempt)) = stage.broke(Break::Ended) {
        assert_eq!((pause <= ms(700), attempt), (true, 1));
        stage.later(pause).opened();
        polls += 1;
    }
    assert_eq!((polls, stage.now - stage.start), (86, POLICY.window));

    // Whoever shows signs of life is waited for, and be it with comments.
    let mut stage = Stage::new(Purpose::Answer);
    stage.saw("id: 1\nretry: 700\ndata:\n\n");
    for _ in 0..500 {
        let (pause, _) = stage.broke(Break::Ended).unwrap();
        stage.later(pause).opened();
        stage.saw(": still at it\n\n");
    }
}

#[test]
fn the_last_attempt_is_made_when_the_time_is_up_and_not_later() {
    let mut stage = Stage::new(Purpose::Answer);
    stage.saw("id: 1\nretry: 40000\ndata: x\n\n");
    assert_eq!(stage.broke(Break::Cut), Some((ms(40_000), 1)));
    stage.later(ms(40_000));
    assert_eq!(stage.broke(Break::Failed), Some((ms(20_000), 2)), "cut short");
    stage.later(ms(20_000));
    assert_eq!(stage.next(Break::Failed), Next::GiveUp { failures: 2, waited: ms(60_000) });
}

#[test]
fn ids_decide_what_is_passed_on_and_where_to_go_on() {
    let mut stage = Stage::new(Purpose::Answer);
    for (id, passage) in [("1", Passage::Pass), ("2", Passage::Pass), ("3", Passage::Pass)] {
        assert_eq!(stage.saw(&format!("id: {id}\ndata: x\n\n")), passage);
    }
    assert_eq!(stage.last().as_deref(), Some("3"));
    stage.broke(Break::Cut);
    stage.opened();
    // A replay that goes back too far does not move the stream back.
    for id in ["2", "1", "3"] {
        assert_eq!(stage.saw(&format!("id: {id}\ndata: x\n\n")), Passage::Drop, "{id}");
        assert_eq!(stage.last().as_deref(), Some("3"));
    }
    assert_eq!(stage.saw("data: without an id\n\n"), Passage::Pass);
    assert_eq!(stage.saw("id: 4\ndata: x\n\n"), Passage::Pass);
    assert_eq!(stage.last().as_deref(), Some("4"));
    // In one connection an id that comes again is the server's mistake, and the event another.
    assert_eq!(stage.saw("id: 4\ndata: y\n\n"), Passage::PassReused);
    stage.broke(Break::Cut);
    stage.opened();
    assert_eq!(stage.saw("id: 4\ndata: z\n\n"), Passage::PassReused, "it may be new");
}

#[test]
fn an_answer_that_was_dropped_as_known_is_still_known() {
    let mut stage = Stage::new(Purpose::Answer);
    stage.saw("id: 1\ndata: x\n\n");
    stage.broke(Break::Cut);
    stage.opened();
    stage.saw(&format!("id: 2\ndata: {RESULT}\n\n"));
    assert_eq!(stage.next(Break::Cut), Next::End);
}
