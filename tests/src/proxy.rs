//! A gateway in this process, from configuration text.

use std::{io::Write as _, net::SocketAddr, time::Duration};

use tidegate_config::{Flags, load};
use tidegate_gateway::{Census, Gateway, Stop};

use crate::http;

/// A running gateway and what its tests ask of it.
#[derive(Debug)]
pub struct Proxy {
    gateway: Gateway,
}

impl Proxy {
    /// Starts a gateway from the text of a configuration file. Listeners and ops take free ports
    /// unless the text says otherwise.
    pub async fn start(upstreams: &str) -> Self {
        let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        let text = format!(
            "version: 1\nlisteners: [{{ address: 127.0.0.1:0 }}]\nops: {{ address: 127.0.0.1:0 }}\n{upstreams}"
        );
        file.write_all(text.as_bytes()).unwrap();
        let flags = Flags { config: Some(file.path().to_owned()), ..Flags::default() };
        let loaded = load(&flags).unwrap_or_else(|report| panic!("{text}\n{report}"));
        Self { gateway: Gateway::start(loaded.config).await.unwrap() }
    }

    /// A gateway in front of one HTTP upstream, at `/mcp`.
    pub async fn to_url(url: &str) -> Self {
        Self::start(&format!("upstreams: {{ it: {{ url: \"{url}\" }} }}\n")).await
    }

    /// A gateway in front of the testkit's stdio server in this mode, at `/mcp`.
    pub async fn to_stdio(mode: &[&str]) -> Self {
        let program = tidegate_testkit::stdio_bin();
        let command: Vec<String> = std::iter::once(program.display().to_string())
            .chain(mode.iter().map(ToString::to_string))
            .map(|word| format!("{word:?}"))
            .collect();
        let command = command.join(", ");
        Self::start(&format!("upstreams: {{ it: {{ stdio: {{ command: [{command}] }} }} }}\n")).await
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.gateway.addresses()[0]
    }

    /// Where health and metrics are.
    pub fn ops(&self) -> SocketAddr {
        self.gateway.ops_address().unwrap()
    }

    /// What there is right now.
    pub fn census(&self) -> Census {
        self.gateway.census()
    }

    /// The handle itself.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Takes the handle out, to drop it for instance.
    pub fn into_gateway(self) -> Gateway {
        self.gateway
    }

    /// Opens a legacy session and returns its id.
    pub async fn open_session(&self, version: &str) -> String {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{{}},"clientInfo":{{"name":"test","version":"1"}}}}}}"#
        );
        let answer = http::post(self.address(), &[], &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let id = answer.header("mcp-session-id").expect("a session id").to_owned();
        let headers = [("mcp-session-id", &*id), ("mcp-protocol-version", version)];
        let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let accepted = http::post(self.address(), &headers, ready).await;
        assert_eq!(accepted.status, 202, "{accepted:?}");
        id
    }

    /// Asserts that the proxy still serves: a fresh connection gets a sane answer.
    pub async fn assert_alive(&self) {
        let health = http::get(self.ops(), "/health/ready", &[]).await;
        assert_eq!((health.status, health.text().as_str()), (200, "ready\n"));
        let parse_error = http::post(self.address(), &[], "{").await;
        assert_eq!(parse_error.status, 400, "{parse_error:?}");
    }

    /// Waits until the census fulfils a condition.
    pub async fn until(&self, what: &str, is_so: impl Fn(&Census) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(10), async {
            while !is_so(&self.census()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(waited.await.is_ok(), "waited in vain for: {what}; {:?}", self.census());
    }

    /// Stops gracefully and asserts that nothing was cut and nothing is left.
    pub async fn stop(self) {
        let outcome = self.gateway.stop(Stop::Graceful).await;
        assert!(outcome.is_clean(), "{outcome:?}");
    }
}

/// The headers that a modern request must mirror from its body.
pub fn modern_headers<'a>(method: &'a str, name: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let mut headers = vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
    headers.extend(name.map(|name| ("mcp-name", name)));
    headers
}
