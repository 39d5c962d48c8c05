//! A server on a loopback port, and a client that sees every header and event.

use std::{io, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tidegate_demo::{Options, serve_http};
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet};

use crate::pipe::initialize;

/// A server and a client with its own connections.
pub(crate) struct Web {
    server: JoinSet<io::Result<()>>,
    stop: Option<oneshot::Sender<()>>,
    client: Client<HttpConnector, Full<Bytes>>,
    pub(crate) address: SocketAddr,
}

impl Web {
    pub(crate) async fn open(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let mut server = JoinSet::new();
        server.spawn(serve_http(options, listener, async { drop(stopped.await) }));
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { server, stop: Some(stop), client, address }
    }

    /// The same server, over HTTP/2 without negotiation.
    pub(crate) fn over_http2(mut self) -> Self {
        self.client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        self
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let mut request =
            Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let (head, body) = self.client.request(request).await.unwrap().into_parts();
        Reply { status: head.status, headers: head.headers, body, buffer: Vec::new() }
    }

    /// A POST with the headers that every one needs.
    pub(crate) async fn post(&self, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        let mut all = vec![
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
        ];
        all.extend(headers);
        self.send(Method::POST, "/mcp", &all, body).await
    }

    /// Shakes hands; the id of the session.
    pub(crate) async fn initialize(&self, version: &str, capabilities: &Value) -> String {
        let reply = self.post(&[], initialize(version, capabilities).to_string()).await;
        assert_eq!(reply.status, StatusCode::OK);
        let session = reply.headers["mcp-session-id"].to_str().unwrap().to_owned();
        assert_eq!(reply.json().await["result"]["protocolVersion"], version);
        let note = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let reply = self.post(&[("mcp-session-id", &session)], note.to_string()).await;
        assert_eq!(reply.status, StatusCode::ACCEPTED);
        assert!(reply.bytes().await.is_empty());
        session
    }

    /// Stops the server and waits for it.
    pub(crate) async fn close(mut self) {
        self.shut_down();
        self.server.join_next().await.unwrap().unwrap().unwrap();
    }

    /// Gives the signal to stop.
    pub(crate) fn shut_down(&mut self) {
        drop(self.stop.take());
    }
}

/// A response whose body is still to be read.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    buffer: Vec<u8>,
}

/// One SSE event.
#[derive(Debug, Default)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) retry: Option<u64>,
    pub(crate) data: String,
}

impl Event {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Reply {
    pub(crate) fn is_stream(&self) -> bool {
        self.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream")
    }

    pub(crate) async fn bytes(self) -> Bytes {
        self.body.collect().await.unwrap().to_bytes()
    }

    pub(crate) async fn json(self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json");
        let bytes = self.bytes().await;
        serde_json::from_slice(&bytes).unwrap()
    }

    /// The next event; none after the end of the stream.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        assert!(self.is_stream(), "{} {:?}", self.status, self.headers);
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let block = String::from_utf8(block).unwrap();
                if !block.starts_with(':') {
                    return Some(read_event(&block));
                }
                continue;
            }
            match self.body.frame().await {
                Some(frame) => self.buffer.extend(frame.unwrap().into_data().unwrap()),
                None => return None,
            }
        }
    }

    /// The message in the next event.
    pub(crate) async fn message(&mut self) -> Value {
        self.event().await.expect("the stream ended").json()
    }

    /// The messages up to the end of the stream.
    pub(crate) async fn rest(&mut self) -> Vec<Value> {
        let mut messages = Vec::new();
        while let Some(event) = self.event().await {
            messages.push(event.json());
        }
        messages
    }
}

fn read_event(block: &str) -> Event {
    let mut event = Event::default();
    for line in block.lines() {
        match line.split_once(": ") {
            Some(("id", id)) => event.id = Some(id.to_owned()),
            Some(("retry", retry)) => event.retry = Some(retry.parse().unwrap()),
            Some(("data", data)) => event.data = data.to_owned(),
            Some(("event", "message")) | None => (),
            other => panic!("{other:?}"),
        }
    }
    event
}
