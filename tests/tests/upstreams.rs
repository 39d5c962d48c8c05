//! What upstreams may do to the proxy and its clients (batteries A06, G03, H and J), and that each
//! setting of an upstream does what it says. The upstream crates test the details; here it is what
//! a client gets to see.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_testkit::procs;
use tidegate_tests::{
    Client, Events, Proxy, Scripted,
    client::{initialize, legacy, modern},
    http::{self, Connection},
    modern_headers, stdio_upstream, timeouts,
};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep},
};

const OK: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

async fn finish(proxy: Proxy) {
    proxy.assert_alive().await;
    proxy.stop().await;
}

/// A proxy before one HTTP upstream with further settings of it.
async fn over_http(url: &str, settings: &str) -> Proxy {
    let text = format!("upstreams: {{ it: {{ http: {{ url: \"{url}\"{settings} }} }} }}\n");
    Proxy::start(&text).await
}

#[tokio::test]
async fn answers_that_break_http_are_errors_and_their_connections_are_not_used_again() {
    let mut upstream = Scripted::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let client = Client::modern(&proxy);
    let length = OK.len();
    let json = "content-type: application/json\r\n";
    let chunks = format!("{length:x}\r\n{OK}\r\n0\r\n\r\n");
    for answer in [
        format!(
            "HTTP/1.1 200 OK\r\n{json}content-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"
        ),
        format!(
            "HTTP/1.1 200 OK\r\n{json}content-length: {length}\r\ncontent-length: 5\r\n\r\n{OK}"
        ),
        format!("HTTP/1.1 200 OK\r\n{json}content-length: +{length}\r\n\r\n{OK}"),
        format!("HTTP/1.1 200 OK\r\n{json}transfer-encoding: gzip, chunked\r\n\r\n{chunks}"),
        format!("HTTP/1.1 200 OK\r\n{json}transfer-encoding: chunked\r\n\r\nzz\r\n{OK}"),
        format!(
            "HTTP/1.1 200 OK\r\n{json}content-encoding: gzip\r\ncontent-length: {length}\r\n\r\n{OK}"
        ),
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {length}\r\n\r\n{OK}"
        ),
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{OK}"),
        format!("HTTP/1.1 200 OK\r\n{json}x: a\0b\r\ncontent-length: {length}\r\n\r\n{OK}"),
        format!("HTTP/1.1 200 OK\r\n{json}x: {}\r\n\r\n", "x".repeat(2 << 20)),
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".to_owned(),
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.2/\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "SSH-2.0-OpenSSH_9.0\r\n".to_owned(),
        "\r\n".to_owned(),
        String::new(),
        format!("HTTP/1.1 200 OK\r\n{json}content-length: 1000\r\n\r\n{OK}"),
        format!("HTTP/1.1 200 OK\r\n{json}content-length: 5\r\n\r\n[1,2]"),
        format!("HTTP/1.1 200 OK\r\n{json}content-length: 4\r\n\r\nnull"),
    ] {
        let shown: String = answer.chars().take(300).collect();
        let (got, ()) = tokio::join!(client.tool("1", "x", "{}"), async {
            let mut exchange = upstream.next().await;
            exchange.write_some(&answer).await;
            exchange.finish().await;
        });
        assert_eq!(got.status, 502, "{shown}\n{}", got.text());
        assert!(matches!(got.code(), -31008 | -31007), "{shown}\n{}", got.text());
        assert_eq!(got.json()["id"], 1);
    }
    // Surplus bytes after a good answer harm only the connection they came on.
    let (got, ()) = tokio::join!(client.tool("1", "x", "{}"), async {
        let mut exchange = upstream.next().await;
        let surplus = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        exchange
            .write(format!(
                "HTTP/1.1 200 OK\r\n{json}content-length: {length}\r\n\r\n{OK}{surplus}"
            ))
            .await;
        exchange.closed().await;
    });
    assert_eq!(got.text(), OK);
    let (got, ()) = tokio::join!(client.tool("2", "x", "{}"), async {
        let two = OK.replace(":1", ":2");
        upstream.next().await.json("200 OK", "", &two).await;
    });
    assert_eq!(got.json()["id"], 2);
    // Some interim answers are none of the client's business; a flood of them is an attack.
    let (got, ()) = tokio::join!(client.tool("1", "x", "{}"), async {
        let mut exchange = upstream.next().await;
        exchange.write("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n").await;
        exchange.json("200 OK", "", OK).await;
    });
    assert_eq!((got.status, got.header("link")), (200, None));
    assert_eq!(proxy.census().leases, 0);
    finish(proxy).await;
}

#[tokio::test]
async fn headers_of_the_upstreams_hop_do_not_reach_the_client() {
    let mut upstream = Scripted::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let client = Client::modern(&proxy);
    let headers = "x-tenant: one\r\nkeep-alive: timeout=5\r\nx-private: 1\r\nupgrade: h2c\r\n\
                   proxy-authenticate: Basic\r\nmcp-session-id: theirs\r\nretry-after: 3\r\n";
    let (answer, ()) = tokio::join!(client.tool("1", "x", "{}"), async {
        let mut exchange = upstream.next().await;
        exchange
            .write(format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{headers}\
                 connection: close, x-private\r\ncontent-length: {}\r\n\r\n{OK}",
                OK.len()
            ))
            .await;
        exchange.finish().await;
    });
    assert_eq!(answer.text(), OK);
    for (name, expected) in [
        ("x-tenant", Some("one")),
        ("retry-after", Some("3")),
        ("x-private", None),
        ("keep-alive", None),
        ("upgrade", None),
        ("proxy-authenticate", None),
        ("mcp-session-id", None),
        ("connection", None),
    ] {
        assert_eq!(answer.header(name), expected, "{name}");
    }
    finish(proxy).await;
}

#[tokio::test]
async fn a_client_cannot_choose_where_a_request_goes() {
    let canary = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let target = canary.local_addr().unwrap();
    let mut upstream = Scripted::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let client = Client::modern(&proxy);
    let there = target.to_string();
    let location = format!("location: http://{target}/mcp\r\n");
    for status in ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let headers = [("x-forwarded-host", &*there), ("forwarded", "host=127.0.0.2")];
        let bytes = [client.tool_bytes("1", "x", "{}"), Vec::new()].concat();
        let text = String::from_utf8(bytes).unwrap();
        let more: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let bytes = text.replacen("host: localhost\r\n", &format!("host: localhost\r\n{more}"), 1);
        let (answer, ()) = tokio::join!(http::raw(proxy.address(), bytes.as_bytes()), async {
            upstream.next().await.json(status, &location, "{}").await;
        });
        assert_eq!(answer.status, 502, "{status}");
        assert_eq!(answer.header("location"), None);
    }
    for request in [
        format!("GET http://{target}/mcp HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n"),
    ] {
        let answer = http::raw(proxy.address(), request.as_bytes()).await;
        assert!(matches!(answer.status, 400 | 403 | 405), "{request}: {}", answer.status);
    }
    let reached = tokio::time::timeout(Duration::from_millis(50), canary.accept()).await;
    assert!(reached.is_err(), "nobody came");
    finish(proxy).await;
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_told_at_once() {
    // A port that was free a moment ago.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = Proxy::to_url(&format!("http://{gone}/mcp")).await;
    let hello = initialize("2025-11-25", "{}");
    for _ in 0..3 {
        let began = Instant::now();
        let newer = Client::modern(&proxy).tool("1", "x", "{}").await;
        assert_eq!((newer.status, newer.code()), (502, -31003));
        assert_eq!(newer.json()["error"]["data"]["tidegate"]["retryable"], true);
        let older = http::post(proxy.address(), &[], &hello).await;
        assert_eq!((older.status, older.code()), (200, -31003));
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        for secret in [gone.to_string(), gone.port().to_string()] {
            assert!(!newer.text().contains(&secret), "{}", newer.text());
        }
    }
    assert_eq!(proxy.census().sessions, 0);
    finish(proxy).await;
}

#[tokio::test]
async fn an_upstream_that_does_not_accept_is_given_up_at_the_deadline() {
    // A full queue of connections that nobody takes: further ones get no answer.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = JoinSet::new();
    for _ in 0..8 {
        waiting.spawn(async move { tokio::net::TcpStream::connect(address).await });
    }
    sleep(Duration::from_millis(100)).await;
    let proxy = over_http(&format!("http://{address}/mcp"), &timeouts("connect: 400ms")).await;
    let began = Instant::now();
    let answer = Client::modern(&proxy).tool("1", "x", "{}").await;
    assert_eq!((answer.status, answer.code()), (504, -31002), "{}", answer.text());
    let waited = began.elapsed();
    assert!(waited > Duration::from_millis(380) && waited < Duration::from_secs(2), "{waited:?}");
    finish(proxy).await;
}

#[tokio::test]
async fn connections_are_as_many_and_as_old_as_configured() {
    let mut upstream = Scripted::start().await;
    let proxy = over_http(&upstream.url(), ", max_connections: 1, pool_idle: 1s").await;
    let client = Client::modern(&proxy);
    let mut calls = JoinSet::new();
    for _ in 0..2 {
        let client = client.clone();
        calls.spawn(async move { client.tool("1", "x", "{}").await.status });
    }
    let mut exchange = upstream.next().await;
    proxy.until("both are there", |census| census.connections == 2).await;
    sleep(Duration::from_millis(100)).await;
    assert!(!upstream.has_request(), "the second one waits");
    assert_eq!(proxy.census().leases, 1);
    exchange.json_and_stay(OK).await;
    exchange.again().await;
    exchange.json_and_stay(OK).await;
    assert_eq!(calls.join_all().await, [200, 200]);
    assert_eq!(proxy.census().idle_connections, 1, "kept for the next call");
    exchange.closed().await;
    proxy.until("it is closed for its age", |census| census.idle_connections == 0).await;
    finish(proxy).await;
}

#[tokio::test]
async fn answers_have_the_configured_limit() {
    let mut upstream = Scripted::start().await;
    let proxy = over_http(&upstream.url(), ", max_response: 64KiB").await;
    let client = Client::modern(&proxy);
    let sized = |bytes: usize| {
        let text = "x".repeat(bytes - r#"{"jsonrpc":"2.0","id":1,"result":{"x":""}}"#.len());
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"x":"{text}"}}}}"#)
    };
    for (bytes, status) in [(64 << 10, 200), ((64 << 10) + 1, 502), (5 << 20, 502)] {
        for is_chunked in [false, true] {
            let body = sized(bytes);
            let (answer, ()) = tokio::join!(client.tool("1", "x", "{}"), async {
                let mut exchange = upstream.next().await;
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
                let whole = if is_chunked {
                    format!(
                        "{head}transfer-encoding: chunked\r\n\r\n{bytes:x}\r\n{body}\r\n0\r\n\r\n"
                    )
                } else {
                    format!("{head}content-length: {bytes}\r\n\r\n{body}")
                };
                exchange.write_some(&whole).await;
                exchange.finish().await;
            });
            assert_eq!(answer.status, status, "{bytes} {is_chunked}");
        }
    }
    // An event over the limit ends its stream.
    let mut connection = Connection::open(proxy.address()).await;
    connection.send(&client.tool_bytes("1", "x", "{}")).await;
    let mut exchange = upstream.next().await;
    exchange.start_stream().await;
    exchange.chunk(format!("data: {}\n\n", sized(1000))).await;
    let mut events = Events::of(connection).await;
    assert_eq!(events.next().await.unwrap()["id"], 1);
    exchange.write_some(&format!("fffff\r\ndata: {}", sized(200_000))).await;
    assert!(!events.rest().await.1, "cut");
    finish(proxy).await;
}

#[tokio::test]
async fn credentials_pass_where_the_route_says_so_and_headers_where_the_upstream_does() {
    let mut upstream = Scripted::start().await;
    let url = upstream.url();
    let proxy = Proxy::start(&format!(
        "upstreams:\n  it: {{ http: {{ url: \"{url}\", headers: {{ x-api-key: theirs }} }} }}\n\
         routes:\n  - {{ match: {{ path: /plain }}, upstream: it }}\n  \
         - {{ match: {{ path: /token }}, upstream: it, forward: {{ authorization: true }} }}\n  \
         - {{ match: {{ path: /cookie }}, upstream: it, forward: {{ cookies: true }} }}\n"
    ))
    .await;
    let mut headers = modern_headers("x/y", None);
    headers.extend([("authorization", "Bearer t"), ("cookie", "a=b"), ("x-api-key", "mine")]);
    for (path, token, cookie) in
        [("/plain", None, None), ("/token", Some("Bearer t"), None), ("/cookie", None, Some("a=b"))]
    {
        let bytes = http::post_to(path, &headers, modern("1", "x/y", "").as_bytes());
        let (answer, ()) = tokio::join!(http::raw(proxy.address(), &bytes), async {
            let exchange = upstream.next().await;
            assert_eq!(exchange.request.header("authorization"), token, "{path}");
            assert_eq!(exchange.request.header("cookie"), cookie, "{path}");
            assert_eq!(exchange.request.header("x-api-key"), Some("theirs"), "{path}");
            exchange.json("200 OK", "set-cookie: c=d\r\n", OK).await;
        });
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("set-cookie"), cookie.map(|_| "c=d"), "{path}: both ways or none");
    }
    finish(proxy).await;
}

#[tokio::test]
async fn a_process_gets_what_is_configured_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let cwd = folder.path().canonicalize().unwrap().display().to_string();
    let settings = format!(
        ", cwd: \"{cwd}\", env: {{ GREETING: \"$(id) `id`\" }}, inherit_env: [CARGO_MANIFEST_DIR]"
    );
    let text = stdio_upstream(&["$(touch x)", "; rm -rf /", "*", "a b", "&"], &settings);
    let proxy = Proxy::start(&text).await;
    let client = Client::modern(&proxy);
    let mut told = client.told("args", "{}").await;
    let arguments = told["args"].take();
    let words = ["$(touch x)", "; rm -rf /", "*", "a b", "&"].map(Value::from);
    assert_eq!(arguments.as_array().unwrap()[1..], words, "as they were written");
    assert_eq!(client.told("cwd", "{}").await["cwd"], cwd);
    let environment = client.told("env", "{}").await["env"].take();
    assert_eq!(environment["GREETING"], "$(id) `id`");
    let names: Vec<&String> = environment.as_object().unwrap().keys().collect();
    assert!(environment["PATH"].is_string() && environment["CARGO_MANIFEST_DIR"].is_string());
    // Cargo and nextest set dozens of others for this test.
    assert!(!names.iter().any(|name| name.starts_with("CARGO_PKG")), "{names:?}");
    finish(proxy).await;
}

#[tokio::test]
async fn a_process_that_dies_fails_its_calls_at_once() {
    let proxy = Proxy::to_stdio(&[]).await;
    for client in [Client::legacy(&proxy, "2025-11-25").await, Client::modern(&proxy)] {
        client.told("echo", "{}").await;
        let mut hung = JoinSet::new();
        for number in 0..50 {
            let client = client.clone();
            hung.spawn(async move {
                let answer = client.tool(&number.to_string(), "hang", "{}").await;
                (number, answer.message(), Instant::now())
            });
        }
        proxy.until("all hang", |census| census.in_flight == 50).await;
        let died = Instant::now();
        let (last, answers) = tokio::join!(
            client.tool("\"last\"", "exit", r#"{"code":3,"partial":true}"#),
            hung.join_all()
        );
        assert_eq!(last.message()["error"]["code"], -31007, "{}", last.text());
        for (number, answer, at) in answers {
            assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(number), &json!(-31007)));
            assert_eq!(answer["error"]["data"]["tidegate"]["retryable"], false);
            assert!(at - died < Duration::from_secs(1), "{:?}", at - died);
        }
        proxy.until("it is gone", |census| census.in_flight == 0 && census.children == 0).await;
        // A session died with its process; the shared process is replaced.
        let next = client.tool("1", "echo", "{}").await;
        assert!(matches!(next.status, 404 | 200), "{}", next.text());
    }
    assert_eq!((proxy.census().sessions, proxy.census().children), (0, 1));
    finish(proxy).await;
}

#[tokio::test]
async fn noise_of_a_process_harms_nobody() {
    let proxy = Proxy::to_stdio(&["--garbage-at-start", "--stderr-flood"]).await;
    for client in [Client::legacy(&proxy, "2025-11-25").await, Client::modern(&proxy)] {
        for text in ["no json", "{\"jsonrpc\"", "[1,2]", "\u{1b}[31mred", "null", ""] {
            let raw = json!({ "text": text }).to_string();
            assert_eq!(client.tool("1", "raw", &raw).await.status, 200, "{text:?}");
        }
        client.told("stderr", r#"{"lines":1000}"#).await;
        assert_eq!(client.told("echo", r#"{"n":1}"#).await["n"], 1, "in step");
    }
    finish(proxy).await;
}

#[tokio::test]
async fn a_line_without_end_ends_its_process_and_not_the_proxy() {
    let proxy = Proxy::to_stdio(&[]).await;
    let before = procs::resident_kib();
    for client in [Client::legacy(&proxy, "2025-11-25").await, Client::modern(&proxy)] {
        let answer = client.tool("1", "giant", r#"{"bytes":67108864}"#).await;
        assert!(matches!(answer.code(), -31008 | -31007), "{}", answer.text());
    }
    let grown = procs::resident_kib().saturating_sub(before);
    assert!(grown < 80 << 10, "{grown} KiB");
    proxy.until("they are gone", |census| census.children == 0).await;
    finish(proxy).await;
}

#[tokio::test]
async fn a_process_that_does_not_start_is_told_and_leaves_nothing() {
    for (mode, code) in [
        (&["--initialize", "silent"][..], -31002),
        (&["--initialize", "exit"], -31003),
        (&["--exit-at-start", "7"], -31003),
        (&["--mute"], -31002),
        (&["--never-read"], -31002),
    ] {
        let text = format!(
            "limits: {{ max_sessions: 1 }}\n{}",
            stdio_upstream(mode, ", start_timeout: 400ms, stop_grace: 200ms")
        );
        let proxy = Proxy::start(&text).await;
        for _ in 0..2 {
            let hello = initialize("2025-11-25", "{}");
            let answer = http::post(proxy.address(), &[], &hello).await;
            assert_eq!((answer.status, answer.code()), (200, code), "{mode:?} {}", answer.text());
            assert_eq!(answer.header("mcp-session-id"), None);
            assert!(!answer.text().contains("canary"), "nothing of stderr: {}", answer.text());
        }
        proxy.until("it is gone", |census| census.children == 0).await;
        finish(proxy).await;
    }
}

#[tokio::test]
async fn a_handshake_that_its_client_leaves_is_undone() {
    let text = format!(
        "limits: {{ max_sessions: 1 }}\n{}",
        stdio_upstream(&["--initialize", "silent"], ", start_timeout: 30s, stop_grace: 200ms")
    );
    let proxy = Proxy::start(&text).await;
    for _ in 0..3 {
        let mut connection = Connection::open(proxy.address()).await;
        let hello = initialize("2025-11-25", "{}");
        connection.send(&http::post_bytes(&[], hello.as_bytes())).await;
        proxy.until("it starts", |census| census.children == 1).await;
        drop(connection);
        proxy.until("it is gone", |census| (census.children, census.in_flight) == (0, 0)).await;
    }
    finish(proxy).await;
}

#[tokio::test]
async fn a_refused_handshake_opens_no_session() {
    let proxy =
        Proxy::to_stdio_with(&["--initialize", "error"], "limits: { max_sessions: 1 }").await;
    for _ in 0..3 {
        let answer = http::post(proxy.address(), &[], &initialize("2025-11-25", "{}")).await;
        assert_eq!((answer.status, answer.code()), (200, -32602), "{}", answer.text());
        assert_eq!(answer.header("mcp-session-id"), None);
    }
    proxy.until("none is left", |census| (census.sessions, census.children) == (0, 0)).await;
    finish(proxy).await;
}

#[tokio::test]
async fn ending_a_session_ends_its_calls() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let hanging = client.clone();
    let mut calls = JoinSet::new();
    calls.spawn(async move { hanging.tool("1", "hang", "{}").await });
    proxy.until("it hangs", |census| census.in_flight == 1).await;
    let began = Instant::now();
    assert_eq!(client.delete().await.status, 200);
    let answer = calls.join_next().await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(answer.message()["error"]["code"].is_i64(), "{}", answer.text());
    proxy.until("it is gone", |census| (census.children, census.in_flight) == (0, 0)).await;
    finish(proxy).await;
}

#[tokio::test]
async fn a_process_that_stops_reading_holds_up_only_its_own_calls() {
    let text = stdio_upstream(&[], &timeouts("request: 3s"));
    let proxy = Proxy::start(&text).await;
    let (stuck, free) =
        (Client::legacy(&proxy, "2025-11-25").await, Client::legacy(&proxy, "2025-11-25").await);
    let blocked = stuck.clone();
    let mut calls = JoinSet::new();
    calls.spawn(async move { blocked.tool("1", "block", r#"{"ms":5000}"#).await });
    proxy.until("it blocks", |census| census.in_flight == 1).await;
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(1 << 20));
    for _ in 0..6 {
        let (client, arguments) = (stuck.clone(), large.clone());
        calls.spawn(async move { client.tool("1", "echo", &arguments).await });
    }
    let began = Instant::now();
    for n in 0..10 {
        assert_eq!(free.told("echo", &format!(r#"{{"n":{n}}}"#)).await["n"], n);
    }
    assert!(calls.try_join_next().is_none(), "the others are still stuck");
    for answer in calls.join_all().await {
        assert!(matches!(answer.code(), -31002 | -31006), "{}", answer.text());
    }
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(free.post(&legacy("1", "ping", "{}")).await.status, 200);
    finish(proxy).await;
}
