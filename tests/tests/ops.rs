//! Health and metrics: they tell what happens, to whoever asks from here, and change nothing.

use tidegate_tests::{
    Client, Metrics, Proxy, Recorder, Scripted,
    client::{legacy, modern},
    http::{self, Connection},
    modern_headers,
};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

#[tokio::test]
async fn health_says_how_the_process_is() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let _events = client.listen().await;
    for (path, body) in [("/health/live", "live\n"), ("/health/ready", "ready\n")] {
        let answer = http::get(proxy.ops(), path, &[]).await;
        assert_eq!((answer.status, &*answer.text()), (200, body));
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    let health = http::get(proxy.ops(), "/health", &[]).await;
    assert_eq!((health.status, health.header("content-type")), (200, Some("application/json")));
    let health = health.json();
    for (name, value) in [("connections", 1), ("streams", 1), ("sessions", 1)] {
        assert_eq!(health[name], value, "{health}");
    }
    assert_eq!((&health["live"], &health["ready"]), (&true.into(), &true.into()));
    assert_eq!(health["upstreams"]["it"]["processes"], 1);
    drop(_events);
    proxy.stop().await;
}

#[tokio::test]
async fn ops_only_answer_and_only_here() {
    let upstream = Recorder::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    for path in ["/health", "/health/live", "/health/ready", "/metrics", "/", "/mcp"] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            assert_eq!(http::method(proxy.ops(), method, path, &[]).await.status, 405, "{method}");
        }
        // On the clients' listener there is nothing of it.
        let there = http::get(proxy.address(), path, &[]).await;
        assert!(matches!(there.status, 404 | 405), "{path}: {}", there.status);
    }
    for path in ["/", "/mcp", "/metrics/", "/Health", "/health/", "/config", "/debug/pprof"] {
        assert_eq!(http::get(proxy.ops(), path, &[]).await.status, 404, "{path}");
    }
    let mut head = Connection::open(proxy.ops()).await;
    head.send(&http::request("HEAD", "/metrics", &[])).await;
    assert_eq!(head.head().await.unwrap().0, 200);
    for host in ["evil.example", "10.0.0.1", "localhost.evil.example"] {
        let request = format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\n\r\n");
        assert_eq!(http::raw(proxy.ops(), request.as_bytes()).await.status, 403, "{host}");
    }
    for garbage in [&b"\x16\x03\x01"[..], b"\r\n\r\n\r\n\r\n", b"GET / HTTP/9\r\n\r\n"] {
        let mut connection = Connection::open(proxy.ops()).await;
        connection.send(garbage).await;
    }
    assert_eq!(upstream.requests().len(), 0);
    proxy.assert_alive().await;
    proxy.stop().await;
}

#[tokio::test]
async fn metrics_follow_the_traffic() {
    let proxy = Proxy::to_stdio(&[]).await;
    let before = Metrics::scrape(proxy.ops()).await;
    assert_eq!(before.count("tidegate_requests_total", &[]), 0);
    let (newer, older) = (Client::modern(&proxy), Client::legacy(&proxy, "2025-11-25").await);
    for _ in 0..3 {
        newer.told("echo", "{}").await;
    }
    assert_eq!(newer.tool("1", "unknown", "{}").await.code(), -32602);
    older.told("echo", "{}").await;
    assert_eq!(http::post(proxy.address(), &[], PING).await.status, 400);
    let _events = older.listen().await;
    let mut hung = Connection::open(proxy.address()).await;
    hung.send(&newer.tool_bytes("1", "hang", "{}")).await;
    proxy.until("it hangs", |census| census.in_flight == 1).await;

    let now = Metrics::scrape(proxy.ops()).await;
    for (family, labels, count) in [
        ("tidegate_requests_total", &["tools/call", "\"ok\"", "modern"][..], 3),
        ("tidegate_requests_total", &["tools/call", "\"ok\"", "legacy"], 1),
        ("tidegate_requests_total", &["tools/call", "rpc_error", "modern"], 1),
        ("tidegate_requests_total", &["\"initialize\"", "\"ok\"", "route=\"/mcp\""], 1),
        ("tidegate_requests_total", &["ping", "session_missing"], 1),
        ("tidegate_request_duration_seconds_count", &["tools/call"], 5),
        ("tidegate_request_time_to_first_item_seconds_count", &["tools/call"], 5),
        ("tidegate_upstream_attempts_total", &["upstream=\"it\"", "\"ok\""], 6),
        ("tidegate_requests_in_flight", &[], 2),
        ("tidegate_streams_open", &[], 1),
        ("tidegate_downstream_streams_open", &[], 1),
        ("tidegate_downstream_connections_open", &[], 2),
        ("tidegate_sessions_open", &[], 1),
        ("tidegate_sessions_started_total", &[], 1),
        ("tidegate_stdio_processes", &["upstream=\"it\""], 2),
        ("tidegate_stdio_spawns_total", &[], 2),
        ("tidegate_stdio_requests_in_flight", &[], 1),
    ] {
        assert_eq!(now.count(family, labels), count, "{family} {labels:?}");
    }
    for family in [
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_cpu_seconds_total",
        "process_threads",
        "tidegate_build_info",
        "tidegate_downstream_connections_accepted_total",
    ] {
        assert!(now.sum(family, &[]) > 0.0, "{family}");
    }

    // What ends is counted where it ends.
    drop((hung, _events));
    assert_eq!(older.delete().await.status, 200);
    proxy.until("all is over", |census| (census.streams, census.in_flight) == (0, 0)).await;
    let after = Metrics::scrape(proxy.ops()).await;
    for (family, labels, count) in [
        ("tidegate_requests_total", &["tools/call", "cancelled"][..], 1),
        ("tidegate_requests_total", &["end_session", "\"ok\""], 1),
        ("tidegate_requests_in_flight", &[], 0),
        ("tidegate_streams_open", &[], 0),
        ("tidegate_downstream_streams_open", &[], 0),
        ("tidegate_sessions_open", &[], 0),
        ("tidegate_sessions_ended_total", &["client"], 1),
    ] {
        assert_eq!(after.count(family, labels), count, "{family} {labels:?}");
    }
    assert!(after.text().ends_with("# EOF\n"));
    proxy.stop().await;
}

#[tokio::test]
async fn refusals_are_counted_by_their_reason() {
    let upstream = Recorder::start().await;
    let settings = "limits: { max_body: 1KiB }\ntimeouts: { body_idle: 200ms }";
    let proxy = Proxy::to_url_with(&upstream.url(), settings).await;
    let address = proxy.address();
    let long = "x".repeat(2_000);
    http::raw(address, b"POST /mcp HTTP/1.1\r\nhost: evil\r\ncontent-length: 0\r\n\r\n").await;
    http::post(address, &[("origin", "https://evil.example")], PING).await;
    http::method(address, "PUT", "/mcp", &[]).await;
    http::post(address, &[("connection", "authorization")], PING).await;
    http::post(address, &[], &long).await;
    http::post(address, &[], "[").await;
    let stalled = b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n";
    assert_eq!(http::raw(address, stalled).await.status, 408);
    let metrics = Metrics::scrape(proxy.ops()).await;
    for reason in ["host", "origin", "negotiation", "headers", "too_large", "message", "stalled"] {
        let label = format!("reason=\"{reason}\"");
        let count = metrics.count("tidegate_http_requests_refused_total", &[&label]);
        assert_eq!(count, 1, "{reason}");
    }
    assert_eq!(metrics.count("tidegate_requests_total", &[]), 0, "none became a call");
    proxy.stop().await;
}

#[tokio::test]
async fn upstream_connections_and_failures_are_counted() {
    let mut upstream = Scripted::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let client = Client::modern(&proxy);
    let ok = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let failed = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"no"}}"#;
    let tool = r#"{"jsonrpc":"2.0","id":1,"result":{"isError":true}}"#;
    for body in [ok, failed, tool, "nonsense"] {
        tokio::join!(client.tool("1", "x", "{}"), async {
            upstream.next().await.json("200 OK", "", body).await;
        });
    }
    let (_, ()) = tokio::join!(client.tool("1", "x", "{}"), async {
        upstream.next().await.reset();
    });
    let metrics = Metrics::scrape(proxy.ops()).await;
    for (outcome, count) in
        [("ok", 1), ("rpc_error", 1), ("tool_error", 1), ("protocol", 1), ("died", 1)]
    {
        let label = format!("outcome=\"{outcome}\"");
        assert_eq!(metrics.count("tidegate_requests_total", &[&label]), count, "{outcome}");
        assert_eq!(
            metrics.count("tidegate_upstream_attempts_total", &[&label]),
            count,
            "{outcome}"
        );
    }
    assert_eq!(metrics.count("tidegate_http_pool_connections_opened_total", &[]), 5);
    assert_eq!(metrics.count("tidegate_http_pool_connections_in_use", &[]), 0);
    proxy.stop().await;
}

#[tokio::test]
async fn what_clients_say_makes_no_series() {
    let upstream = Recorder::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    http::post(proxy.address(), &[], &legacy("1", "x/other", "{}")).await;
    let client = Client::modern(&proxy);
    client.tool("1", "first", "{}").await;
    let before = Metrics::scrape(proxy.ops()).await.samples().count();
    for number in 0..50 {
        let method = format!("x{number}/\\\"}} 1\\ninjected_total");
        let answer = http::post(proxy.address(), &[], &legacy("1", &method, "{}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        client.tool("1", &format!("tool-{number}"), "{}").await;
        let headers = modern_headers("a/b", None);
        http::post(proxy.address(), &headers, &modern("1", "a/b", "")).await;
        http::get(proxy.address(), &format!("/path-{number}"), &[]).await;
    }
    let after = Metrics::scrape(proxy.ops()).await;
    // Only the other era of what has no known method is new.
    assert!(after.samples().count() <= before + 1, "{}", after.text());
    for word in ["injected", "tool-", "path-", "x1"] {
        assert!(!after.text().contains(word), "{word}");
    }
    proxy.stop().await;
}
