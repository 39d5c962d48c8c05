//! What `serve` prints once it serves: where, and how to try it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tidegate_config::Route;

/// What is being served.
#[derive(Debug)]
pub(crate) struct Serving<'a> {
    pub(crate) addresses: &'a [SocketAddr],
    pub(crate) ops: Option<SocketAddr>,
    pub(crate) routes: &'a [Route],
}

/// A line for each URL; for the demo also a call to paste and what to tell clients.
pub(crate) fn text(serving: &Serving<'_>, demo: bool) -> String {
    let mut text = format!("Tidegate {} is serving\n", env!("CARGO_PKG_VERSION"));
    for address in serving.addresses {
        for route in serving.routes {
            text.push_str(&format!("  {}  -> {}\n", url(*address, &route.path), route.upstream));
            if let Some(sse) = &route.sse {
                let url = url(*address, &sse.path);
                text.push_str(&format!("  {url}  -> {} (HTTP+SSE)\n", route.upstream));
            }
        }
    }
    if let Some(ops) = serving.ops {
        text.push_str(&format!("  {}  health and metrics\n", url(ops, "/health")));
    }
    if demo
        && let (Some(address), Some(route)) = (serving.addresses.first(), serving.routes.first())
    {
        text.push_str(&try_it(&url(*address, &route.path)));
    }
    text
}

fn try_it(url: &str) -> String {
    format!(
        "\nTry it:\n\n{curl}\n\n\
         Claude Code (.mcp.json), Cursor (.cursor/mcp.json) and most other clients:\n\n\
         {{\"mcpServers\":{{\"tidegate\":{{\"type\":\"http\",\"url\":\"{url}\"}}}}}}\n\n\
         VS Code (.vscode/mcp.json):\n\n\
         {{\"servers\":{{\"tidegate\":{{\"type\":\"http\",\"url\":\"{url}\"}}}}}}\n\n\
         Claude Desktop and others that only start commands:\n\n\
         {{\"mcpServers\":{{\"tidegate\":{{\"command\":\"npx\",\"args\":[\"-y\",\"mcp-remote\",\
         \"{url}\"]}}}}}}\n",
        curl = curl(url),
    )
}

/// A call of the tool `echo`, in the newest version of the protocol, which needs no handshake.
fn curl(url: &str) -> String {
    const VERSION: &str = "2026-07-28";
    let body = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{{\"name\":\"echo\",\
         \"arguments\":{{\"text\":\"hello\"}},\"_meta\":{{\
         \"io.modelcontextprotocol/protocolVersion\":\"{VERSION}\",\
         \"io.modelcontextprotocol/clientCapabilities\":{{}}}}}}}}"
    );
    let headers = [
        "Content-Type: application/json",
        "Accept: application/json, text/event-stream",
        &format!("MCP-Protocol-Version: {VERSION}"),
        "Mcp-Method: tools/call",
        "Mcp-Name: echo",
    ]
    .map(|header| format!(" -H '{header}'"))
    .concat();
    format!("curl -sS {url}{headers} -d '{body}'")
}

/// A URL that works on this machine: one cannot connect to the address that means all.
fn url(address: SocketAddr, path: &str) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}{path}", SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use tidegate_config::{
        CallTimeouts, Forward, Progress, Replay, ReplayMode, Route, SlowClient, SlowPolicy,
        SsePaths,
    };

    use super::{Serving, text, url};

    #[test]
    fn the_urls_are_ones_to_connect_to() {
        assert_eq!(url("0.0.0.0:80".parse().unwrap(), "/mcp"), "http://127.0.0.1:80/mcp");
        assert_eq!(url("[::]:80".parse().unwrap(), "/mcp"), "http://[::1]:80/mcp");
        assert_eq!(url("10.0.0.1:80".parse().unwrap(), "/"), "http://10.0.0.1:80/");
    }

    #[test]
    fn the_demo_prints_a_call_on_one_line() {
        let routes = [Route {
            path: "/mcp".to_owned(),
            upstream: "default".to_owned(),
            sse: Some(SsePaths { path: "/mcp/sse".to_owned(), messages: "/mcp/m".to_owned() }),
            forward: Forward::default(),
            timeouts: CallTimeouts { connect: None, request: None, idle: None, total: None },
            tools: BTreeMap::new(),
            progress: Progress::Client,
            replay: Replay {
                mode: ReplayMode::Off,
                window: Duration::from_secs(1),
                max_events: 1,
                max_bytes: 1,
                prime_after: Duration::ZERO,
                poll_after: None,
            },
            slow_client: SlowClient {
                policy: SlowPolicy::Pause,
                buffer: 1,
                after: Duration::from_secs(1),
            },
        }];
        let addresses = ["127.0.0.1:8080".parse().unwrap()];
        let serving = Serving { addresses: &addresses, ops: None, routes: &routes };
        let demo = text(&serving, true);
        let curl = demo.lines().find(|line| line.starts_with("curl ")).unwrap();
        let body = curl.split_once(" -d '").unwrap().1.strip_suffix('\'').unwrap();
        assert!(body.starts_with('{') && body.ends_with("}}}}"), "{body}");
        assert!(demo.contains("http://127.0.0.1:8080/mcp/sse  -> default (HTTP+SSE)"), "{demo}");
        assert!(!text(&serving, false).contains("curl"));
    }
}
