//! Streams that break and go on: what their reader sees, and what the server is asked.

mod cuts;
mod ends;
mod limits;
mod shared;
mod waits;

use std::{num::NonZeroU32, time::Duration};

use tidegate_service::{Error, EventStream, Frame, Operation, Reply, Session};
use tidegate_upstream_http::{Params, Reconnect};
use tokio::join;

use crate::support::{
    Conn, EVENTS_HEAD, PING, PONG, Peer, Seen, World, chunk, events, in_session, json, send, soon,
};

/// Pauses so short that nobody notices them.
const QUICK: Reconnect = Reconnect {
    stall: Duration::from_secs(60),
    attempts: NonZeroU32::new(5).unwrap(),
    base: Duration::from_millis(2),
    max: Duration::from_millis(10),
    window: Duration::from_secs(60),
    at_once: 8,
    per_second: 10_000,
};

fn quick(params: &mut Params) {
    params.reconnect = Some(QUICK);
}

/// An event with an id.
fn event(id: &str, data: &str) -> String {
    format!("id: {id}\ndata: {data}\n\n")
}

fn answer(id: &str) -> String {
    event(id, PONG)
}

/// What a stream gave: the events as sent, the comments of the proxy, its messages, the error.
#[derive(Debug, Default)]
struct Transcript {
    events: Vec<String>,
    comments: Vec<String>,
    messages: Vec<String>,
    error: Option<Error>,
}

/// Reads a stream to its end.
async fn transcript(reply: Result<Reply, Error>) -> Transcript {
    transcript_of(events(reply.unwrap())).await
}

async fn transcript_of(mut stream: EventStream) -> Transcript {
    let mut told = Transcript::default();
    while let Some(frame) = soon(futures_util::StreamExt::next(&mut stream)).await {
        match frame {
            Ok(Frame::Block(block)) => {
                let text = String::from_utf8(block.raw.to_vec()).unwrap();
                match block.is_silent() {
                    true if text.starts_with(": reconnecting") => told.comments.push(text),
                    true => (),
                    false => told.events.push(text),
                }
            }
            Ok(Frame::Stamped { .. }) => panic!("only the proxy's own ids are stamped"),
            Ok(Frame::Message(message)) => {
                told.messages.push(String::from_utf8(message.bytes().to_vec()).unwrap());
            }
            Err(error) => told.error = Some(error),
        }
    }
    told
}

impl Transcript {
    #[track_caller]
    fn assert_whole(&self, expected: &[impl AsRef<str>]) {
        let expected: Vec<&str> = expected.iter().map(AsRef::as_ref).collect();
        assert_eq!(self.events, expected, "{self:?}");
        assert!(self.error.is_none(), "{self:?}");
    }
}

/// Accepts one GET for the rest of a stream and says what it asked for.
async fn resumption(peer: &Peer) -> (Conn, Seen) {
    let mut conn = peer.accept().await;
    let seen = conn.request().await;
    assert!(seen.head.starts_with("GET /mcp?k=1 HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.header("accept"), Some("text/event-stream"));
    assert_eq!(seen.header("content-type"), None);
    (conn, seen)
}

/// Answers the GET for what follows `last` with these events, and ends in order.
async fn replay(peer: &Peer, last: Option<&str>, body: &str) -> Conn {
    let (mut conn, seen) = resumption(peer).await;
    assert_eq!(seen.header("last-event-id"), last);
    conn.send(whole(body)).await;
    conn
}

/// A response that is an event stream, with its end.
fn whole(body: &str) -> String {
    format!("{}0\r\n\r\n", begun(body))
}

/// A response that is an event stream, without its end.
fn begun(body: &str) -> String {
    let body = if body.is_empty() { String::new() } else { chunk(body) };
    format!("{EVENTS_HEAD}{body}")
}

fn status(line: &str) -> String {
    format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

/// A session that the server knows as `theirs`.
async fn session(peer: &Peer, world: &World) -> Session {
    let session = Session::new("ours");
    let call = world.call(in_session(post(INITIALIZE), &session));
    let response =
        json(PONG).replace("\r\n\r\n", "\r\nmcp-session-id: theirs\r\nconnection: close\r\n\r\n");
    let (reply, _) = join!(call, peer.serve(&response));
    reply.unwrap();
    session
}

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;

fn post(message: &str) -> Operation {
    let tidegate_service::Call { operation, .. } = send(message);
    operation
}

fn ping() -> Operation {
    post(PING)
}
