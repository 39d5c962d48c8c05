//! Nothing can hang: whatever a peer can withhold, the proxy gives up waiting for it.
//!
//! Each wait for a peer, and where a peer withholds that:
//!
//! | the proxy waits for | tested in |
//! |---|---|
//! | a client's first bytes, head, body, keep-alive, reading | `limits`, `h2c` |
//! | the rest of a client's HTTP/2 head; a client of health and metrics | here |
//! | a client's answer to a question | `tidegate-upstream-stdio`, `sse_upstream` |
//! | a connection, TLS, the HTTP/2 settings of a server | `upstreams`, `tidegate-upstream-http` (`faults`, `tls`, `http2`) |
//! | a server's taking of the request | `tidegate-upstream-http` (`http2`); here |
//! | the head of an answer, to each kind of request | here |
//! | the body of an answer: JSON, events, what nobody reads | `tidegate-upstream-http` (`faults`, `streams`); here |
//! | the rest of a broken stream | `tidegate-upstream-http` (`resume`) |
//! | the stream of an HTTP+SSE server, where to post, an answer on it | `sse_upstream`; here |
//! | a server that may be of either kind | here |
//! | a process: start, handshake, reading, answer, list of tools, end | `tidegate-upstream-stdio` |
//! | a place in a pool | `tidegate-pool`, `upstreams`, `processes` |
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::{net::SocketAddr, time::Duration};

use tidegate_tests::{
    Client, Exchange, OldServer, Proxy, Scripted,
    client::{initialize, legacy, modern},
    frames::{Frames, RawFrame, kind, literal},
    http::{self, Connection, Response},
    modern_headers, stdio_upstream,
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

/// How long the proxy is to wait.
const SHORT: Duration = Duration::from_millis(300);
const SHORT_LIMITS: &str = "request: 300ms, idle: 300ms";
/// That it waits no longer has to be told from waiting for ever, on a busy machine too.
const SOON: Duration = Duration::from_secs(15);
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// A proxy that gives servers little time.
async fn to(url: &str, transport: &str) -> Proxy {
    let settings = format!("http: {{ transport: {transport} }}, timeouts: {{ {SHORT_LIMITS} }}");
    Proxy::start(&format!("upstreams: {{ it: {{ url: \"{url}\", {settings} }} }}\n")).await
}

async fn finish(proxy: Proxy) {
    proxy.until("nothing is open", |census| census.sessions + census.leases == 0).await;
    proxy.assert_alive().await;
    proxy.stop().await;
}

/// The answer to this request, which has to come soon and to say what was waited for.
async fn times_out(what: &str, asked: impl Future<Output = Response>) {
    let began = Instant::now();
    let answer = timeout(SOON, asked).await.unwrap_or_else(|_| panic!("{what} hangs"));
    assert!(began.elapsed() >= SHORT - Duration::from_millis(20), "{what}: {:?}", began.elapsed());
    assert_eq!(answer.code(), -31002, "{what}: {} {}", answer.status, answer.text());
}

/// A legacy session of the scripted server.
async fn session(proxy: &Proxy, server: &mut Scripted) -> String {
    let hello = initialize("2025-11-25", "{}");
    let (answer, ()) = tokio::join!(http::post(proxy.address(), &[], &hello), async {
        let result = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}"#;
        server.next().await.json("200 OK", "mcp-session-id: s\r\n", result).await;
    });
    answer.header("mcp-session-id").unwrap().to_owned()
}

#[tokio::test]
async fn a_server_may_withhold_the_answer_to_any_request() {
    let mut all = JoinSet::new();
    // Nothing of it, or all but the end.
    for begun in [
        "",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{\"json",
        "HTTP/1.1 404 No\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{\"json",
        "HTTP/1.1 202 Yes\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\nAcc",
        "HTTP/1.1 202 Yes\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        all.spawn(withheld_from_every_request(begun));
    }
    all.join_all().await;
}

async fn withheld_from_every_request(begun: &'static str) {
    let mut server = Scripted::start().await;
    let proxy = to(&server.url(), "http").await;
    let address = proxy.address();
    let session = session(&proxy, &mut server).await;
    let in_session = [("mcp-session-id", &*session), ("mcp-protocol-version", "2025-11-25")];
    let modern_call = async {
        let params = r#""name":"x","arguments":{},"#;
        let headers = modern_headers("tools/call", Some("x"));
        http::post(address, &headers, &modern("1", "tools/call", params)).await
    };
    let hello = async { http::post(address, &[], &initialize("2025-11-25", "{}")).await };
    let call = async { http::post(address, &in_session, &legacy("1", "ping", "{}")).await };
    let note = async { http::post(address, &in_session, INITIALIZED).await };
    let told =
        async { http::post(address, &in_session, r#"{"jsonrpc":"2.0","id":7,"result":{}}"#).await };
    withholds(&mut server, begun, times_out("a modern call", modern_call)).await;
    withholds(&mut server, begun, times_out("a handshake", hello)).await;
    withholds(&mut server, begun, times_out("a call", call)).await;
    withholds(&mut server, begun, times_out("a notification", note)).await;
    withholds(&mut server, begun, times_out("an answer", told)).await;
    if begun.is_empty() {
        // The stream of what comes unasked may be as silent as it likes, once it is there.
        let get = [in_session[0], in_session[1], ("accept", "text/event-stream")];
        let listen = async { http::get(address, "/mcp", &get).await };
        withholds(&mut server, begun, times_out("a stream", listen)).await;
        // The session is over for its client, whatever the server does not say.
        let end = async { http::method(address, "DELETE", "/mcp", &in_session).await };
        let ended = async {
            let ended = timeout(SOON, end).await.expect("an end that does not hang");
            assert_eq!(ended.status, 200);
        };
        withholds(&mut server, begun, ended).await;
        return finish(proxy).await;
    }
    let end = http::method(address, "DELETE", "/mcp", &in_session);
    tokio::join!(end, async { server.next().await.status("200 OK").await });
    finish(proxy).await;
}

/// Has the server begin an answer and say no more, until the proxy gives up.
async fn withholds(server: &mut Scripted, begun: &str, asked: impl Future<Output = ()>) {
    tokio::join!(asked, async {
        let mut exchange = server.next().await;
        exchange.write(begun).await;
        exchange.closed().await;
    });
}

#[tokio::test]
async fn a_server_may_not_take_the_request() {
    // It accepts the connection, and its socket takes what it takes.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let proxy = to(&url, "http").await;
    let params = format!(r#""name":"x","arguments":{{"pad":"{}"}},"#, "x".repeat(3 << 20));
    let headers = modern_headers("tools/call", Some("x"));
    let body = modern("1", "tools/call", &params);
    let call = http::post(proxy.address(), &headers, &body);
    let ((), _accepted) = tokio::join!(times_out("a call", call), listener.accept());
    finish(proxy).await;
}

/// A session of an HTTP+SSE server that the test scripts: its stream, and the answer to
/// `initialize` on it.
async fn old_session(proxy: &Proxy, server: &mut Scripted) -> (Exchange, String) {
    let hello = initialize("2025-06-18", "{}");
    let (answer, stream) = tokio::join!(http::post(proxy.address(), &[], &hello), async {
        let mut stream = server.next().await;
        assert!(stream.request.head.starts_with("GET "), "{}", stream.request.head);
        stream.start_stream().await;
        stream.chunk("event: endpoint\ndata: /messages\n\n").await;
        server.next().await.status("202 Accepted").await;
        let result = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}"#;
        stream.chunk(format!("event: message\ndata: {result}\n\n")).await;
        stream
    });
    (stream, answer.header("mcp-session-id").unwrap().to_owned())
}

#[tokio::test]
async fn an_old_server_may_withhold_its_stream() {
    let mut server = Scripted::start().await;
    let proxy = to(&server.url(), "sse").await;
    let hello = initialize("2025-06-18", "{}");
    let events = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
    for begun in [
        String::new(),
        events.to_owned(),
        format!("{events}\r\n"),
        format!("{events}\r\n: well\n\nevent: endp"),
        format!("{events}\r\nevent: endpoint\ndata: /messages\n"),
        "HTTP/1.1 404 No\r\ncontent-type: application/json\r\n".to_owned(),
    ] {
        let asked = times_out("a handshake", http::post(proxy.address(), &[], &hello));
        withholds(&mut server, &begun, asked).await;
    }
    finish(proxy).await;
}

#[tokio::test]
async fn an_old_server_may_withhold_the_answer_to_the_handshake() {
    let mut server = Scripted::start().await;
    let proxy = to(&server.url(), "sse").await;
    let hello = initialize("2025-06-18", "{}");
    // It takes the message, does not say so, or says nothing at all.
    for taken in ["HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 202 Acc", ""] {
        let asked = times_out("a handshake", http::post(proxy.address(), &[], &hello));
        tokio::join!(asked, async {
            let mut stream = server.next().await;
            stream.start_stream().await;
            stream.chunk("event: endpoint\ndata: /messages\n\n").await;
            let mut post = server.next().await;
            post.write(taken).await;
            // No session, no stream.
            stream.closed().await;
        });
    }
    finish(proxy).await;
}

#[tokio::test]
async fn an_old_server_may_withhold_that_it_took_a_message() {
    let mut server = Scripted::start().await;
    let proxy = to(&server.url(), "sse").await;
    let address = proxy.address();
    let (mut stream, session) = old_session(&proxy, &mut server).await;
    let in_session = [("mcp-session-id", &*session), ("mcp-protocol-version", "2025-06-18")];
    for begun in ["", "HTTP/1.1 202 Acc", "HTTP/1.1 202 Accepted\r\ncontent-length: 5\r\n\r\nok"] {
        let call = async { http::post(address, &in_session, &legacy("1", "ping", "{}")).await };
        let note = async { http::post(address, &in_session, INITIALIZED).await };
        let ((), _post) = tokio::join!(times_out("a call", call), async {
            let mut post = server.next().await;
            post.write(begun).await;
            post
        });
        // It may be told that nobody waits any more.
        if server.has_request() {
            server.next().await.status("202 Accepted").await;
        }
        if !begun.contains("content-length") {
            withholds(&mut server, begun, times_out("a notification", note)).await;
        }
    }
    // An answer that comes is given, whatever became of the message that asked for it.
    let call = async { http::post(address, &in_session, &legacy("2", "ping", "{}")).await };
    let (answer, _post) = tokio::join!(call, async {
        let post = server.next().await;
        stream
            .chunk("event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}\n\n")
            .await;
        post
    });
    assert_eq!((answer.status, answer.code()), (200, 0), "{}", answer.text());
    http::method(address, "DELETE", "/mcp", &in_session).await;
    stream.closed().await;
    finish(proxy).await;
}

#[tokio::test]
async fn a_server_of_either_kind_may_withhold_that_it_is_an_old_one() {
    let hello = initialize("2025-06-18", "{}");
    let discover = modern("1", "server/discover", "");
    for (headers, body) in [(vec![], hello), (modern_headers("server/discover", None), discover)] {
        let mut server = Scripted::start().await;
        let proxy = to(&server.url(), "auto").await;
        let asked = timeout(SOON, http::post(proxy.address(), &headers, &body));
        let (answer, ()) = tokio::join!(asked, async {
            server.next().await.status("405 Method Not Allowed").await;
            let mut stream = server.next().await;
            stream.start_stream().await;
            stream.closed().await;
        });
        // What it did say is told.
        let answer = answer.expect("an answer that does not hang");
        assert!(answer.text().contains("HTTP 405"), "{}", answer.text());
        finish(proxy).await;
    }
}

#[tokio::test]
async fn a_stop_waits_for_no_stream_that_does_not_open() {
    for transport in ["sse", "auto"] {
        let mut server = Scripted::start().await;
        let upstream = format!(
            "upstreams: {{ it: {{ url: \"{}\", http: {{ transport: {transport} }} }} }}\n",
            server.url()
        );
        let proxy = Proxy::start(&format!("timeouts: {{ drain: 300ms }}\n{upstream}")).await;
        let hello = initialize("2025-06-18", "{}");
        let (address, began) = (proxy.address(), Instant::now());
        let asked = http::post(address, &[], &hello);
        let (_, outcome) = tokio::join!(asked, async {
            if transport == "auto" {
                server.next().await.status("404 Not Found").await;
            }
            let _silent = server.next().await;
            timeout(SOON, proxy.gateway().stop(tidegate_gateway::Stop::Graceful)).await
        });
        let outcome = outcome.expect("a stop that does not hang");
        assert_eq!(outcome.cut, 1, "{transport}");
        assert!(outcome.left.is_empty(), "{outcome:?}");
        assert!(began.elapsed() >= SHORT, "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_client_may_withhold_the_rest_of_an_http2_head() {
    let settings = "timeouts: { keep_alive: 300ms, write_stall: 300ms }";
    let proxy = Proxy::start(&format!("{settings}\n{}", stdio_upstream(&[], ""))).await;
    let mut client = Frames::open(proxy.address(), &[]).await;
    let fields: [(&str, &[u8]); 4] = [
        (":method", b"POST"),
        (":scheme", b"http"),
        (":authority", b"localhost"),
        (":path", b"/mcp"),
    ];
    // When both have greeted each other: the first half of a head, and not a frame more.
    while client.next().await.is_none_or(|frame| frame.kind != kind::SETTINGS) {}
    let began = Instant::now();
    client.send(&RawFrame::new(kind::HEADERS, 0, 1, literal(&fields)).bytes()).await;
    let closed = timeout(SOON, async { while client.next().await.is_some() {} }).await;
    assert!(closed.is_ok(), "it is closed");
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    proxy.until("nothing is left", |census| census.connections == 0).await;
    finish(proxy).await;
}

#[tokio::test]
async fn clients_of_health_and_metrics_may_withhold_what_they_want() {
    let proxy = Proxy::to_stdio(&[]).await;
    let mut all = JoinSet::new();
    for begun in [
        "",
        "GE",
        "GET /metrics HTTP/1.1\r\nhost: loc",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        // Nor is one waited for that asked and stays.
        "GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ] {
        all.spawn(closes(proxy.ops(), begun));
    }
    all.join_all().await;
    finish(proxy).await;
}

async fn closes(address: SocketAddr, begun: &'static str) {
    let mut client = Connection::open(address).await;
    client.send(begun.as_bytes()).await;
    let closed = timeout(SOON, async {
        while !client.is_closed_by_peer().await {
            client.skip();
        }
    });
    assert!(closed.await.is_ok(), "{begun:?} keeps its connection");
}

#[tokio::test]
async fn an_old_server_that_answers_is_waited_for() {
    // The other side of all that: what comes in time passes, with the same settings.
    let server = OldServer::start().await;
    let proxy = to(&server.url(), "auto").await;
    let client = Client::legacy(&proxy, "2025-06-18").await;
    for _ in 0..3 {
        client.told("echo", r#"{"delay_ms":100}"#).await;
    }
    client.delete().await;
    finish(proxy).await;
}
