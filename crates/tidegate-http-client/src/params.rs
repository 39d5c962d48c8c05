//! What an upstream needs to know, and the same after it was checked.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderValue, Uri,
    uri::{PathAndQuery, Scheme},
};
use rustls::pki_types::ServerName;
use tidegate_service::Timeouts;

use crate::link::Origin;

/// How to reach one MCP server, and how long to wait for what.
#[derive(Clone)]
pub struct Params {
    /// The upstream's name as configured; errors carry it.
    pub name: Arc<str>,
    /// The MCP endpoint: scheme `http` or `https`, authority, path.
    pub url: Uri,
    /// How long resolving the name, connecting and the TLS handshake may take together; how long the
    /// head of the response may take, counted from when the request starts to leave; and how long
    /// its body may pause, but for streams of what the server says unasked, which may do so forever.
    /// What a request says about this ([`Wait`](crate::Wait)) goes before it.
    pub timeouts: Timeouts,
    /// How many connections calls may use at once, or over HTTP/2, where they share them, how many
    /// calls there may be at once; streams of what the server says unasked have as many of their
    /// own.
    pub max_connections: usize,
    /// How many calls may wait for a connection; one more is refused at once.
    pub max_waiting: usize,
    /// How long a call may wait for a connection.
    pub acquire_timeout: Duration,
    /// How long an unused connection is kept.
    pub pool_idle: Duration,
    /// How old a connection may get before it is replaced. One in use is finished first.
    pub max_lifetime: Option<Duration>,
    /// How many calls a connection may serve before it is replaced, whoever makes them.
    pub max_uses: Option<u64>,
    /// How many connections are kept ready for calls, also before the first one.
    pub min_idle: usize,
    /// The largest JSON body, and the largest event of a stream, in bytes.
    pub max_response: usize,
    /// Whether calls share HTTP/2 connections.
    pub http2: Http2,
    /// Certificates to trust beside those of the system, as PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// Headers that every request carries, whatever the client sent under these names.
    pub headers: HeaderMap,
    /// How legacy streams that break are taken up again; `None` for not at all.
    pub reconnect: Option<Reconnect>,
}

/// How a stream that broke is taken up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// How long a stream that can be resumed may bring nothing at all before it is taken to be
    /// broken.
    pub stall: Duration,
    /// How many attempts in a row may bring nothing before the stream is given up.
    pub attempts: NonZeroU32,
    /// The limit of the first pause, or what the server asks for if that is longer. It doubles
    /// with every attempt that brings nothing, and the pause is anything below it.
    pub base: Duration,
    /// The largest limit of a pause. What a server asks for may be longer.
    pub max: Duration,
    /// How long a stream without any sign of life is worth attempts.
    pub window: Duration,
    /// How many streams may reconnect at once; at least one.
    pub at_once: usize,
    /// How many reconnects may begin in a second; at least one.
    pub per_second: u32,
}

impl Default for Reconnect {
    /// After two minutes of silence; at most ten attempts in a row that bring nothing, at first within 500 ms of each other and
    /// then within 10 s, for at most five minutes; 16 at once, 100 in a second.
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(120),
            attempts: const { NonZeroU32::new(10).unwrap() },
            base: Duration::from_millis(500),
            max: Duration::from_secs(10),
            window: Duration::from_secs(300),
            at_once: 16,
            per_second: 100,
        }
    }
}

/// When HTTP/2 is spoken to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http2 {
    /// Never.
    Off,
    /// If the server wants it, which it says in the TLS handshake; never without TLS.
    #[default]
    Auto,
    /// Always, without TLS too: the server is known to speak it.
    Always,
}

/// Why an upstream cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The scheme is neither `http` nor `https`.
    #[error("the URL must begin with http:// or https://")]
    Scheme,
    /// The URL names no host, or one that no certificate can be for.
    #[error("the URL has no valid host")]
    Host,
    /// The URL has a user name or password in it.
    #[error("the URL must not contain credentials")]
    Credentials,
    /// No connection is allowed.
    #[error("max_connections must be between 1 and 4294967295")]
    NoConnections,
    /// The extra certificates cannot be read.
    #[error("the extra CA certificates are not valid PEM")]
    CaPem(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no certificate to trust.
    #[error("there are no trusted root certificates")]
    NoRoots,
    /// The TLS library refuses the settings.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// A checked URL, in the forms that requests and connections need.
#[derive(Clone, Debug)]
pub struct Target {
    /// The host without brackets, for resolving.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The name a certificate must be for; `None` for plain HTTP.
    pub(crate) server_name: Option<ServerName<'static>>,
    /// The value of `Host`.
    pub authority: HeaderValue,
    /// The request target.
    pub path: Uri,
    /// What tells this server from others; sessions belong to one.
    pub endpoint: Arc<str>,
    pub(crate) origin: Arc<Origin>,
}

impl Params {
    /// The defaults: 2 s to connect, 5 min to the first message and between messages, 256
    /// connections that are kept for 60 s, 16 MiB per message, and broken streams are taken up.
    pub fn new(name: impl Into<Arc<str>>, url: Uri) -> Self {
        Self {
            name: name.into(),
            url,
            timeouts: Timeouts::default(),
            max_connections: 256,
            max_waiting: 1024,
            acquire_timeout: Duration::from_secs(5),
            pool_idle: Duration::from_secs(60),
            max_lifetime: None,
            max_uses: None,
            min_idle: 0,
            max_response: 16 << 20,
            http2: Http2::default(),
            ca_pem: None,
            headers: HeaderMap::new(),
            reconnect: Some(Reconnect::default()),
        }
    }
}

impl Target {
    /// Checks a URL.
    ///
    /// # Errors
    ///
    /// [`SetupError`] says what is wrong with it.
    pub fn read(url: &Uri) -> Result<Self, SetupError> {
        let tls = match url.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(SetupError::Scheme),
        };
        let authority = url.authority().ok_or(SetupError::Host)?;
        if authority.as_str().contains('@') {
            return Err(SetupError::Credentials);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(SetupError::Host);
        }
        let server_name = match tls {
            true => Some(ServerName::try_from(host.clone()).map_err(|_| SetupError::Host)?),
            false => None,
        };
        let path = url.path_and_query().cloned();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Self {
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| SetupError::Host)?,
            path: Uri::from(path),
            endpoint: Arc::from(url.to_string()),
            origin: Arc::new(Origin {
                scheme: if tls { Scheme::HTTPS } else { Scheme::HTTP },
                authority: authority.clone(),
            }),
            host,
            server_name,
        })
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The headers may hold credentials and the URL a key in its query.
        f.debug_struct("Params")
            .field("name", &self.name)
            .field("host", &self.url.host())
            .field("timeouts", &self.timeouts)
            .field("max_connections", &self.max_connections)
            .field("max_lifetime", &self.max_lifetime)
            .field("max_uses", &self.max_uses)
            .field("min_idle", &self.min_idle)
            .field("max_response", &self.max_response)
            .field("reconnect", &self.reconnect)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{SetupError, Target};

    fn read(url: &str) -> Result<Target, SetupError> {
        Target::read(&url.parse().unwrap())
    }

    #[test]
    fn a_url_becomes_what_sockets_and_requests_need() {
        let cases = [
            ("http://a.example/mcp?k=v", "a.example", 80, "a.example", "/mcp?k=v"),
            ("https://a.example:8443", "a.example", 8443, "a.example:8443", "/"),
            ("http://[::1]:9000/x/", "::1", 9000, "[::1]:9000", "/x/"),
        ];
        for (url, host, port, authority, path) in cases {
            let target = read(url).unwrap();
            assert_eq!((target.host.as_str(), target.port), (host, port), "{url}");
            assert_eq!(target.authority, authority, "{url}");
            assert_eq!(target.path.to_string(), path, "{url}");
            assert_eq!(target.server_name.is_some(), url.starts_with("https"), "{url}");
        }
    }

    #[test]
    fn urls_that_lead_nowhere_are_refused() {
        assert!(matches!(read("/mcp"), Err(SetupError::Scheme)));
        assert!(matches!(read("ftp://a.example/"), Err(SetupError::Scheme)));
        assert!(matches!(read("http://u:p@a.example/"), Err(SetupError::Credentials)));
        assert!(matches!(read("https://a_b.-x/"), Err(SetupError::Host)));
    }
}
