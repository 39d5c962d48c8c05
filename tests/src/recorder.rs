//! An HTTP upstream that writes down what it gets, byte for byte, and answers like an MCP server.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Request line and headers.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Recorded {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .find_map(|(each, value)| each.eq_ignore_ascii_case(name).then_some(value.trim()))
    }
}

/// The upstream. It keeps sessions: `initialize` gives `upstream-session`, `forget` makes it
/// unknown.
#[derive(Debug)]
pub struct Recorder {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Recorded>>>,
    _server: JoinSet<()>,
}

impl Recorder {
    /// Starts on a free port.
    pub async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// Starts where somebody may have listened a moment ago.
    pub async fn at(address: SocketAddr) -> Self {
        Self::on(bind_again(address).await)
    }

    fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&requests);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&recorded)));
            }
        });
        Self { address, requests, _server: server }
    }

    /// The URL of its endpoint.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// What has come so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().unwrap().clone()
    }

    /// Forgets what has come so far.
    pub fn clear(&self) {
        self.requests.lock().unwrap().clear();
    }
}

/// Binds an address as soon as whoever had it is gone.
pub(crate) async fn bind_again(address: SocketAddr) -> TcpListener {
    let bound = timeout(Duration::from_secs(10), async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    });
    bound.await.expect("the address is free in time")
}

async fn serve(mut stream: TcpStream, requests: Arc<Mutex<Vec<Recorded>>>) {
    let mut read = Vec::new();
    while let Some(request) = next_request(&mut stream, &mut read).await {
        let answer = answer(&request);
        requests.lock().unwrap().push(request);
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

pub(crate) async fn next_request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<Recorded> {
    let end = loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        more(stream, read).await?;
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    read.drain(..end);
    let mut request = Recorded { head, body: Vec::new() };
    let length = request.header("content-length").map_or(0, |value| value.parse().unwrap());
    while read.len() < length {
        more(stream, read).await?;
    }
    request.body = read.drain(..length).collect();
    Some(request)
}

async fn more(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<()> {
    let mut piece = vec![0; 64 << 10];
    let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
    read.extend_from_slice(&piece[..count]);
    Some(())
}

fn answer(request: &Recorded) -> Vec<u8> {
    if request.head.starts_with("GET") || request.head.starts_with("DELETE") {
        let status = if request.head.starts_with("GET") { "405 No" } else { "200 OK" };
        return format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").into_bytes();
    }
    let message: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let Some(id) = message.get("id").filter(|_| message.get("method").is_some()) else {
        return b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_vec();
    };
    let (result, extra) = match message["method"].as_str() {
        Some("initialize") => (
            json!({
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "recorder", "version": "1"},
            }),
            "mcp-session-id: upstream-session\r\n",
        ),
        Some("forget") => {
            let body = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}"#;
            return respond("404 Not Found", "", body);
        }
        _ => (json!({"resultType": "complete", "echo": message["params"]}), ""),
    };
    let body = json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string();
    respond("200 OK", extra, &body)
}

fn respond(status: &str, extra: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{extra}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
