//! Legacy sessions: the server's id stays between the proxy and that server.

use http::{HeaderValue, StatusCode};
use tidegate_protocol::Envelope;
use tidegate_service::{Body, Kind, Operation, Retry, Session};
use tidegate_upstream_http::UpstreamSession;
use tokio::join;

use crate::support::{
    EVENTS_HEAD, PING, PONG, Peer, World, chunk, events, in_session, json, message, next,
};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;

fn post(message: &str) -> Operation {
    Operation::Send(Envelope::parse(message.to_owned().into()).unwrap())
}

async fn initialize(peer: &Peer, world: &World, id: &str) -> Session {
    let session = Session::new("of-the-proxy");
    let response = json(PONG).replace("\r\n\r\n", &format!("\r\nmcp-session-id: {id}\r\n\r\n"));
    let call = world.call(in_session(post(INITIALIZE), &session));
    let (reply, (_conn, seen)) = join!(call, peer.serve(&response));
    let reply = reply.unwrap();
    assert_eq!(seen.header("mcp-session-id"), None);
    assert!(!reply.headers.contains_key("mcp-session-id"));
    assert_eq!(message(reply), PONG);
    session
}

#[tokio::test]
async fn the_servers_id_is_kept_and_goes_with_everything_that_follows() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.reconnect = None);
    let session = initialize(&peer, &world, "abc~!").await;
    let bound = session.binding::<UpstreamSession>().unwrap();
    assert_eq!(bound.id, "abc~!");
    assert!(bound.id.is_sensitive());

    let call = world.call(in_session(post(PING), &session));
    let response = json(PONG).replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    let (reply, (_conn, seen)) = join!(call, peer.serve(response));
    reply.unwrap();
    assert_eq!(seen.header("mcp-session-id"), Some("abc~!"));

    let last_event_id = Some(HeaderValue::from_static("e/7"));
    let call = world.call(in_session(Operation::Listen { last_event_id }, &session));
    let response = format!("{EVENTS_HEAD}{}0\r\n\r\n", chunk("id: 8\ndata: x\n\n"));
    let (reply, (_listening, seen)) = join!(call, peer.serve(&response));
    assert!(seen.head.starts_with("GET /mcp?k=1 HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.header("mcp-session-id"), Some("abc~!"));
    assert_eq!(seen.header("last-event-id"), Some("e/7"));
    assert_eq!(seen.header("accept"), Some("text/event-stream"));
    assert_eq!(seen.header("content-type"), None);
    let mut stream = events(reply.unwrap());
    assert_eq!(next(&mut stream).await.unwrap().unwrap(), "id: 8\ndata: x\n\n");
    assert!(next(&mut stream).await.is_none());

    for status in ["200 OK", "204 No Content", "404 Not Found", "405 Method Not Allowed"] {
        let response =
            format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let call = world.call(in_session(Operation::EndSession, &session));
        let (reply, (_conn, seen)) = join!(call, peer.serve(&response));
        assert!(seen.head.starts_with("DELETE /mcp?k=1 HTTP/1.1\r\n"), "{}", seen.head);
        assert_eq!(seen.header("mcp-session-id"), Some("abc~!"));
        let reply = reply.unwrap();
        assert_eq!(reply.status, StatusCode::OK);
        assert!(matches!(reply.body, Body::Empty));
    }
    world.end().await;
}

#[tokio::test]
async fn a_session_that_the_server_forgot_is_unknown() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let session = initialize(&peer, &world, "abc").await;
    let listen = Operation::Listen { last_event_id: None };
    for operation in [post(PING), listen] {
        let call = world.call(in_session(operation, &session));
        let response = "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\n\
                        content-length: 1\r\nconnection: close\r\n\r\nx";
        let (reply, _) = join!(call, peer.serve(response));
        let error = reply.unwrap_err();
        assert_eq!((error.kind, error.retry), (Kind::SessionUnknown, Retry::Never));
    }
    world.end().await;
}

#[tokio::test]
async fn a_server_without_sessions_is_called_without() {
    let peer = Peer::bind().await;
    let world = peer.world();
    let session = Session::new("of-the-proxy");
    for message in [INITIALIZE, PING] {
        let response = json(PONG).replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
        let call = world.call(in_session(post(message), &session));
        let (reply, (_conn, seen)) = join!(call, peer.serve(&response));
        reply.unwrap();
        assert_eq!(seen.header("mcp-session-id"), None);
    }
    assert!(!session.is_bound());
    // There is nothing to end, so the server is not asked.
    let reply = world.call(in_session(Operation::EndSession, &session)).await.unwrap();
    assert_eq!(reply.status, StatusCode::OK);
    assert!(peer.is_left_alone().await);
    world.end().await;
}

#[tokio::test]
async fn an_id_is_shown_to_no_other_server() {
    let (peer, other) = (Peer::bind().await, Peer::bind().await);
    let (world, elsewhere) = (peer.world(), other.world());
    let bound_here = initialize(&peer, &world, "abc").await;
    let bound_to_a_child = Session::new("another");
    bound_to_a_child.bind(std::sync::Arc::new(7_u8));
    for session in [bound_here, bound_to_a_child] {
        for operation in [post(PING), Operation::EndSession] {
            let error = elsewhere.call(in_session(operation, &session)).await.unwrap_err();
            assert_eq!(error.kind, Kind::SessionUnknown);
        }
    }
    assert!(other.is_left_alone().await);
    world.end().await;
    elsewhere.end().await;
}

#[tokio::test]
async fn ids_that_are_not_visible_ascii_are_refused() {
    let peer = Peer::bind().await;
    let world = peer.world();
    for id in ["a b", "caf\u{e9}", "a\tb", "", "a\r\nmcp-session-id: b"] {
        let session = Session::new("of-the-proxy");
        let response = json(PONG).replace("\r\n\r\n", &format!("\r\nmcp-session-id: {id}\r\n\r\n"));
        let call = world.call(in_session(post(INITIALIZE), &session));
        let (reply, (mut conn, _)) = join!(call, peer.serve(&response));
        assert_eq!(reply.unwrap_err().kind, Kind::Protocol, "{id:?}");
        assert!(!session.is_bound());
        conn.closed().await;
    }
    world.end().await;
}
