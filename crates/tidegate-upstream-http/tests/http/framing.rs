//! Servers whose bytes could be read in two ways. A connection with such bytes serves nobody else.

use std::time::Duration;

use tidegate_service::{Kind, Origin, Retry};
use tokio::{join, time::Instant};

use crate::support::{PING, PONG, Peer, json, message, soon};

const OTHER: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"smuggled":true}}"#;

#[tokio::test]
async fn ambiguous_heads_are_refused_and_their_connections_closed() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let length = PONG.len();
    let heads = [
        format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
        format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"),
        format!("content-length: {length}\r\ncontent-length: {length}\r\n"),
        format!("content-length: {length}\r\ncontent-length: 5\r\n"),
        format!("content-length: {length}, {length}\r\n"),
        format!("content-length: +{length}\r\n"),
        "content-length: -1\r\n".to_owned(),
        "transfer-encoding: gzip, chunked\r\n".to_owned(),
        "transfer-encoding: chunked, identity\r\n".to_owned(),
        "transfer-encoding: \u{b}chunked\r\n".to_owned(),
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n".to_owned(),
        format!("content-length : {length}\r\n"),
        format!("x: y\r\n folded\r\ncontent-length: {length}\r\n"),
        "content-encoding: gzip\r\ncontent-length: 2\r\n".to_owned(),
    ];
    for head in heads {
        let response =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{head}\r\n{PONG}");
        let (reply, (mut conn, _)) = join!(world.ping(), peer.serve(&response));
        let error = reply.expect_err(&head);
        assert_eq!((error.kind, error.origin), (Kind::Protocol, Origin::Upstream), "{head}");
        assert_eq!(error.retry, Retry::Never);
        conn.closed().await;
    }
    let stats = world.stats();
    assert_eq!((stats.calls.idle, stats.opened, stats.closed), (0, 14, 14));
    world.end().await;
}

#[tokio::test]
async fn bytes_after_a_response_are_nobodys_answer() {
    let peer = Peer::bind().await;
    let world = peer.world();
    // In the same segment, in the next one, and just before the next call.
    for pause in [None, Some(0), Some(20)] {
        let (reply, (mut conn, _)) = join!(world.ping(), async {
            let both = format!("{}{}", json(PONG), json(OTHER));
            let response = json(PONG);
            peer.serve(if pause.is_none() { &both } else { &response }).await
        });
        assert_eq!(message(reply.unwrap()), PONG);
        if let Some(pause) = pause {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            conn.send(json(OTHER)).await;
        }
        let (reply, (next, seen)) = join!(world.ping(), peer.serve(json(PONG)));
        assert_eq!(message(reply.unwrap()), PONG);
        assert_eq!(seen.body, PING.as_bytes());
        conn.closed().await;
        drop(next);
    }
    world.end().await;
}

#[tokio::test]
async fn switching_protocols_unasked_is_refused() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let response = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    let (reply, (mut conn, _)) = join!(world.ping(), peer.serve(response));
    assert_eq!(reply.unwrap_err().kind, Kind::Protocol);
    conn.closed().await;
    world.end().await;
}

#[tokio::test]
async fn a_flood_of_interim_responses_is_cut_off() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let (reply, ()) = join!(world.ping(), async {
        let mut conn = peer.accept().await;
        conn.request().await;
        let interim = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(100);
        let flood = async {
            use tokio::io::AsyncWriteExt as _;
            while conn.socket.write_all(interim.as_bytes()).await.is_ok() {}
        };
        soon(flood).await;
    });
    let error = reply.unwrap_err();
    assert_eq!((error.kind, error.origin), (Kind::Protocol, Origin::Upstream));
    world.end().await;
}

#[tokio::test]
async fn oversized_and_malformed_heads_are_refused() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(200));
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    for response in [many.as_str(), long.as_str(), "SSH-2.0-x\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n"]
    {
        let start = Instant::now();
        let (reply, ()) = join!(world.ping(), async {
            let mut conn = peer.accept().await;
            conn.request().await;
            use tokio::io::AsyncWriteExt as _;
            // The client may close before it has read all.
            drop(soon(conn.socket.write_all(response.as_bytes())).await);
            conn.closed().await;
        });
        let error = reply.unwrap_err();
        assert_eq!((error.kind, error.retry), (Kind::Protocol, Retry::Never), "{error}");
        assert!(start.elapsed() < Duration::from_secs(1));
    }
    world.end().await;
}

#[tokio::test]
async fn an_answer_before_the_request_is_read_does_not_free_the_connection() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let filler = "x".repeat(8 << 20);
    let request = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"a":"{filler}"}}}}"#);
    let call = world.call(crate::support::send(&request));
    let (reply, mut early) = join!(call, async {
        let mut conn = peer.accept().await;
        conn.send(json(PONG)).await;
        conn
    });
    // Either the bytes came before the request, which is refused, or during it, which is an answer.
    if let Ok(reply) = reply {
        assert_eq!(message(reply), PONG);
    }
    let (reply, _) = join!(world.ping(), peer.serve(json(PONG)));
    assert_eq!(message(reply.unwrap()), PONG);
    // The first connection saw a part of the first request, and never another one.
    use tokio::io::AsyncReadExt as _;
    let mut bytes = Vec::new();
    drop(soon(early.socket.read_to_end(&mut bytes)).await);
    let posts = bytes.windows(5).filter(|five| five == b"POST ").count();
    assert!(posts <= 1, "{posts}");
    world.end().await;
}

#[tokio::test]
async fn a_half_read_body_never_leads_to_reuse() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let html = "x".repeat(100_000);
    // Longer than what is worth reading, and still on its way.
    let responses = [
        format!("HTTP/1.1 418 X\r\ncontent-length: {}\r\n\r\n{html}", html.len()),
        "HTTP/1.1 418 X\r\ncontent-length: 10\r\n\r\nabc".to_owned(),
    ];
    for response in responses {
        let (reply, mut conn) = join!(world.ping(), async {
            let mut conn = peer.accept().await;
            conn.request().await;
            use tokio::io::AsyncWriteExt as _;
            drop(soon(conn.socket.write_all(response.as_bytes())).await);
            conn
        });
        assert_eq!(reply.unwrap_err().kind, Kind::Protocol);
        conn.closed().await;
    }
    assert_eq!(world.stats().calls.idle, 0);
    world.end().await;
}
