//! Servers that are not there, slow, or gone, and callers that leave.

use std::{pin::pin, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _};
use tidegate_protocol::Era;
use tidegate_service::{Kind, Origin, Retry};
use tidegate_upstream_http::Params;
use tokio::{join, net::TcpListener, time::Instant};

use crate::support::{
    EVENTS_HEAD, PING, PONG, Peer, World, chunk, events, json, message, next, send, soon,
};

const SHORT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_refused_connection_is_told_at_once() {
    let peer = Peer::bind().await;
    let url = format!("http://{}/mcp", peer.address());
    drop(peer);
    let world = World::new(Params::new("gone", url.parse().unwrap()));
    for _ in 0..3 {
        let start = Instant::now();
        let error = world.ping().await.unwrap_err();
        assert!(start.elapsed() < Duration::from_millis(50), "{:?}", start.elapsed());
        assert_eq!((error.kind, error.origin), (Kind::Unreachable, Origin::Upstream));
        assert_eq!(error.retry, Retry::NotSent);
    }
    assert_eq!(world.stats().attempts.unreachable, 3);
    world.end().await;
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_unreachable() {
    let url = "http://nowhere.invalid/mcp";
    let world = World::new(Params::new("nowhere", url.parse().unwrap()));
    let error = world.ping().await.unwrap_err();
    assert_eq!((error.kind, error.retry), (Kind::Unreachable, Retry::NotSent));
    world.end().await;
}

#[tokio::test]
async fn connecting_takes_no_longer_than_allowed() {
    // A full backlog swallows connections, as a firewall does.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener: TcpListener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut fill = Vec::new();
    while let Ok(socket) =
        tokio::time::timeout(SHORT, tokio::net::TcpStream::connect(address)).await
    {
        fill.push(socket.unwrap());
    }
    let mut params = Params::new("full", format!("http://{address}/").parse().unwrap());
    params.timeouts.connect = Duration::from_millis(200);
    let world = World::new(params);
    let start = Instant::now();
    let error = world.ping().await.unwrap_err();
    assert_eq!((error.kind, error.retry), (Kind::Timeout, Retry::NotSent));
    assert_eq!(error.message(), "waited 200ms to connect");
    let took = start.elapsed().as_millis();
    assert!((200..400).contains(&took), "{took} ms");
    // The caller's deadline is nearer.
    let mut call = send(PING);
    call.cx.deadline = Some(Instant::now() + SHORT / 2);
    let start = Instant::now();
    let error = world.call(call).await.unwrap_err();
    assert_eq!((error.kind, error.retry), (Kind::Timeout, Retry::NotSent));
    assert!(start.elapsed() < Duration::from_millis(190), "{:?}", start.elapsed());
    world.end().await;
}

#[tokio::test]
async fn a_server_that_never_answers_times_out_and_loses_the_connection() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.timeouts.request = Some(SHORT));
    let (reply, mut conn) = join!(world.ping(), async {
        let mut conn = peer.accept().await;
        conn.request().await;
        conn.closed().await;
        conn
    });
    let error = reply.unwrap_err();
    assert_eq!((error.kind, error.origin), (Kind::Timeout, Origin::Upstream));
    assert_eq!(error.retry, Retry::Never);
    let message = error.message();
    assert!(message.starts_with("waited 1") && message.ends_with(" for the response to begin"));
    conn.closed().await;
    assert_eq!(world.stats().calls.closed.broken, 1);
    world.end().await;
}

#[tokio::test]
async fn the_callers_deadline_caps_everything() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let mut late = send(PING);
    late.cx.deadline = Some(Instant::now());
    let error = world.call(late).await.unwrap_err();
    assert_eq!((error.kind, error.retry), (Kind::Timeout, Retry::NotSent));
    assert!(peer.is_left_alone().await, "not even a connection was made");

    let mut call = send(PING);
    // Its server is told by the end of the connection alone.
    call.cx.era = Era::Modern;
    call.cx.deadline = Some(Instant::now() + SHORT);
    let (reply, ()) = join!(world.call(call), async {
        let mut conn = peer.accept().await;
        conn.request().await;
        conn.closed().await;
    });
    assert_eq!(reply.unwrap_err().kind, Kind::Timeout);

    let mut call = send(PING);
    // Its server is told by the end of the connection alone.
    call.cx.era = Era::Modern;
    call.cx.deadline = Some(Instant::now() + SHORT);
    let server = async {
        let mut conn = peer.accept().await;
        conn.request().await;
        conn.send(EVENTS_HEAD).await;
        conn.send(chunk("data: 1\n\n")).await;
        conn
    };
    let (reply, mut conn) = join!(world.call(call), server);
    let mut stream = events(reply.unwrap());
    assert_eq!(next(&mut stream).await.unwrap().unwrap(), "data: 1\n\n");
    let error = next(&mut stream).await.unwrap().unwrap_err();
    assert_eq!(error.kind, Kind::Timeout);
    let message = error.message();
    assert!(message.starts_with("waited 1") && message.ends_with(" for the end of the answer"));
    conn.closed().await;
    drop(stream);
    world.end().await;
}

#[tokio::test]
async fn a_body_that_stalls_times_out() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.timeouts.idle = Some(SHORT));
    let (reply, ()) = join!(world.ping(), async {
        let mut conn = peer.accept().await;
        conn.request().await;
        let answer = json(PONG);
        conn.send(&answer[..answer.len() - 5]).await;
        conn.closed().await;
    });
    let error = reply.unwrap_err();
    assert_eq!((error.kind, error.retry), (Kind::Timeout, Retry::Never));
    assert_eq!(error.message(), "waited 100ms for more of the answer");
    world.end().await;
}

#[tokio::test]
async fn a_server_that_goes_away_without_an_answer_leaves_the_outcome_unknown() {
    let peer = Peer::bind().await;
    let world = peer.world();
    for reset in [false, true] {
        let (reply, ()) = join!(world.ping(), async {
            let mut conn = peer.accept().await;
            conn.request().await;
            if reset { conn.reset() } else { drop(conn) }
        });
        let error = reply.unwrap_err();
        assert_eq!((error.kind, error.retry), (Kind::Died, Retry::Never));
    }
    // The request arrives at a kept connection, so it is not sent a second time.
    let (reply, ()) = join!(
        async {
            world.ping().await.unwrap();
            world.ping().await
        },
        async {
            let (mut conn, _) = peer.serve(json(PONG)).await;
            conn.request().await;
        }
    );
    assert_eq!(reply.unwrap_err().kind, Kind::Died);
    assert!(peer.is_left_alone().await);
    assert_eq!(world.stats().attempts.died, 3);
    world.end().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_is_never_taken_for_whole() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let answer = json(PONG);
    let cut = &answer[..answer.len() - 2];
    let cut_head = &answer[..30];
    let truncated = json(&PONG[..PONG.len() - 2]);
    let bad_chunk = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                     transfer-encoding: chunked\r\n\r\nzz\r\n{}";
    let no_length =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{}", &PONG[..20]);
    let cases = [
        (cut, false, Kind::Died),
        (cut, true, Kind::Died),
        (cut_head, false, Kind::Died),
        (truncated.as_str(), false, Kind::Protocol),
        (bad_chunk, false, Kind::Protocol),
        (no_length.as_str(), false, Kind::Protocol),
    ];
    for (response, reset, expected) in cases {
        let (reply, ()) = join!(world.ping(), async {
            let (conn, _) = peer.serve(response).await;
            if reset {
                // Let the head arrive first.
                tokio::time::sleep(Duration::from_millis(20)).await;
                conn.reset();
            }
        });
        let error = reply.unwrap_err();
        assert_eq!((error.kind, error.retry), (expected, Retry::Never), "{response}");
    }
    let whole = format!("HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{PONG}");
    let (reply, _) = join!(world.ping(), async { drop(peer.serve(&whole).await) });
    assert_eq!(message(reply.unwrap()), PONG, "a body may end with its connection");
    let stats = world.stats();
    assert_eq!((stats.calls.idle, stats.opened, stats.closed), (0, 7, 7));
    world.end().await;
}

#[tokio::test]
async fn bodies_that_are_no_message_are_the_servers_fault() {
    let peer = Peer::bind().await;
    let world = peer.world();
    for body in ["[]", "[{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}]", "null", "\u{7}", "{}"] {
        let response = json(body).replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
        let (reply, _) = join!(world.ping(), peer.serve(&response));
        let error = reply.unwrap_err();
        assert_eq!((error.kind, error.origin), (Kind::Protocol, Origin::Upstream), "{body}");
    }
    let untyped = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    let (reply, _) = join!(world.ping(), peer.serve(untyped));
    assert_eq!(reply.unwrap_err().kind, Kind::Protocol);
    world.end().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_as_early_as_it_is_known() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.max_response = 1_000);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    // The length says so; the body is never sent.
    let (reply, ()) = join!(world.ping(), async {
        let mut conn = peer.accept().await;
        conn.answer(format!("{head}content-length: 1001\r\n\r\n")).await;
        conn.closed().await;
    });
    let error = reply.unwrap_err();
    assert_eq!((error.kind, error.origin), (Kind::TooLarge, Origin::Upstream));
    // The length does not say; the body has no end.
    let (reply, ()) = join!(world.ping(), async {
        let mut conn = peer.accept().await;
        conn.answer(format!("{head}transfer-encoding: chunked\r\n\r\n")).await;
        for _ in 0..11 {
            conn.send(chunk(&" ".repeat(100))).await;
        }
        conn.closed().await;
    });
    assert_eq!(reply.unwrap_err().kind, Kind::TooLarge);
    let longest = format!("{}{PONG}", " ".repeat(1_000 - PONG.len()));
    let (reply, _) = join!(world.ping(), peer.serve(json(&longest)));
    assert_eq!(message(reply.unwrap()), longest);
    world.end().await;
}

#[tokio::test]
async fn a_caller_that_leaves_closes_the_connection_wherever_it_stood() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let answer = json(PONG);
    // How much of the answer had come when the caller left.
    for sent in [0, 20, answer.len() - 3] {
        let mut conn = {
            let mut call = pin!(world.ping());
            let server = async {
                let mut conn = peer.accept().await;
                conn.request().await;
                conn.send(&answer[..sent]).await;
                conn
            };
            let server = pin!(server);
            tokio::select! {
                biased;
                _ = &mut call => panic!("the answer is not complete"),
                conn = server => conn,
            }
        };
        conn.closed().await;
        assert_eq!(world.stats().calls.in_use, 0);
    }
    // While connecting: polled once, then dropped.
    assert!(world.ping().now_or_never().is_none());
    assert_eq!(world.stats().attempts.cancelled, 4);
    world.end().await;
}

#[tokio::test]
async fn dropping_a_call_at_any_await_leaves_nothing_behind() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| {
        params.max_connections = 2;
        params.max_waiting = 2;
    });
    let server = async {
        loop {
            let mut conn = peer.accept().await;
            // Whatever happens to this one, the next comes soon.
            let response = format!("{EVENTS_HEAD}{}0\r\n\r\n", chunk("data: 1\n\n"));
            let serve = async {
                loop {
                    conn.answer(&response).await;
                }
            };
            let _ended = std::panic::AssertUnwindSafe(serve).catch_unwind().await;
        }
    };
    let callers = async {
        let mut finished = 0;
        for polls in 0..200 {
            let mut call = Box::pin(async {
                let mut stream = events(world.ping().await.unwrap());
                while let Some(event) = stream.next().await {
                    event.unwrap();
                }
            });
            for _ in 0..polls % 20 {
                if (&mut call).now_or_never().is_some() {
                    finished += 1;
                    break;
                }
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
            drop(call);
            let stats = world.stats();
            assert_eq!((stats.calls.in_use, stats.open_streams), (0, 0));
            assert_eq!(stats.opened - stats.closed, stats.calls.live());
        }
        finished
    };
    let finished = tokio::select! {
        finished = soon(callers) => finished,
        () = server => 0,
    };
    assert!((1..200).contains(&finished), "{finished}");
    world.end().await;
}
