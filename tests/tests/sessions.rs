//! Who is who (batteries E and G): sessions, hosts and origins through the real listener, and many
//! clients at once whose ids all look alike.
#![expect(clippy::indexing_slicing, reason = "tests")]

use std::collections::HashSet;

use serde_json::Value;
use tidegate_tests::{
    Client, Proxy, Recorder, Scripted,
    client::{initialize, legacy, modern},
    http::{self, Connection},
    modern_headers, stdio_upstream,
};
use tokio::task::JoinSet;

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
const LEGACY: [&str; 3] = ["2025-03-26", "2025-06-18", "2025-11-25"];

async fn finish(proxy: Proxy) {
    proxy.assert_alive().await;
    proxy.stop().await;
}

#[tokio::test]
async fn hosts_and_origins_are_those_of_this_machine_unless_listed() {
    let upstream = Recorder::start().await;
    let local = Proxy::to_url(&upstream.url()).await;
    let listed = "security: { allowed_hosts: [mcp.example], \
                  allowed_origins: [\"https://app.example\"] }";
    let listed = Proxy::to_url_with(&upstream.url(), listed).await;
    for (host, origin, by_default, when_listed) in [
        ("localhost", "", 200, 200),
        ("LOCALHOST:8080", "", 200, 200),
        ("127.0.0.1:1", "", 200, 200),
        ("127.8.8.8", "", 200, 200),
        ("[::1]:80", "", 200, 200),
        ("mcp.example", "", 403, 200),
        ("MCP.Example:443", "", 403, 200),
        ("evil.example", "", 403, 403),
        ("localhost.evil.example", "", 403, 403),
        ("127.0.0.1.evil.example", "", 403, 403),
        ("evil.example:localhost", "", 400, 400),
        ("localhost:evil.example", "", 400, 400),
        ("localhost:99999", "", 400, 400),
        ("0.0.0.0", "", 403, 403),
        ("10.0.0.1", "", 403, 403),
        ("[::ffff:127.0.0.1]", "", 403, 403),
        ("localhost", "http://localhost", 200, 200),
        ("localhost", "http://localhost:3000", 200, 200),
        ("localhost", "https://127.0.0.1:8443", 200, 200),
        ("localhost", "http://[::1]:80", 200, 200),
        ("localhost", "https://app.example", 403, 200),
        ("localhost", "http://app.example", 403, 403),
        ("localhost", "https://app.example:444", 403, 403),
        ("localhost", "https://app.example.evil.example", 403, 403),
        ("localhost", "https://evil.example", 403, 403),
        ("localhost", "http://localhost.evil.example", 403, 403),
        ("localhost", "http://localhost@evil.example", 403, 403),
        ("localhost", "null", 403, 403),
        ("localhost", "file://", 403, 403),
        ("localhost", "chrome-extension://abcdef", 403, 403),
        ("localhost", "localhost", 403, 403),
    ] {
        for (proxy, expected) in [(&local, by_default), (&listed, when_listed)] {
            upstream.clear();
            let origin_line =
                if origin.is_empty() { String::new() } else { format!("origin: {origin}\r\n") };
            let bytes = format!(
                "POST /mcp HTTP/1.1\r\nhost: {host}\r\n{origin_line}accept: */*\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{PING}",
                PING.len()
            );
            let answer = http::raw(proxy.address(), bytes.as_bytes()).await;
            assert_eq!(answer.status, expected, "{host} {origin}");
            assert_eq!(upstream.requests().len(), usize::from(expected == 200));
            let allowed = answer.header("access-control-allow-origin");
            let welcome = (expected == 200 && !origin.is_empty()).then_some(origin);
            assert_eq!(allowed, welcome, "{host} {origin}");
        }
    }
    finish(local).await;
    finish(listed).await;
}

#[tokio::test]
async fn every_path_and_method_is_behind_the_guard() {
    let upstream = Recorder::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    for address in [proxy.address(), proxy.ops()] {
        for path in ["/mcp", "/", "/nope", "/health", "/health/live", "/health/ready", "/metrics"] {
            for method in ["GET", "POST", "DELETE", "OPTIONS"] {
                let host = format!("{method} {path} HTTP/1.1\r\nhost: evil.example\r\n\r\n");
                assert_eq!(http::raw(address, host.as_bytes()).await.status, 403, "{host}");
                let origin = [("origin", "https://evil.example")];
                let answer = http::method(address, method, path, &origin).await;
                assert_eq!(answer.status, 403, "{method} {path}");
            }
        }
    }
    assert_eq!(upstream.requests().len(), 0);
    finish(proxy).await;
}

#[tokio::test]
async fn a_session_that_was_not_given_out_is_unknown() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let good = client.session();
    assert!(good.len() >= 32 && good.bytes().all(|byte| byte.is_ascii_graphic()));
    let upper = good.to_uppercase();
    let odd = ["0", "upstream-session", "../../etc/passwd", "%00", &good[..31], "a b", "\u{e9}"];
    let near = [&*upper, &*format!("{good}0"), &*format!("{good},{good}"), "*"].map(str::to_owned);
    for id in odd.into_iter().chain(near.iter().map(String::as_str)) {
        if id == good {
            continue;
        }
        let headers = [("mcp-session-id", id)];
        let posted = http::post(proxy.address(), &headers, PING).await;
        assert_eq!(posted.status, 404, "{id}");
        let get = [("mcp-session-id", id), ("accept", "text/event-stream")];
        assert_eq!(http::get(proxy.address(), "/mcp", &get).await.status, 404, "{id}");
        let deleted = http::method(proxy.address(), "DELETE", "/mcp", &headers).await;
        assert_eq!(deleted.status, 404, "{id}");
    }
    assert_eq!(client.post(PING).await.status, 200, "the real one goes on");
    assert_eq!(proxy.census().sessions, 1, "and none was adopted");
    finish(proxy).await;
}

#[tokio::test]
async fn a_request_without_its_session_is_refused_where_there_are_sessions() {
    let proxy = Proxy::to_stdio(&[]).await;
    for body in [PING, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#] {
        assert_eq!(http::post(proxy.address(), &[], body).await.status, 400, "{body}");
    }
    let version = ("mcp-protocol-version", "2025-11-25");
    let get = [version, ("accept", "text/event-stream")];
    assert_eq!(http::get(proxy.address(), "/mcp", &get).await.status, 400);
    let delete = http::method(proxy.address(), "DELETE", "/mcp", &[version]).await;
    assert_eq!(delete.status, 400);
    assert_eq!(proxy.census().children, 0);
    finish(proxy).await;
}

#[tokio::test]
async fn a_deleted_session_is_gone_with_its_streams_and_its_process() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = Client::legacy(&proxy, "2025-06-18").await;
    let mut stream = client.listen().await;
    let pid = client.told("pid", "{}").await["pid"].as_u64().unwrap();
    assert_eq!(client.delete().await.status, 200);
    assert!(stream.rest().await.1, "a clean end");
    for status in [client.post(PING).await.status, client.delete().await.status] {
        assert_eq!(status, 404);
    }
    proxy.until("the process is gone", |census| census.children == 0).await;
    assert!(!tidegate_testkit::procs::is_running(u32::try_from(pid).unwrap()));
    finish(proxy).await;
}

#[tokio::test]
async fn a_version_header_must_name_a_version_that_is_served() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let session = ("mcp-session-id", client.session());
    for (version, status) in [
        ("2025-11-25", 200),
        ("2025-06-18", 200),
        ("2025-11-24", 400),
        ("1.0", 400),
        ("", 400),
        ("2025-11-25, 2025-06-18", 400),
        ("2099-01-01", 400),
    ] {
        let headers = [session, ("mcp-protocol-version", version)];
        let answer = http::post(proxy.address(), &headers, PING).await;
        assert_eq!(answer.status, status, "{version:?} {}", answer.text());
    }
    let missing = http::post(proxy.address(), &[session], PING).await;
    assert_eq!(missing.status, 200, "the session knows its version");
    let twice =
        [session, ("mcp-protocol-version", "2025-11-25"), ("mcp-protocol-version", "2025-06-18")];
    assert_eq!(http::post(proxy.address(), &twice, PING).await.status, 400);
    let get = [session, ("mcp-protocol-version", "nonsense"), ("accept", "text/event-stream")];
    assert_eq!(http::get(proxy.address(), "/mcp", &get).await.status, 400);
    let headers = [session, ("mcp-protocol-version", "nonsense")];
    assert_eq!(http::method(proxy.address(), "DELETE", "/mcp", &headers).await.status, 400);
    finish(proxy).await;
}

#[tokio::test]
async fn initialize_means_nothing_by_its_headers() {
    let proxy = Proxy::to_stdio(&[]).await;
    for (headers, version) in [
        (vec![("mcp-protocol-version", "2025-06-18")], "2025-11-25"),
        (vec![("mcp-protocol-version", "nonsense")], "2025-11-25"),
        (vec![("mcp-session-id", "stale")], "2025-03-26"),
    ] {
        let hello = initialize(version, "{}");
        let answer = http::post(proxy.address(), &headers, &hello).await;
        assert_eq!(answer.status, 200, "{headers:?} {}", answer.text());
        assert_eq!(answer.message()["result"]["protocolVersion"], version);
        assert_ne!(answer.header("mcp-session-id"), None);
        assert_ne!(answer.header("mcp-session-id"), Some("stale"), "never adopted");
    }
    finish(proxy).await;
}

#[tokio::test]
async fn a_session_belongs_to_the_route_that_opened_it() {
    let (here, there) = (Recorder::start().await, Recorder::start().await);
    let (here_url, there_url) = (here.url(), there.url());
    let proxy = Proxy::start(&format!(
        "upstreams:\n  here: {{ url: \"{here_url}\" }}\n  there: {{ url: \"{there_url}\" }}\n\
         routes:\n  - {{ match: {{ path: /here }}, upstream: here }}\n  \
         - {{ match: {{ path: /there }}, upstream: there }}\n"
    ))
    .await;
    let client = Client::legacy_at(&proxy, "/here", "2025-11-25").await;
    assert_eq!(client.post(PING).await.status, 200);
    assert_eq!(there.requests().len(), 0, "each route has its own upstream");
    assert!(
        here.requests()
            .iter()
            .skip(1)
            .all(|request| { request.header("mcp-session-id") == Some("upstream-session") })
    );
    let stolen = http::post_to("/there", &client.headers(), PING.as_bytes());
    assert_eq!(http::raw(proxy.address(), &stolen).await.status, 404);
    let deleted = http::method(proxy.address(), "DELETE", "/there", &client.headers()).await;
    assert_eq!(deleted.status, 404);
    assert_eq!(there.requests().len(), 0);
    let nowhere = http::post_to("/mcp", &[], PING.as_bytes());
    assert_eq!(http::raw(proxy.address(), &nowhere).await.status, 404);
    finish(proxy).await;
}

#[tokio::test]
async fn the_upstreams_session_id_stays_inside() {
    let upstream = Recorder::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    assert_ne!(client.session(), "upstream-session");
    client.post(PING).await;
    assert_eq!(client.delete().await.status, 200);
    let requests = upstream.requests();
    assert!(requests.iter().all(|each| !each.head.contains(client.session())));
    assert_eq!(requests[0].header("mcp-session-id"), None);
    let last = requests.last().unwrap();
    assert!(last.head.starts_with("DELETE"), "{}", last.head);
    assert_eq!(last.header("mcp-session-id"), Some("upstream-session"));
    assert_eq!(last.header("mcp-protocol-version"), Some("2025-11-25"));
    finish(proxy).await;
}

#[tokio::test]
async fn a_session_that_the_upstream_has_forgotten_ends_here_too() {
    let upstream = Recorder::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let answer = client.post(&legacy("2", "forget", "{}")).await;
    assert_eq!(answer.status, 404);
    upstream.clear();
    assert_eq!(client.post(PING).await.status, 404);
    assert_eq!(upstream.requests().len(), 0, "the proxy knows by itself now");
    assert_eq!(proxy.census().sessions, 0);
    let again = Client::legacy(&proxy, "2025-11-25").await;
    assert_eq!(again.post(PING).await.status, 200);
    finish(proxy).await;
}

#[tokio::test]
async fn a_bare_404_says_the_same() {
    let mut upstream = Scripted::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let result = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}"#;
    let (client, ()) = tokio::join!(Client::legacy(&proxy, "2025-11-25"), async {
        upstream.next().await.json("200 OK", "mcp-session-id: theirs\r\n", result).await;
        upstream.next().await.status("202 Accepted").await;
    });
    let (answer, ()) = tokio::join!(client.post(PING), async {
        upstream.next().await.status("404 Not Found").await;
    });
    assert_eq!(answer.status, 404);
    assert_eq!(proxy.census().sessions, 0);
    assert_eq!(client.post(PING).await.status, 404);
    assert!(!upstream.has_request(), "the proxy knows by itself now");
    finish(proxy).await;
}

#[tokio::test]
async fn a_modern_404_ends_no_session() {
    let mut upstream = Scripted::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let body = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}"#;
    let client = Client::modern(&proxy);
    let (answer, ()) = tokio::join!(client.tool("1", "x", "{}"), async {
        upstream.next().await.json("404 Not Found", "", body).await;
    });
    assert_eq!((answer.status, answer.code()), (404, -32601));
    finish(proxy).await;
}

#[tokio::test]
async fn an_upstream_without_sessions_is_served_without() {
    let mut upstream = Scripted::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let hello = initialize("2025-11-25", "{}");
    let result = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}"#;
    let (answer, ()) = tokio::join!(http::post(proxy.address(), &[], &hello), async {
        upstream.next().await.json("200 OK", "", result).await;
    });
    assert_eq!((answer.status, answer.header("mcp-session-id")), (200, None));
    let pong = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let (answer, ()) = tokio::join!(http::post(proxy.address(), &[], PING), async {
        upstream.next().await.json("200 OK", "", pong).await;
    });
    assert_eq!(answer.status, 200);
    finish(proxy).await;
}

/// Many calls at once, all with the same id, each with a word of its own that must come back.
async fn alike(clients: Vec<Client>, calls: usize) {
    let mut running = JoinSet::new();
    for (number, client) in clients.into_iter().enumerate() {
        running.spawn(async move {
            for call in 0..calls {
                let nonce = format!("{number}-{call}");
                let delay = (number * 7 + call * 13) % 20;
                let arguments = format!(r#"{{"nonce":"{nonce}","delay_ms":{delay}}}"#);
                let told = client.told("echo", &arguments).await;
                assert_eq!(told["nonce"], nonce);
            }
        });
    }
    running.join_all().await;
}

#[tokio::test]
async fn clients_that_all_use_the_same_id_get_their_own_answers() {
    let proxy = Proxy::to_stdio(&[]).await;
    alike(vec![Client::modern(&proxy); 64], 20).await;
    assert_eq!(proxy.census().children, 1, "they share one process");
    finish(proxy).await;
}

#[tokio::test]
async fn fifty_sessions_at_once_each_have_their_own_process() {
    let proxy = Proxy::to_stdio(&[]).await;
    let mut opening = JoinSet::new();
    let proxy = std::sync::Arc::new(proxy);
    for number in 0..50 {
        let proxy = std::sync::Arc::clone(&proxy);
        opening.spawn(async move { Client::legacy(&proxy, LEGACY[number % 3]).await });
    }
    let clients = opening.join_all().await;
    assert_eq!((proxy.census().sessions, proxy.census().children), (50, 50));
    let sessions: HashSet<&str> = clients.iter().map(Client::session).collect();
    assert_eq!(sessions.len(), 50);
    alike(clients.clone(), 10).await;
    let mut pids = HashSet::new();
    for client in &clients {
        pids.insert(client.told("pid", "{}").await["pid"].as_u64().unwrap());
    }
    assert_eq!(pids.len(), 50);
    finish(std::sync::Arc::into_inner(proxy).unwrap()).await;
}

#[tokio::test]
async fn two_hundred_calls_run_side_by_side_in_one_session() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let mut running = JoinSet::new();
    for id in 0..200_u64 {
        let client = client.clone();
        running.spawn(async move {
            let arguments = format!(r#"{{"n":{id},"delay_ms":2500}}"#);
            let answer = client.tool(&id.to_string(), "echo", &arguments).await.message();
            assert_eq!((answer["id"].as_u64(), answer["error"].is_null()), (Some(id), true));
            assert_eq!(answer["result"]["structuredContent"]["n"], id);
        });
    }
    proxy.until("all are in flight", |census| census.in_flight == 200).await;
    running.join_all().await;
    finish(proxy).await;
}

#[tokio::test]
async fn two_hundred_calls_run_side_by_side_over_http() {
    let mut upstream = Scripted::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let mut running = JoinSet::new();
    for id in 0..200 {
        let client = Client::modern(&proxy);
        running.spawn(async move {
            let answer = client.tool("1", "echo", &format!(r#"{{"n":{id}}}"#)).await.message();
            assert_eq!(answer["result"]["n"], id, "{answer}");
        });
    }
    // All of them are there before the first is answered, and the last is answered first.
    let mut exchanges = Vec::new();
    for _ in 0..200 {
        exchanges.push(upstream.next().await);
    }
    while let Some(exchange) = exchanges.pop() {
        let asked: Value = serde_json::from_slice(&exchange.request.body).unwrap();
        let n = &asked["params"]["arguments"]["n"];
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"n":{n}}}}}"#);
        exchange.json("200 OK", "", &body).await;
    }
    running.join_all().await;
    finish(proxy).await;
}

#[tokio::test]
async fn a_number_and_a_text_are_different_ids_in_flight() {
    let proxy = Proxy::to_stdio(&[]).await;
    for client in [Client::modern(&proxy), Client::legacy(&proxy, "2025-06-18").await] {
        let (number, text, again) = tokio::join!(
            client.tool("1", "echo", r#"{"is":"number","delay_ms":60}"#),
            client.tool("\"1\"", "echo", r#"{"is":"text","delay_ms":20}"#),
            client.tool("1", "echo", r#"{"is":"again","delay_ms":40}"#),
        );
        for (answer, id, is) in [
            (number, Value::from(1), "number"),
            (text, Value::from("1"), "text"),
            (again, Value::from(1), "again"),
        ] {
            let answer = answer.message();
            assert_eq!(answer["id"], id);
            assert_eq!(answer["result"]["structuredContent"]["is"], is);
        }
    }
    finish(proxy).await;
}

#[tokio::test]
async fn answers_that_nobody_waits_for_reach_nobody() {
    let proxy = Proxy::to_stdio(&[]).await;
    for client in [Client::modern(&proxy), Client::legacy(&proxy, "2025-11-25").await] {
        for answers in ["once", "twice", "unknown", "text"] {
            let arguments = format!(r#"{{"answers":"{answers}","n":"{answers}"}}"#);
            let told = client.told("echo", &arguments).await;
            assert_eq!(told["n"], answers);
        }
        assert_eq!(client.told("echo", r#"{"n":1}"#).await["n"], 1, "in step");
    }
    let metrics = http::get(proxy.ops(), "/metrics", &[]).await.text();
    for cause in ["unknown_answer", "duplicate_answer"] {
        let line = metrics
            .lines()
            .find(|line| line.contains("stdio_dropped_messages") && line.contains(cause))
            .unwrap_or_else(|| panic!("{cause} is counted: {metrics}"));
        assert!(!line.ends_with(" 0"), "{line}");
    }
    finish(proxy).await;
}

#[tokio::test]
async fn progress_goes_to_the_call_that_asked_for_it() {
    let proxy = Proxy::to_stdio(&[]).await;
    let mut running = JoinSet::new();
    for number in 0..16 {
        let address = proxy.address();
        running.spawn(async move {
            let arguments = format!(r#"{{"progress":3,"delay_ms":{},"n":{number}}}"#, number * 5);
            let params = format!(r#""name":"echo","arguments":{arguments},"#);
            let meta = r#""_meta":{"progressToken":"same","#;
            let body = modern("1", "tools/call", &params).replace(r#""_meta":{"#, meta);
            let headers = modern_headers("tools/call", Some("echo"));
            let answer = http::post(address, &headers, &body).await;
            let events = answer.events();
            let [first, second, third, last] = &*events else { panic!("{events:?}") };
            for (step, progress) in [first, second, third].into_iter().enumerate() {
                assert_eq!(progress["params"]["progressToken"], "same");
                assert_eq!(progress["params"]["progress"], step + 1);
            }
            assert_eq!(last["result"]["structuredContent"]["n"], number);
        });
    }
    running.join_all().await;
    finish(proxy).await;
}

#[tokio::test]
async fn both_eras_and_all_versions_share_an_endpoint() {
    let text = format!("{}\nlimits: {{ max_sessions: 10 }}", stdio_upstream(&[], ""));
    let proxy = Proxy::start(&text).await;
    let mut clients = vec![Client::modern(&proxy)];
    for version in LEGACY {
        clients.push(Client::legacy(&proxy, version).await);
    }
    // All of them over one connection, by turns.
    let mut connection = Connection::open(proxy.address()).await;
    for round in 0..5 {
        for client in &clients {
            let arguments = format!(r#"{{"round":{round}}}"#);
            connection.send(&client.tool_bytes("1", "echo", &arguments)).await;
            let answer = connection.response().await.message();
            assert_eq!(answer["result"]["structuredContent"]["round"], round);
        }
    }
    assert_eq!((proxy.census().sessions, proxy.census().children), (3, 4));
    drop(connection);
    finish(proxy).await;
}
