//! HTTP+SSE before an edge of the test's making: what bounds a client.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{net::SocketAddr, time::Duration};

use tidegate_protocol::{Bytes, Envelope, rpc};
use tidegate_server::{Front, Limits, Listener, Pair, Params, Timeouts};
use tidegate_service::{Call, Error, Reply, Tasks, Upstream};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tower::service_fn;

const PATIENCE: Duration = Duration::from_secs(10);

struct Running {
    address: SocketAddr,
    front: Front,
    drain: CancellationToken,
    tasks: Tasks,
}

/// The stream of a client, and where to post.
struct Stream {
    lines: BufReader<TcpStream>,
    endpoint: String,
}

/// Answers `initialize` and nothing else, unless its params say that it hangs as well.
async fn edge(call: Call) -> Result<Reply, Error> {
    let Some(message) = call.envelope() else { return Ok(Reply::accepted()) };
    let id = message.id();
    let hangs = message.params().is_some_and(|params| params == br#"{"hang":true}"#);
    match (message.method().as_deref(), id) {
        (Some("initialize"), Some(id)) if !hangs => {
            let result = rpc::result(&id, r#"{"protocolVersion":"2024-11-05"}"#);
            Ok(Reply::one(Envelope::parse(result).unwrap()))
        }
        (_, None) => Ok(Reply::accepted()),
        _ => std::future::pending().await,
    }
}

fn start(initialize: Duration) -> Running {
    let drain = CancellationToken::new();
    let pair = Pair {
        endpoint: "/mcp".to_owned(),
        stream: "/sse".to_owned(),
        messages: "/messages".to_owned(),
        slow: None,
    };
    let params = Params {
        limits: Limits { max_pair_calls: 2, max_pair_waiting: 3, ..Limits::default() },
        timeouts: Timeouts { initialize, ..Timeouts::default() },
        pairs: vec![pair],
        ..Params::default()
    };
    let front = Front::new(Upstream::new(service_fn(edge)), params, drain.clone());
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let (address, tasks) = (listener.address(), Tasks::default());
    listener.serve(&front, &tasks);
    Running { address, front, drain, tasks }
}

impl Running {
    async fn open(&self) -> Stream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let get = "GET /sse HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n";
        stream.write_all(get.as_bytes()).await.unwrap();
        let mut stream = Stream { lines: BufReader::new(stream), endpoint: String::new() };
        stream.endpoint = stream.data().await.unwrap();
        stream
    }

    /// Posts a message; returns the status and the body.
    async fn post(&self, endpoint: &str, message: &Bytes) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "POST {endpoint} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n",
            message.len()
        );
        stream.write_all(&[head.as_bytes(), message].concat()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    async fn stop(self) {
        self.drain.cancel();
        timeout(PATIENCE, self.tasks.wait()).await.unwrap();
        let stats = self.front.stats();
        assert_eq!((stats.connections_open, stats.streams_open, stats.body_bytes), (0, 0, 0));
    }
}

impl Stream {
    /// The data of the next event; `None` at the end.
    async fn data(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            let read = timeout(PATIENCE, self.lines.read_line(&mut line)).await.unwrap().unwrap();
            if read == 0 || line == "0\r\n" {
                return None;
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(data.trim_end().to_owned());
            }
        }
    }
}

fn request(id: u64, method: &str, params: &str) -> Bytes {
    rpc::request(&tidegate_protocol::Id::from_u64(id), method, params)
}

#[tokio::test]
async fn who_does_not_initialize_in_time_is_let_go() {
    let running = start(Duration::from_millis(50));
    let mut stream = running.open().await;
    assert_eq!(stream.data().await, None);
    let (status, _) = running.post(&stream.endpoint, &request(1, "ping", "{}")).await;
    assert_eq!(status, 404);
    // Whoever does stays.
    let mut stream = loop {
        let mut stream = running.open().await;
        let hello = request(0, "initialize", "{}");
        if running.post(&stream.endpoint, &hello).await.0 == 202 && stream.data().await.is_some() {
            break stream;
        }
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (status, _) = running.post(&stream.endpoint, &request(0, "initialize", "{}")).await;
    assert_eq!(status, 202);
    assert!(stream.data().await.unwrap().contains("initialized already"));
    drop(stream);
    running.stop().await;
}

#[tokio::test]
async fn a_client_has_a_bounded_number_of_calls() {
    let running = start(PATIENCE);
    let mut stream = running.open().await;
    running.post(&stream.endpoint, &request(0, "initialize", "{}")).await;
    assert!(stream.data().await.is_some());
    for id in 1..=3 {
        let taken = running.post(&stream.endpoint, &request(id, "hang", "{}")).await;
        assert_eq!(taken, (202, String::new()));
    }
    let refusal = stream.data().await.unwrap();
    assert!(refusal.contains(r#""id":3,"error":{"code":-31006"#), "{refusal}");
    drop(stream);
    running.stop().await;
}

#[tokio::test]
async fn a_client_has_a_bounded_number_of_messages_that_wait() {
    let running = start(PATIENCE);
    let stream = running.open().await;
    running.post(&stream.endpoint, &request(0, "initialize", r#"{"hang":true}"#)).await;
    // Everything else waits for that.
    let note = rpc::notification("notifications/initialized", "{}");
    let mut taken = 0;
    while taken < 3 {
        taken += usize::from(running.post(&stream.endpoint, &note).await.0 == 202);
    }
    let (status, body) = running.post(&stream.endpoint, &note).await;
    assert_eq!(status, 503);
    assert!(body.contains("-31006"), "{body}");
    assert!(running.front.stats().body_bytes > 0);
    drop(stream);
    running.stop().await;
}
