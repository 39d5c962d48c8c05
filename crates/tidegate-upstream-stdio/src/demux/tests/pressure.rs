//! Readers that stand still.

use tidegate_service::slow::{Backlog, Policy, SlowClients, SlowParams};

use super::*;

const BUFFER: usize = 64 << 10;

fn route(policy: Policy) -> Arc<SlowClients> {
    let params = SlowParams { policy, buffer: BUFFER, ..SlowParams::default() };
    Arc::new(SlowClients::new("/mcp", params, &Backlog::default()))
}

/// A session's own process.
fn own(policy: Policy) -> (Talk, Arc<SlowClients>) {
    let mut talk = Talk::new(Mode::Session);
    let slow = route(policy);
    talk.demux.treat(Arc::clone(&slow));
    (talk, slow)
}

fn line(number: usize) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/message",
        "params": {"line": number, "data": "x".repeat(1000)}})
}

/// So many lines as make a mailbox full and some more, as one read of a pipe may bring.
const LINES: usize = 80;

fn flood(talk: &mut Talk, from: usize) {
    for number in from..from + LINES {
        talk.says(&line(number));
    }
}

fn numbers(found: &[Value]) -> Vec<u64> {
    found.iter().filter_map(|each| each["params"]["line"].as_u64()).collect()
}

fn up_to(end: usize) -> Vec<u64> {
    (0..end as u64).collect()
}

#[test]
fn a_sessions_own_process_stands_still_with_its_only_reader_and_nothing_is_lost() {
    let (mut talk, slow) = own(Policy::Pause);
    talk.open(1, &json!(1));
    flood(&mut talk, 0);
    assert!(talk.demux.holds() && talk.demux.holds());
    let mut found = Vec::new();
    while !talk.demux.resumes() {
        match talk.demux.poll(1, &Context::from_waker(Waker::noop())) {
            Poll::Ready(Step::Message(message)) => found.push(value(&message)),
            other => panic!("{other:?}"),
        }
    }
    assert!((LINES / 4..LINES).contains(&found.len()), "about half: {}", found.len());
    assert!(!talk.demux.holds());
    flood(&mut talk, LINES);
    talk.says(&answer(1));
    assert!(!talk.demux.holds(), "it is answered, so that no more comes for it");
    found.extend(talk.reads(1));
    assert_eq!(found.pop(), Some(answer(1)));
    assert_eq!(numbers(&found), up_to(2 * LINES));
    assert_eq!((talk.stats().pauses, talk.stats().notifications_dropped), (1, 0));
    assert_eq!(slow.stats(), [0; 3]);
}

#[test]
fn another_call_of_the_session_does_not_wait_for_a_reader_that_stands_still() {
    let (mut talk, slow) = own(Policy::Pause);
    talk.open_as(1, &json!(1), Some(&json!(1)), Nature::Plain);
    flood(&mut talk, 0);
    assert!(talk.demux.holds());
    talk.open(2, &json!(2));
    assert!(talk.demux.resumes(), "its answer may be next in the pipe");
    talk.says(&answer(2));
    assert_eq!(talk.reads(2), [answer(2)]);
    assert!(talk.demux.holds(), "and now nobody waits any more");
    talk.open(3, &json!(3));
    assert!(talk.demux.resumes());
    // What comes for the first cannot be kept, and cannot wait in the pipe either.
    talk.says(&progress(1));
    assert_eq!(talk.sent, [cancelled(1)]);
    assert_eq!(slow.stats(), [0, 1, 0]);
    assert_eq!(talk.demux.in_flight(), 1);
    let found = talk.reads(1);
    assert_eq!(found.last(), Some(&json!("buffer")), "behind what it has not read");
    assert_eq!(numbers(&found), up_to(LINES));
    talk.says(&answer(1));
    assert_eq!(talk.stats().late_answers, 1);
    assert_eq!(talk.reads(3), [Value::Null]);
}

#[test]
fn a_route_may_end_streams_instead() {
    let (mut talk, slow) = own(Policy::End);
    talk.open(1, &json!(1));
    flood(&mut talk, 0);
    assert!(!talk.demux.holds());
    let found = talk.reads(1);
    assert_eq!(found.last(), Some(&json!("buffer")));
    let kept = found.len() - 1;
    assert!((40..64).contains(&kept), "{kept}");
    assert_eq!(numbers(&found), up_to(kept), "the first ones, without a gap");
    assert_eq!((slow.stats(), &talk.sent), ([0, 1, 0], &vec![cancelled(1)]));
}

#[test]
fn in_a_shared_process_only_the_reader_that_stands_still_loses_its_stream() {
    for mode in [Mode::Common, Mode::Modern] {
        let mut talk = Talk::new(mode);
        let slow = route(Policy::Pause);
        for id in 1..=3 {
            let (now, token) = (talk.now, Some(Id::from_u64(id)));
            let opening = Opening {
                owner: Owner(id),
                client_id: Id::from_u64(id),
                token,
                nature: Nature::Plain,
                task: None,
                logs: false,
                counts: true,
                slow: Some(Arc::clone(&slow)),
                now,
            };
            talk.demux.open(id, opening);
        }
        let mut seen = [0, 0];
        for _ in 0..1000 {
            for id in 1..=3 {
                talk.says(&progress(id));
            }
            for id in [2, 3] {
                seen[id as usize - 2] += talk.reads(id).len() - 1;
            }
            assert!(!talk.demux.holds(), "{mode:?}");
        }
        assert_eq!(seen, [1000, 1000], "{mode:?}");
        assert_eq!((slow.stats(), &talk.sent), ([0, 1, 0], &vec![cancelled(1)]), "{mode:?}");
        assert_eq!(talk.reads(1).last(), Some(&json!("buffer")), "{mode:?}");
    }
}

#[test]
fn a_listener_that_stands_still_misses_nothing_where_the_process_can_wait() {
    let (mut talk, slow) = own(Policy::Pause);
    let key = talk.listen();
    flood(&mut talk, 0);
    assert!(talk.demux.holds());
    assert_eq!(numbers(&talk.hears(key)), up_to(LINES));
    assert!(talk.demux.resumes());
    assert_eq!(slow.stats(), [0; 3]);
}

#[test]
fn a_listener_that_is_ended_finds_the_rest_in_order_when_it_comes_back() {
    let (mut talk, slow) = own(Policy::End);
    let key = talk.listen();
    flood(&mut talk, 0);
    assert_eq!(slow.stats(), [0, 1, 0]);
    // It reads some and goes, and comes back.
    for _ in 0..3 {
        let heard = talk.demux.poll_listener(key, &Context::from_waker(Waker::noop()));
        assert!(matches!(heard, Poll::Ready(Some(Ok(_)))));
    }
    talk.act(|demux, fx| demux.unlisten(key, fx));
    let opened = talk.demux.listen(Owner::default(), None);
    let heard = numbers(&talk.hears(opened.key));
    // Nobody could be waited for, so that the oldest had to go.
    let missed = usize::try_from(opened.missed).unwrap();
    assert!(missed > 0 && talk.stats().notifications_dropped == opened.missed);
    assert_eq!(heard, up_to(LINES).split_off(3 + missed));
    assert_eq!(talk.demux.listen(Owner::default(), None).missed, 0, "it is told once");
    // One that reads to the end is told why there is no more.
    let key = talk.listen();
    flood(&mut talk, 0);
    let heard = talk.hears(key);
    assert_eq!(heard[heard.len() - 2..], [json!("buffer"), json!("end")]);
}

#[test]
fn a_request_for_a_reader_that_stands_still_finds_another_or_is_refused() {
    let (mut talk, _) = own(Policy::End);
    talk.open(1, &json!(1));
    // To the only call, until that takes no more.
    for number in 0.. {
        let more = json!({"jsonrpc": "2.0", "id": number, "method": "elicitation/create",
            "params": {"message": "x".repeat(1000)}});
        talk.says(&more);
        if talk.demux.in_flight() == 0 {
            break;
        }
    }
    let key = talk.listen();
    let found = talk.reads(1);
    assert_eq!(found.last(), Some(&json!("buffer")));
    let heard = talk.hears(key);
    assert_eq!(heard.len(), 1, "the one that found no room");
    assert_eq!(heard[0]["id"].as_u64(), Some(found.len() as u64), "and all of them in order");
    // Without another reader it is refused when its time is up.
    let (mut talk, _) = own(Policy::End);
    talk.open(1, &json!(1));
    flood(&mut talk, 0);
    talk.says(&ask("q", "roots/list"));
    assert_eq!(talk.sent, [cancelled(1)]);
    let late = talk.now + PATIENCE;
    talk.act(|demux, fx| demux.tick(late, fx));
    assert_eq!(
        (&talk.sent[1]["id"], &talk.sent[1]["error"]["code"]),
        (&json!("q"), &json!(-32603))
    );
}

#[test]
fn a_session_of_a_shared_process_learns_what_it_missed_between_two_streams() {
    let mut talk = Talk::new(Mode::Common);
    let changed = note("notifications/tools/list_changed");
    let open = |talk: &mut Talk| talk.demux.listen(Owner(1), None);
    let first = open(&mut talk);
    assert_eq!(first.missed, 0);
    talk.says(&changed);
    assert_eq!(talk.hears(first.key), std::slice::from_ref(&changed));
    talk.act(|demux, fx| demux.unlisten(first.key, fx));
    talk.says(&changed);
    assert_eq!(talk.stats().notifications_dropped, 1);
    let second = open(&mut talk);
    assert_eq!(second.missed, 1);
    talk.act(|demux, fx| demux.unlisten(second.key, fx));
    let now = talk.now;
    talk.act(|demux, fx| demux.forget(Owner(1), now, fx));
    talk.says(&changed);
    assert_eq!(talk.stats().notifications_dropped, 1, "nobody is there to miss it");
}
