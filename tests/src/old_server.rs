//! A server of HTTP+SSE (2024-11-05), with tools that misbehave on demand.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

use crate::recorder::{Recorded, bind_again, next_request};

/// The server. Its streams are at `/sse`.
#[derive(Debug)]
pub struct OldServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    /// What the first event says; `{id}` stands for the session.
    endpoint: String,
    streams: Mutex<HashMap<String, mpsc::Sender<Outgoing>>>,
    last: AtomicUsize,
    /// How many streams are open.
    open: AtomicUsize,
    /// How many messages were posted where none belong.
    misdirected: AtomicUsize,
    messages: Mutex<Vec<Value>>,
    /// Requests of the server, and the call that each was made for.
    asked: Mutex<HashMap<String, Value>>,
}

#[derive(Debug)]
enum Outgoing {
    Message(Value),
    /// Some of an event, and then the end of the stream.
    Cut,
}

impl OldServer {
    /// Starts on a free port; messages are posted to `/messages`.
    pub async fn start() -> Self {
        Self::with("/messages?sessionId={id}").await
    }

    /// Starts with another first event; `{address}` stands for its own.
    pub async fn with(endpoint: &str) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), endpoint)
    }

    /// Starts where somebody may have listened a moment ago.
    pub async fn at(address: SocketAddr) -> Self {
        Self::on(bind_again(address).await, "/messages?sessionId={id}")
    }

    fn on(listener: TcpListener, endpoint: &str) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            endpoint: endpoint.replace("{address}", &address.to_string()),
            streams: Mutex::default(),
            last: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            misdirected: AtomicUsize::new(0),
            messages: Mutex::default(),
            asked: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(connection(stream, Arc::clone(&serving)));
            }
        });
        Self { address, shared, _server: server }
    }

    /// The URL of its streams.
    pub fn url(&self) -> String {
        format!("http://{}/sse", self.address)
    }

    /// How many streams are open.
    pub fn open_streams(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many messages were posted where none belong.
    pub fn misdirected(&self) -> usize {
        self.shared.misdirected.load(Ordering::SeqCst)
    }

    /// Every message that came with this method.
    pub fn messages(&self, method: &str) -> Vec<Value> {
        let messages = self.shared.messages.lock().unwrap();
        messages.iter().filter(|message| message["method"] == method).cloned().collect()
    }
}

async fn connection(mut stream: TcpStream, shared: Arc<Shared>) {
    stream.set_nodelay(true).unwrap();
    let mut read = Vec::new();
    while let Some(request) = next_request(&mut stream, &mut read).await {
        if request.head.starts_with("GET /sse ") {
            return sse(stream, &shared).await;
        }
        let answer = take(&request, &shared).await;
        let head =
            format!("HTTP/1.1 {answer}\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok");
        if stream.write_all(head.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn sse(mut stream: TcpStream, shared: &Shared) {
    let id = format!("s{}", shared.last.fetch_add(1, Ordering::SeqCst));
    let (sender, mut outgoing) = mpsc::channel(1024);
    shared.streams.lock().unwrap().insert(id.clone(), sender);
    shared.open.fetch_add(1, Ordering::SeqCst);
    let endpoint = shared.endpoint.replace("{id}", &id);
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{}",
        chunk(&format!(": hello\n\nevent: endpoint\r\ndata: {endpoint}\r\n\r\n"))
    );
    let mut is_up = stream.write_all(head.as_bytes()).await.is_ok();
    let mut scrap = [0; 16];
    while is_up {
        tokio::select! {
            message = outgoing.recv() => match message {
                Some(Outgoing::Message(message)) => {
                    let event = chunk(&format!("event: message\ndata: {message}\n\n"));
                    is_up = stream.write_all(event.as_bytes()).await.is_ok();
                }
                Some(Outgoing::Cut) => {
                    drop(stream.write_all(chunk("event: message\ndata: {\"js").as_bytes()).await);
                    is_up = false;
                }
                None => is_up = false,
            },
            // The client says nothing more here; it closes.
            _ = stream.read(&mut scrap) => is_up = false,
        }
    }
    shared.streams.lock().unwrap().remove(&id);
    shared.open.fetch_sub(1, Ordering::SeqCst);
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// Takes a message; returns the status.
async fn take(request: &Recorded, shared: &Shared) -> &'static str {
    let target = request.head.split(' ').nth(1).unwrap_or_default();
    let id = target.split_once("sessionId=").map(|(_, id)| id).unwrap_or_default();
    let stream = shared.streams.lock().unwrap().get(id).cloned();
    let (Some(stream), true) = (stream, target.starts_with("/messages")) else {
        shared.misdirected.fetch_add(1, Ordering::SeqCst);
        return "404 Not Found";
    };
    let Ok(message) = serde_json::from_slice::<Value>(&request.body) else {
        return "400 Bad Request";
    };
    shared.messages.lock().unwrap().push(message.clone());
    if message["method"] == "refuse" {
        return "400 Bad Request";
    }
    if message["method"].is_null() {
        let call = shared.asked.lock().unwrap().remove(&message["id"].to_string());
        if let Some(call) = call {
            let told = json!({"content": [], "structuredContent": {"told": message}});
            drop(stream.send(Outgoing::Message(result(&call["id"], told))).await);
        }
    } else if !message["id"].is_null() {
        for outgoing in answers(&message, shared).await {
            drop(stream.send(outgoing).await);
        }
    }
    "202 Accepted"
}

fn result(id: &Value, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

async fn answers(request: &Value, shared: &Shared) -> Vec<Outgoing> {
    let (id, params) = (&request["id"], &request["params"]);
    let say = |message: Value| vec![Outgoing::Message(message)];
    match request["method"].as_str().unwrap_or_default() {
        "initialize" => say(result(
            id,
            json!({
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "old", "version": "1"},
            }),
        )),
        "tools/call" => call(id, params, shared).await,
        _ => say(result(id, json!({}))),
    }
}

async fn call(id: &Value, params: &Value, shared: &Shared) -> Vec<Outgoing> {
    let arguments = &params["arguments"];
    let right = result(id, json!({"content": [], "structuredContent": arguments}));
    let messages = match params["name"].as_str().unwrap_or_default() {
        "echo" => {
            let delay = arguments["delay_ms"].as_u64().unwrap_or_default();
            tokio::time::sleep(Duration::from_millis(delay)).await;
            let progress = arguments["progress"].as_u64().unwrap_or_default();
            let token = &params["_meta"]["progressToken"];
            let progress = (1..=progress).map(|step| {
                json!({"jsonrpc": "2.0", "method": "notifications/progress",
                    "params": {"progressToken": token, "progress": step}})
            });
            progress.chain([right]).collect()
        }
        "twice" => vec![right.clone(), right],
        "foreign" => vec![result(&json!(9_007_199_254_740_993_u64), json!({})), right],
        "text" => vec![result(&json!(id.to_string()), json!({"wrong": true})), right],
        "garbled" => {
            let broken = json!({"jsonrpc": "2.0", "id": id, "result": {}, "error": {}});
            vec![broken]
        }
        "emit" => {
            let mut all = arguments["messages"].as_array().cloned().unwrap_or_default();
            all.push(right);
            all
        }
        "ask" => {
            let ask = json!(7);
            let call = json!({"id": id});
            shared.asked.lock().unwrap().insert(ask.to_string(), call);
            vec![json!({"jsonrpc": "2.0", "id": ask, "method": arguments["method"], "params": {}})]
        }
        "cut" => return vec![Outgoing::Cut],
        _ => vec![],
    };
    messages.into_iter().map(Outgoing::Message).collect()
}
