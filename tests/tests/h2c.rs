//! HTTP/2 with prior knowledge: everything works as over HTTP/1.1, and the attacks that HTTP/2 has
//! of its own (battery C07 to C12, A07) hurt nobody else.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use http::Request;
use serde_json::Value;
use tidegate_tests::{
    Client, Proxy, Recorder, Scripted,
    client::{initialize, legacy, modern},
    frames::{END_HEADERS, END_STREAM, Frames, RawFrame, kind, literal},
    http as http1, modern_headers, stdio_upstream,
};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep},
};

/// A connection of a proper client.
struct H2 {
    requests: SendRequest<Bytes>,
    _connection: JoinSet<()>,
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl H2 {
    async fn open(address: SocketAddr) -> Self {
        Self::with_window(address, 1 << 20).await
    }

    async fn with_window(address: SocketAddr, window: u32) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(window)
            // Until the server has said how many it takes.
            .initial_max_send_streams(100)
            .handshake(stream)
            .await
            .unwrap();
        let mut running = JoinSet::new();
        running.spawn(async move { drop(connection.await) });
        Self { requests, _connection: running }
    }

    /// Sends a request and returns its response with the body still to come, and the way to reset.
    async fn start(
        &self,
        method: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (http::Response<RecvStream>, h2::SendStream<Bytes>) {
        let mut request = Request::builder()
            .method(method)
            .uri("http://localhost/mcp")
            .version(http::Version::HTTP_2);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if method == "POST" {
            request = request.header("content-type", "application/json");
            request = request.header("accept", "application/json, text/event-stream");
        }
        let request = request.body(()).unwrap();
        let mut requests = self.requests.clone().ready().await.unwrap();
        let (response, mut sending) = requests.send_request(request, body.is_empty()).unwrap();
        if !body.is_empty() {
            sending.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
        }
        (response.await.unwrap(), sending)
    }

    async fn send(&self, method: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let (response, _sending) = self.start(method, headers, body).await;
        let (head, mut stream) = response.into_parts();
        let mut body = Vec::new();
        while let Some(piece) = stream.data().await {
            let piece = piece.unwrap();
            stream.flow_control().release_capacity(piece.len()).unwrap();
            body.extend_from_slice(&piece);
        }
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    async fn post(&self, headers: &[(&str, &str)], body: &str) -> Answer {
        self.send("POST", headers, body).await
    }
}

fn tool(name: &str, arguments: &str) -> (Vec<(&'static str, String)>, String) {
    let headers = modern_headers("tools/call", Some(name));
    let headers = headers.into_iter().map(|(key, value)| (key_of(key), value.to_owned())).collect();
    let params = format!(r#""name":"{name}","arguments":{arguments},"#);
    (headers, modern("1", "tools/call", &params))
}

fn key_of(name: &str) -> &'static str {
    match name {
        "mcp-method" => "mcp-method",
        "mcp-name" => "mcp-name",
        _ => "mcp-protocol-version",
    }
}

fn borrowed<'a>(headers: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    headers.iter().map(|(name, value)| (*name, &**value)).collect()
}

async fn finish(proxy: Proxy) {
    proxy.assert_alive().await;
    proxy.stop().await;
}

#[tokio::test]
async fn both_eras_work_over_http2() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = H2::open(proxy.address()).await;
    let (headers, body) = tool("echo", r#"{"n":1}"#);
    let answer = client.post(&borrowed(&headers), &body).await;
    assert_eq!(answer.json()["result"]["structuredContent"]["n"], 1);

    let opened = client.post(&[], &initialize("2025-11-25", "{}")).await;
    assert_eq!(opened.status, 200);
    let session = opened.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let session = [("mcp-session-id", &*session), ("mcp-protocol-version", "2025-11-25")];
    let ready = client.post(&session, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert_eq!(ready.await.status, 202);
    let call = legacy("\"a\"", "tools/call", r#"{"name":"echo","arguments":{"n":2}}"#);
    let answer = client.post(&session, &call).await.json();
    assert_eq!(
        (&answer["id"], &answer["result"]["structuredContent"]["n"]),
        (&"a".into(), &2.into())
    );
    let batch = client.post(&session, &format!("[{call}]")).await;
    assert_eq!(batch.status, 400);
    assert_eq!(client.send("DELETE", &session, "").await.status, 200);
    assert_eq!(client.post(&session, &call).await.status, 404);
    assert_eq!(client.send("PUT", &[], "").await.status, 405);
    drop(client);
    finish(proxy).await;
}

#[tokio::test]
async fn streams_pass_over_http2_and_a_reset_cancels() {
    let mut upstream = Scripted::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let client = H2::open(proxy.address()).await;
    let (headers, body) = tool("x", "{}");
    let headers = borrowed(&headers);
    let ((response, mut sending), mut exchange) =
        tokio::join!(client.start("POST", &headers, &body), async {
            let mut exchange = upstream.next().await;
            exchange.start_stream().await;
            exchange.chunk(": first\n\n").await;
            exchange
        });
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut events = response.into_body();
    assert_eq!(events.data().await.unwrap().unwrap(), ": first\n\n");
    exchange.chunk("id: 2\n\n").await;
    assert_eq!(events.data().await.unwrap().unwrap(), "id: 2\n\n");
    let began = Instant::now();
    sending.send_reset(h2::Reason::CANCEL);
    exchange.closed().await;
    assert!(began.elapsed() < Duration::from_secs(1));

    // One that is cut upstream is reset, so that nobody takes it for whole.
    let ((response, _sending), mut exchange) =
        tokio::join!(client.start("POST", &headers, &body), async {
            let mut exchange = upstream.next().await;
            exchange.start_stream().await;
            exchange.chunk(": first\n\n").await;
            exchange
        });
    let mut events = response.into_body();
    events.data().await.unwrap().unwrap();
    exchange.chunk("data: {\"jsonrpc\"").await;
    exchange.reset();
    assert!(events.data().await.unwrap().is_err());
    // The connection is as good as before.
    let (answer, ()) = tokio::join!(client.post(&headers, &body), async {
        let body = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
        upstream.next().await.json("200 OK", "", body).await;
    });
    assert_eq!(answer.status, 200);
    drop(client);
    proxy.until("nothing is left", |census| (census.streams, census.leases) == (0, 0)).await;
    finish(proxy).await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_all_its_calls() {
    let mut upstream = Scripted::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let (headers, body) = tool("x", "{}");
    let client = std::sync::Arc::new(H2::open(proxy.address()).await);
    let mut calls = JoinSet::new();
    let mut exchanges = Vec::new();
    for _ in 0..10 {
        let (client, headers, body) = (client.clone(), headers.clone(), body.clone());
        calls.spawn(async move { client.post(&borrowed(&headers), &body).await.status });
        exchanges.push(upstream.next().await);
    }
    calls.shutdown().await;
    drop(client);
    for exchange in &mut exchanges {
        exchange.closed().await;
    }
    proxy.until("nothing is left", |census| (census.connections, census.leases) == (0, 0)).await;
    finish(proxy).await;
}

#[tokio::test]
async fn many_calls_share_a_connection() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = std::sync::Arc::new(H2::open(proxy.address()).await);
    let mut calls = JoinSet::new();
    for n in 0..300 {
        let client = client.clone();
        calls.spawn(async move {
            let (headers, body) = tool("echo", &format!(r#"{{"n":{n},"delay_ms":{}}}"#, n % 50));
            let answer = client.post(&borrowed(&headers), &body).await.json();
            assert_eq!(answer["result"]["structuredContent"]["n"], n);
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    assert_eq!(proxy.census().connections, 1);
    let (headers, body) = tool("big", r#"{"bytes":5000000}"#);
    let big = client.post(&borrowed(&headers), &body).await.json();
    assert_eq!(big["result"]["structuredContent"]["text"].as_str().unwrap().len(), 5_000_000);
    drop(client);
    finish(proxy).await;
}

#[tokio::test]
async fn limits_hold_for_a_stream_and_spare_its_connection() {
    let settings = "limits: { max_body: 64KiB }\ntimeouts: { body_idle: 300ms }";
    let text = format!("{settings}\n{}", stdio_upstream(&[], ""));
    let proxy = Proxy::start(&text).await;
    let client = H2::open(proxy.address()).await;
    let long = "x".repeat(100 << 10);
    assert_eq!(client.post(&[], &long).await.status, 413);
    assert_eq!(client.post(&[("x-long", &long[..9 << 10])], "{}").await.status, 431);
    assert_eq!(client.post(&[("x-long", &long[..40 << 10])], "{}").await.status, 431);
    assert_eq!(client.post(&[("origin", "https://evil.example")], "{}").await.status, 403);
    assert_eq!(client.post(&[("host", "evil.example")], "{}").await.status, 400);
    assert_eq!(client.post(&[], "{").await.status, 400);

    // A body that stalls.
    let request = Request::post("http://localhost/mcp")
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let mut requests = client.requests.clone().ready().await.unwrap();
    let (response, mut sending) = requests.send_request(request, false).unwrap();
    sending.send_data(Bytes::from_static(b"{"), false).unwrap();
    assert_eq!(response.await.unwrap().status(), 408);

    let (headers, body) = tool("echo", "{}");
    assert_eq!(client.post(&borrowed(&headers), &body).await.status, 200, "same connection");
    assert_eq!(proxy.census().connections, 1);
    drop(client);
    finish(proxy).await;
}

#[tokio::test]
async fn a_stop_lets_http2_calls_finish() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = H2::open(proxy.address()).await;
    let (headers, body) = tool("echo", r#"{"delay_ms":400}"#);
    let headers = borrowed(&headers);
    let (answer, outcome) = tokio::join!(client.post(&headers, &body), async {
        proxy.until("it is under way", |census| census.in_flight == 1).await;
        proxy.gateway().stop(tidegate_gateway::Stop::Graceful).await
    });
    assert_eq!(answer.status, 200);
    assert!(outcome.is_clean(), "{outcome:?}");
}

/// The fields of a POST as literals, and what follows them.
fn raw_head(more: &[(&str, &[u8])]) -> Vec<u8> {
    let mut fields: Vec<(&str, &[u8])> = vec![
        (":method", b"POST"),
        (":scheme", b"http"),
        (":path", b"/mcp"),
        (":authority", b"localhost"),
        ("content-type", b"application/json"),
        ("accept", b"*/*"),
    ];
    fields.extend_from_slice(more);
    literal(&fields)
}

#[tokio::test]
async fn malformed_heads_reach_nobody() {
    let upstream = Recorder::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let ping: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let cases: [&[(&str, &[u8])]; 14] = [
        &[("x-value", b"a\r\nx-injected: 1")],
        &[("x-value", b"a\nb")],
        &[("x-value", b"a\rb")],
        &[("x-value", b"a\0b")],
        &[("x-a\r\nx-injected", b"1")],
        &[("X-Upper", b"1")],
        &[("x a", b"1")],
        &[("", b"1")],
        &[("connection", b"close")],
        &[("transfer-encoding", b"chunked")],
        &[("te", b"gzip")],
        &[(":path", b"/second")],
        &[(":unknown", b"1")],
        &[("content-length", b"1000")],
    ];
    for more in cases {
        let mut client = Frames::open(proxy.address(), &[]).await;
        let head = RawFrame::new(kind::HEADERS, END_HEADERS, 1, raw_head(more));
        client.send(&head.bytes()).await;
        client.send(&RawFrame::new(kind::DATA, END_STREAM, 1, ping).bytes()).await;
        let verdict = client.verdict(1).await.map(|frame| frame.kind);
        let is_refused = matches!(verdict, None | Some(kind::RST_STREAM | kind::GOAWAY));
        // An answer may be one as well, if it is a refusal; the judge is the upstream.
        assert!(is_refused || verdict == Some(kind::HEADERS), "{more:?}: {verdict:?}");
        assert_eq!(upstream.requests().len(), 0, "{more:?}");
    }
    // The same without a fault.
    let mut client = Frames::open(proxy.address(), &[]).await;
    client.send(&RawFrame::new(kind::HEADERS, END_HEADERS, 1, raw_head(&[])).bytes()).await;
    client.send(&RawFrame::new(kind::DATA, END_STREAM, 1, ping).bytes()).await;
    let answer = client.verdict(1).await.unwrap();
    assert_eq!((answer.kind, answer.payload[0]), (kind::HEADERS, 0x88), ":status 200");
    assert_eq!(upstream.requests().len(), 1);
    drop(client);
    finish(proxy).await;
}

#[tokio::test]
async fn a_flood_of_resets_is_stopped_and_leaves_nothing() {
    let proxy = Proxy::to_stdio(&[]).await;
    let (headers, body) = tool("hang", "{}");
    let fields: Vec<(&str, &[u8])> =
        headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let mut client = Frames::open(proxy.address(), &[]).await;
    let mut sent = 0;
    for pair in 0..2_000_u32 {
        let stream = 2 * pair + 1;
        let mut bytes =
            RawFrame::new(kind::HEADERS, END_HEADERS, stream, raw_head(&fields)).bytes();
        bytes.extend(RawFrame::new(kind::DATA, END_STREAM, stream, body.as_bytes()).bytes());
        bytes.extend(RawFrame::new(kind::RST_STREAM, 0, stream, 8_u32.to_be_bytes()).bytes());
        if !client.send(&bytes).await {
            break;
        }
        sent += 1;
    }
    assert!(sent > 100, "the flood has reached the proxy: {sent}");
    proxy.assert_alive().await;
    drop(client);
    proxy.until("nothing is left", |census| (census.connections, census.in_flight) == (0, 0)).await;
    assert_eq!(Client::modern(&proxy).told("echo", r#"{"n":1}"#).await["n"], 1);
    finish(proxy).await;
}

#[tokio::test]
async fn floods_of_other_frames_are_stopped_or_borne() {
    let upstream = Recorder::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let head = raw_head(&[]);
    let continuation = RawFrame::new(kind::CONTINUATION, 0, 1, literal(&[("x", &[b'x'; 1000])]));
    let empty = RawFrame::new(kind::CONTINUATION, 0, 1, []);
    let settings = RawFrame::new(kind::SETTINGS, 0, 0, [0, 4, 0, 0, 255, 255]);
    let ping = RawFrame::new(kind::PING, 0, 0, [7; 8]);
    // A field of 4 KB that is remembered, and then repeated by one byte each.
    let mut bomb = raw_head(&[]);
    bomb.extend_from_slice(&[0x40, 1, b'x', 0x7f, 0x81, 0x1e]);
    bomb.extend_from_slice(&[b'x'; 4_000]);
    bomb.extend_from_slice(&[0xbe; 10_000]);
    for (first, flood, count, ends) in [
        (Some(RawFrame::new(kind::HEADERS, 0, 1, head.clone())), &continuation, 2_000, true),
        (Some(RawFrame::new(kind::HEADERS, 0, 1, head.clone())), &empty, 20_000, true),
        (None, &settings, 20_000, false),
        (None, &ping, 20_000, false),
        (Some(RawFrame::new(kind::HEADERS, END_HEADERS | END_STREAM, 1, bomb)), &ping, 1, false),
        (Some(RawFrame::new(kind::DATA, 0, 1, [b'x'; 10])), &ping, 1, true),
        (Some(RawFrame::new(kind::HEADERS, END_HEADERS, 2, head.clone())), &ping, 1, true),
        (Some(RawFrame::new(kind::HEADERS, END_HEADERS, 1, [0xff; 20])), &ping, 1, true),
    ] {
        let mut client = Frames::open(proxy.address(), &[]).await;
        if let Some(first) = &first {
            client.send(&first.bytes()).await;
        }
        let flood = flood.bytes().repeat(100.min(count));
        for _ in 0..count.div_ceil(100) {
            if !client.send(&flood).await {
                break;
            }
        }
        if ends {
            let verdict = client.verdict(0).await.map(|frame| frame.kind);
            assert!(matches!(verdict, None | Some(kind::GOAWAY)), "{first:?} {verdict:?}");
        }
        proxy.assert_alive().await;
    }
    assert_eq!(upstream.requests().len(), 0);
    proxy.until("nothing is left", |census| census.connections == 0).await;
    finish(proxy).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_at_its_time() {
    let settings = "timeouts: { keep_alive: 400ms, write_stall: 400ms }";
    let text = format!("{settings}\n{}", stdio_upstream(&[], ""));
    let proxy = Proxy::start(&text).await;
    let ping: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for (is_used, is_handshaken) in [(true, true), (false, true), (false, false)] {
        let began = Instant::now();
        if is_handshaken {
            let mut client = Frames::open(proxy.address(), &[]).await;
            if is_used {
                let head = RawFrame::new(kind::HEADERS, END_HEADERS, 1, raw_head(&[]));
                client.send(&head.bytes()).await;
                client.send(&RawFrame::new(kind::DATA, END_STREAM, 1, ping).bytes()).await;
                assert_eq!(client.verdict(1).await.unwrap().kind, kind::HEADERS);
            }
            while client.next().await.is_some() {}
        } else {
            let mut client = http1::Connection::open(proxy.address()).await;
            client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
            while !client.is_closed_by_peer().await {
                client.skip();
            }
        }
        let waited = began.elapsed();
        assert!(waited >= Duration::from_millis(350), "{waited:?}");
        assert!(waited < Duration::from_secs(4), "{waited:?}");
    }
    finish(proxy).await;
}

#[tokio::test]
async fn a_client_that_opens_no_window_is_dropped() {
    let settings = "timeouts: { keep_alive: 400ms, write_stall: 400ms }";
    let text = format!("{settings}\n{}", stdio_upstream(&[], ""));
    let proxy = Proxy::start(&text).await;
    const NO_WINDOW: (u16, u32) = (4, 0);
    const SMALL_WINDOW: (u16, u32) = (4, 10);
    for window in [NO_WINDOW, SMALL_WINDOW] {
        for arguments in [
            r#"{"bytes":100000}"#,
            r#"{"messages":[{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}}],"repeat":100}"#,
        ] {
            let name = if arguments.contains("bytes") { "big" } else { "emit" };
            let (headers, body) = tool(name, arguments);
            let fields: Vec<(&str, &[u8])> =
                headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
            let mut client = Frames::open(proxy.address(), &[window]).await;
            for stream in [1, 3, 5] {
                let head = RawFrame::new(kind::HEADERS, END_HEADERS, stream, raw_head(&fields));
                client.send(&head.bytes()).await;
                let data = RawFrame::new(kind::DATA, END_STREAM, stream, body.as_bytes());
                client.send(&data.bytes()).await;
            }
            let began = Instant::now();
            while client.next().await.is_some() {}
            let waited = began.elapsed();
            assert!(waited >= Duration::from_millis(350), "{waited:?}");
            assert!(waited < Duration::from_secs(5), "{waited:?}");
        }
    }
    proxy.until("nothing is left", |census| (census.connections, census.in_flight) == (0, 0)).await;
    finish(proxy).await;
}

#[tokio::test]
async fn a_slow_client_is_served_as_long_as_it_takes_something() {
    let settings = "timeouts: { keep_alive: 300ms, write_stall: 300ms }";
    let text = format!("{settings}\n{}", stdio_upstream(&[], ""));
    let proxy = Proxy::start(&text).await;
    let client = H2::with_window(proxy.address(), 16 << 10).await;
    let (headers, body) = tool("big", r#"{"bytes":200000}"#);
    let (response, _sending) = client.start("POST", &borrowed(&headers), &body).await;
    let mut stream = response.into_body();
    let (began, mut length) = (Instant::now(), 0);
    while let Some(piece) = stream.data().await {
        let piece = piece.unwrap();
        length += piece.len();
        sleep(Duration::from_millis(80)).await;
        stream.flow_control().release_capacity(piece.len()).unwrap();
    }
    assert!(length > 200_000 && began.elapsed() > Duration::from_millis(600));
    // Waiting for an answer is no stall either.
    let (headers, body) = tool("echo", r#"{"delay_ms":800}"#);
    assert_eq!(client.post(&borrowed(&headers), &body).await.status, 200);
    drop(client);
    finish(proxy).await;
}
