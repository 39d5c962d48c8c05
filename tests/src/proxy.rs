//! A gateway in this process, from configuration text.

use std::{io::Write as _, net::SocketAddr, time::Duration};

use tidegate_config::{Config, Flags, load};
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
    pub async fn start(text: &str) -> Self {
        Self { gateway: Gateway::start(config(text)).await.unwrap() }
    }

    /// A gateway in front of one HTTP upstream, at `/mcp`.
    pub async fn to_url(url: &str) -> Self {
        Self::to_url_with(url, "").await
    }

    /// The same with further settings.
    pub async fn to_url_with(url: &str, settings: &str) -> Self {
        Self::start(&format!("{settings}\n{}", http_upstream(url))).await
    }

    /// A gateway in front of the testkit's stdio server in this mode, at `/mcp`.
    pub async fn to_stdio(mode: &[&str]) -> Self {
        Self::to_stdio_with(mode, "").await
    }

    /// The same with further settings.
    pub async fn to_stdio_with(mode: &[&str], settings: &str) -> Self {
        Self::start(&format!("{settings}\n{}", stdio_upstream(mode, ""))).await
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

/// The part of a configuration that names one HTTP upstream.
pub fn http_upstream(url: &str) -> String {
    format!("upstreams: {{ it: {{ url: \"{url}\" }} }}\n")
}

/// The part of a configuration that names the testkit's stdio server in this mode; `settings` are
/// further ones of the upstream, each with a comma before it.
pub fn stdio_upstream(mode: &[&str], settings: &str) -> String {
    let program = tidegate_testkit::stdio_bin();
    let command: Vec<String> = std::iter::once(program.display().to_string())
        .chain(mode.iter().map(ToString::to_string))
        .map(|word| format!("{word:?}"))
        .collect();
    let command = command.join(", ");
    format!("upstreams: {{ it: {{ stdio: {{ command: [{command}]{settings} }} }} }}\n")
}

/// For the place of the last of an upstream's settings: what its calls' `timeouts` are, which stand
/// beside `http` and `stdio`.
pub fn timeouts(limits: &str) -> String {
    format!(" }}, timeouts: {{ {limits}")
}

/// The configuration from the text of a file, as [`Proxy::start`] takes it.
pub fn config(text: &str) -> Config {
    let file = config_file(text);
    let flags = Flags { config: Some(file.path().to_owned()), ..Flags::default() };
    load(&flags).unwrap_or_else(|report| panic!("{text}\n{report}")).config
}

/// A configuration file with this text, on free ports unless the text says otherwise.
pub(crate) fn config_file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let mut whole = String::from("version: 1\n");
    for (key, default) in
        [("listeners", "[{ address: 127.0.0.1:0 }]"), ("ops", "{ address: 127.0.0.1:0 }")]
    {
        if !text.lines().any(|line| line.starts_with(&format!("{key}:"))) {
            whole.push_str(&format!("{key}: {default}\n"));
        }
    }
    whole.push_str(text);
    file.write_all(whole.as_bytes()).unwrap();
    file
}
