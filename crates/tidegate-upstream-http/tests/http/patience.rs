//! How long a server may take for what, who says so, and how it learns that nobody waits any more.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tidegate_protocol::Era;
use tidegate_service::{Call, Error, Kind, Origin, Retry, Session, Timeouts};
use tidegate_upstream_http::{Params, Reconnect};
use tokio::{
    join,
    time::{Instant, sleep},
};

use crate::support::{
    Conn, EVENTS_HEAD, PONG, Peer, World, chunk, events, in_session, json as answer, message, next,
    send,
};

const CALL: &str = r#"{"jsonrpc":"2.0","id":"c-1","method":"tools/call","params":{"name":"x"}}"#;
const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const LIMIT: Duration = Duration::from_millis(150);
const NEVER: Duration = Duration::from_secs(600);

fn progress(n: usize) -> String {
    let params = json!({"progressToken": 1, "progress": n});
    let note = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params});
    chunk(&format!("data: {note}\n\n"))
}

async fn session(peer: &Peer, world: &World) -> Session {
    let session = Session::new("ours");
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#;
    let head = "\r\nmcp-session-id: theirs\r\nconnection: close\r\n\r\n";
    let response = answer(PONG).replace("\r\n\r\n", head);
    let opened = world.call(in_session(send(initialize).operation, &session));
    join!(opened, peer.serve(response)).0.unwrap();
    session
}

fn call_in(session: &Session) -> Call {
    in_session(send(CALL).operation, session)
}

/// The server is told that the call is over, by the client's id and in its session.
async fn assert_called_off(peer: &Peer) {
    let (_, seen) = peer.serve(ACCEPTED).await;
    let note: Value = serde_json::from_slice(&seen.body).unwrap();
    let said = |at: &str| note.pointer(at).and_then(Value::as_str);
    assert_eq!(said("/method"), Some("notifications/cancelled"));
    assert_eq!(said("/params/requestId"), Some("c-1"));
    assert!(note.get("id").is_none(), "{note}");
    assert_eq!(seen.header("mcp-session-id"), Some("theirs"));
}

#[track_caller]
fn assert_late(error: &Error, what: &str) {
    assert_eq!((error.kind, error.origin), (Kind::Timeout, Origin::Upstream));
    assert_eq!(error.retry, Retry::Never);
    let message = error.message();
    assert!(message.starts_with("waited ") && message.ends_with(what), "{message}");
}

async fn opened(peer: &Peer) -> Conn {
    peer.serve(EVENTS_HEAD).await.0
}

#[tokio::test]
async fn a_stream_without_a_message_is_no_answer() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.timeouts.request = Some(LIMIT));
    let session = session(&peer, &world).await;
    let began = Instant::now();
    let (reply, mut conn) = join!(world.call(call_in(&session)), opened(&peer));
    let mut stream = events(reply.unwrap());
    // The connection lives and says so; the call does not.
    for text in [": alive\n\n", "id: 1\ndata:\n\n"] {
        conn.send(chunk(text)).await;
        assert_eq!(next(&mut stream).await.unwrap().unwrap(), text);
    }
    let error = next(&mut stream).await.unwrap().unwrap_err();
    assert_late(&error, "for the first message of the answer");
    assert!(began.elapsed() >= LIMIT, "{:?}", began.elapsed());
    assert!(next(&mut stream).await.is_none());
    conn.closed().await;
    assert_called_off(&peer).await;
    assert_eq!(world.stats().attempts.timed_out, 1);
    drop(stream);
    world.end().await;
}

#[tokio::test]
async fn progress_extends_the_pause_and_not_the_whole() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| {
        params.timeouts = Timeouts { idle: Some(2 * LIMIT), ..Timeouts::default() };
    });
    let session = session(&peer, &world).await;
    let mut call = call_in(&session);
    call.cx.deadline = Some(Instant::now() + 6 * LIMIT);
    let (reply, mut conn) = join!(world.call(call), opened(&peer));
    let mut stream = events(reply.unwrap());
    let sending = async {
        for n in 0.. {
            conn.send(progress(n)).await;
            sleep(LIMIT / 2).await;
        }
    };
    let reading = async {
        let mut seen = 0;
        loop {
            match next(&mut stream).await.unwrap() {
                Ok(_) => seen += 1,
                Err(error) => return (seen, error),
            }
        }
    };
    let (seen, error) = tokio::select! {
        () = sending => unreachable!("it never ends"),
        read = reading => read,
    };
    assert_late(&error, "for the end of the answer");
    assert!(seen > 4, "longer than the pause alone would have allowed: {seen}");
    assert_called_off(&peer).await;
    drop(stream);
    world.end().await;
}

#[tokio::test]
async fn comments_do_not_extend_the_pause() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.timeouts.idle = Some(LIMIT));
    let session = session(&peer, &world).await;
    let (reply, mut conn) = join!(world.call(call_in(&session)), opened(&peer));
    let mut stream = events(reply.unwrap());
    conn.send(progress(1)).await;
    next(&mut stream).await.unwrap().unwrap();
    let began = Instant::now();
    let error = loop {
        conn.send(chunk(": alive\n\n")).await;
        if let Err(error) = next(&mut stream).await.unwrap() {
            break error;
        }
        sleep(LIMIT / 5).await;
        assert!(began.elapsed() < 20 * LIMIT, "comments keep the call alive");
    };
    assert_late(&error, "150ms for more of the answer");
    assert_called_off(&peer).await;
    drop(stream);
    world.end().await;
}

#[tokio::test]
async fn a_json_answer_that_does_not_come_is_called_off() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.timeouts.request = Some(LIMIT));
    let session = session(&peer, &world).await;
    let server = async {
        let mut conn = peer.accept().await;
        conn.request().await;
        conn.closed().await;
        assert_called_off(&peer).await;
    };
    let (reply, ()) = join!(world.call(call_in(&session)), server);
    assert_late(&reply.unwrap_err(), "for the response to begin");
    world.end().await;
}

#[tokio::test]
async fn a_modern_server_hears_it_by_the_end_of_the_connection() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.timeouts.request = Some(LIMIT));
    let mut call = send(CALL);
    call.cx.era = Era::Modern;
    let server = async {
        let mut conn = peer.accept().await;
        conn.request().await;
        conn.closed().await;
    };
    let (reply, ()) = join!(world.call(call), server);
    assert_eq!(reply.unwrap_err().kind, Kind::Timeout);
    assert!(peer.is_left_alone().await);
    world.end().await;
}

#[tokio::test]
async fn a_handshake_is_never_called_off() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.timeouts.request = Some(LIMIT));
    let initialize = send(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#);
    let server = async {
        let mut conn = peer.accept().await;
        conn.request().await;
        conn.closed().await;
    };
    let call = in_session(initialize.operation, &Session::new("ours"));
    let (reply, ()) = join!(world.call(call), server);
    assert_eq!(reply.unwrap_err().kind, Kind::Timeout);
    assert!(peer.is_left_alone().await);
    world.end().await;
}

#[tokio::test]
async fn what_a_route_says_goes_before_what_the_upstream_does() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.timeouts.request = Some(NEVER));
    let session = session(&peer, &world).await;
    let mut call = call_in(&session);
    let route = Timeouts { request: Some(LIMIT), ..Timeouts::default() };
    call.cx.timeouts = Some(Arc::new(route));
    let server = async {
        let mut conn = peer.accept().await;
        conn.request().await;
        conn.closed().await;
        assert_called_off(&peer).await;
    };
    let (reply, ()) = join!(world.call(call), server);
    assert_late(&reply.unwrap_err(), "for the response to begin");
    world.end().await;

    // The other way round: what has no limit has none.
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| {
        params.timeouts = Timeouts { request: Some(LIMIT), idle: Some(LIMIT), ..params.timeouts };
    });
    let mut call = send(CALL);
    let route = Timeouts { request: None, idle: None, ..Timeouts::default() };
    call.cx.timeouts = Some(Arc::new(route));
    let server = async {
        let mut conn = peer.accept().await;
        conn.request().await;
        sleep(3 * LIMIT).await;
        let answer = answer(PONG);
        let (head, rest) = answer.split_at(answer.len() - 5);
        conn.send(head).await;
        sleep(3 * LIMIT).await;
        conn.send(rest).await;
        conn
    };
    let (reply, conn) = join!(world.call(call), server);
    assert_eq!(message(reply.unwrap()), PONG);
    drop(conn);
    world.end().await;
}

#[tokio::test]
async fn while_the_client_owes_an_answer_the_server_owes_none() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.timeouts.idle = Some(LIMIT));
    let session = session(&peer, &world).await;
    let (reply, mut conn) = join!(world.call(call_in(&session)), opened(&peer));
    let mut stream = events(reply.unwrap());
    let ask = json!({"jsonrpc": "2.0", "id": 7, "method": "elicitation/create", "params": {}});
    conn.send(chunk(&format!("data: {ask}\n\n"))).await;
    next(&mut stream).await.unwrap().unwrap();
    // Longer than the pause may be; the user thinks.
    let thinking = tokio::time::timeout(4 * LIMIT, next(&mut stream)).await;
    assert!(thinking.is_err(), "{thinking:?}");
    let accept = r#"{"jsonrpc":"2.0","id":7,"result":{"action":"accept"}}"#;
    let accepted = world.call(in_session(send(accept).operation, &session));
    join!(accepted, peer.serve(ACCEPTED)).0.unwrap();
    // From now on it is the server's turn.
    let error = next(&mut stream).await.unwrap().unwrap_err();
    assert_late(&error, "150ms for more of the answer");
    assert_called_off(&peer).await;
    conn.closed().await;
    drop(stream);
    world.end().await;
}

#[tokio::test]
async fn the_clock_runs_on_while_the_stream_reconnects() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params: &mut Params| {
        params.timeouts.idle = Some(LIMIT);
        let reconnect = Reconnect { base: NEVER, max: NEVER, ..Reconnect::default() };
        params.reconnect = Some(reconnect);
    });
    let session = session(&peer, &world).await;
    let (reply, mut conn) = join!(world.call(call_in(&session)), opened(&peer));
    let mut stream = events(reply.unwrap());
    conn.send(chunk("id: 1\ndata: {}\n\n")).await;
    next(&mut stream).await.unwrap().unwrap();
    drop(conn);
    let error = loop {
        match next(&mut stream).await.unwrap() {
            Ok(comment) => assert!(comment.starts_with(": reconnecting"), "{comment}"),
            Err(error) => break error,
        }
    };
    assert_late(&error, "150ms for more of the answer");
    assert_called_off(&peer).await;
    drop(stream);
    world.end().await;
}
