//! A client of HTTP+SSE (2024-11-05).

use std::net::SocketAddr;

use serde_json::Value;

use crate::{
    Events, Proxy,
    client::initialize,
    http::{self, Connection, Response},
};

/// A client with its stream open.
#[derive(Debug)]
pub struct OldClient {
    address: SocketAddr,
    /// The stream, behind its first event.
    pub events: Events,
    /// Where it was told to post, path and query.
    pub endpoint: String,
}

impl OldClient {
    /// Opens the stream of the route at `/mcp` with the usual paths.
    pub async fn open(proxy: &Proxy) -> Self {
        Self::open_at(proxy.address(), "/mcp/sse").await
    }

    /// Opens a stream.
    pub async fn open_at(address: SocketAddr, path: &str) -> Self {
        let get = http::request("GET", path, &[("accept", "text/event-stream")]);
        let mut events = Events::open(Connection::open(address).await, &get).await;
        let first = events.event().await.expect("a first event");
        let endpoint = first.strip_prefix("event: endpoint\ndata: ").expect("where to post");
        let endpoint = endpoint.trim_end().to_owned();
        assert!(endpoint.starts_with('/') && !endpoint.starts_with("//"), "{endpoint}");
        Self { address, events, endpoint }
    }

    /// Opens the stream and initializes.
    pub async fn ready(proxy: &Proxy) -> Self {
        let mut client = Self::open(proxy).await;
        client.greet("2024-11-05").await;
        client
    }

    /// Initializes; returns the answer.
    pub async fn greet(&mut self, version: &str) -> Value {
        let capabilities = r#"{"sampling":{},"roots":{}}"#;
        self.say(&initialize(version, capabilities)).await;
        let answer = self.events.next().await.expect("an answer");
        self.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        answer
    }

    /// Posts a message.
    pub async fn post(&self, body: &str) -> Response {
        self.post_with(&[], body).await
    }

    /// Posts a message with more headers.
    pub async fn post_with(&self, headers: &[(&str, &str)], body: &str) -> Response {
        http::raw(self.address, &http::post_to(&self.endpoint, headers, body.as_bytes())).await
    }

    /// Posts a message that is taken.
    pub async fn say(&self, body: &str) {
        let taken = self.post(body).await;
        assert_eq!(taken.status, 202, "{taken:?} {}", taken.text());
    }

    /// Calls a tool of the testkit's servers. `arguments` is an object.
    pub async fn call(&self, id: &str, name: &str, arguments: &str) {
        let params = format!(r#"{{"name":"{name}","arguments":{arguments}}}"#);
        self.say(&crate::client::legacy(id, "tools/call", &params)).await;
    }

    /// The next message on the stream, which must be there.
    pub async fn next(&mut self) -> Value {
        self.events.next().await.expect("a message")
    }
}
