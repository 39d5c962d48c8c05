//! Clients of HTTP+SSE (2024-11-05), in front of every kind of server.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

use std::collections::HashSet;

use serde_json::{Value, json};
use tidegate_tests::{
    Events, Exchange, OldClient, Proxy, Scripted,
    client::{initialize, legacy},
    http::{self, Connection},
    stdio_upstream,
};

const ROUTE: &str = "routes: [{ match: { path: /mcp }, upstream: it, sse: true }]";
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const EVENTS: [(&str, &str); 1] = [("accept", "text/event-stream")];

async fn to_stdio(settings: &str) -> Proxy {
    Proxy::start(&format!("{ROUTE}\n{}", stdio_upstream(&[], settings))).await
}

/// A server over Streamable HTTP whose every byte the test writes.
async fn to_http() -> (Proxy, Scripted) {
    let upstream = Scripted::start().await;
    let proxy = Proxy::to_url_with(&upstream.url(), ROUTE).await;
    (proxy, upstream)
}

/// Answers a request with one JSON body.
async fn answer(exchange: Exchange, headers: &str, result: &str) {
    let id = body(&exchange)["id"].clone();
    let message = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
    exchange.json("200 OK", headers, &message).await;
}

fn body(exchange: &Exchange) -> Value {
    serde_json::from_slice(&exchange.request.body).unwrap()
}

fn method(exchange: &Exchange) -> String {
    body(exchange)["method"].as_str().unwrap_or_default().to_owned()
}

fn hello(version: &str) -> String {
    format!(r#"{{"protocolVersion":"{version}","capabilities":{{}},"serverInfo":{{}}}}"#)
}

/// A client that has initialized, and the stream that the proxy has opened for it.
async fn greeted(proxy: &Proxy, upstream: &mut Scripted, version: &str) -> (OldClient, Exchange) {
    let mut client = OldClient::open(proxy).await;
    client.say(&initialize(version, "{}")).await;
    let exchange = upstream.next().await;
    assert_eq!(method(&exchange), "initialize");
    answer(exchange, "mcp-session-id: s-1\r\n", &hello(version)).await;
    assert_eq!(client.next().await["result"]["protocolVersion"], version);
    client.say(INITIALIZED).await;
    let exchange = upstream.next().await;
    assert_eq!(method(&exchange), "notifications/initialized");
    exchange.status("202 Accepted").await;
    let mut listen = upstream.next().await;
    assert!(listen.request.head.starts_with("GET /mcp "), "{}", listen.request.head);
    assert_eq!(listen.request.header("mcp-session-id"), Some("s-1"));
    listen.start_stream().await;
    (client, listen)
}

/// The client has left; the upstream hears of it.
async fn left(upstream: &mut Scripted) {
    let exchange = upstream.next().await;
    assert!(exchange.request.head.starts_with("DELETE"), "{}", exchange.request.head);
    assert_eq!(exchange.request.header("mcp-session-id"), Some("s-1"));
    exchange.status("200 OK").await;
}

async fn finish(proxy: Proxy) {
    proxy.until("no session", |census| census.sessions == 0 && census.streams == 0).await;
    proxy.assert_alive().await;
    proxy.stop().await;
}

#[tokio::test]
async fn an_old_client_talks_with_a_command_both_ways() {
    for sharing in ["", ", sharing: auto, min_idle: 1"] {
        let proxy = to_stdio(sharing).await;
        let mut client = OldClient::open(&proxy).await;
        assert!(client.endpoint.starts_with("/mcp/messages?sessionId="), "{}", client.endpoint);
        let greeting = client.greet("2024-11-05").await;
        assert_eq!(greeting["result"]["protocolVersion"], "2024-11-05", "{greeting}");
        client.call("\"a\"", "echo", r#"{"x":1.0}"#).await;
        let answer = client.next().await;
        assert_eq!(
            (&answer["id"], &answer["result"]["structuredContent"]),
            (&json!("a"), &json!({"x": 1.0}))
        );

        let params = r#"{"name":"echo","arguments":{"progress":2},"_meta":{"progressToken":"p"}}"#;
        client.say(&legacy("2", "tools/call", params)).await;
        for step in [1, 2] {
            let params = client.next().await["params"].clone();
            assert_eq!(params, json!({"progressToken": "p", "progress": step}));
        }
        assert_eq!(client.next().await["id"], 2);

        if sharing.is_empty() {
            client
                .call("3", "ask", r#"{"method":"sampling/createMessage","params":{"q":1}}"#)
                .await;
            let asked = client.next().await;
            assert_eq!(
                (&asked["method"], &asked["params"]),
                (&json!("sampling/createMessage"), &json!({"q": 1}))
            );
            let id = &asked["id"];
            client
                .say(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"said":"yes"}}}}"#))
                .await;
            let told = client.next().await;
            assert_eq!(told["result"]["structuredContent"]["told"]["result"]["said"], "yes");
            let emit =
                r#"{"messages":[{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}]}"#;
            client.call("4", "emit", emit).await;
            let (one, other) = (client.next().await, client.next().await);
            let methods: HashSet<_> = [&one["method"], &other["method"]].map(Value::as_str).into();
            assert!(methods.contains(&Some("notifications/tools/list_changed")), "{one} {other}");
        }
        drop(client);
        finish(proxy).await;
    }
}

#[tokio::test]
async fn the_end_of_the_stream_ends_the_process_of_the_session() {
    let proxy = to_stdio("").await;
    let client = OldClient::ready(&proxy).await;
    client.call("1", "hang", "{}").await;
    proxy.until("a call", |census| census.in_flight == 1 && census.children == 1).await;
    drop(client);
    proxy.until("no process", |census| census.in_flight == 0 && census.children == 0).await;
    finish(proxy).await;
}

#[tokio::test]
async fn the_end_of_the_process_ends_the_stream() {
    let proxy = to_stdio("").await;
    let mut client = OldClient::ready(&proxy).await;
    client.call("1", "exit", "{}").await;
    let answer = client.next().await;
    assert_eq!(
        (&answer["id"], &answer["error"]["data"]["tidegate"]["kind"]),
        (&json!(1), &json!("died"))
    );
    assert_eq!(client.events.next().await, None);
    let refused = client.post(&legacy("2", "ping", "{}")).await;
    assert_eq!(refused.status, 404, "{}", refused.text());
    finish(proxy).await;
}

#[tokio::test]
async fn a_call_that_is_taken_back_has_no_answer() {
    let proxy = to_stdio("").await;
    let mut client = OldClient::ready(&proxy).await;
    client.call("7", "hang", "{}").await;
    proxy.until("a call", |census| census.in_flight == 1).await;
    client
        .say(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#)
        .await;
    client.call("8", "echo", "{}").await;
    assert_eq!(client.next().await["id"], 8);
    drop(client);
    finish(proxy).await;
}

#[tokio::test]
async fn many_calls_at_once_are_answered_to_those_who_asked() {
    let proxy = to_stdio("").await;
    let mut clients = [OldClient::ready(&proxy).await, OldClient::ready(&proxy).await];
    for (which, client) in clients.iter().enumerate() {
        for id in 0..64 {
            // The earlier ones take longer.
            let delay = 64 - id;
            let arguments = format!(r#"{{"of":{which},"n":{id},"delay_ms":{delay}}}"#);
            client.call(&id.to_string(), "echo", &arguments).await;
        }
    }
    for (which, client) in clients.iter_mut().enumerate() {
        let mut seen = HashSet::new();
        for _ in 0..64 {
            let answer = client.next().await;
            let content = &answer["result"]["structuredContent"];
            assert_eq!((&content["of"], &content["n"]), (&json!(which), &answer["id"]), "{answer}");
            assert!(seen.insert(answer["id"].as_u64()), "{answer}");
        }
    }
    drop(clients);
    finish(proxy).await;
}

#[tokio::test]
async fn a_server_over_http_sees_an_ordinary_session() {
    let (proxy, mut upstream) = to_http().await;
    for version in ["2024-11-05", "2025-06-18"] {
        let mut client = OldClient::open(&proxy).await;
        let greeting = initialize(version, r#"{ "x" : 1.0 }"#);
        client.say(&greeting).await;
        let exchange = upstream.next().await;
        assert_eq!(exchange.request.body, greeting.as_bytes(), "untouched");
        assert_eq!(exchange.request.header("mcp-protocol-version"), None);
        // What is posted meanwhile waits.
        client.say(INITIALIZED).await;
        client.say(&legacy("1", "ping", "{}")).await;
        assert!(!upstream.has_request());
        answer(exchange, "mcp-session-id: s-1\r\n", &hello(version)).await;
        assert_eq!(client.next().await["id"], 0);
        let exchange = upstream.next().await;
        assert_eq!(exchange.request.body, INITIALIZED.as_bytes());
        let named = exchange.request.header("mcp-protocol-version").map(ToOwned::to_owned);
        assert_eq!(named.as_deref(), (version > "2025-06").then_some(version));
        assert_eq!(exchange.request.header("mcp-session-id"), Some("s-1"));
        assert!(!upstream.has_request(), "the server must be told that it is initialized first");
        exchange.status("202 Accepted").await;
        let (mut ping, mut listen) = (upstream.next().await, upstream.next().await);
        if ping.request.head.starts_with("GET") {
            std::mem::swap(&mut ping, &mut listen);
        }
        assert_eq!(method(&ping), "ping");
        answer(ping, "", "{}").await;
        assert_eq!(client.next().await, json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
        // No stream of its own.
        listen.status("405 Method Not Allowed").await;
        drop(client);
        left(&mut upstream).await;
    }
    finish(proxy).await;
}

#[tokio::test]
async fn whatever_comes_from_the_server_comes_on_the_one_stream() {
    let (proxy, mut upstream) = to_http().await;
    let (mut client, mut listen) = greeted(&proxy, &mut upstream, "2025-03-26").await;
    client.say(&legacy("1", "tools/call", r#"{"name":"x"}"#)).await;
    let mut exchange = upstream.next().await;
    exchange.start_stream().await;
    // Events without a message, ids and other line ends are of no use to the client.
    exchange.chunk("id: 1\nretry: 10\ndata:\n\n: comment\n\nevent: other\ndata: {}\n\n").await;
    exchange.chunk("id: 2\r\ndata: {\"jsonrpc\":\"2.0\",\r\ndata: \"method\":\"a\"}\r\n\r\n").await;
    let expected = "event: message\ndata: {\"jsonrpc\":\"2.0\", \"method\":\"a\"}\n\n";
    assert_eq!(client.events.event().await.as_deref(), Some(expected));
    listen.chunk("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"roots/list\"}\n\n").await;
    assert_eq!(client.next().await["method"], "roots/list");
    client.say(r#"{"jsonrpc":"2.0","id":1,"result":{"roots":[]}}"#).await;
    let told = upstream.next().await;
    assert_eq!(body(&told)["result"]["roots"], json!([]));
    told.status("202 Accepted").await;
    let batch =
        "[{\"jsonrpc\":\"2.0\",\"method\":\"b\"},{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}]";
    exchange.chunk(format!("data: {batch}\n\n")).await;
    assert_eq!(client.next().await["method"], "b");
    assert_eq!(client.next().await["id"], 1);
    exchange.chunk("").await;

    // A stream that ends is opened again where it ended.
    listen.chunk("id: e-7\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"c\"}\n\n").await;
    assert_eq!(client.next().await["method"], "c");
    listen.chunk("").await;
    let mut listen = upstream.next().await;
    assert_eq!(listen.request.header("last-event-id"), Some("e-7"));
    listen.start_stream().await;
    listen.chunk("data: {\"jsonrpc\":\"2.0\",\"method\":\"d\"}\n\n").await;
    assert_eq!(client.next().await["method"], "d");
    drop(client);
    listen.closed().await;
    left(&mut upstream).await;
    finish(proxy).await;
}

#[tokio::test]
async fn a_request_without_an_answer_gets_an_error() {
    let (proxy, mut upstream) = to_http().await;
    let (mut client, _listen) = greeted(&proxy, &mut upstream, "2024-11-05").await;
    let ask = |id: u32| legacy(&id.to_string(), "tools/list", "{}");
    client.say(&ask(1)).await;
    upstream.next().await.reset();
    assert_eq!(client.next().await["error"]["code"], -31007);
    client.say(&ask(2)).await;
    upstream.next().await.status("401 Unauthorized").await;
    let refused = client.next().await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(2), &json!(-31008)));
    client.say(&ask(3)).await;
    let error = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}"#;
    upstream.next().await.json("400 Bad Request", "", error).await;
    let refused = client.next().await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(3), &json!(-32600)));
    client.say(&ask(4)).await;
    let mut exchange = upstream.next().await;
    exchange.start_stream().await;
    exchange.chunk("data: {\"jsonrpc\":\"2.0\",\"method\":\"m\"}\n\n").await;
    exchange.chunk("").await;
    assert_eq!(client.next().await["method"], "m");
    let refused = client.next().await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(4), &json!(-31007)));
    // A second handshake would be a second session.
    client.say(&initialize("2024-11-05", "{}")).await;
    assert_eq!(client.next().await["error"]["code"], -32600);
    // The server has forgotten the session: this one is over.
    client.say(&ask(5)).await;
    upstream.next().await.status("404 Not Found").await;
    let refused = client.next().await;
    assert_eq!(
        (&refused["id"], &refused["error"]["data"]["tidegate"]["kind"]),
        (&json!(5), &json!("session_unknown"))
    );
    assert_eq!(client.events.next().await, None);
    finish(proxy).await;
}

#[tokio::test]
async fn what_is_under_way_when_a_client_leaves_is_cancelled() {
    let (proxy, mut upstream) = to_http().await;
    let (client, mut listen) = greeted(&proxy, &mut upstream, "2024-11-05").await;
    client.say(&legacy("\"x\"", "tools/call", r#"{"name":"slow"}"#)).await;
    let mut slow = upstream.next().await;
    drop(client);
    slow.closed().await;
    listen.closed().await;
    let note = upstream.next().await;
    assert_eq!(method(&note), "notifications/cancelled");
    assert_eq!(body(&note)["params"]["requestId"], "x");
    note.status("202 Accepted").await;
    left(&mut upstream).await;
    finish(proxy).await;
}

#[tokio::test]
async fn a_server_without_sessions_is_served_too() {
    let (proxy, mut upstream) = to_http().await;
    let mut client = OldClient::open(&proxy).await;
    client.say(&initialize("2025-06-18", "{}")).await;
    answer(upstream.next().await, "", &hello("2025-06-18")).await;
    assert_eq!(client.next().await["id"], 0);
    client.say(&legacy("1", "ping", "{}")).await;
    let ping = upstream.next().await;
    assert_eq!(ping.request.header("mcp-protocol-version"), Some("2025-06-18"));
    answer(ping, "", "{}").await;
    assert_eq!(client.next().await["id"], 1);
    drop(client);
    finish(proxy).await;
    assert!(!upstream.has_request(), "there is no session to end");
}

#[tokio::test]
async fn only_what_belongs_to_the_stream_is_taken() {
    let routes = "routes:\n\
                  - { match: { path: /mcp }, upstream: it, sse: true }\n\
                  - { match: { path: /other }, upstream: it, sse: { path: /other, messages: /in } }\n\
                  - { match: { path: /new }, upstream: it }\n\
                  limits: { max_body: 1KiB, max_depth: 8 }";
    let proxy = Proxy::start(&format!("{routes}\n{}", stdio_upstream(&[], ""))).await;
    let address = proxy.address();
    let mut client = OldClient::ready(&proxy).await;
    let ping = legacy("1", "ping", "{}");
    let own = client.endpoint.clone();
    let id = own.split_once('=').unwrap().1.to_owned();
    assert_eq!(id.len(), 32, "{id}");
    let deep = legacy("1", "ping", &format!("{}1{}", "[".repeat(9), "]".repeat(9)));
    let long = legacy("1", "ping", &format!(r#"{{"x":"{}"}}"#, "x".repeat(2000)));
    let modern = tidegate_tests::client::modern("1", "server/discover", "");
    for (path, headers, body, status) in [
        (&*own, vec![], "{", 400),
        (&*own, vec![], "[]", 400),
        (&*own, vec![], r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, 400),
        (&*own, vec![], &*deep, 400),
        (&*own, vec![("mcp-protocol-version", "2026-07-28")], &*ping, 400),
        (&*own, vec![], &*long, 413),
        (&*own, vec![("origin", "https://evil.example")], &*ping, 403),
        ("/mcp/messages", vec![], &*ping, 404),
        ("/mcp/messages?sessionId=", vec![], &*ping, 404),
        (&*format!("/mcp/messages?sessionId={id}0"), vec![], &*ping, 404),
        (&*format!("/mcp/messages?sessionId={}g", &id[..31]), vec![], &*ping, 404),
        (&*format!("/in?sessionId={id}"), vec![], &*ping, 404),
        (&*format!("/new/messages?sessionId={id}"), vec![], &*ping, 404),
        ("/mcp/sse", vec![], &*ping, 405),
    ] {
        let answer = http::raw(address, &http::post_to(path, &headers, body.as_bytes())).await;
        assert_eq!(answer.status, status, "{path} {headers:?} {body:.60} {}", answer.text());
        assert!(answer.json()["error"]["code"].is_number(), "{}", answer.text());
    }
    for (method, path, headers, status) in [
        ("GET", "/mcp/sse", vec![("accept", "application/json")], 406),
        ("GET", "/mcp/sse", vec![EVENTS[0], ("origin", "https://evil.example")], 403),
        ("GET", "/new/sse", EVENTS.to_vec(), 405),
        ("GET", "/mcp", EVENTS.to_vec(), 405),
        ("GET", &*own, EVENTS.to_vec(), 405),
        ("DELETE", "/mcp/sse", vec![], 405),
        // On a shared path only a GET that is nothing else opens such a stream.
        ("GET", "/other", vec![EVENTS[0], ("mcp-session-id", "x")], 404),
        ("DELETE", "/other", vec![("mcp-session-id", "x")], 404),
    ] {
        let answer = http::method(address, method, path, &headers).await;
        assert_eq!(answer.status, status, "{method} {path} {headers:?} {}", answer.text());
    }
    let plain = "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n{}";
    let answer = http::raw(address, plain.replacen("{}", &own, 1).as_bytes()).await;
    assert_eq!(answer.status, 415);
    let mut other = OldClient::open_at(address, "/other").await;
    assert!(other.endpoint.starts_with("/in?sessionId="), "{}", other.endpoint);
    other.greet("2025-11-25").await;
    // A client that speaks both eras may ask for the newer one first.
    client.say(&modern).await;
    let told = client.next().await;
    assert_eq!(told["error"]["code"], -32022, "{told}");
    assert_eq!(told["error"]["data"]["supported"][3], "2024-11-05", "{told}");
    // None of it has done anything to the stream.
    client.say(&ping).await;
    assert_eq!(client.next().await["id"], 1);
    drop((client, other));
    finish(proxy).await;
}

#[tokio::test]
async fn a_stop_lets_calls_finish_and_then_ends_the_streams() {
    let (proxy, mut upstream) = to_http().await;
    let (mut client, mut listen) = greeted(&proxy, &mut upstream, "2024-11-05").await;
    client.say(&legacy("1", "tools/list", "{}")).await;
    let exchange = upstream.next().await;
    let idle = to_stdio("").await;
    let mut resting = OldClient::ready(&idle).await;
    tokio::join!(proxy.stop(), idle.stop(), async {
        // It is what would never end that hears of the stop.
        listen.closed().await;
        answer(exchange, "", "{}").await;
        assert_eq!(client.next().await["id"], 1);
        assert_eq!(client.events.next().await, None);
        assert_eq!(resting.events.next().await, None);
        left(&mut upstream).await;
    });
}

#[tokio::test]
async fn a_client_that_never_says_anything_leaves_nothing() {
    let proxy = to_stdio("").await;
    let mut connection = Connection::open(proxy.address()).await;
    connection.send(&http::request("GET", "/mcp/sse", &EVENTS)).await;
    let mut events = Events::of(connection).await;
    assert!(events.event().await.unwrap().starts_with("event: endpoint\n"));
    // The client has said nothing yet and goes.
    events.reset();
    finish(proxy).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody_else() {
    let settings = "timeouts: { write_stall: 1s }";
    let proxy = Proxy::start(&format!("{settings}\n{ROUTE}\n{}", stdio_upstream(&[], ""))).await;
    let stuck = OldClient::ready(&proxy).await;
    let mut other = OldClient::ready(&proxy).await;
    // More than its socket takes.
    for id in 1..=8 {
        stuck.call(&id.to_string(), "big", r#"{"bytes":4000000}"#).await;
    }
    other.call("1", "echo", r#"{"x":1}"#).await;
    assert_eq!(other.next().await["result"]["structuredContent"]["x"], 1);
    // It is cut off in the end, and its session and process go with it.
    proxy.until("one session", |census| census.sessions == 1 && census.children == 1).await;
    assert_eq!(stuck.post(&legacy("9", "ping", "{}")).await.status, 404);
    other.call("2", "echo", "{}").await;
    assert_eq!(other.next().await["id"], 2);
    drop((stuck, other));
    finish(proxy).await;
}
