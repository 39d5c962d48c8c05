//! Event streams: each event at once, as sent; an end is told from a break.

use std::time::Duration;

use tidegate_protocol::{Envelope, Era};
use tidegate_service::{Call, Cx, Kind, Retry, Verdict};
use tokio::{join, time::Instant};

use crate::support::{
    EVENTS_HEAD, PONG, Peer, chunk, events, json, listen, message, next, with_status,
};

#[tokio::test]
async fn each_event_arrives_as_sent_before_the_next_one_exists() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let (reply, (mut conn, _)) = join!(world.ping(), peer.serve(EVENTS_HEAD));
    let mut stream = events(reply.unwrap());
    let sent = [
        "id: 1\nretry: 3000\ndata:\n\n",
        ": keep-alive\n\n",
        "event: message\r\ndata: {\"a\":1}\r\nunknown: x\r\n\r\n",
        "data: {\ndata: }\n\n",
    ];
    for event in sent {
        let start = Instant::now();
        conn.send(chunk(event)).await;
        assert_eq!(next(&mut stream).await.unwrap().unwrap(), event);
        assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
    }
    assert_eq!((world.stats().open_streams, world.stats().calls.in_use), (1, 1));
    // Two in one chunk, and one cut across three.
    conn.send(chunk("data: 1\n\ndata: 2\n\nda")).await;
    conn.send(chunk(&format!("ta: {PONG}\n"))).await;
    conn.send(chunk("\n")).await;
    let last = format!("data: {PONG}\n\n");
    for event in ["data: 1\n\n", "data: 2\n\n", &last] {
        assert_eq!(next(&mut stream).await.unwrap().unwrap(), event);
    }
    conn.send("0\r\n\r\n").await;
    assert!(next(&mut stream).await.is_none());
    assert!(next(&mut stream).await.is_none(), "an end is an end");
    drop(stream);

    let answer = json(PONG);
    let (reply, _) = join!(world.ping(), conn.answer(&answer));
    assert_eq!(message(reply.unwrap()), PONG, "the connection is as good as new");
    assert_eq!((world.stats().opened, world.stats().attempts.answered), (1, 2));
    world.end().await;
}

#[tokio::test]
async fn a_break_ends_with_an_error_and_an_end_does_not() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let whole = chunk("data: 1\n\n");
    let close_delimited = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n";
    let chunked = |tail: &str| format!("{EVENTS_HEAD}{whole}{tail}");
    let cases = [
        // No final chunk; inside a chunk; inside an event of a finished body; not chunked at all.
        (chunked(""), false, Some(Kind::Died)),
        (chunked("9\r\ndata:"), false, Some(Kind::Died)),
        (chunked("9\r\ndata:"), true, Some(Kind::Died)),
        (chunked("6\r\ndata: \r\n0\r\n\r\n"), false, Some(Kind::Died)),
        (chunked("zz\r\n"), false, Some(Kind::Protocol)),
        (chunked("1\r\n\n\r\n0\r\n\r\n"), false, None),
        (close_delimited.to_owned(), false, None),
    ];
    for (response, reset, expected) in cases {
        let (reply, (conn, _)) = join!(world.ping(), peer.serve(&response));
        let mut stream = events(reply.unwrap());
        assert_eq!(next(&mut stream).await.unwrap().unwrap(), "data: 1\n\n");
        if reset {
            conn.reset()
        } else {
            drop(conn)
        }
        let mut end = next(&mut stream).await;
        while matches!(&end, Some(Ok(blank)) if blank.trim().is_empty()) {
            end = next(&mut stream).await;
        }
        match (end, expected) {
            (None, None) => (),
            (Some(Err(error)), Some(kind)) => {
                assert_eq!((error.kind, error.retry), (kind, Retry::Never), "{response}");
                assert!(next(&mut stream).await.is_none(), "nothing follows an error");
            }
            (end, _) => panic!("{end:?} after {response}"),
        }
    }
    world.end().await;
}

#[tokio::test]
async fn dropping_a_stream_closes_its_connection_at_once() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let response = format!("{EVENTS_HEAD}{}", chunk("data: 1\n\n"));
    let (reply, (mut conn, _)) = join!(world.ping(), peer.serve(&response));
    let (verdicts, heard) = std::sync::mpsc::channel();
    let reply = reply.unwrap().on_end(move |verdict| verdicts.send(verdict).unwrap());
    let mut stream = events(reply);
    next(&mut stream).await.unwrap().unwrap();
    drop(stream);
    assert_eq!(heard.recv().unwrap(), Verdict::Dropped);
    let stats = world.stats();
    assert_eq!((stats.opened, stats.closed, stats.open_streams), (1, 1, 0));
    conn.closed().await;
    assert_eq!(world.stats().attempts.cancelled, 1);
    world.end().await;
}

#[tokio::test]
async fn an_event_over_the_limit_ends_the_stream() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.max_response = 1_000);
    let (reply, (mut conn, _)) = join!(world.ping(), peer.serve(EVENTS_HEAD));
    let mut stream = events(reply.unwrap());
    let fits = format!("data: {}\n\n", "x".repeat(990));
    for _ in 0..5 {
        conn.send(chunk(&fits)).await;
        assert_eq!(next(&mut stream).await.unwrap().unwrap(), fits);
    }
    for _ in 0..3 {
        conn.send(chunk(&format!("data: {}\n", "x".repeat(400)))).await;
    }
    let error = next(&mut stream).await.unwrap().unwrap_err();
    assert_eq!(error.kind, Kind::TooLarge);
    conn.closed().await;
    assert!(next(&mut stream).await.is_none());
    drop(stream);
    world.end().await;
}

#[tokio::test]
async fn silence_ends_an_answer_but_not_a_stream_of_what_comes_unasked() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.timeouts.idle = Some(Duration::from_millis(60)));
    let (reply, (mut conn, _)) = join!(world.ping(), peer.serve(EVENTS_HEAD));
    let mut stream = events(reply.unwrap());
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(40)).await;
        conn.send(chunk("data: alive\n\n")).await;
        next(&mut stream).await.unwrap().unwrap();
    }
    let error = next(&mut stream).await.unwrap().unwrap_err();
    assert_eq!(error.kind, Kind::Timeout);
    assert_eq!(error.message(), "waited 60ms for more of the answer");
    conn.closed().await;
    let (_, seen) = peer.serve("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await;
    assert!(String::from_utf8_lossy(&seen.body).contains("notifications/cancelled"));

    let subscribe = r#"{"jsonrpc":"2.0","id":"s","method":"subscriptions/listen","params":{}}"#;
    let subscribe = Envelope::parse(subscribe.into()).unwrap();
    for call in [listen(), Call::send(subscribe, Cx::new(Era::Modern))] {
        let (reply, (mut conn, _)) = join!(world.call(call), peer.serve(EVENTS_HEAD));
        let mut stream = events(reply.unwrap());
        let late = tokio::time::timeout(Duration::from_millis(300), next(&mut stream)).await;
        assert!(late.is_err(), "silence is normal: {late:?}");
        conn.send(chunk("data: 1\n\n")).await;
        assert_eq!(next(&mut stream).await.unwrap().unwrap(), "data: 1\n\n");
        drop(stream);
        conn.closed().await;
    }
    drop(stream);
    world.end().await;
}

#[tokio::test]
async fn endless_streams_have_a_limit_of_their_own_and_starve_no_calls() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.max_connections = 2);
    let mut open = Vec::new();
    for _ in 0..2 {
        let (reply, (conn, _)) = join!(world.call(listen()), peer.serve(EVENTS_HEAD));
        open.push((events(reply.unwrap()), conn));
    }
    let error = world.call(listen()).await.unwrap_err();
    assert_eq!((error.kind, error.retry), (Kind::PoolExhausted, Retry::NotSent));
    let (reply, _) = join!(world.ping(), peer.serve(json(PONG)));
    assert_eq!(message(reply.unwrap()), PONG);
    let stats = world.stats();
    assert_eq!((stats.open_streams, stats.streams.in_use, stats.calls.in_use), (2, 2, 0));
    open.pop();
    let (reply, (conn, _)) = join!(world.call(listen()), peer.serve(EVENTS_HEAD));
    open.push((events(reply.unwrap()), conn));
    open.clear();
    world.end().await;
}

#[tokio::test]
async fn a_server_without_a_stream_says_so() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let body =
        r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"Method not allowed."},"id":null}"#;
    let cases = [
        (with_status("405 Method Not Allowed", body), Kind::Unsupported),
        ("HTTP/1.1 405 X\r\ncontent-length: 0\r\n\r\n".to_owned(), Kind::Unsupported),
        ("HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n".to_owned(), Kind::Unsupported),
        (json(PONG), Kind::Protocol),
    ];
    for (response, kind) in cases {
        let response = response.replacen("\r\n", "\r\nconnection: close\r\n", 1);
        let (reply, _) = join!(world.call(listen()), peer.serve(&response));
        assert_eq!(reply.unwrap_err().kind, kind, "{response}");
    }
    let conflict = r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"One is open"},"id":null}"#;
    let (reply, _) = join!(world.call(listen()), peer.serve(with_status("409 Conflict", conflict)));
    let reply = reply.unwrap();
    assert_eq!(reply.status.as_u16(), 409);
    assert_eq!(message(reply), conflict);
    world.end().await;
}

#[tokio::test]
async fn ten_thousand_events_flat_out_arrive_in_order() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let server = async {
        let (mut conn, _) = peer.serve(EVENTS_HEAD).await;
        for batch in 0..100 {
            let events = (0..100).map(|at| chunk(&format!("data: {}\n\n", batch * 100 + at)));
            conn.send(events.collect::<String>()).await;
        }
        conn.send("0\r\n\r\n").await;
        conn
    };
    let reader = async {
        let mut stream = events(world.ping().await.unwrap());
        for number in 0..10_000 {
            let event = next(&mut stream).await.unwrap().unwrap();
            assert_eq!(event, format!("data: {number}\n\n"));
        }
        assert!(next(&mut stream).await.is_none());
    };
    let (_conn, ()) = join!(server, reader);
    assert_eq!(world.stats().calls.idle, 1);
    world.end().await;
}
