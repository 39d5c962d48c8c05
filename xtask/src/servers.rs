//! The servers that conformance and interop put together: the proxy, the demo, a reference server.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;

use crate::dice::any_seed;
use crate::place::Place;
use crate::process::Server;

/// Where every MCP endpoint of these tests is.
pub(crate) const MCP_PATH: &str = "/mcp";
const START_LIMIT: Duration = Duration::from_secs(20);
/// The proxy may drain before it stops, so it gets longer than that takes.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A running server with its endpoint.
pub(crate) struct Endpoint {
    pub(crate) url: String,
    server: Server,
}

impl Endpoint {
    /// Where it listens.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        let address = self.url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
        Ok(address.unwrap_or_default().parse()?)
    }

    /// Stops it and complains unless it ends in time, with success and without orphans.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.server.stop(STOP_LIMIT)
    }
}

/// What the proxy has behind it.
pub(crate) enum Upstream<'a> {
    /// A command that speaks MCP on its stdio.
    Stdio(&'a [String]),
    /// The URL of a Streamable HTTP server.
    Http(&'a str),
    /// The URL of the stream of an HTTP+SSE server.
    Sse(&'a str),
}

/// The proxy in front of `upstream`, for clients of HTTP+SSE as well.
pub(crate) fn proxy(
    place: &Place,
    binary: &Path,
    name: &str,
    upstream: &Upstream<'_>,
) -> anyhow::Result<Endpoint> {
    let routes = "[{ match: { path: /mcp }, upstream: default, sse: true }]";
    proxy_with(place, binary, name, upstream, routes)
}

/// The proxy with these routes; ready when its readiness probe says so.
pub(crate) fn proxy_with(
    place: &Place,
    binary: &Path,
    name: &str,
    upstream: &Upstream<'_>,
    routes: &str,
) -> anyhow::Result<Endpoint> {
    let (listen, ops) = (free_address()?, free_address()?);
    let mut command = Command::new(binary);
    command.args(["serve", "--listen", &listen.to_string(), "--ops", &ops.to_string()]);
    match upstream {
        Upstream::Stdio(words) => command.arg("--").args(*words),
        Upstream::Http(url) | Upstream::Sse(url) => command.args(["--upstream", url]),
    };
    command.env("TIDEGATE__ROUTES", routes);
    let label = format!("tidegate ({name})");
    let mut server = Server::start(&label, &mut command, place.log(&format!("tidegate-{name}")))?;
    server.wait_until(START_LIMIT, || accepts(listen) && says_ok(ops, "/health/ready"))?;
    Ok(Endpoint { url: format!("http://{listen}{MCP_PATH}"), server })
}

/// Few entries per page, so that clients have cursors to follow.
const PAGED: [&str; 4] = ["demo-server", "--conformance", "--page-size", "10"];
const WHOLE: [&str; 2] = ["demo-server", "--conformance"];

/// The built-in demo server with its lists in pages or whole; the suite asks for one page only.
#[derive(Clone, Copy)]
pub(crate) enum Demo {
    Paged,
    Whole,
}

impl Demo {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Paged => &PAGED,
            Self::Whole => &WHOLE,
        }
    }

    /// The command that speaks on stdio.
    pub(crate) fn command(self, binary: &Path) -> Vec<String> {
        let words = self.arguments().iter().map(|word| (*word).to_owned());
        [binary.to_string_lossy().into_owned()].into_iter().chain(words).collect()
    }

    /// A server over HTTP.
    pub(crate) fn over_http(self, place: &Place, binary: &Path) -> anyhow::Result<Endpoint> {
        let address = free_address()?;
        let mut command = Command::new(binary);
        command.args(self.arguments()).args(["--http", &address.to_string()]);
        start_http(place, "demo-http", &mut command, address)
    }
}

/// `server-everything` over Streamable HTTP, on loopback only.
pub(crate) fn everything_http(
    place: &Place,
    node: &Path,
    script: &Path,
) -> anyhow::Result<Endpoint> {
    let address = free_address()?;
    let mut command = Command::new(node);
    // The server would listen on every interface.
    command.arg("--import").arg(preload(place));
    command.arg(script).arg("streamableHttp").env("PORT", address.port().to_string());
    start_http(place, "everything-http", &mut command, address)
}

/// `server-everything` over HTTP+SSE, on loopback only.
pub(crate) fn everything_sse(
    place: &Place,
    node: &Path,
    script: &Path,
) -> anyhow::Result<Endpoint> {
    let address = free_address()?;
    let mut command = Command::new(node);
    command.arg("--import").arg(preload(place));
    command.arg(script).arg("sse").env("PORT", address.port().to_string());
    let started = start_http(place, "everything-sse", &mut command, address)?;
    Ok(Endpoint { url: format!("http://{address}/sse"), ..started })
}

fn preload(place: &Place) -> PathBuf {
    place.root.join("interop/typescript/loopback.mjs")
}

pub(crate) fn start_http(
    place: &Place,
    name: &str,
    command: &mut Command,
    address: SocketAddr,
) -> anyhow::Result<Endpoint> {
    let mut server = Server::start(name, command, place.log(name))?;
    server.wait_until(START_LIMIT, || accepts(address))?;
    Ok(Endpoint { url: format!("http://{address}{MCP_PATH}"), server })
}

/// Below those that the system gives to whoever connects, so that no connection takes a port before
/// the server is there that it is for.
const PORTS: Range<u16> = 20_000..32_000;

/// A loopback address that was free a moment ago, and that nobody else in this process is given.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    static NEXT: OnceLock<AtomicU64> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU64::new(any_seed() >> 1));
    for _ in PORTS {
        let offset = next.fetch_add(1, Ordering::Relaxed) % PORTS.len() as u64;
        let port = PORTS.start + u16::try_from(offset)?;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener.local_addr()?);
        }
    }
    bail!("no port between {} and {} is free", PORTS.start, PORTS.end)
}

pub(crate) fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
}

pub(crate) fn says_ok(address: SocketAddr, path: &str) -> bool {
    let fetch = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    fetch().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
