//! Servers of HTTP+SSE (2024-11-05), and who can talk with them.

use serde_json::json;
use tidegate_tests::{
    Client, Exchange, Metrics, OldClient, OldServer, Proxy, Scripted,
    client::{initialize, legacy, modern},
    http, modern_headers, timeouts,
};

const LEGACY: [&str; 3] = ["2025-03-26", "2025-06-18", "2025-11-25"];

async fn to(url: &str, settings: &str) -> Proxy {
    let routes = "routes: [{ match: { path: /mcp }, upstream: it, sse: true }]";
    let upstream =
        format!("upstreams: {{ it: {{ url: \"{url}\", http: {{ transport: sse{settings} }} }} }}");
    Proxy::start(&format!("{routes}\n{upstream}\n")).await
}

async fn start() -> (Proxy, OldServer) {
    let server = OldServer::start().await;
    (to(&server.url(), "").await, server)
}

async fn finish(proxy: Proxy, server: OldServer) {
    proxy.until("no session", |census| census.sessions == 0 && census.leases == 0).await;
    proxy.assert_alive().await;
    proxy.stop().await;
    closed(&server).await;
}

/// The server sees that no stream is left.
async fn closed(server: &OldServer) {
    let closed = tokio::time::timeout(std::time::Duration::from_secs(10), async {
        while server.open_streams() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    assert!(closed.await.is_ok(), "{server:?}");
}

fn tool(id: &str, name: &str, arguments: &str) -> String {
    legacy(id, "tools/call", &format!(r#"{{"name":"{name}","arguments":{arguments}}}"#))
}

#[tokio::test]
async fn newer_clients_talk_with_an_old_server() {
    let (proxy, server) = start().await;
    for version in LEGACY {
        let client = Client::legacy(&proxy, version).await;
        assert_eq!(client.told("echo", r#"{"x":1.0}"#).await, json!({"x": 1.0}));
        // Progress comes on the stream of its call.
        let params = r#"{"name":"echo","arguments":{"progress":2},"_meta":{"progressToken":"p"}}"#;
        let answer = client.post(&legacy("\"1\"", "tools/call", params)).await;
        let events = answer.events();
        assert_eq!(events.len(), 3, "{}", answer.text());
        assert_eq!((&events[1]["params"]["progress"], &events[2]["id"]), (&json!(2), &json!("1")));
        // So does a question, where only one call can be meant.
        let mut events = client.stream("2", "ask", r#"{"method":"roots/list"}"#).await;
        let asked = events.next().await.unwrap();
        assert_eq!((&asked["id"], &asked["method"]), (&json!(7), &json!("roots/list")));
        let told = client.post(r#"{"jsonrpc":"2.0","id":7,"result":{"roots":[]}}"#).await;
        assert_eq!(told.status, 202);
        let answer = events.next().await.unwrap();
        assert_eq!(answer["result"]["structuredContent"]["told"]["result"]["roots"], json!([]));
        assert_eq!(events.next().await, None);
        // What was not asked, or is answered already, goes no further.
        let again = client.post(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#).await;
        assert_eq!(again.status, 202);
        assert_eq!(client.delete().await.status, 200);
        assert_eq!(client.post(&legacy("3", "ping", "{}")).await.status, 404);
    }
    // As the client wrote it.
    assert_eq!(server.messages("initialize").len(), LEGACY.len());
    assert_eq!(server.messages("notifications/initialized").len(), LEGACY.len());
    finish(proxy, server).await;
}

#[tokio::test]
async fn old_clients_talk_with_an_old_server() {
    let (proxy, server) = start().await;
    let mut client = OldClient::open(&proxy).await;
    let answer = client.greet("2024-11-05").await;
    assert_eq!(answer["result"]["serverInfo"]["name"], "old");
    client.say(&tool("1", "ask", r#"{"method":"sampling/createMessage"}"#)).await;
    assert_eq!(client.next().await["method"], "sampling/createMessage");
    client.say(r#"{"jsonrpc":"2.0","id":7,"result":{"x":1}}"#).await;
    assert_eq!(client.next().await["result"]["structuredContent"]["told"]["result"]["x"], 1);
    drop(client);
    proxy.until("no session", |census| census.sessions == 0).await;
    finish(proxy, server).await;
}

#[tokio::test]
async fn what_was_not_asked_for_goes_to_the_get_stream() {
    let (proxy, server) = start().await;
    let client = Client::legacy(&proxy, "2025-06-18").await;
    let emit = |n: u32| {
        format!(
            r#"{{"messages":[{{"jsonrpc":"2.0","method":"notifications/x","params":{{"n":{n}}}}}]}}"#
        )
    };
    // It waits until there is one, and until there is one again.
    for n in [1, 2] {
        assert_eq!(client.tool("1", "emit", &emit(n)).await.events().len(), 0);
        let mut events = client.listen().await;
        assert_eq!(events.next().await.unwrap()["params"]["n"], n);
        events.reset();
    }
    // The newest of several has it alone.
    let mut older = client.listen().await;
    let mut newer = client.listen().await;
    client.tool("2", "emit", &emit(3)).await;
    assert_eq!(newer.next().await.unwrap()["params"]["n"], 3);
    assert_eq!(client.delete().await.status, 200);
    assert_eq!((older.next().await, newer.next().await), (None, None));
    finish(proxy, server).await;
}

#[tokio::test]
async fn many_calls_at_once_are_answered_to_those_who_asked() {
    let (proxy, server) = start().await;
    let clients =
        [Client::legacy(&proxy, "2025-06-18").await, Client::legacy(&proxy, "2025-11-25").await];
    let mut calls = tokio::task::JoinSet::new();
    for (which, client) in clients.iter().enumerate() {
        for n in 0..64 {
            let client = client.clone();
            calls.spawn(async move {
                // The ids of both look alike, and the earlier ones take longer.
                let arguments = format!(r#"{{"of":{which},"n":{n},"delay_ms":{}}}"#, 64 - n);
                let answer = client.tool(&n.to_string(), "echo", &arguments).await.message();
                let content = &answer["result"]["structuredContent"];
                assert_eq!((&content["of"], &content["n"]), (&json!(which), &json!(n)));
                assert_eq!(answer["id"], n);
            });
        }
    }
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    for client in &clients {
        client.delete().await;
    }
    finish(proxy, server).await;
}

#[tokio::test]
async fn answers_that_nobody_waits_for_reach_nobody() {
    let (proxy, server) = start().await;
    let mut client = OldClient::ready(&proxy).await;
    for (id, name) in
        [("1", "twice"), ("2", "foreign"), ("3", "text"), ("4", "garbled"), ("5", "echo")]
    {
        client.say(&tool(id, name, "{}")).await;
        let answer = client.next().await;
        assert_eq!(answer["id"].to_string(), id, "{answer}");
        let code = &answer["error"]["code"];
        assert_eq!(code == -31008, name == "garbled", "{name} {answer}");
    }
    let metrics = Metrics::scrape(proxy.ops()).await;
    let stray = metrics.count("tidegate_sse_dropped_messages_total", &["cause=\"stray_answer\""]);
    assert_eq!(stray, 3);
    drop(client);
    finish(proxy, server).await;
}

#[tokio::test]
async fn what_the_streams_carry_and_lose_is_in_the_metrics() {
    let (proxy, server) = start().await;
    let client = Client::legacy(&proxy, "2025-06-18").await;
    let emit = |message: &str| {
        let messages = (1..=300).map(|n| message.replace("{n}", &n.to_string()));
        format!(r#"{{"messages":[{}]}}"#, messages.collect::<Vec<_>>().join(","))
    };
    // 256 notifications wait for a reader, and as many questions for an answer.
    let note = r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"n":{n}}}"#;
    client.tool("1", "emit", &emit(note)).await;
    let question = r#"{"jsonrpc":"2.0","id":{n},"method":"roots/list"}"#;
    client.tool("2", "emit", &emit(question)).await;
    client.tool("3", "twice", "{}").await;
    assert_eq!(client.post(r#"{"jsonrpc":"2.0","id":"no","result":{}}"#).await.status, 202);
    let (answer, metrics) = tokio::join!(client.tool("4", "echo", r#"{"delay_ms":500}"#), async {
        proxy.until("a call", |census| census.in_flight == 1).await;
        Metrics::scrape(proxy.ops()).await
    });
    assert_eq!(answer.message()["id"], 4);
    let of_it = "upstream=\"it\"";
    for (family, labels, count) in [
        ("tidegate_sse_streams_open", &[of_it][..], 1),
        ("tidegate_sse_requests_in_flight", &[of_it], 1),
        ("tidegate_sse_dropped_messages_total", &[of_it, "cause=\"notification\""], 44),
        ("tidegate_sse_dropped_messages_total", &[of_it, "cause=\"stray_answer\""], 1),
        ("tidegate_sse_dropped_messages_total", &[of_it, "cause=\"stray_client_answer\""], 1),
        ("tidegate_sse_asks_refused_total", &[of_it], 44),
    ] {
        assert_eq!(metrics.count(family, labels), count, "{family} {labels:?}");
    }
    client.delete().await;
    proxy.until("no session", |census| census.sessions == 0 && census.leases == 0).await;
    assert_eq!(Metrics::scrape(proxy.ops()).await.busy(), [""; 0]);
    finish(proxy, server).await;
}

#[tokio::test]
async fn the_end_of_a_stream_is_the_end_of_its_session() {
    let (proxy, server) = start().await;
    for version in LEGACY {
        let client = Client::legacy(&proxy, version).await;
        let other = Client::legacy(&proxy, version).await;
        let mut events = client.listen().await;
        let (hanging, cut) = tokio::join!(client.tool("1", "hang", "{}"), async {
            proxy.until("a call", |census| census.in_flight == 1).await;
            client.tool("2", "cut", "{}").await
        });
        for answer in [hanging, cut] {
            assert_eq!((answer.status, answer.code()), (200, -31007), "{}", answer.text());
        }
        assert_eq!(events.next().await, None);
        assert_eq!(client.post(&legacy("3", "ping", "{}")).await.status, 404);
        // Others have nothing to do with it.
        assert_eq!(other.told("echo", r#"{"y":2}"#).await, json!({"y": 2}));
        other.delete().await;
    }
    finish(proxy, server).await;
}

#[tokio::test]
async fn an_id_has_one_call_at_a_time_and_is_free_when_it_is_taken_back() {
    let (proxy, server) = start().await;
    let client = Client::legacy(&proxy, "2025-06-18").await;
    let note = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    let (taken_back, ()) = tokio::join!(client.tool("1", "hang", "{}"), async {
        proxy.until("a call", |census| census.in_flight == 1).await;
        let refused = client.tool("1", "echo", "{}").await;
        assert_eq!((refused.status, refused.code()), (400, -32600), "{}", refused.text());
        // "1" is not 1.
        assert_eq!(client.tool("\"1\"", "echo", "{}").await.message()["id"], "1");
        assert_eq!(client.post(note).await.status, 202);
    });
    assert!(taken_back.is_whole && taken_back.events().is_empty(), "{}", taken_back.text());
    assert_eq!(client.tool("1", "echo", "{}").await.message()["id"], 1);
    assert_eq!(server.messages("notifications/cancelled").len(), 1);
    client.delete().await;
    finish(proxy, server).await;
}

#[tokio::test]
async fn a_message_that_the_server_refuses_is_an_error() {
    let (proxy, server) = start().await;
    let client = Client::legacy(&proxy, "2025-06-18").await;
    let refused = client.post(&legacy("1", "refuse", "{}")).await;
    assert_eq!((refused.status, refused.code()), (200, -31008), "{}", refused.text());
    assert!(refused.text().contains("HTTP 400"), "{}", refused.text());
    assert_eq!(client.told("echo", "{}").await, json!({}));
    client.delete().await;
    finish(proxy, server).await;
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let server = OldServer::start().await;
    let proxy = to(&server.url(), &timeouts("request: 300ms")).await;
    let client = Client::legacy(&proxy, "2025-06-18").await;
    let answer = client.tool("1", "hang", "{}").await;
    assert_eq!((answer.status, answer.code()), (200, -31002), "{}", answer.text());
    // It hears of that, so that it can stop.
    let heard = tokio::time::timeout(std::time::Duration::from_secs(10), async {
        while server.messages("notifications/cancelled").is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    heard.await.unwrap();
    assert_eq!(server.messages("notifications/cancelled")[0]["params"]["requestId"], 1);
    // A question that no client takes is answered for it. The call waits for that.
    let asked =
        tool("2", "emit", r#"{"messages":[{"jsonrpc":"2.0","id":9,"method":"roots/list"}]}"#);
    let answer = client.post(&asked).await;
    assert_eq!(answer.events().len(), 2, "{}", answer.text());
    client.delete().await;
    finish(proxy, server).await;
}

#[tokio::test]
async fn modern_clients_are_told_what_the_server_speaks() {
    let (proxy, server) = start().await;
    for (method, name, params) in
        [("server/discover", None, ""), ("tools/call", Some("echo"), r#""name":"echo","#)]
    {
        let headers = modern_headers(method, name);
        let answer = http::post(proxy.address(), &headers, &modern("1", method, params)).await;
        assert_eq!((answer.status, answer.code()), (400, -32022), "{}", answer.text());
        let supported = answer.json()["error"]["data"]["supported"].clone();
        assert_eq!(supported[3], "2024-11-05", "{supported}");
    }
    assert_eq!(server.open_streams(), 0);
    finish(proxy, server).await;
}

#[tokio::test]
async fn messages_go_where_the_stream_came_from_and_nowhere_else() {
    for (endpoint, is_fit) in [
        ("/messages?sessionId={id}", true),
        ("messages?sessionId={id}", true),
        ("http://{address}/messages?sessionId={id}", true),
        ("http://localhost/messages?sessionId={id}", false),
        ("https://{address}/messages?sessionId={id}", false),
        ("//evil.example/messages?sessionId={id}", false),
        ("a b", false),
    ] {
        let server = OldServer::with(endpoint).await;
        let proxy = to(&server.url(), "").await;
        let hello = initialize("2025-06-18", "{}");
        let answer = http::post(proxy.address(), &[], &hello).await;
        assert_eq!(answer.status, 200, "{endpoint}");
        let message = answer.json();
        assert_eq!(message["error"].is_null(), is_fit, "{endpoint} {message}");
        if is_fit {
            let session = answer.header("mcp-session-id").unwrap();
            let headers = [("mcp-session-id", session)];
            http::method(proxy.address(), "DELETE", "/mcp", &headers).await;
        } else {
            assert_eq!(message["error"]["code"], -31008, "{endpoint}");
            assert!(server.messages("initialize").is_empty());
        }
        finish(proxy, server).await;
    }
}

#[tokio::test]
async fn a_server_that_opens_no_stream_is_an_error_before_anything_was_sent() {
    let mut server = Scripted::start().await;
    let proxy = to(&server.url(), &timeouts("request: 300ms")).await;
    let hello = initialize("2025-06-18", "{}");
    let check = async |kind: &str, answer: http::Response| {
        assert_eq!(answer.status, 200, "{kind}");
        let data = &answer.json()["error"]["data"]["tidegate"];
        assert_eq!((&data["kind"], &data["retryable"]), (&json!(kind), &json!(true)), "{data}");
        assert_eq!(answer.header("mcp-session-id"), None);
    };
    for (kind, what) in [
        ("protocol", "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
        ("protocol", "HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n"),
        ("protocol", "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 0\r\n\r\n"),
        (
            "protocol",
            "HTTP/1.1 307 Go\r\nlocation: http://evil.example/\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            "died",
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 8\r\n\r\n: well\n\n",
        ),
        ("timeout", "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: well\n\n"),
    ] {
        let (answer, ()) = tokio::join!(http::post(proxy.address(), &[], &hello), async {
            let mut exchange: Exchange = server.next().await;
            assert!(exchange.request.head.starts_with("GET /mcp "), "{}", exchange.request.head);
            assert_eq!(exchange.request.header("accept"), Some("text/event-stream"));
            exchange.write(what).await;
            if !what.contains("content-length: 0") {
                // It is of no use for another session.
                exchange.closed().await;
            }
        });
        check(kind, answer).await;
    }
    // Whoever has to authenticate sees it.
    let (answer, ()) = tokio::join!(http::post(proxy.address(), &[], &hello), async {
        let mut exchange = server.next().await;
        let head =
            "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer\r\ncontent-length: 0\r\n\r\n";
        exchange.write(head).await;
        exchange.finish().await;
    });
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")));
    proxy.until("no connection", |census| census.leases == 0).await;
    proxy.assert_alive().await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_stop_ends_streams_that_are_in_use() {
    let (proxy, server) = start().await;
    let client = Client::legacy(&proxy, "2025-06-18").await;
    let mut events = client.listen().await;
    let metrics = Metrics::scrape(proxy.ops()).await;
    let in_use = metrics.sum("tidegate_http_pool_connections_in_use", &["upstream=\"it\""]);
    assert!((in_use - 1.0).abs() < f64::EPSILON, "one stream: {in_use}");
    tokio::join!(proxy.stop(), async {
        assert_eq!(events.next().await, None);
    });
    closed(&server).await;
}
