//! Streams that cannot go on, and what their readers are told.

use tidegate_protocol::{Envelope, Era, Version};
use tidegate_service::{Call, Cx, Kind, Retry};
use tokio::join;

use super::{
    QUICK, Transcript, answer, begun, event, ping, quick, resumption, session, status, transcript,
    whole,
};
use crate::support::{PING, PONG, Peer, World, in_session, listen, with_status};

/// A call whose stream breaks behind the event `1`, and whose rest is answered like this.
async fn refused(world: &World, peer: &Peer, call: Call, answers: &[String]) -> Transcript {
    let server = async {
        drop(peer.serve(begun(&event("1", "a"))).await);
        for answer in answers {
            let (mut conn, _) = resumption(peer).await;
            conn.send(answer).await;
        }
    };
    join!(async { transcript(world.call(call).await).await }, server).0
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| {
        params.reconnect =
            Some(tidegate_upstream_http::Reconnect { attempts: 50.try_into().unwrap(), ..QUICK });
    });
    let busy = r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"One is open"},"id":null}"#;
    let answers = [
        status("502 Bad Gateway"),
        status("503 Service Unavailable"),
        with_status("500 Internal Server Error", busy).replacen(
            "\r\n",
            "\r\nconnection: close\r\n",
            1,
        ),
        with_status("409 Conflict", busy).replacen("\r\n", "\r\nconnection: close\r\n", 1),
        status("429 Too Many Requests"),
        // The connection closes without a word, in the head, and before the first event.
        String::new(),
        "HTTP/1.1 200 OK\r\ncontent-ty".to_owned(),
        begun(""),
        begun("id: 2\ndata: not wh"),
        whole(&answer("2")),
    ];
    let told = refused(&world, &peer, crate::support::send(PING), &answers).await;
    told.assert_whole(&[event("1", "a"), answer("2")]);
    let stats = world.resumption();
    assert_eq!((stats.failed, stats.opened, stats.refused, stats.resumed), (7, 3, 0, 3));
    assert_eq!((stats.given_up, stats.waiting), (0, 0));
    assert_eq!(told.comments.len(), answers.len());
    world.end().await;
}

#[tokio::test]
async fn what_will_not_pass_ends_the_stream_with_the_truth() {
    let peer = Peer::bind().await;
    let world = peer.world_with(quick);
    let error = r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"no"},"id":null}"#;
    let json =
        |line: &str| with_status(line, error).replacen("\r\n", "\r\nconnection: close\r\n", 1);
    let cases = [
        (
            status("400 Bad Request"),
            Kind::Protocol,
            "the server answered HTTP 400 without a JSON-RPC body",
        ),
        (
            json("400 Bad Request"),
            Kind::Protocol,
            "the connection to the server broke, and it refused the rest of the stream with \
             HTTP 400; outcome unknown",
        ),
        (
            status("401 Unauthorized"),
            Kind::Protocol,
            "the connection to the server broke, and it refused the rest of the stream with \
             HTTP 401; outcome unknown",
        ),
        (
            status("405 Method Not Allowed"),
            Kind::Protocol,
            "the connection to the server broke, and it offers no way to get the rest of the \
             stream; outcome unknown",
        ),
        (
            with_status("200 OK", PONG).replacen("\r\n", "\r\nconnection: close\r\n", 1),
            Kind::Protocol,
            "the server's answer is neither JSON nor an event stream",
        ),
    ];
    let count = cases.len() as u64;
    for (response, kind, message) in cases {
        let told = refused(&world, &peer, crate::support::send(PING), &[response]).await;
        assert_eq!(told.events, [event("1", "a")]);
        let error = told.error.unwrap();
        assert_eq!((error.kind, error.retry, error.message()), (kind, Retry::Never, message));
    }
    let stats = world.resumption();
    assert_eq!((stats.refused, stats.given_up, stats.failed), (count, count, 0));
    world.end().await;
}

#[tokio::test]
async fn a_session_that_the_server_forgot_is_over() {
    let error = r#"{"jsonrpc":"2.0","error":{"code":-32001,"message":"no session"},"id":null}"#;
    let json = with_status("404 Not Found", error).replacen("\r\n", "\r\nconnection: close\r\n", 1);
    for response in [status("404 Not Found"), json] {
        let peer = Peer::bind().await;
        let world = peer.world_with(quick);
        let session = session(&peer, &world).await;
        let call = in_session(ping(), &session);
        let told = refused(&world, &peer, call, &[response]).await;
        let error = told.error.unwrap();
        assert_eq!(error.kind, Kind::SessionUnknown);
        assert_eq!(error.message(), "the server no longer knows the session");
        assert!(session.is_ended());
        assert_eq!(world.resumption().given_up, 1);
        world.end().await;
    }
}

#[tokio::test]
async fn a_server_without_a_get_stream_is_asked_once_in_a_session() {
    let peer = Peer::bind().await;
    let world = peer.world_with(quick);
    let session = session(&peer, &world).await;
    let call = || in_session(ping(), &session);
    let no = [status("405 Method Not Allowed")];
    let first = refused(&world, &peer, call(), &no).await;
    let second = refused(&world, &peer, call(), &[]).await;
    for told in [first, second] {
        let error = told.error.unwrap();
        assert!(error.message().contains("offers no way"), "{}", error.message());
    }
    let listen = world.call(in_session(listen().operation, &session)).await;
    assert_eq!(listen.unwrap_err().kind, Kind::Unsupported);
    assert!(peer.is_left_alone().await);
    assert!(!session.is_ended());

    // A client that wants to listen finds it out as well.
    let other = self::session(&peer, &world).await;
    let listening = in_session(listen_in(), &other);
    let (reply, _) = join!(world.call(listening), peer.serve(&no[0]));
    assert_eq!(reply.unwrap_err().kind, Kind::Unsupported);
    let told = refused(&world, &peer, in_session(ping(), &other), &[]).await;
    assert!(told.error.unwrap().message().contains("offers no way"));
    world.end().await;
}

fn listen_in() -> tidegate_service::Operation {
    listen().operation
}

#[tokio::test]
async fn nobody_waits_for_the_answer_to_a_cancelled_request() {
    let peer = Peer::bind().await;
    let world = peer.world_with(quick);
    let session = session(&peer, &world).await;
    let cancelled = |id: &str| {
        let params = format!(r#"{{"requestId":{id}}}"#);
        let text =
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{params}}}"#);
        in_session(super::post(&text), &session)
    };
    let cancel = async |id: &str| {
        let (reply, _) = join!(world.call(cancelled(id)), peer.serve(status("202 Accepted")));
        reply.unwrap();
    };
    // Another request was cancelled; its id is a string.
    cancel(r#""1""#).await;
    let told = refused(&world, &peer, in_session(ping(), &session), &[whole(&answer("2"))]).await;
    told.assert_whole(&[event("1", "a"), answer("2")]);
    // A server that obeys ends the stream without an answer.
    cancel("1").await;
    for (response, is_error) in [(whole(&event("1", "a")), false), (begun(&event("1", "a")), true)]
    {
        let server = async { drop(peer.serve(&response).await) };
        let call = world.call(in_session(ping(), &session));
        let (told, ()) = join!(async { transcript(call.await).await }, server);
        assert_eq!(told.error.is_some(), is_error);
        assert!(told.comments.is_empty());
    }
    assert!(peer.is_left_alone().await);
    world.end().await;
}

#[tokio::test]
async fn modern_streams_and_those_of_http_sse_are_never_resumed() {
    let peer = Peer::bind().await;
    let world = peer.world_with(quick);
    let message = || Envelope::parse(PING.to_owned().into()).unwrap();
    let old = Cx { version: Some(Version::V2024_11_05), ..Cx::new(Era::Legacy) };
    for cx in [Cx::new(Era::Modern), old] {
        let told = refused(&world, &peer, Call::send(message(), cx), &[]).await;
        assert_eq!(told.events, [event("1", "a")]);
        assert_eq!(told.error.unwrap().kind, Kind::Died);
        assert!(told.comments.is_empty());
    }
    assert!(peer.is_left_alone().await);
    assert_eq!(world.resumption(), tidegate_upstream_http::Resumption::default());
    world.end().await;
}

#[tokio::test]
async fn without_ids_or_behind_the_answer_an_end_is_an_end() {
    let peer = Peer::bind().await;
    let world = peer.world_with(quick);
    let done = format!("{}{}", event("1", "a"), answer("2"));
    for (response, is_error) in [
        (begun("data: a\n\n"), true),
        (whole("data: a\n\n"), false),
        (begun(&done), true),
        (whole(&done), false),
        // What is no message of MCP cannot be trusted again.
        (format!("{}zz\r\n", begun(&event("1", "a"))), true),
    ] {
        let server = async { drop(peer.serve(&response).await) };
        let (told, ()) = join!(async { transcript(world.ping().await).await }, server);
        assert_eq!(told.error.is_some(), is_error, "{response}");
        assert!(told.comments.is_empty());
    }
    assert!(peer.is_left_alone().await);
    world.end().await;
}

#[tokio::test]
async fn nothing_goes_on_where_it_is_off() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.reconnect = None);
    let told = refused(&world, &peer, crate::support::send(PING), &[]).await;
    assert_eq!(told.error.unwrap().kind, Kind::Died);
    let server = async { drop(peer.serve(whole(&event("1", "a"))).await) };
    let (told, ()) = join!(async { transcript(world.call(listen()).await).await }, server);
    told.assert_whole(&[event("1", "a")]);
    assert!(peer.is_left_alone().await);
    world.end().await;
}

#[tokio::test]
async fn the_rest_is_asked_for_with_the_headers_of_the_call() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| {
        quick(params);
        params.headers.insert("x-key", "configured".parse().unwrap());
    });
    let mut call = crate::support::send(PING);
    for (name, value) in
        [("authorization", "Bearer x"), ("mcp-protocol-version", "2025-11-25"), ("x-key", "theirs")]
    {
        call.cx.headers.insert(name, value.parse().unwrap());
    }
    let server = async {
        drop(peer.serve(begun(&event("1", "a"))).await);
        let (mut conn, seen) = resumption(&peer).await;
        conn.send(whole(&answer("2"))).await;
        (conn, seen)
    };
    let (told, (_conn, seen)) = join!(async { transcript(world.call(call).await).await }, server);
    told.assert_whole(&[event("1", "a"), answer("2")]);
    for (name, value) in [
        ("authorization", Some("Bearer x")),
        ("mcp-protocol-version", Some("2025-11-25")),
        ("x-key", Some("configured")),
        ("content-length", None),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
    world.end().await;
}
