//! What a server says of itself is data (battery D09): names of tools that break lines, quotes and
//! formats reach the client as they are, the log escaped, and the metrics not at all.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tidegate_protocol::mirror;
use tidegate_tests::{
    Binary, Metrics, Scripted,
    client::{META, initialize},
    http::{self, Response},
};
use tokio::task::JoinSet;

/// What must never begin a line of the log, and never stand in the metrics.
const FORGED: &str = "forged";

/// Names as no server should have them.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        "a\r\nforged: 1",
        "a\nforged 2026-01-01T00:00:00Z ERROR tidegate: all is lost",
        "a\rforged",
        "a\u{85}forged\u{2028}forged\u{2029}forged",
        "a\u{b}forged\u{c}forged",
        "\"} 1\nforged{x=\"",
        "a\",forged=\"1",
        "\\\",\\nforged=\\\"1",
        "{}",
        "{name} {0} {:?} {forged}",
        "%s%n%x",
        "${forged} $(forged) `forged`",
        "\u{1b}[31mforged\u{1b}[0m\u{1b}]0;forged\u{7}",
        "\u{9b}31mforged",
        "a\0forged",
        "\u{202e}degrof",
        "../../etc/passwd",
        "<script>forged</script>",
        "=?base64?Zm9yZ2Vk?=",
        " forged ",
        "",
        "\u{e9}\u{1f600}",
        "tools/call",
        "constructor",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push(format!("{FORGED}{}", "x".repeat(1 << 20)));
    names
}

/// Tools of these names; whatever else is said of a tool is as bad.
fn tools(names: &[String]) -> Value {
    let tool = |name: &String| {
        if name.len() > 1000 {
            return json!({"name": name, "inputSchema": {"type": "object"}});
        }
        let property = json!({"type": "string", "description": name, "x-mcp-header": name});
        json!({"name": name, "title": name, "description": name,
            "inputSchema": {"type": "object", "properties": {name: property}},
            "annotations": {"title": name, "readOnlyHint": name}})
    };
    names.iter().map(tool).collect()
}

/// The params of a request beside `_meta`.
fn params(text: &Value, is_modern: bool) -> Value {
    let mut params = text.clone();
    if is_modern {
        let meta: Value = serde_json::from_str(&format!("{{{META}}}")).unwrap();
        params["_meta"] = meta["_meta"].clone();
    }
    params
}

/// A client of one era, on one route.
struct Caller {
    address: SocketAddr,
    path: &'static str,
    session: Option<String>,
}

impl Caller {
    async fn open(address: SocketAddr, path: &'static str, is_modern: bool) -> Self {
        if is_modern {
            return Self { address, path, session: None };
        }
        let hello = initialize("2025-11-25", "{}");
        let answer = http::raw(address, &http::post_to(path, &[], hello.as_bytes())).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let session = answer.header("mcp-session-id").unwrap().to_owned();
        let caller = Self { address, path, session: Some(session) };
        let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(caller.post(&[], &ready).await.status, 202);
        caller
    }

    async fn post(&self, more: &[(&str, &str)], message: &Value) -> Response {
        let mut headers = vec![(
            "mcp-protocol-version",
            if self.session.is_some() { "2025-11-25" } else { "2026-07-28" },
        )];
        headers.extend(self.session.as_deref().map(|id| ("mcp-session-id", id)));
        headers.extend_from_slice(more);
        let bytes = http::post_to(self.path, &headers, message.to_string().as_bytes());
        http::raw(self.address, &bytes).await
    }

    async fn list(&self) -> Value {
        let params = params(&json!({}), self.session.is_none());
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params});
        let answer = self.post(&[("mcp-method", "tools/list")], &message).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.message()["result"]["tools"].clone()
    }

    async fn call(&self, name: &str, arguments: Value) -> Response {
        let params = params(&json!({"name": name, "arguments": arguments}), self.session.is_none());
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        let mirrored = mirror::encode(name);
        let name = mirrored.to_str().unwrap();
        match &self.session {
            Some(_) => self.post(&[], &message).await,
            None => self.post(&[("mcp-method", "tools/call"), ("mcp-name", name)], &message).await,
        }
    }
}

/// An HTTP server with this catalogue. It knows none of the tools and says so by name.
fn serve(mut upstream: Scripted, tools: Arc<Mutex<Value>>) -> JoinSet<()> {
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let exchange = upstream.some_day().await;
            let message: Value =
                serde_json::from_slice(&exchange.request.body).unwrap_or_default();
            let Some(id) = message.get("id") else {
                exchange.status("202 Accepted").await;
                continue;
            };
            let (headers, answer) = match message["method"].as_str() {
                Some("initialize") => (
                    "mcp-session-id: upstream-session\r\n",
                    json!({"result": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                        "serverInfo": {"name": "a\r\nforged", "version": "1"}}}),
                ),
                Some("tools/list") => {
                    let tools = tools.lock().unwrap().clone();
                    let result = json!({"resultType": "complete", "tools": tools, "ttlMs": 0, "cacheScope": "private"});
                    ("", json!({"result": result}))
                }
                _ => {
                    let text = format!("unknown tool: {}", message["params"]["name"]);
                    ("", json!({"error": {"code": -32602, "message": text}}))
                }
            };
            let mut answer = answer;
            answer["jsonrpc"] = json!("2.0");
            answer["id"] = id.clone();
            exchange.json("200 OK", headers, &answer.to_string()).await;
        }
    });
    server
}

/// The names of all series, with their labels.
fn series(metrics: &Metrics) -> BTreeSet<String> {
    let name = |sample: &str| sample.rsplit_once(' ').map(|(name, _)| name.to_owned());
    metrics.samples().filter_map(name).collect()
}

/// Does everything once with tools of these names, on each route and in each era.
async fn visit(binary: &Binary, names: &[String], tools: &Value) {
    for path in ["/stdio", "/http"] {
        for is_modern in [false, true] {
            let caller = Caller::open(binary.address(), path, is_modern).await;
            let listed = caller.list().await;
            assert!(listed == *tools, "{path} {is_modern}: the catalogue changed");
            for name in names {
                let answer = caller.call(name, json!({})).await;
                let shown: String = name.chars().take(40).collect();
                let text = answer.text();
                if is_modern && name.len() > 1000 {
                    assert_eq!(answer.status, 431, "{path} {shown:?}: {text}");
                } else {
                    assert_eq!(answer.code(), -32602, "{path} {shown:?}: {text}");
                }
                if path == "/stdio" && name.len() < 1000 {
                    let said = caller.call("stderr", json!({"text": name})).await;
                    assert_eq!(said.code(), 0, "{shown:?}: {}", said.text());
                }
            }
            if let Some(session) = &caller.session {
                let headers =
                    [("mcp-session-id", &**session), ("mcp-protocol-version", "2025-11-25")];
                let ended = http::method(binary.address(), "DELETE", path, &headers).await;
                assert!(matches!(ended.status, 200 | 204), "{}", ended.status);
            }
        }
    }
}

/// The log of everything that was said of these tools, line by line.
async fn log_of(format: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tools");
    let plain = vec!["plain".to_owned(), "x".repeat(1 << 20)];
    fs::write(&file, tools(&plain).to_string()).unwrap();
    let upstream = Scripted::start().await;
    let catalogue = Arc::new(Mutex::new(tools(&plain)));
    let url = upstream.url();
    let _server = serve(upstream, Arc::clone(&catalogue));
    let stdio = tidegate_testkit::stdio_bin();
    let binary = Binary::serve(&format!(
        "log: {{ level: \"debug,tidegate=trace\", format: {format} }}\n\
         upstreams:\n  stdio: {{ stdio: {{ command: [{stdio:?}, --tools-as, {file:?}] }} }}\n  \
         http: {{ url: \"{url}\" }}\n\
         routes:\n  - {{ match: {{ path: /stdio }}, upstream: stdio }}\n  \
         - {{ match: {{ path: /http }}, upstream: http }}\n"
    ))
    .await
    .keep_log();

    visit(&binary, &plain, &tools(&plain)).await;
    let before = series(&Metrics::scrape(binary.ops()).await);
    let names = names();
    fs::write(&file, tools(&names).to_string()).unwrap();
    *catalogue.lock().unwrap() = tools(&names);
    visit(&binary, &names, &tools(&names)).await;
    let metrics = Metrics::scrape(binary.ops()).await;
    assert_eq!(series(&metrics), before, "the series are the same");
    assert!(!metrics.text().contains(FORGED));
    let calls = metrics.count("tidegate_requests_total", &["tools/call"]);
    assert!(calls > 4 * names.len() as u64, "{calls}");
    binary.signal("TERM").await;
    let (status, log) = binary.exit_with_log().await;
    assert!(status.success());
    log
}

/// Asserts that what a server said is in the log, and nowhere as more than a piece of a line.
fn assert_escaped(log: &str, is_record: impl Fn(&str) -> bool) {
    assert!(log.contains(FORGED), "it is told");
    for line in log.lines() {
        assert!(is_record(line), "no line of ours: {line:?}");
        let odd = line
            .chars()
            .find(|each| each.is_control() || "\u{2028}\u{2029}\u{202e}".contains(*each));
        assert_eq!(odd, None, "{line:?}");
    }
}

#[tokio::test]
async fn hostile_names_stay_within_a_line_of_the_log_as_text() {
    let log = log_of("text").await;
    // A record begins with its time.
    assert_escaped(&log, |line| line.starts_with("20") && line.get(10..11) == Some("T"));
}

#[tokio::test]
async fn hostile_names_stay_within_a_line_of_the_log_as_json() {
    let log = log_of("json").await;
    assert_escaped(&log, |line| {
        let record: Value = serde_json::from_str(line).unwrap_or_default();
        record["timestamp"].is_string() && record["level"].is_string()
    });
}
