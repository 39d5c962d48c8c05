//! What an attacker can do with the framing and the headers of a request (battery A). The judge is
//! an upstream that writes down every byte it gets.
#![expect(clippy::unwrap_used, reason = "tests")]

use tidegate_tests::{
    Proxy, Recorder,
    client::legacy,
    http::{self, Connection, Response},
};

/// The request that must never come through.
const CANARY: &str = r#"{"jsonrpc":"2.0","id":666,"method":"canary"}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

struct Arena {
    upstream: Recorder,
    proxy: Proxy,
}

impl Arena {
    async fn start() -> Self {
        let upstream = Recorder::start().await;
        let settings = "timeouts: { body_idle: 300ms, headers: 300ms, keep_alive: 300ms }";
        let proxy = Proxy::to_url_with(&upstream.url(), settings).await;
        Self { upstream, proxy }
    }

    /// Sends bytes and reads until the proxy closes. However it took them, at most one request
    /// goes on, framed in one way only, and never the canary.
    async fn attack(&self, bytes: &[u8]) -> Vec<Response> {
        let what = String::from_utf8_lossy(bytes).into_owned();
        self.upstream.clear();
        let mut connection = Connection::open(self.proxy.address()).await;
        connection.send(bytes).await;
        let responses = connection.responses().await;
        let requests = self.upstream.requests();
        assert!(requests.len() <= 1, "{what}\nlet through {requests:?}");
        for request in &requests {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            assert!(!body.contains("canary"), "{what}\nlet the canary through");
            let lengths = request.head.to_lowercase().matches("content-length:").count();
            assert_eq!((lengths, request.header("transfer-encoding")), (1, None), "{what}");
            assert_eq!(request.header("content-length"), Some(&*body.len().to_string()), "{what}");
        }
        responses
    }

    /// Sends bytes that no honest client sends: refused with this status, and nobody hears of it.
    async fn refused(&self, bytes: &[u8], status: u16) -> Response {
        let what = String::from_utf8_lossy(bytes).into_owned();
        let mut responses = self.attack(bytes).await;
        let statuses: Vec<u16> = responses.iter().map(|each| each.status).collect();
        assert_eq!(statuses, [status], "{what}");
        assert_eq!(self.upstream.requests().len(), 0, "{what}");
        responses.remove(0)
    }

    async fn finish(self) {
        self.proxy.assert_alive().await;
        self.proxy.stop().await;
    }
}

/// A POST with these header lines in place of those that frame the body.
fn post(lines: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\n{lines}\r\n{body}"
    )
    .into_bytes()
}

fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

fn canary() -> String {
    String::from_utf8(http::post_bytes(&[], CANARY.as_bytes())).unwrap()
}

#[tokio::test]
async fn both_a_length_and_chunks_make_one_request_and_the_connection_ends() {
    let arena = Arena::start().await;
    let ping = chunked(PING);
    // The canary is what a reader of the length would take for the next request.
    let short = ping.len();
    let long = short + canary().len();
    for lines in [
        format!("content-length: {short}\r\ntransfer-encoding: chunked\r\n"),
        format!("transfer-encoding: chunked\r\ncontent-length: {short}\r\n"),
        format!("content-length: {long}\r\ntransfer-encoding: chunked\r\n"),
        "content-length: 0\r\ntransfer-encoding: chunked\r\n".to_owned(),
        "content-length: 4\r\ntransfer-encoding: chunked\r\n".to_owned(),
        format!("Content-Length: {short}\r\nTransfer-Encoding: CHUNKED\r\n"),
        format!("CONTENT-LENGTH: {short}\r\nTRANSFER-ENCODING: Chunked\r\n"),
        format!("content-length:{short}\r\ntransfer-encoding:chunked\r\n"),
        format!("content-length: {short}\r\ntransfer-encoding: \t chunked\r\n"),
        format!("content-length: {short}\r\ntransfer-encoding: chunked \t\r\n"),
        format!(
            "content-length: {short}\r\ncontent-length: {short}\r\ntransfer-encoding: chunked\r\n"
        ),
        format!(
            "content-length: {short}\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\n"
        ),
    ] {
        let responses = arena.attack(&post(&lines, &format!("{ping}{}", canary()))).await;
        assert!(responses.len() <= 1, "{lines}: one request has at most one answer");
    }
    arena.finish().await;
}

#[tokio::test]
async fn a_transfer_coding_other_than_chunked_is_refused() {
    let arena = Arena::start().await;
    for value in [
        "gzip, chunked",
        "identity, chunked",
        "chunked, identity",
        "chunked, chunked",
        "identity",
        "xchunked",
        "chunkedx",
        "chunked;q=1",
        "\"chunked\"",
        "\u{b}chunked",
        "chunked\u{c}",
        ",chunked",
        "",
    ] {
        let lines = format!("transfer-encoding: {value}\r\n");
        arena.refused(&post(&lines, &format!("{}{}", chunked(PING), canary())), 400).await;
    }
    for lines in [
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding : chunked\r\n",
        "transfer-encoding\t: chunked\r\n",
        " transfer-encoding: chunked\r\n",
        "x: y\r\n transfer-encoding: chunked\r\n",
        "transfer-encoding:\r\n chunked\r\n",
        "transfer\0-encoding: chunked\r\n",
    ] {
        arena.refused(&post(lines, &format!("{}{}", chunked(PING), canary())), 400).await;
    }
    // HTTP/1.0 has no chunks.
    let old = String::from_utf8(post("transfer-encoding: chunked\r\n", &chunked(PING))).unwrap();
    arena.refused(old.replace("HTTP/1.1", "HTTP/1.0").as_bytes(), 400).await;
    arena.finish().await;
}

#[tokio::test]
async fn a_length_that_is_not_one_plain_number_is_refused() {
    let arena = Arena::start().await;
    let length = PING.len();
    for lines in [
        format!("content-length: {length}\r\ncontent-length: 0\r\n"),
        format!("content-length: 0\r\ncontent-length: {length}\r\n"),
        format!("content-length: {length}, {length}\r\n"),
        format!("content-length: +{length}\r\n"),
        format!("content-length: -{length}\r\n"),
        format!("content-length: 0x{length:x}\r\n"),
        format!("content-length: {length}.0\r\n"),
        format!("content-length: {length} 0\r\n"),
        format!("content-length: {length};\r\n"),
        format!("content-length : {length}\r\n"),
        format!("content-length:\r\n {length}\r\n"),
        "content-length: 36893488147419103232\r\n".to_owned(),
        "content-length: 18446744073709551616\r\n".to_owned(),
        "content-length: \r\n".to_owned(),
        "content-length: ten\r\n".to_owned(),
    ] {
        arena.refused(&post(&lines, &format!("{PING}{}", canary())), 400).await;
    }
    // Two that agree leave no doubt (RFC 9110, 8.6); what goes on has one.
    let twice = format!("content-length: {length}\r\ncontent-length: {length}\r\n");
    let responses = arena.attack(&post(&twice, PING)).await;
    assert_eq!((responses.len(), responses[0].status), (1, 200));
    arena.finish().await;
}

#[tokio::test]
async fn chunks_that_are_framed_wrongly_are_refused() {
    let arena = Arena::start().await;
    let size = format!("{:x}", PING.len());
    for body in [
        format!("+{size}\r\n{PING}\r\n0\r\n\r\n"),
        format!("-{size}\r\n{PING}\r\n0\r\n\r\n"),
        format!("0x{size}\r\n{PING}\r\n0\r\n\r\n"),
        format!("{size}g\r\n{PING}\r\n0\r\n\r\n"),
        format!("\r\n{PING}\r\n0\r\n\r\n"),
        format!("ffffffffffffffff{size}\r\n{PING}\r\n0\r\n\r\n"),
        format!("{size}\n{PING}\n0\n\n"),
        format!("{size};ext\n=1\r\n{PING}\r\n0\r\n\r\n"),
        format!("{size};{}\r\n{PING}\r\n0\r\n\r\n", "x".repeat(20_000)),
        format!("{size}\r\n{PING}XX\r\n0\r\n\r\n"),
        format!("{size}\r\n{PING}0\r\n\r\n"),
        format!("1{size}\r\n{PING}\r\n0\r\n\r\n"),
    ] {
        let bytes = post("transfer-encoding: chunked\r\n", &format!("{body}{}", canary()));
        let responses = arena.attack(&bytes).await;
        let statuses: Vec<u16> = responses.iter().map(|each| each.status).collect();
        assert!(matches!(&*statuses, [] | [400 | 408]), "{body:?}: {statuses:?}");
        assert_eq!(arena.upstream.requests().len(), 0, "{body:?}");
    }
    arena.finish().await;
}

#[tokio::test]
async fn trailers_and_chunk_extensions_go_no_further() {
    let arena = Arena::start().await;
    let size = format!("{:x}", PING.len());
    let body = format!("{size};a=b\r\n{PING}\r\n0\r\nx-injected: 1\r\nauthorization: x\r\n\r\n");
    let lines = "transfer-encoding: chunked\r\ntrailer: x-injected\r\n";
    let responses = arena.attack(&post(lines, &body)).await;
    assert_eq!(responses[0].status, 200);
    let requests = arena.upstream.requests();
    assert_eq!(String::from_utf8_lossy(&requests[0].body), PING);
    for name in ["x-injected", "authorization", "trailer"] {
        assert_eq!(requests[0].header(name), None, "{name}");
    }
    arena.finish().await;
}

#[tokio::test]
async fn a_body_that_ends_early_is_no_request() {
    let arena = Arena::start().await;
    let size = format!("{:x}", PING.len());
    for bytes in [
        post("content-length: 1000\r\n", PING),
        post("transfer-encoding: chunked\r\n", &format!("{size}\r\n{PING}\r\n")),
        post("transfer-encoding: chunked\r\n", &format!("{size}\r\n{PING}")),
        post("transfer-encoding: chunked\r\n", &format!("{size}\r\n{PING}\r\n0\r\n")),
        post("content-length: 5", ""),
    ] {
        arena.upstream.clear();
        let mut connection = Connection::open(arena.proxy.address()).await;
        connection.send(&bytes).await;
        connection.finish().await;
        let statuses: Vec<u16> =
            connection.responses().await.iter().map(|each| each.status).collect();
        assert!(matches!(&*statuses, [] | [400]), "{statuses:?}");
        assert_eq!(arena.upstream.requests().len(), 0);
    }
    arena.finish().await;
}

#[tokio::test]
async fn the_rest_of_a_body_that_was_answered_early_is_never_a_request() {
    let arena = Arena::start().await;
    let canary = canary();
    let length = canary.len();
    let early = |line: &str, headers: &str| {
        format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n{headers}\
             content-length: {length}\r\n\r\n"
        )
    };
    for (head, status) in [
        (early("POST /mcp", "content-type: text/plain\r\n"), 415),
        (early("POST /mcp", "content-type: application/json\r\ncontent-encoding: gzip\r\n"), 415),
        (early("POST /mcp", "content-type: application/json\r\norigin: http://evil\r\n"), 403),
        (early("PUT /mcp", ""), 405),
        (early("GET /mcp", "mcp-protocol-version: 2026-07-28\r\n"), 405),
        (early("GET /mcp", "mcp-session-id: 0\r\n"), 404),
        (early("DELETE /mcp", "mcp-session-id: 0\r\n"), 404),
    ] {
        // The body looks like a request, and one more request follows it.
        arena.upstream.clear();
        let mut connection = Connection::open(arena.proxy.address()).await;
        connection.send(head.as_bytes()).await;
        let first = connection.response().await;
        assert_eq!(first.status, status, "{head} {}", first.text());
        connection.send(canary.as_bytes()).await;
        connection.send(&http::post_bytes(&[("connection", "close")], PING.as_bytes())).await;
        let rest: Vec<u16> = connection.responses().await.iter().map(|each| each.status).collect();
        assert!(matches!(&*rest, [] | [200]), "{head}: {rest:?}");
        let requests = arena.upstream.requests();
        assert_eq!(requests.len(), rest.len(), "{head}");
        assert!(requests.iter().all(|each| each.body == PING.as_bytes()), "{head}");
    }
    arena.finish().await;
}

#[tokio::test]
async fn line_ends_and_control_characters_inject_no_header() {
    let arena = Arena::start().await;
    let length = PING.len();
    for value in ["a\rx-injected: 1", "a\0b", "a\nx-injected: 1", "\u{7f}"] {
        let lines = format!("x-value: {value}\r\ncontent-length: {length}\r\n");
        arena.attack(&post(&lines, PING)).await;
        // A lone LF is a line end to some; then it is a header of the client's own, which it may
        // send anyway. What must not happen is that readers disagree.
        for request in arena.upstream.requests() {
            assert!(!request.head.contains(['\0', '\u{7f}']), "{:?}", request.head);
            let bare = request.head.replace("\r\n", "");
            assert!(!bare.contains(['\r', '\n']), "{:?}", request.head);
        }
    }
    arena.finish().await;
}

#[tokio::test]
async fn an_encoded_name_with_line_ends_stays_encoded() {
    let arena = Arena::start().await;
    // The name is "a\r\nx-injected: 1".
    let name = "=?base64?YQ0KeC1pbmplY3RlZDogMQ==?=";
    let body = tidegate_tests::client::modern(
        "1",
        "tools/call",
        r#""name":"a\r\nx-injected: 1","arguments":{},"#,
    );
    let headers = tidegate_tests::modern_headers("tools/call", Some(name));
    let answer = http::post(arena.proxy.address(), &headers, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let requests = arena.upstream.requests();
    assert_eq!(requests[0].header("mcp-name"), Some(name));
    assert_eq!(requests[0].header("x-injected"), None);
    arena.finish().await;
}

#[tokio::test]
async fn connection_cannot_name_headers_that_matter() {
    let arena = Arena::start().await;
    let length = PING.len();
    for named in [
        "close, authorization",
        "mcp-session-id",
        "keep-alive, MCP-Protocol-Version",
        "Mcp-Method",
        "mcp-param-region",
        "x-forwarded-for",
        "host",
        "close,origin",
        "content-type",
        "last-event-id",
    ] {
        let lines = format!("connection: {named}\r\ncontent-length: {length}\r\n");
        arena.refused(&post(&lines, PING), 400).await;
    }
    arena.finish().await;
}

#[tokio::test]
async fn headers_of_the_hop_and_of_the_proxy_do_not_go_on() {
    let arena = Arena::start().await;
    let headers = [
        ("connection", "close, x-private"),
        ("x-private", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("upgrade", "websocket"),
        ("proxy-authorization", "Basic eDp5"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-host", "internal"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("via", "1.1 forged"),
        ("authorization", "Bearer secret"),
        ("cookie", "a=b"),
        ("origin", "http://localhost"),
        ("x-tenant", "one"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let answer = http::post(arena.proxy.address(), &headers, PING).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let requests = arena.upstream.requests();
    for (name, value) in headers {
        let passes = matches!(name, "x-tenant" | "traceparent");
        let expected = passes.then_some(value);
        if name != "connection" {
            assert_eq!(requests[0].header(name), expected, "{name}");
        }
    }
    let head = &requests[0].head;
    for secret in ["10.0.0.1", "secret", "a=b", "private", "forged", "websocket"] {
        assert!(!head.contains(secret), "{head}");
    }
    let host = arena.upstream.url().replace("http://", "").replace("/mcp", "");
    assert_eq!(requests[0].header("host"), Some(&*host), "the upstream's own name");
    arena.finish().await;
}

#[tokio::test]
async fn only_the_exact_path_of_a_route_leads_anywhere() {
    let arena = Arena::start().await;
    for (path, status) in [
        ("/", 404),
        ("/MCP", 404),
        ("/mcp/", 404),
        ("//mcp", 404),
        ("/mcp//", 404),
        ("/mcpx", 404),
        ("/mcp/x", 404),
        ("/x/../mcp", 400),
        ("/./mcp", 400),
        ("/mcp/.", 400),
        ("/mcp/..", 400),
        ("/..", 400),
        ("/%6dcp", 400),
        ("/mcp%00", 400),
        ("/mcp%2f", 400),
        ("/mcp%5c", 400),
        ("/..%2fmcp", 400),
        ("/%2e%2e/mcp", 400),
        ("/mcp;x=1", 400),
        ("/mcp\\x", 400),
        ("mcp", 400),
        ("*", 400),
        ("/m\u{e9}cp", 400),
    ] {
        arena.upstream.clear();
        let bytes = http::post_to(path, &[("connection", "close")], PING.as_bytes());
        let answer = http::raw(arena.proxy.address(), &bytes).await;
        let is_refused = matches!((status, answer.status), (404, 404) | (400, 400 | 404));
        assert!(is_refused, "{path}: {}", answer.status);
        assert_eq!(arena.upstream.requests().len(), 0, "{path}");
    }
    // A query is no part of the path, and is not passed on.
    let bytes = http::post_to("/mcp?to=/admin", &[], PING.as_bytes());
    assert_eq!(http::raw(arena.proxy.address(), &bytes).await.status, 200);
    assert!(arena.upstream.requests()[0].head.starts_with("POST /mcp HTTP/1.1\r\n"));
    arena.finish().await;
}

#[tokio::test]
async fn a_request_names_one_host_and_only_one_that_is_served() {
    let arena = Arena::start().await;
    let length = PING.len();
    for (target, hosts, status) in [
        ("/mcp", "", 400),
        ("/mcp", "host: localhost\r\nhost: localhost\r\n", 400),
        ("/mcp", "host: localhost\r\nhost: evil.example\r\n", 400),
        ("/mcp", "host:\r\n", 400),
        ("/mcp", "host: a@localhost\r\n", 400),
        ("/mcp", "host: b/../\r\n", 400),
        ("/mcp", "host: localhost, evil.example\r\n", 400),
        ("/mcp", "host: local host\r\n", 400),
        ("/mcp", "host: evil.example\r\n", 403),
        ("/mcp", "host: 169.254.169.254\r\n", 403),
        ("http://169.254.169.254/mcp", "host: localhost\r\n", 400),
        ("http://evil.example/mcp", "host: evil.example\r\n", 403),
        ("http://localhost:1/mcp", "host: localhost:2\r\n", 400),
        ("http://user@localhost/mcp", "host: localhost\r\n", 400),
        ("http://localhost/mcp", "host: localhost\r\n", 200),
        ("http://localhost/mcp", "", 400),
        ("/mcp", "host: 127.0.0.1:99\r\n", 200),
        ("/mcp", "host: [::1]\r\n", 200),
    ] {
        arena.upstream.clear();
        let bytes = format!(
            "POST {target} HTTP/1.1\r\n{hosts}content-type: application/json\r\naccept: */*\r\n\
             connection: close\r\ncontent-length: {length}\r\n\r\n{PING}"
        );
        let answer = http::raw(arena.proxy.address(), bytes.as_bytes()).await;
        assert_eq!(answer.status, status, "{target} {hosts:?} {}", answer.text());
        assert_eq!(arena.upstream.requests().len(), usize::from(status == 200), "{target} {hosts}");
    }
    arena.finish().await;
}

#[tokio::test]
async fn other_methods_are_told_which_there_are() {
    let arena = Arena::start().await;
    let address = arena.proxy.address();
    for (method, target) in [
        ("PUT", "/mcp"),
        ("PATCH", "/mcp"),
        ("HEAD", "/mcp"),
        ("TRACE", "/mcp"),
        ("OPTIONS", "/mcp"),
        ("OPTIONS", "*"),
        ("PROPFIND", "/mcp"),
        ("BREW", "/mcp"),
        ("get", "/mcp"),
        ("CONNECT", "localhost:80"),
    ] {
        let close = [("connection", "close")];
        let mut connection = Connection::open(address).await;
        connection.send(&http::request(method, target, &close)).await;
        let (status, headers) = connection.head().await.unwrap();
        assert_eq!(status, 405, "{method} {target}");
        let allow = headers.iter().find(|(name, _)| name == "allow").map(|(_, value)| &**value);
        assert_eq!(allow, Some("POST"), "{method} {target}");
    }
    assert_eq!(arena.upstream.requests().len(), 0);
    // The one OPTIONS that is served: a browser asks before it calls.
    let headers = [("origin", "http://localhost"), ("access-control-request-method", "POST")];
    let preflight = http::method(address, "OPTIONS", "/mcp", &headers).await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("http://localhost"));
    arena.finish().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let arena = Arena::start().await;
    let mut connection = Connection::open(arena.proxy.address()).await;
    let mut bytes = Vec::new();
    for id in 0..20 {
        let body = legacy(&id.to_string(), "tools/list", "{}");
        bytes.extend_from_slice(&http::post_bytes(&[], body.as_bytes()));
    }
    connection.send(&bytes).await;
    for id in 0..20 {
        let answer = connection.response().await;
        assert_eq!((answer.status, answer.json()["id"].as_u64()), (200, Some(id)));
    }
    assert_eq!(arena.upstream.requests().len(), 20);
    arena.finish().await;
}
