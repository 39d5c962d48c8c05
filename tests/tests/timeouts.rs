//! How long calls may take, through the whole proxy: by upstream, route and tool.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_tests::{Client, Events, Proxy, Scripted, client::initialize, http::Connection};
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_millis(400);
const OK: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

/// A scripted HTTP server, and a stdio server, with these keys of their upstreams and routes.
async fn start(upstream: &str, route: &str) -> (Proxy, Scripted) {
    let server = Scripted::start().await;
    let program = tidegate_testkit::stdio_bin();
    let text = format!(
        "upstreams:\n  \
           web: {{ url: \"{}\"{upstream} }}\n  \
           child: {{ stdio: {{ command: [{program:?}] }}{upstream} }}\n\
         routes:\n  \
           - {{ match: {{ path: /mcp }}, upstream: web{route} }}\n  \
           - {{ match: {{ path: /child }}, upstream: child, replay: off{route} }}\n",
        server.url()
    );
    (Proxy::start(&text).await, server)
}

fn code_of(answer: &Value) -> (&Value, &Value) {
    (&answer["error"]["code"], &answer["error"]["data"]["tidegate"]["kind"])
}

#[track_caller]
fn assert_late(answer: &Value, what: &str) {
    assert_eq!(code_of(answer), (&json!(-31002), &json!("timeout")), "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("waited ") && message.ends_with(what), "{message}");
}

/// How long a modern call of a tool of the scripted server hangs before it is given up.
async fn hangs(proxy: &Proxy, server: &mut Scripted, tool: &str) -> Duration {
    let began = Instant::now();
    let client = Client::modern(proxy);
    let (answer, mut exchange) =
        tokio::join!(client.tool("1", tool, "{}"), async { server.next().await });
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert_late(&answer.json(), "for the response to begin");
    let took = began.elapsed();
    exchange.closed().await;
    took
}

#[tokio::test]
async fn a_tool_goes_before_its_route_and_that_before_its_upstream() {
    let upstream = ", timeouts: { request: 1h }";
    let tools = ", tools: { quick: { timeouts: { request: 400ms } } }";
    let route = format!(", timeouts: {{ request: 1200ms }}{tools}");
    let (proxy, mut server) = start(upstream, &route).await;
    let quick = hangs(&proxy, &mut server, "quick").await;
    assert!(quick >= LIMIT && quick < 3 * LIMIT, "{quick:?}");
    let other = hangs(&proxy, &mut server, "other").await;
    assert!(other >= 3 * LIMIT, "{other:?}");
    // What the upstream says holds where nobody says otherwise.
    let (plain, mut slow) = start(", timeouts: { request: 400ms }", "").await;
    let took = hangs(&plain, &mut slow, "other").await;
    assert!(took >= LIMIT && took < 10 * LIMIT, "{took:?}");
    proxy.stop().await;
    plain.stop().await;
}

#[tokio::test]
async fn all_of_a_call_has_a_limit_whatever_comes() {
    let (proxy, mut server) = start(", timeouts: { idle: 300ms, total: 1200ms }", "").await;
    let began = Instant::now();
    let mut connection = Connection::open(proxy.address()).await;
    connection.send(&Client::modern(&proxy).tool_bytes("1", "x", "{}")).await;
    let mut exchange = server.next().await;
    exchange.start_stream().await;
    let mut events = Events::of(connection).await;
    let note = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n";
    let mut seen = 0;
    let last = loop {
        exchange.write_some(format!("{:x}\r\n{note}\r\n", note.len())).await;
        let event = events.next().await.unwrap();
        if event.get("error").is_some() {
            break event;
        }
        seen += 1;
        sleep(Duration::from_millis(100)).await;
    };
    assert_late(&last, "for the end of the answer");
    let took = began.elapsed();
    assert!(took >= 3 * LIMIT && seen > 4, "{took:?}, {seen} events");
    exchange.closed().await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_child_has_the_same_limits_and_hears_when_it_is_late() {
    let tools = ", tools: { hang: { timeouts: { request: 400ms } } }";
    let (proxy, _server) = start("", tools).await;
    for is_legacy in [true, false] {
        let client = match is_legacy {
            true => Client::legacy_at(&proxy, "/child", "2025-11-25").await,
            false => Client::modern_at(&proxy, "/child"),
        };
        let began = Instant::now();
        let answer = client.tool("\"the id\"", "hang", "{}").await;
        assert_eq!(answer.status, if is_legacy { 200 } else { 504 }, "{}", answer.text());
        assert_late(&answer.json(), "for the server process to answer");
        assert!(began.elapsed() >= LIMIT);
        let told = timeout(Duration::from_secs(10), async {
            loop {
                let seen = client.told("seen", "{}").await;
                let seen = seen["seen"].as_array().cloned().unwrap_or_default();
                if seen.iter().any(|line| line["method"] == "notifications/cancelled") {
                    break;
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        told.await.unwrap();
    }
    proxy.until("nothing is left", |census| census.in_flight == 0).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_server_that_is_asked_for_progress_goes_on_and_its_client_hears_nothing_of_it() {
    let upstream = ", timeouts: { request: 400ms, idle: 400ms }";
    for (progress, is_patient) in [("always", true), ("client", false)] {
        let route = format!(", progress: {progress}");
        let (proxy, mut server) = start(upstream, &route).await;
        let client = Client::modern(&proxy);
        let server = async {
            let mut exchange = server.next().await;
            let asked: Value = serde_json::from_slice(&exchange.request.body).unwrap();
            let token = asked["params"]["_meta"]["progressToken"].clone();
            assert_eq!(token.is_string(), is_patient, "{asked}");
            exchange.start_stream().await;
            for n in 0..6 {
                let params = json!({"progressToken": token, "progress": n});
                let note = json!({"jsonrpc": "2.0", "method": "notifications/progress",
                    "params": params});
                // A server tells only those who want to know.
                if is_patient {
                    exchange.write_some(chunk(&format!("data: {note}\n\n"))).await;
                }
                sleep(LIMIT / 3).await;
            }
            exchange.write_some(chunk(&format!("data: {OK}\n\n"))).await;
            exchange.write_some("0\r\n\r\n").await;
        };
        let (answer, ()) = tokio::join!(client.tool("1", "x", "{}"), server);
        let events = answer.events();
        assert_eq!(events.len(), 1, "{}", answer.text());
        assert_eq!(events[0].get("result").is_some(), is_patient, "{}", answer.text());
        proxy.stop().await;
    }
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

#[tokio::test]
async fn a_slow_answer_is_preceded_by_heartbeats() {
    let server = Scripted::start().await;
    let text = format!(
        "timeouts: {{ heartbeat: 100ms }}\nupstreams: {{ it: {{ url: \"{}\" }} }}\n",
        server.url()
    );
    let (proxy, mut server) = (Proxy::start(&text).await, server);
    let client = Client::modern(&proxy);
    let slow = async {
        let exchange = server.next().await;
        sleep(LIMIT).await;
        exchange.json("200 OK", "", OK).await;
    };
    let (answer, ()) = tokio::join!(client.tool("1", "x", "{}"), slow);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"), "{}", answer.text());
    assert!(answer.text().matches(": keep-alive\n\n").count() >= 2, "{}", answer.text());
    assert_eq!(answer.events(), [serde_json::from_str::<Value>(OK).unwrap()]);
    // The answer to a handshake keeps its head, which has the session's id.
    let hello = initialize("2025-11-25", "{}");
    let slow = async {
        let exchange = server.next().await;
        sleep(LIMIT).await;
        let result = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}"#;
        exchange.json("200 OK", "mcp-session-id: theirs\r\n", result).await;
    };
    let (answer, ()) = tokio::join!(tidegate_tests::http::post(proxy.address(), &[], &hello), slow);
    assert!(answer.header("mcp-session-id").is_some(), "{}", answer.text());
    tokio::join!(proxy.stop(), async { server.next().await.status("200 OK").await });
}
