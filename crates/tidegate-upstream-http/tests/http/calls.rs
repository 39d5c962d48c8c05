//! Calls that are answered with one message or none, and what happens to their connections.

use std::{pin::pin, time::Duration};

use futures_util::{FutureExt as _, future::join_all};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tidegate_protocol::{Envelope, Era};
use tidegate_service::{Body, Call, Cx, Kind, Origin, Retry};
use tokio::{join, time::Instant};

use crate::support::{PING, PONG, Peer, json, message, send, soon, with_status};

#[tokio::test]
async fn a_message_goes_out_with_its_bytes_and_the_answer_comes_back_with_its_own() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| {
        params.headers.insert("authorization", HeaderValue::from_static("Bearer own"));
    });
    let odd = r#" {"jsonrpc" : "2.0","id":9007199254740993,"method":"x","params":{"b":1e400}} "#;
    let answer = r#"{"id":9007199254740993, "jsonrpc":"2.0","result":{"n":12345678901234567890}}"#;
    let mut call = send(odd);
    call.cx.headers = HeaderMap::from_iter([
        (HeaderName::from_static("mcp-protocol-version"), HeaderValue::from_static("2025-06-18")),
        (HeaderName::from_static("authorization"), HeaderValue::from_static("of the client")),
    ]);
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nX-Request-Id: 7\r\n\
         Mcp-Session-Id: s\r\nDate: x\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    );
    let (reply, (_conn, seen)) = join!(world.call(call), peer.serve(&response));
    assert!(seen.head.starts_with("POST /mcp?k=1 HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.body, odd.as_bytes());
    assert_eq!(seen.header("host"), Some(peer.address().to_string().as_str()));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("accept"), Some("application/json, text/event-stream"));
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert_eq!(seen.header("authorization"), Some("Bearer own"));
    assert_eq!(seen.header("mcp-protocol-version"), Some("2025-06-18"));
    assert_eq!(seen.header("mcp-session-id"), None);
    assert_eq!(seen.header("transfer-encoding"), None);
    let reply = reply.unwrap();
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.headers.len(), 1);
    assert_eq!(reply.headers.get("x-request-id").unwrap(), "7");
    assert_eq!(message(reply), answer);
    world.end().await;
}

#[tokio::test]
async fn one_connection_serves_one_call_after_the_other() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let calls = async {
        for _ in 0..50 {
            assert_eq!(message(world.ping().await.unwrap()), PONG);
        }
    };
    let server = async {
        let mut conn = peer.accept().await;
        for round in 0..50 {
            if round % 2 == 0 {
                conn.answer(json(PONG)).await;
            } else {
                // In pieces, chunked, with an extension and trailers.
                conn.request().await;
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
                conn.send(format!("{head}transfer-encoding: chunked\r\n\r\n5;x=y\r\n")).await;
                tokio::task::yield_now().await;
                let (first, rest) = PONG.split_at(5);
                conn.send(format!("{first}\r\n{:x}\r\n{rest}\r\n0\r\n", rest.len())).await;
                conn.send("x-trailer: 1\r\n\r\n").await;
            }
        }
        conn
    };
    let ((), _conn) = join!(calls, server);
    let stats = world.stats();
    assert_eq!((stats.opened, stats.calls.reused, stats.attempts.answered), (1, 49, 50));
    assert!(peer.is_left_alone().await);
    world.end().await;
}

#[tokio::test]
async fn what_needs_no_answer_gets_none_and_keeps_the_connection() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let note = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let cases = [
        ("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", 202),
        (
            "HTTP/1.1 202 Accepted\r\ncontent-type: text/plain\r\ncontent-length: 8\r\n\r\nAccepted",
            202,
        ),
        ("HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 202),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200),
        ("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 0\r\n\r\n", 200),
        (
            "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
            202,
        ),
    ];
    let calls = async {
        for (_, status) in cases {
            let reply = world.call(send(note)).await.unwrap();
            assert_eq!(reply.status.as_u16(), status);
            assert!(matches!(reply.body, Body::Empty));
        }
    };
    let server = async {
        let mut conn = peer.accept().await;
        for (response, _) in cases {
            conn.answer(response).await;
        }
        conn
    };
    let ((), _conn) = join!(calls, server);
    assert_eq!(world.stats().opened, 1);
    world.end().await;
}

#[tokio::test]
async fn a_request_that_is_taken_and_not_answered_is_an_error() {
    let peer = Peer::bind().await;
    let world = peer.world();
    for response in [
        "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 0\r\n\r\n",
    ] {
        let response = response.replacen("\r\n", "\r\nconnection: close\r\n", 1);
        let (reply, _) = join!(world.ping(), peer.serve(&response));
        let error = reply.unwrap_err();
        assert_eq!((error.kind, error.retry), (Kind::Protocol, Retry::Never), "{response}");
    }
    world.end().await;
}

#[tokio::test]
async fn an_error_with_a_message_passes_as_it_is() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let body = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32020,"message":"mismatch"}}"#;
    let calls = async {
        for status in [400, 404, 422, 500] {
            let reply = world.ping().await.unwrap();
            assert_eq!(reply.status.as_u16(), status);
            assert_eq!(message(reply), body);
        }
    };
    let server = async {
        let mut conn = peer.accept().await;
        for status in ["400 Bad Request", "404 Not Found", "422 X", "500 X"] {
            conn.answer(with_status(status, body)).await;
        }
        conn
    };
    let ((), _conn) = join!(calls, server);
    assert_eq!(world.stats().opened, 1);
    world.end().await;
}

#[tokio::test]
async fn a_challenge_passes_and_other_statuses_become_errors() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let cases = [
        ("401 Unauthorized", Ok(401)),
        ("403 Forbidden", Ok(403)),
        ("404 Not Found", Err(Kind::Protocol)),
        ("405 Method Not Allowed", Err(Kind::Protocol)),
        ("418 I'm a teapot", Err(Kind::Protocol)),
        ("429 Too Many Requests", Err(Kind::Overloaded)),
        ("302 Found", Err(Kind::Protocol)),
        ("500 Internal Server Error", Err(Kind::Protocol)),
        ("503 Service Unavailable", Err(Kind::Unreachable)),
    ];
    for (status, expected) in cases {
        for media in ["text/html", "application/json"] {
            let response = format!(
                "HTTP/1.1 {status}\r\nwww-authenticate: Bearer resource_metadata=\"x\"\r\n\
                 location: http://127.0.0.1:1/\r\ncontent-type: {media}\r\n\
                 content-length: 12\r\nconnection: close\r\n\r\n{{\"error\":42}}"
            );
            let (reply, _) = join!(world.ping(), peer.serve(&response));
            match reply {
                Ok(reply) => {
                    assert_eq!(Ok(reply.status.as_u16()), expected);
                    assert!(reply.headers.contains_key("www-authenticate"));
                    assert!(matches!(reply.body, Body::Empty));
                }
                Err(error) => {
                    assert_eq!(Err(error.kind), expected, "{status}");
                    assert_eq!((error.origin, error.retry), (Origin::Upstream, Retry::Never));
                    assert_eq!(error.upstream(), Some("peer"));
                    assert!(!error.message().contains("127.0.0.1"), "{error}");
                }
            }
        }
    }
    world.end().await;
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced_and_each_call_is_seen_once() {
    let peer = Peer::bind().await;
    let world = peer.world();
    for round in 0..5_u64 {
        let (reply, (conn, seen)) = join!(world.ping(), peer.serve(json(PONG)));
        assert_eq!(message(reply.unwrap()), PONG);
        assert_eq!(seen.body, PING.as_bytes());
        assert_eq!(world.stats().opened, round + 1);
        // Sometimes politely, sometimes not; nobody gives the runtime time to notice.
        if round % 2 == 0 { drop(conn) } else { conn.reset() }
    }
    assert!(peer.is_left_alone().await);
    assert_eq!(world.stats().attempts.answered, 5);
    world.end().await;
}

#[tokio::test]
async fn five_megabytes_pass_both_ways() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let filler = "x".repeat(5 << 20);
    let request = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"a":"{filler}"}}}}"#);
    let answer = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"a":"{filler}"}}}}"#);
    let calls = async {
        for _ in 0..2 {
            assert_eq!(message(world.call(send(&request)).await.unwrap()), answer);
        }
    };
    let server = async {
        let mut conn = peer.accept().await;
        let seen = conn.answer(json(&answer)).await;
        assert_eq!(seen.body, request.as_bytes());
        let seen = conn.request().await;
        assert_eq!(seen.body.len(), request.len());
        conn.send(crate::support::EVENTS_HEAD.replace("text/event-stream", "application/json"))
            .await;
        for piece in answer.as_bytes().chunks(100_000) {
            conn.send(crate::support::chunk(std::str::from_utf8(piece).unwrap())).await;
        }
        conn.send("0\r\n\r\n").await;
        conn
    };
    let ((), _conn) = join!(calls, server);
    assert_eq!(world.stats().opened, 1);
    world.end().await;
}

#[tokio::test]
async fn parallel_calls_share_no_connection_and_wait_in_line_at_the_limit() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.max_connections = 4);
    let calls = (0..40).map(|number| {
        let call = send(&format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"x"}}"#));
        let reply = world.call(call);
        async move { (number, message(reply.await.unwrap())) }
    });
    let server = async {
        let mut conns = Vec::new();
        for _ in 0..4 {
            conns.push(peer.accept().await);
        }
        let serve = conns.into_iter().map(|mut conn| async move {
            // Which connection takes how many is a matter of who answers first.
            while let Some(seen) = conn.try_request().await {
                let asked = Envelope::parse(seen.body.into()).unwrap();
                let id = asked.id().unwrap();
                let body = tidegate_protocol::rpc::result(&id, "{}");
                tokio::time::sleep(Duration::from_millis(1)).await;
                conn.send(json(std::str::from_utf8(&body).unwrap())).await;
            }
        });
        join_all(serve).await;
    };
    let mut server = pin!(server);
    let answers = tokio::select! {
        answers = soon(join_all(calls)) => answers,
        () = &mut server => panic!("the client closed"),
    };
    for (number, answer) in answers {
        assert_eq!(answer, format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{}}}}"#));
    }
    let stats = world.stats();
    assert_eq!((stats.opened, stats.calls.idle, stats.calls.in_use), (4, 4, 0));
    world.end().await;
}

#[tokio::test]
async fn a_full_queue_and_a_long_one_refuse_what_was_not_sent() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| {
        params.max_connections = 1;
        params.max_waiting = 1;
        params.acquire_timeout = Duration::from_millis(100);
    });
    let mut held = Box::pin(world.ping());
    let (none, mut conn) = join!(async { (&mut held).now_or_never() }, peer.accept());
    assert!(none.is_none());
    let (waited, refused) = join!(world.ping(), world.ping());
    for (error, words) in [(waited.unwrap_err(), "waited 100ms"), (refused.unwrap_err(), "queue")] {
        assert_eq!((error.kind, error.retry), (Kind::PoolExhausted, Retry::NotSent));
        assert_eq!(error.origin, Origin::Gateway);
        assert!(error.message().contains(words), "{error}");
    }
    let answer = json(PONG);
    let (reply, _) = join!(held, conn.answer(&answer));
    assert_eq!(message(reply.unwrap()), PONG);
    assert_eq!(world.stats().attempts.limited, 2);
    world.end().await;
}

#[tokio::test]
async fn unused_connections_are_closed_after_a_while() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.pool_idle = Duration::from_millis(100));
    let (reply, (mut conn, _)) = join!(world.ping(), peer.serve(json(PONG)));
    reply.unwrap();
    let start = Instant::now();
    conn.closed().await;
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(world.stats().calls.closed.idle, 1);
    world.end().await;
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closes_is_let_go_of() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.pool_idle = Duration::from_secs(1));
    let (reply, (conn, _)) = join!(world.ping(), peer.serve(json(PONG)));
    reply.unwrap();
    drop(conn);
    let let_go = async {
        while world.stats().opened != world.stats().closed {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(let_go).await;
    let closed = world.stats().calls.closed;
    assert_eq!((closed.broken, closed.idle), (1, 0));
    world.end().await;
}

#[tokio::test]
async fn stop_refuses_new_calls_and_waits_for_running_ones() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let mut running = Box::pin(world.ping());
    let (none, mut conn) = join!(async { (&mut running).now_or_never() }, peer.accept());
    assert!(none.is_none());
    let mut stop = Box::pin(world.upstream.stop());
    assert!((&mut stop).now_or_never().is_none());
    let error = world.ping().await.unwrap_err();
    assert_eq!((error.kind, error.retry), (Kind::Draining, Retry::NotSent));
    let answer = json(PONG);
    let (reply, _) = join!(running, conn.answer(&answer));
    reply.unwrap();
    soon(stop).await;
    conn.closed().await;
    world.end().await;
}

#[tokio::test]
async fn dropping_the_last_clone_ends_the_task_and_the_connections() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let (reply, (mut conn, _)) = join!(world.ping(), peer.serve(json(PONG)));
    reply.unwrap();
    drop(world.upstream);
    conn.closed().await;
    soon(world.tasks.wait()).await;
}

#[tokio::test]
async fn a_modern_call_carries_no_session_whatever_the_context_says() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let session = tidegate_service::Session::new("of-the-proxy");
    session.bind(std::sync::Arc::new(1_u8));
    let cx = Cx { session: Some(session), ..Cx::new(Era::Modern) };
    let call = Call::send(Envelope::parse(PING.into()).unwrap(), cx);
    let (reply, (_conn, seen)) = join!(world.call(call), peer.serve(json(PONG)));
    reply.unwrap();
    assert_eq!(seen.header("mcp-session-id"), None);
    world.end().await;
}

/// An answer of which one read brings as much as a head may have, and the end of the body.
#[tokio::test]
async fn an_answer_as_long_as_a_head_may_be_costs_no_connection() {
    const LONG: usize = 64 << 10;
    let peer = Peer::bind().await;
    let world = peer.world();
    let filled = |filler: usize| {
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"x":"{}"}}}}"#, "y".repeat(filler));
        json(&body)
    };
    let around = filled(50_000).len() - 50_000;
    let (longer, exact) = (filled(3 * LONG), filled(LONG - around));
    assert_eq!(exact.len(), LONG);
    let client = async {
        for _ in 0..40 {
            assert!(message(world.ping().await.unwrap()).len() > 50_000);
        }
    };
    let server = async {
        let mut conn = peer.accept().await;
        for round in 0..40 {
            // Longer ones first, so that hyper reads much at once.
            conn.answer(if round < 8 { longer.clone() } else { exact.clone() }).await;
        }
        conn
    };
    let ((), _conn) = join!(client, server);
    assert_eq!((world.stats().opened, world.stats().calls.reused), (1, 39));
    world.end().await;
}
