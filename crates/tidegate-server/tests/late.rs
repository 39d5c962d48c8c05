//! Answers that take longer than a connection may be silent, over real connections.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::stream;
use http::StatusCode;
use tidegate_protocol::Envelope;
use tidegate_server::{Front, Listener, Params, Timeouts};
use tidegate_service::{
    Body, Call, Error, EventStream, Frame, Kind, Origin, Reply, Retry, Tasks, Upstream,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::service_fn;

const PATIENCE: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_millis(60);

struct Running {
    address: SocketAddr,
    front: Front,
    drain: CancellationToken,
    tasks: Tasks,
    /// A call was dropped before it had its reply.
    left: Arc<Notify>,
}

struct Leaving(Option<Arc<Notify>>);

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(left) = self.0.take() {
            left.notify_one();
        }
    }
}

/// Takes its time, but for `quick`, and answers by the method that is called.
async fn edge(call: Call, left: Arc<Notify>) -> Result<Reply, Error> {
    let envelope = call.envelope().cloned().unwrap();
    let method = envelope.method().unwrap().into_owned();
    let mut leaving = Leaving(Some(left));
    if method != "quick" {
        sleep(4 * HEARTBEAT).await;
    }
    if method == "for ever" {
        std::future::pending::<()>().await;
    }
    leaving.0 = None;
    let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"n":1}}"#;
    let answer = Envelope::parse(answer.into()).unwrap();
    match method.as_str() {
        "fail" => Err(Error::new(Kind::Timeout, Origin::Upstream, Retry::Never, "it failed")),
        "stream" => {
            let note = r#"{"jsonrpc":"2.0","method":"note"}"#;
            let note = Envelope::parse(note.into()).unwrap();
            let frames = [note, answer].map(|message| Ok(Frame::Message(message)));
            Ok(Reply::stream(EventStream::new(stream::iter(frames))))
        }
        "unknown" => {
            let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}"#;
            let error = Envelope::parse(error.into()).unwrap();
            Ok(Reply::with(StatusCode::NOT_FOUND, Body::One(error)))
        }
        _ => Ok(Reply::one(answer)),
    }
}

async fn start() -> Running {
    let drain = CancellationToken::new();
    let timeouts = Timeouts {
        keep_alive: Duration::from_millis(200),
        heartbeat: HEARTBEAT,
        ..Timeouts::default()
    };
    let params = Params { timeouts, ..Params::default() };
    let left = Arc::new(Notify::new());
    let edge = {
        let left = Arc::clone(&left);
        service_fn(move |call| edge(call, Arc::clone(&left)))
    };
    let front = Front::new(Upstream::new(edge), params, drain.clone());
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let (address, tasks) = (listener.address(), Tasks::default());
    listener.serve(&front, &tasks);
    Running { address, front, drain, tasks, left }
}

impl Running {
    async fn send(&self, method: &str, id: &str) -> TcpStream {
        let body = format!(r#"{{"jsonrpc":"2.0",{id}"method":"{method}"}}"#);
        let request = format!(
            "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Calls a method on a connection of its own; returns all that comes.
    async fn call(&self, method: &str, id: &str) -> String {
        let mut stream = self.send(method, id).await;
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn stop(self) {
        self.drain.cancel();
        timeout(PATIENCE, self.tasks.wait()).await.unwrap();
        let stats = self.front.stats();
        assert_eq!((stats.connections_open, stats.streams_open, stats.body_bytes), (0, 0, 0));
    }
}

const ID: &str = r#""id":1,"#;

#[tokio::test]
async fn whoever_waits_hears_that_somebody_is_there() {
    let running = start().await;
    let answer = running.call("slow", ID).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"),
        "{answer}"
    );
    assert!(answer.contains(": keep-alive\n\n"), "{answer}");
    assert!(answer.contains("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"n\":1}}\n\n"));
    assert!(answer.ends_with("0\r\n\r\n"), "{answer}");
    let answer = running.call("stream", ID).await;
    let (note, end) = (answer.find("\"note\"").unwrap(), answer.find("\"result\"").unwrap());
    assert!(answer.find(": keep-alive").unwrap() < note && note < end, "{answer}");
    running.stop().await;
}

#[tokio::test]
async fn what_goes_wrong_later_is_told_in_an_event() {
    let running = start().await;
    for (method, code) in [("fail", "-31002"), ("unknown", "-32601")] {
        let answer = running.call(method, ID).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"));
        assert!(answer.contains(&format!(r#""code":{code}"#)), "{answer}");
        assert!(answer.contains(r#""id":1"#) && answer.ends_with("0\r\n\r\n"), "{answer}");
    }
    running.stop().await;
}

#[tokio::test]
async fn what_must_have_a_head_of_its_own_waits_for_it() {
    let running = start().await;
    for (method, id) in [("quick", ID), ("initialize", ID), ("notifications/slow", "")] {
        let answer = running.call(method, id).await;
        let json = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
        assert!(answer.starts_with(json), "{method}: {answer}");
    }
    running.stop().await;
}

#[tokio::test]
async fn who_leaves_such_a_stream_leaves_the_call() {
    let running = start().await;
    let mut stream = running.send("for ever", ID).await;
    let mut seen = Vec::new();
    while !seen.ends_with(b": keep-alive\n\n\r\n") {
        timeout(PATIENCE, stream.read_buf(&mut seen)).await.unwrap().unwrap();
    }
    drop(stream);
    timeout(PATIENCE, running.left.notified()).await.unwrap();
    running.stop().await;
}
