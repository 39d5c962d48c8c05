//! Cuts in every place: no event is lost, none comes twice.

use std::time::Duration;

use tidegate_service::Kind;
use tidegate_upstream_http::Reconnect;
use tokio::{join, time::Instant};

use super::{
    QUICK, Transcript, answer, begun, event, quick, replay, resumption, session, transcript, whole,
};
use crate::support::{Conn, EVENTS_HEAD, PONG, Peer, World, chunk, in_session, listen, soon};

/// A stream as servers write it: a priming event, comments, every kind of line end, data of many
/// lines, letters of many bytes, and the answer.
fn recorded() -> Vec<(&'static str, String)> {
    vec![
        ("s/1", "id: s/1\nretry: 1\ndata:\n\n".to_owned()),
        ("", ": keep-alive\n\n".to_owned()),
        ("s/2", "event: message\r\nid: s/2\r\ndata: {\"a\":1}\r\n\r\n".to_owned()),
        ("s/3", "id: s/3\rdata: {\rdata: }\r\r".to_owned()),
        ("s/4", event("s/4", "\"smørrebrød \u{1F9C7}\"")),
        ("s/5", answer("s/5")),
    ]
}

/// What follows an id.
fn behind(last: Option<&str>) -> String {
    let all = recorded();
    let from = last.map_or(0, |last| 1 + all.iter().position(|(id, _)| *id == last).unwrap());
    all.iter().skip(from).map(|(_, text)| text.as_str()).collect()
}

fn expected() -> Vec<String> {
    let events = recorded().into_iter().filter(|(id, _)| !id.is_empty());
    trimmed(events.map(|(_, text)| text))
}

/// Without the blank line, of which the last LF may have been cut off.
fn trimmed(events: impl IntoIterator<Item = String>) -> Vec<String> {
    events.into_iter().map(|event| event.trim_end().to_owned()).collect()
}

/// The id of the last event that is whole within the first bytes.
fn last_whole(length: usize) -> Option<&'static str> {
    let (mut at, mut last) = (0, None);
    for (id, text) in recorded() {
        at += text.len();
        // A CR ends an event without the LF that may follow it.
        if at <= length || (text.ends_with("\r\n") && at == length + 1) {
            last = if id.is_empty() { last } else { Some(id) };
        }
    }
    last
}

/// How a connection is cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Close,
    Reset,
    /// Only the server's half.
    Half,
}

async fn cut(mut conn: Conn, how: Cut) -> Option<Conn> {
    match how {
        Cut::Close => None,
        Cut::Reset => {
            conn.reset();
            None
        }
        Cut::Half => {
            soon(tokio::io::AsyncWriteExt::shutdown(&mut conn.socket)).await.unwrap();
            Some(conn)
        }
    }
}

/// The stream's first bytes on one connection, then whatever is asked for on others. Never ends.
async fn serve_cut(peer: &Peer, first: Vec<u8>, how: Cut, asked: &mut Vec<Option<String>>) {
    let mut conn = peer.accept().await;
    conn.request().await;
    conn.send(EVENTS_HEAD).await;
    conn.send(first).await;
    let _half = cut(conn, how).await;
    loop {
        let (mut conn, seen) = resumption(peer).await;
        let last = seen.header("last-event-id");
        asked.push(last.map(ToOwned::to_owned));
        conn.send(whole(&behind(last))).await;
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_at_any_byte_is_as_if_it_had_not_been() {
    let peer = Peer::bind().await;
    let world = peer.world_with(quick);
    let body = behind(None);
    let mut resumed = 0;
    for length in 0..body.len() {
        let mut first = format!("{length:x}\r\n").into_bytes();
        first.extend_from_slice(&body.as_bytes()[..length]);
        first.extend_from_slice(b"\r\n");
        let first = if length == 0 { Vec::new() } else { first };
        for how in [Cut::Close, Cut::Half, Cut::Reset] {
            let mut asked = Vec::new();
            let told = tokio::select! {
                told = async { transcript(world.ping().await).await } => told,
                () = serve_cut(&peer, first.clone(), how, &mut asked) => unreachable!(),
            };
            let asked: Vec<_> = asked.iter().map(Option::as_deref).collect();
            let last = last_whole(length);
            // A reset takes with it what was not read yet, so there it is only known what follows.
            let last =
                if matches!(how, Cut::Reset) { asked.first().copied().flatten() } else { last };
            match last {
                // There is nothing to go on from.
                None => assert_eq!(told.error.unwrap().kind, Kind::Died),
                Some("s/5") => assert_eq!((trimmed(told.events), asked.len()), (expected(), 0)),
                Some(last) => {
                    assert!(told.error.is_none(), "{length} {how:?} {told:?}");
                    assert_eq!(trimmed(told.events), expected(), "{length} {how:?}");
                    assert_eq!(told.comments, [": reconnecting to the server, attempt 1\n\n"]);
                    assert_eq!(asked, [Some(last)], "{length} {how:?}");
                    resumed += 1;
                }
            }
        }
    }
    let stats = world.resumption();
    assert!(resumed > 300, "{resumed}");
    assert_eq!((stats.resumed, stats.opened, stats.failed), (resumed, resumed, 0));
    assert_eq!((stats.gaps, stats.given_up, stats.replayed, stats.reused_ids), (0, 0, 0, 0));
    assert_eq!(stats.times.count(), resumed);
    world.end().await;
}

#[tokio::test]
async fn what_frames_the_stream_may_be_cut_anywhere_too() {
    let peer = Peer::bind().await;
    let world = peer.world_with(quick);
    let pieces: Vec<String> = recorded().into_iter().map(|(_, text)| text).collect();
    let raw: String = pieces.iter().map(|piece| chunk(piece)).collect::<String>() + "0\r\n\r\n";
    for length in 0..raw.len() {
        let mut last = None;
        let mut at = 0;
        for (id, text) in recorded() {
            let framed = chunk(&text);
            let head = framed.len() - text.len() - 2;
            let short = usize::from(text.ends_with("\r\n"));
            if at + head + text.len() <= length + short && !id.is_empty() {
                last = Some(id);
            }
            at += framed.len();
        }
        let mut asked = Vec::new();
        let first = raw.as_bytes()[..length].to_vec();
        let told = tokio::select! {
            told = async { transcript(world.ping().await).await } => told,
            () = serve_cut(&peer, first, Cut::Close, &mut asked) => unreachable!(),
        };
        if last.is_none() {
            assert_eq!(told.error.unwrap().kind, Kind::Died);
        } else {
            assert_eq!(trimmed(told.events), expected(), "{length}");
            assert!(asked.len() <= 1 && asked.iter().flatten().all(|id| Some(&**id) == last));
        }
    }
    world.end().await;
}

#[tokio::test]
async fn a_stream_that_is_cut_over_and_over_arrives_whole() {
    let peer = Peer::bind().await;
    let world = peer.world_with(quick);
    let count = 40;
    let texts: Vec<String> = (0..count)
        .map(|number| event(&format!("e{number}"), &"x".repeat(number)))
        .chain([answer("end")])
        .collect();
    let server = async {
        let mut conn = peer.accept().await;
        conn.request().await;
        // Each connection brings one event more and a piece of the next.
        for at in 0..count {
            let next = &texts[at + 1];
            conn.send(begun(&format!("{}{}", texts[at], &next[..next.len() - 1]))).await;
            drop(conn);
            let seen;
            (conn, seen) = resumption(&peer).await;
            assert_eq!(seen.header("last-event-id"), Some(&*format!("e{at}")));
        }
        conn.send(whole(&texts[count])).await;
        conn
    };
    let (told, _conn) = join!(async { transcript(world.ping().await).await }, server);
    told.assert_whole(&texts);
    assert_eq!(told.comments.len(), count);
    assert!(told.comments.iter().all(|comment| comment.contains("attempt 1")), "news began anew");
    world.end().await;
}

/// One stream over two connections.
async fn twice(world: &World, peer: &Peer, first: &str, second: &str) -> Transcript {
    let server = async {
        drop(peer.serve(begun(first)).await);
        let (mut conn, _) = resumption(peer).await;
        conn.send(whole(second)).await;
        conn
    };
    join!(async { transcript(world.ping().await).await }, server).0
}

#[tokio::test]
async fn a_replay_that_goes_back_too_far_doubles_nothing() {
    let peer = Peer::bind().await;
    let world = peer.world_with(quick);
    let (one, two, three) = (event("1", "a"), event("2", "b"), event("3", "c"));
    // From the start, as a server does that overlooks the header; and backwards.
    let first = format!("{one}{two}");
    let from_the_start = format!("{one}{two}{three}{}", answer("4"));
    let told = twice(&world, &peer, &first, &from_the_start).await;
    told.assert_whole(&[&one, &two, &three, &answer("4")]);
    let backwards = format!("{two}{one}{three}{}", answer("4"));
    let told = twice(&world, &peer, &first, &backwards).await;
    told.assert_whole(&[&one, &two, &three, &answer("4")]);
    let stats = world.resumption();
    assert_eq!((stats.replayed, stats.reused_ids), (4, 0));
    world.end().await;
}

#[tokio::test]
async fn ids_that_a_server_uses_again_make_no_event_disappear() {
    let peer = Peer::bind().await;
    let world = peer.world_with(quick);
    let first = [event("1", "a"), event("1", "b")];
    let second = [event("1", "c"), answer("1")];
    let told = twice(&world, &peer, &first.concat(), &second.concat()).await;
    told.assert_whole(&[first, second].concat());
    let stats = world.resumption();
    assert_eq!((stats.replayed, stats.reused_ids), (0, 3));
    world.end().await;
}

#[tokio::test]
async fn a_stream_that_stands_still_is_taken_up_again() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| {
        quick(params);
        let reconnect = params.reconnect.unwrap();
        let stall = Duration::from_millis(60);
        params.reconnect = Some(Reconnect { stall, ..reconnect });
    });
    let server = async {
        let (mut stalled, _) = peer.serve(begun(&event("1", "a"))).await;
        let conn = replay(&peer, Some("1"), &answer("2")).await;
        stalled.closed().await;
        conn
    };
    let (told, _conn) = join!(async { transcript(world.ping().await).await }, server);
    told.assert_whole(&[event("1", "a"), answer("2")]);
    assert_eq!(world.stats().attempts.timed_out, 1);
    world.end().await;
}

#[tokio::test]
async fn the_stream_of_what_comes_unasked_goes_on_too() {
    let peer = Peer::bind().await;
    let world = peer.world_with(quick);
    let session = session(&peer, &world).await;
    let listen = world.call(in_session(listen().operation, &session));
    let server = async {
        let (conn, seen) = resumption(&peer).await;
        assert_eq!(seen.header("last-event-id"), None);
        let mut conn = conn;
        conn.send(begun("data: no id yet\n\n")).await;
        drop(conn);
        // Nobody knows what is missing.
        drop(replay(&peer, None, &event("g/1", "a")).await);
        // It ended in order, which means no more than a cut.
        let (mut conn, seen) = resumption(&peer).await;
        assert_eq!(seen.header("last-event-id"), Some("g/1"));
        assert_eq!(seen.header("mcp-session-id"), Some("theirs"));
        conn.send(begun(&event("g/2", "b"))).await;
        drop(conn);
        let (conn, _) = resumption(&peer).await;
        session.end();
        conn
    };
    let (told, _conn) = join!(async { transcript(listen.await).await }, server);
    assert_eq!(told.events, ["data: no id yet\n\n", &event("g/1", "a"), &event("g/2", "b")]);
    assert_eq!(told.error.unwrap().kind, Kind::SessionUnknown, "nobody needs it any more");
    let stats = world.resumption();
    assert_eq!((stats.gaps, stats.resumed, stats.waiting), (1, 1, 0));
    world.end().await;
}

#[tokio::test]
async fn a_server_that_wants_to_be_polled_is_polled_at_its_pace() {
    let peer = Peer::bind().await;
    let world = peer.world_with(quick);
    let priming = "id: p/0\nretry: 40\ndata:\n\n";
    let start = Instant::now();
    let server = async {
        drop(peer.serve(whole(priming)).await);
        let mut times = Vec::new();
        for id in ["p/0", "p/1", "p/2"] {
            let (mut conn, seen) = resumption(&peer).await;
            assert_eq!(seen.header("last-event-id"), Some(id));
            times.push(start.elapsed());
            let next = match id {
                "p/0" => event("p/1", "\"progress\""),
                // Nothing new, only where to go on.
                "p/1" => "id: p/2\ndata:\n\n".to_owned(),
                _ => answer("p/3"),
            };
            conn.send(whole(&next)).await;
        }
        times
    };
    let (told, times) = join!(async { transcript(world.ping().await).await }, server);
    let progress = event("p/1", "\"progress\"");
    told.assert_whole(&[priming, &progress, "id: p/2\ndata:\n\n", &answer("p/3")]);
    for (number, time) in (1..).zip(times) {
        assert!(time >= Duration::from_millis(40) * number, "{number}: {time:?}");
    }
    assert!(told.messages.is_empty());
    let attempts = world.stats().attempts;
    assert_eq!((attempts.answered, attempts.total()), (4, 4), "an orderly end is no failure");
    world.end().await;
}

#[tokio::test]
async fn a_server_that_starts_anew_on_its_port_is_found_again() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| {
        params.reconnect = Some(Reconnect { attempts: u32::MAX.try_into().unwrap(), ..QUICK });
    });
    let address = peer.address();
    let server = async {
        drop(peer.serve(begun(&event("1", "a"))).await);
        drop(peer);
        soon(async {
            while world.resumption().failed < 3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let peer = Peer::bind_to(address).await;
        let conn = replay(&peer, Some("1"), &answer("2")).await;
        (peer, conn)
    };
    let (told, _peer) = join!(async { transcript(world.ping().await).await }, server);
    told.assert_whole(&[event("1", "a"), answer("2")]);
    assert!(told.comments.len() > 3);
    assert!(world.stats().attempts.unreachable >= 3);
    world.end().await;
}

#[tokio::test]
async fn an_answer_to_initialize_goes_on_in_its_new_session() {
    let peer = Peer::bind().await;
    let world = peer.world_with(quick);
    let session = tidegate_service::Session::new("ours");
    let call = world.call(in_session(super::post(super::INITIALIZE), &session));
    let head = EVENTS_HEAD.replacen("\r\n", "\r\nmcp-session-id: new\r\n", 1);
    let server = async {
        drop(peer.serve(format!("{head}{}", chunk("id: i/0\ndata:\n\n"))).await);
        let (mut conn, seen) = resumption(&peer).await;
        assert_eq!(seen.header("mcp-session-id"), Some("new"));
        conn.send(whole(&event("i/1", PONG))).await;
        conn
    };
    let (told, _conn) = join!(async { transcript(call.await).await }, server);
    told.assert_whole(&["id: i/0\ndata:\n\n", &event("i/1", PONG)]);
    world.end().await;
}
