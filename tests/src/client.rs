//! An MCP client of either era that sends one request per connection.

use std::net::SocketAddr;

use serde_json::Value;

use crate::{
    Events, Proxy,
    http::{self, Connection, Response},
    proxy::modern_headers,
};

/// What makes the params of a request modern.
pub const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

/// A client. Clones share its session.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    path: String,
    session: Option<String>,
    version: String,
}

/// A modern request as text. `params` are members of its params beside `_meta`, with a comma at
/// the end if there are any.
pub fn modern(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}{META}}}}}"#)
}

/// A legacy request as text. `params` is an object.
pub fn legacy(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

/// The `initialize` of a client that declares nothing but what `capabilities` says.
pub fn initialize(version: &str, capabilities: &str) -> String {
    let client = r#"{"name":"test","version":"1"}"#;
    let params = format!(
        r#"{{"protocolVersion":"{version}","capabilities":{capabilities},"clientInfo":{client}}}"#
    );
    legacy("0", "initialize", &params)
}

impl Client {
    /// A client of the newest revision.
    pub fn modern(proxy: &Proxy) -> Self {
        Self::modern_at(proxy, "/mcp")
    }

    /// A client of the newest revision, on another route.
    pub fn modern_at(proxy: &Proxy, path: &str) -> Self {
        Self {
            address: proxy.address(),
            path: path.to_owned(),
            session: None,
            version: "2026-07-28".to_owned(),
        }
    }

    /// A client with a session of an older revision.
    pub async fn legacy(proxy: &Proxy, version: &str) -> Self {
        Self::legacy_at(proxy, "/mcp", version).await
    }

    /// A client with a session of an older revision, on another route.
    pub async fn legacy_at(proxy: &Proxy, path: &str, version: &str) -> Self {
        let mut client = Self {
            address: proxy.address(),
            path: path.to_owned(),
            session: None,
            version: version.to_owned(),
        };
        let hello = initialize(version, r#"{"sampling":{},"elicitation":{},"roots":{}}"#);
        let answer = http::raw(client.address, &http::post_to(path, &[], hello.as_bytes())).await;
        assert_eq!(answer.status, 200, "{answer:?} {}", answer.text());
        client.session = answer.header("mcp-session-id").map(ToOwned::to_owned);
        let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let accepted = client.post(ready).await;
        assert_eq!(accepted.status, 202, "{accepted:?} {}", accepted.text());
        client
    }

    /// The session id, which an upstream with sessions has given.
    pub fn session(&self) -> &str {
        self.session.as_deref().expect("a session")
    }

    /// The headers that belong to any request of this client.
    pub fn headers(&self) -> Vec<(&str, &str)> {
        let mut headers = vec![("mcp-protocol-version", &*self.version)];
        headers.extend(self.session.as_deref().map(|id| ("mcp-session-id", id)));
        headers
    }

    /// The bytes of a POST.
    pub fn bytes(&self, body: &str) -> Vec<u8> {
        self.bytes_with(&[], body)
    }

    /// The bytes of a POST with more headers.
    pub fn bytes_with(&self, more: &[(&str, &str)], body: &str) -> Vec<u8> {
        let mut headers = self.headers();
        headers.extend_from_slice(more);
        http::post_to(&self.path, &headers, body.as_bytes())
    }

    /// Posts a message.
    pub async fn post(&self, body: &str) -> Response {
        http::raw(self.address, &self.bytes(body)).await
    }

    /// The bytes of a call of a tool. `arguments` is an object.
    pub fn tool_bytes(&self, id: &str, name: &str, arguments: &str) -> Vec<u8> {
        if self.is_modern() {
            let params = format!(r#""name":"{name}","arguments":{arguments},"#);
            let headers = modern_headers("tools/call", Some(name));
            let body = modern(id, "tools/call", &params);
            return http::post_to(&self.path, &headers, body.as_bytes());
        }
        let params = format!(r#"{{"name":"{name}","arguments":{arguments}}}"#);
        self.bytes(&legacy(id, "tools/call", &params))
    }

    /// Calls a tool.
    pub async fn tool(&self, id: &str, name: &str, arguments: &str) -> Response {
        http::raw(self.address, &self.tool_bytes(id, name, arguments)).await
    }

    /// Calls a tool that is expected to work, and returns its structured content.
    pub async fn told(&self, name: &str, arguments: &str) -> Value {
        let answer = self.tool("1", name, arguments).await;
        assert_eq!(answer.status, 200, "{answer:?} {}", answer.text());
        let mut message = answer.message();
        assert!(message["error"].is_null(), "{message}");
        message["result"]["structuredContent"].take()
    }

    /// Calls a tool whose answer is a stream.
    pub async fn stream(&self, id: &str, name: &str, arguments: &str) -> Events {
        let connection = Connection::open(self.address).await;
        Events::open(connection, &self.tool_bytes(id, name, arguments)).await
    }

    /// Opens the GET stream of the session.
    pub async fn listen(&self) -> Events {
        let connection = Connection::open(self.address).await;
        Events::open(connection, &self.listen_bytes(None)).await
    }

    /// Comes back for what followed on an event.
    pub async fn resume(&self, last_event_id: &str) -> Events {
        let connection = Connection::open(self.address).await;
        Events::open(connection, &self.listen_bytes(Some(last_event_id))).await
    }

    /// The bytes of a GET.
    pub fn listen_bytes(&self, last_event_id: Option<&str>) -> Vec<u8> {
        let mut headers = self.headers();
        headers.push(("accept", "text/event-stream"));
        headers.extend(last_event_id.map(|id| ("last-event-id", id)));
        http::request("GET", &self.path, &headers)
    }

    /// Opens a modern subscription.
    pub async fn subscribe(&self, id: &str) -> Events {
        let body =
            modern(id, "subscriptions/listen", r#""notifications":{"toolsListChanged":true},"#);
        let headers = modern_headers("subscriptions/listen", None);
        let connection = Connection::open(self.address).await;
        Events::open(connection, &http::post_to(&self.path, &headers, body.as_bytes())).await
    }

    /// Ends the session.
    pub async fn delete(&self) -> Response {
        http::method(self.address, "DELETE", &self.path, &self.headers()).await
    }

    fn is_modern(&self) -> bool {
        self.version == "2026-07-28"
    }
}
