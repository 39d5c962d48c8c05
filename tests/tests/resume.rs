//! Streams that never drop: the upstream's breaks, and the client stays connected.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use serde_json::json;
use tidegate_tests::{
    Client, Events, Exchange, Metrics, Proxy, Scripted,
    client::legacy,
    http::{self, Connection},
};
use tokio::time::sleep;

const SOON: &str = ", reconnect_base: 2ms, reconnect_max: 10ms, reconnect_rate: 10000";

/// A proxy before a scripted upstream, and a client with a session.
async fn start(settings: &str) -> (Proxy, Scripted, Client) {
    let mut upstream = Scripted::start().await;
    let url = upstream.url();
    let text = format!("upstreams: {{ it: {{ http: {{ url: \"{url}\"{settings} }} }} }}\n");
    let proxy = Proxy::start(&text).await;
    let (client, ()) = tokio::join!(Client::legacy(&proxy, "2025-11-25"), async {
        let result = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}"#;
        upstream.next().await.json("200 OK", "mcp-session-id: theirs\r\n", result).await;
        upstream.next().await.status("202 Accepted").await;
    });
    (proxy, upstream, client)
}

/// Stops the proxy while the upstream lets the session be ended.
async fn finish(proxy: Proxy, mut upstream: Scripted) {
    let metrics = Metrics::scrape(proxy.ops()).await;
    assert_eq!(metrics.sum("tidegate_http_streams_waiting", &[]), 0.0);
    tokio::join!(proxy.stop(), async {
        let exchange = upstream.next().await;
        assert!(exchange.request.head.starts_with("DELETE"), "{}", exchange.request.head);
        exchange.status("200 OK").await;
    });
}

/// Sends a request, takes it at the upstream and begins to answer with a stream.
async fn relayed(
    proxy: &Proxy,
    upstream: &mut Scripted,
    request: &[u8],
    first: &[u8],
) -> (Events, Exchange) {
    let mut connection = Connection::open(proxy.address()).await;
    connection.send(request).await;
    let mut exchange = upstream.next().await;
    exchange.start_stream().await;
    if !first.is_empty() {
        exchange.chunk(first).await;
    }
    (Events::of(connection).await, exchange)
}

/// The GET for the rest of a stream.
async fn resumption(upstream: &mut Scripted, last: Option<&str>) -> Exchange {
    let exchange = upstream.next().await;
    assert!(exchange.request.head.starts_with("GET /mcp"), "{}", exchange.request.head);
    assert_eq!(exchange.request.header("last-event-id"), last);
    assert_eq!(exchange.request.header("mcp-session-id"), Some("theirs"));
    assert_eq!(exchange.request.header("mcp-protocol-version"), Some("2025-11-25"));
    exchange
}

fn note(id: &str) -> String {
    format!("id: {id}\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/{id}\"}}\n\n")
}

fn answer(id: &str) -> String {
    format!("id: {id}\ndata: {{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{}}}}\n\n")
}

/// A stream without the proxy's comments.
fn events_of(text: Vec<u8>) -> String {
    let text = String::from_utf8(text).unwrap();
    let blocks = text.split_inclusive("\n\n").filter(|block| !block.starts_with(':'));
    blocks.collect()
}

#[tokio::test]
async fn a_call_whose_stream_is_cut_at_any_byte_is_answered_all_the_same() {
    let (proxy, mut upstream, client) = start(SOON).await;
    let recorded = ["id: p\ndata:\n\n".to_owned(), note("a"), note("b"), answer("c")];
    let whole = recorded.concat();
    let call = client.tool_bytes("1", "x", "{}");
    let mut breaks = 0;
    for length in recorded[0].len()..whole.len() {
        let first = &whole.as_bytes()[..length];
        let (mut events, exchange) = relayed(&proxy, &mut upstream, &call, first).await;
        drop(exchange);
        let seen = (1..).take_while(|n| recorded[..*n].concat().len() <= length).count();
        let last = ["p", "a", "b"][seen - 1];
        let mut exchange = resumption(&mut upstream, Some(last)).await;
        exchange.start_stream().await;
        exchange.chunk(recorded[seen..].concat()).await;
        exchange.chunk("").await;
        let (read, is_whole) = events.rest().await;
        let text = String::from_utf8_lossy(&read).into_owned();
        assert!(text.contains(": reconnecting to the server, attempt 1\n\n"), "{text}");
        assert_eq!((events_of(read), is_whole), (whole.clone(), true), "{length}");
        breaks += 1;
    }
    let metrics = Metrics::scrape(proxy.ops()).await;
    assert_eq!(metrics.count("tidegate_http_streams_resumed_total", &["it"]), breaks);
    let opened = ["it", "outcome=\"opened\""];
    assert_eq!(metrics.count("tidegate_http_reconnects_total", &opened), breaks);
    assert_eq!(metrics.count("tidegate_http_reconnect_time_seconds_count", &[]), breaks);
    finish(proxy, upstream).await;
}

#[tokio::test]
async fn a_client_that_listens_does_not_notice_that_its_server_starts_anew() {
    let (proxy, mut upstream, client) = start(SOON).await;
    let mut headers = client.headers();
    headers.push(("accept", "text/event-stream"));
    let listen = http::request("GET", "/mcp", &headers);
    let (mut events, exchange) =
        relayed(&proxy, &mut upstream, &listen, note("one").as_bytes()).await;
    assert_eq!(events.next().await.unwrap()["method"], "notifications/one");
    exchange.reset();
    // First it is not there, then its front door says so, then it is back and replays too much.
    drop(resumption(&mut upstream, Some("one")).await);
    resumption(&mut upstream, Some("one")).await.status("502 Bad Gateway").await;
    let mut exchange = resumption(&mut upstream, Some("one")).await;
    exchange.start_stream().await;
    exchange.chunk(note("one")).await;
    exchange.chunk(note("two")).await;
    assert_eq!(events.next().await.unwrap()["method"], "notifications/two");
    // It ends the stream in order, and has nothing against the next one.
    exchange.chunk("").await;
    exchange.finish().await;
    let mut exchange = resumption(&mut upstream, Some("two")).await;
    exchange.start_stream().await;
    exchange.chunk(note("three")).await;
    assert_eq!(events.next().await.unwrap()["method"], "notifications/three");
    let metrics = Metrics::scrape(proxy.ops()).await;
    for (outcome, count) in [("opened", 2), ("failed", 2), ("refused", 0)] {
        let labels = [&*format!("outcome=\"{outcome}\"")];
        assert_eq!(metrics.count("tidegate_http_reconnects_total", &labels), count, "{outcome}");
    }
    assert_eq!(metrics.count("tidegate_http_events_replayed_total", &[]), 1);
    drop(events);
    exchange.closed().await;
    finish(proxy, upstream).await;
}

#[tokio::test]
async fn a_stream_that_cannot_go_on_ends_with_an_error_and_not_with_a_cut() {
    let (proxy, mut upstream, client) = start(&format!("{SOON}, reconnect_attempts: 3")).await;
    let call = client.tool_bytes("1", "x", "{}");
    for (status, attempts, code) in
        [("503 Service Unavailable", 3, -31002), ("400 Bad Request", 1, -31008)]
    {
        let (mut events, exchange) =
            relayed(&proxy, &mut upstream, &call, note("a").as_bytes()).await;
        drop(exchange);
        for _ in 0..attempts {
            resumption(&mut upstream, Some("a")).await.status(status).await;
        }
        assert_eq!(events.next().await.unwrap()["method"], "notifications/a");
        let error = events.next().await.unwrap();
        assert_eq!((&error["id"], &error["error"]["code"]), (&json!(1), &json!(code)), "{error}");
        assert_eq!(error["error"]["data"]["tidegate"]["retryable"], false);
        let (rest, is_whole) = events.rest().await;
        assert_eq!((rest.len(), is_whole), (0, true));
    }
    assert_eq!(proxy.census().leases, 0);
    finish(proxy, upstream).await;
}

#[tokio::test]
async fn a_session_that_the_server_forgot_meanwhile_is_over_for_the_client_too() {
    let (proxy, mut upstream, client) = start(SOON).await;
    let call = client.tool_bytes("1", "x", "{}");
    let (mut events, exchange) = relayed(&proxy, &mut upstream, &call, note("a").as_bytes()).await;
    drop(exchange);
    resumption(&mut upstream, Some("a")).await.status("404 Not Found").await;
    assert_eq!(events.next().await.unwrap()["method"], "notifications/a");
    let error = events.next().await.unwrap();
    assert_eq!(error["error"]["message"], "the server no longer knows the session", "{error}");
    assert!(events.rest().await.1);
    let answer = client.post(&legacy("2", "ping", "{}")).await;
    assert_eq!(answer.status, 404, "so that the client initializes anew");
    proxy.until("the session to be forgotten", |census| census.sessions == 0).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_while_its_stream_waits_leaves_nothing() {
    let (proxy, mut upstream, client) = start("").await;
    let call = client.tool_bytes("1", "x", "{}");
    let later = "id: a\nretry: 3600000\ndata:\n\n";
    let (mut events, exchange) = relayed(&proxy, &mut upstream, &call, later.as_bytes()).await;
    drop(exchange);
    events.bytes(later.len()).await;
    let comment = events.bytes(41).await;
    assert_eq!(comment, b": reconnecting to the server, attempt 1\n\n");
    let metrics = Metrics::scrape(proxy.ops()).await;
    assert_eq!(metrics.sum("tidegate_http_streams_waiting", &[]), 1.0);
    assert_eq!((proxy.census().leases, proxy.census().streams), (0, 1));
    drop(events);
    proxy.until("the stream to be gone", |census| census.streams == 0).await;
    // The guard of the wait goes with the stream.
    let metrics = Metrics::scrape(proxy.ops()).await;
    assert_eq!(metrics.sum("tidegate_http_streams_waiting", &[]), 0.0);
    sleep(Duration::from_millis(20)).await;
    assert!(!upstream.has_request());
    finish(proxy, upstream).await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_stream_that_waits() {
    let (proxy, mut upstream, client) = start("").await;
    let mut headers = client.headers();
    headers.push(("accept", "text/event-stream"));
    let listen = http::request("GET", "/mcp", &headers);
    let later = "id: a\nretry: 3600000\ndata:\n\n";
    let (mut events, exchange) = relayed(&proxy, &mut upstream, &listen, later.as_bytes()).await;
    drop(exchange);
    events.bytes(later.len() + 41).await;
    let metrics = Metrics::scrape(proxy.ops()).await;
    assert_eq!(metrics.sum("tidegate_http_streams_waiting", &[]), 1.0);
    let read = async { assert_eq!(events.rest().await, (b"retry: 1000\n\n".to_vec(), true)) };
    let stop = async {
        tokio::join!(proxy.stop(), async {
            let exchange = upstream.next().await;
            assert!(exchange.request.head.starts_with("DELETE"), "{}", exchange.request.head);
            exchange.status("200 OK").await;
        })
    };
    tokio::join!(read, stop);
}

#[tokio::test]
async fn a_client_that_set_its_log_level_is_told_by_message() {
    let (proxy, mut upstream, client) = start(SOON).await;
    let set = legacy("7", "logging/setLevel", r#"{"level":"info"}"#);
    let (set, ()) = tokio::join!(client.post(&set), async {
        let ok = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;
        upstream.next().await.json("200 OK", "", ok).await;
    });
    assert_eq!(set.status, 200);
    let call = client.tool_bytes("1", "x", "{}");
    let (mut events, exchange) = relayed(&proxy, &mut upstream, &call, note("a").as_bytes()).await;
    drop(exchange);
    let mut exchange = resumption(&mut upstream, Some("a")).await;
    exchange.start_stream().await;
    exchange.chunk(answer("b")).await;
    exchange.chunk("").await;
    assert_eq!(events.next().await.unwrap()["method"], "notifications/a");
    let told = events.next().await.unwrap();
    assert_eq!(told["method"], "notifications/message");
    let params = &told["params"];
    assert_eq!((&params["level"], &params["logger"]), (&json!("warning"), &json!("tidegate")));
    assert_eq!(events.next().await.unwrap()["result"], json!({}));
    finish(proxy, upstream).await;
}
