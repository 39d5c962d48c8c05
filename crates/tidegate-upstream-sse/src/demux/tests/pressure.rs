//! Readers that stand still.

use tidegate_service::slow::{Backlog, Policy, SlowClients, SlowParams, Slowness};

use super::*;

/// So many messages as make a mailbox full and some more.
const LINES: u64 = 80;

fn rig(policy: Policy) -> (Rig, Arc<SlowClients>) {
    let params = SlowParams { policy, buffer: 64 << 10, ..SlowParams::default() };
    let slow = Arc::new(SlowClients::new("/mcp", params, &Backlog::default()));
    let mut rig = Rig::new();
    rig.demux.treat(Some(Arc::clone(&slow)));
    (rig, slow)
}

impl Rig {
    /// Progress of the call with this token.
    fn flood(&mut self, token: u64, from: u64) {
        let padding = "x".repeat(1000);
        for number in from..from + LINES {
            self.receive(&format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{number},"message":"{padding}"}}}}"#
            ));
        }
    }

    /// The numbers of what the reader of a call finds, and the word for what follows.
    fn reads(&mut self, id_text: &str) -> (Vec<u64>, &'static str) {
        let cx = Context::from_waker(Waker::noop());
        let mut numbers = Vec::new();
        loop {
            match self.demux.poll(&id(id_text), &cx) {
                Poll::Ready(Step::Message(message)) => numbers.push(number(&message)),
                Poll::Ready(Step::Answer(_)) => return (numbers, "answer"),
                Poll::Ready(Step::Overflowed(why)) => return (numbers, why.as_str()),
                Poll::Ready(other) => panic!("{other:?}"),
                Poll::Pending => return (numbers, "nothing"),
            }
        }
    }

    /// The same for a GET stream.
    fn hears_all(&mut self, key: u64) -> (Vec<u64>, Option<Slowness>) {
        let cx = Context::from_waker(Waker::noop());
        let mut numbers = Vec::new();
        loop {
            match self.demux.poll_listener(key, &cx) {
                Poll::Ready(Some(Ok(message))) => numbers.push(number(&message)),
                Poll::Ready(Some(Err(why))) => return (numbers, Some(why)),
                Poll::Ready(None) | Poll::Pending => return (numbers, None),
            }
        }
    }
}

fn number(message: &Envelope) -> u64 {
    let text = String::from_utf8_lossy(message.bytes()).into_owned();
    let rest = text.split_once(r#""progress":"#).unwrap().1;
    rest.split(',').next().unwrap().parse().unwrap()
}

#[test]
fn the_stream_stands_still_with_its_only_reader_and_nothing_is_lost() {
    let (mut rig, slow) = rig(Policy::Pause);
    rig.open("1", "7").unwrap();
    rig.flood(7, 0);
    assert!(rig.demux.pauses());
    let (mut found, end) = rig.reads("1");
    assert_eq!(end, "nothing");
    assert!(rig.demux.resumes() && !rig.demux.pauses());
    rig.flood(7, LINES);
    rig.receive(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    let (rest, end) = rig.reads("1");
    found.extend(rest);
    assert_eq!((found, end), ((0..2 * LINES).collect(), "answer"));
    assert_eq!((rig.counters.pauses.load(Relaxed), slow.stats()), (1, [0; 3]));
}

#[test]
fn another_call_does_not_wait_for_a_reader_that_stands_still() {
    let (mut rig, slow) = rig(Policy::Pause);
    rig.open("1", "7").unwrap();
    rig.flood(7, 0);
    assert!(rig.demux.pauses());
    rig.open("2", "").unwrap();
    assert!(rig.demux.resumes());
    rig.flood(7, LINES);
    assert_eq!((slow.stats(), rig.taken_back.as_slice()), ([0, 1, 0], &[id("1")][..]));
    assert_eq!(rig.reads("1"), ((0..LINES).collect(), "buffer"));
    rig.receive(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#);
    assert_eq!(rig.finds("2"), "answer");
}

#[test]
fn a_get_stream_that_is_ended_finds_the_rest_when_it_comes_back() {
    let (mut rig, slow) = rig(Policy::End);
    let first = rig.demux.listen();
    rig.flood(0, 0);
    rig.ask(1);
    assert_eq!(slow.stats(), [0, 1, 0]);
    assert!(!rig.demux.pauses());
    let (heard, why) = rig.hears_all(first.key);
    assert_eq!(why, Some(Slowness::Buffer));
    let heard = heard.len() as u64;
    rig.fx(|demux, _, fx| demux.unlisten(first.key, fx));
    let second = rig.demux.listen();
    assert_eq!(second.missed, 0);
    let cx = Context::from_waker(Waker::noop());
    for expected in heard..LINES {
        match rig.demux.poll_listener(second.key, &cx) {
            Poll::Ready(Some(Ok(message))) => assert_eq!(number(&message), expected),
            other => panic!("{other:?}"),
        }
    }
    assert!(rig.hears(second.key).flatten().is_some(), "and the question");
    assert!(rig.refused.is_empty());
    // While nobody listens, what does not fit is missed, and told.
    rig.fx(|demux, _, fx| demux.unlisten(second.key, fx));
    rig.flood(0, 0);
    let third = rig.demux.listen();
    assert!(third.missed > 0);
    assert_eq!(rig.hears_all(third.key).0, (third.missed..LINES).collect::<Vec<_>>());
}
