//! Sizes, counts and waits of clients (batteries B and C): each setting does what it says, and
//! whoever goes over it costs nobody else anything.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tidegate_tests::{
    Binary, Client, Proxy, Recorder, Scripted,
    client::{initialize, legacy, modern},
    http::{self, Connection, Response},
    http_upstream, stdio_upstream, timeouts,
};
use tokio::{
    sync::Barrier,
    task::JoinSet,
    time::{Instant, sleep},
};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

async fn start(settings: &str) -> (Recorder, Proxy) {
    let upstream = Recorder::start().await;
    let proxy = Proxy::to_url_with(&upstream.url(), settings).await;
    (upstream, proxy)
}

/// A request of exactly this many bytes.
fn sized(bytes: usize) -> String {
    let empty = legacy("1", "x", r#"{"pad":""}"#).len();
    legacy("1", "x", &format!(r#"{{"pad":"{}"}}"#, "x".repeat(bytes - empty)))
}

/// The head of a POST whose body is to follow.
fn head(lines: &str) -> Vec<u8> {
    format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         accept: */*\r\n{lines}\r\n"
    )
    .into_bytes()
}

/// Asserts that the peer closes the connection when `wait` is over, and not long after.
async fn closes_after(connection: &mut Connection, began: Instant, wait: Duration) {
    assert!(connection.is_closed_by_peer().await, "closed without a word");
    let waited = began.elapsed();
    assert!(waited >= wait - Duration::from_millis(20), "closed after {waited:?} already");
    assert!(waited < wait + Duration::from_secs(3), "closed only after {waited:?}");
}

async fn finish(proxy: Proxy) {
    proxy.assert_alive().await;
    proxy.stop().await;
}

#[tokio::test]
async fn heads_over_a_limit_are_refused() {
    const SMALL: &str =
        "limits: { max_headers: 8, max_header_bytes: 8KiB, max_header_value: 512B, max_uri: 100B }";
    // Each case says what it is sent to: small limits, the default ones, or both.
    let many = |count: usize| (0..count).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    let long = |length: usize| format!("x-long: {}\r\n", "x".repeat(length));
    let large = |count: usize, length: usize| {
        (0..count).map(|n| format!("x-{n}: {}\r\n", "x".repeat(length))).collect::<String>()
    };
    let uri = |length: usize| format!("/{}", "x".repeat(length - 1));
    let cases = [
        ("/mcp".to_owned(), many(4), 200, 200),
        ("/mcp".to_owned(), many(9), 431, 200),
        ("/mcp".to_owned(), many(65), 431, 431),
        ("/mcp".to_owned(), many(2000), 431, 431),
        ("/mcp".to_owned(), long(500), 200, 200),
        ("/mcp".to_owned(), long(513), 431, 200),
        ("/mcp".to_owned(), long(9 << 10), 431, 431),
        ("/mcp".to_owned(), large(3, 3 << 10), 431, 200),
        ("/mcp".to_owned(), large(6, 6 << 10), 431, 431),
        ("/mcp".to_owned(), long(1 << 20), 431, 431),
        (uri(100), String::new(), 404, 404),
        (uri(101), String::new(), 414, 404),
        (uri(5 << 10), String::new(), 414, 414),
        (uri(70 << 10), String::new(), 414, 414),
    ];
    for (settings, is_small) in [(SMALL, true), ("", false)] {
        let (upstream, proxy) = start(settings).await;
        for (target, lines, small, default) in &cases {
            upstream.clear();
            let expected = if is_small { *small } else { *default };
            let bytes = format!(
                "POST {target} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 accept: */*\r\n{lines}content-length: {}\r\n\r\n{PING}",
                PING.len()
            );
            let began = Instant::now();
            let answer = http::raw(proxy.address(), bytes.as_bytes()).await;
            let shown = &lines[..lines.len().min(40)];
            assert_eq!(answer.status, expected, "{is_small} {} {shown}", target.len());
            assert!(began.elapsed() < Duration::from_secs(2));
            assert_eq!(upstream.requests().len(), usize::from(expected == 200));
        }
        finish(proxy).await;
    }
}

#[tokio::test]
async fn a_body_is_measured_by_its_length_and_by_its_chunks() {
    const LIMIT: usize = 256 << 10;
    let (upstream, proxy) = start("limits: { max_body: 256KiB }").await;
    // What fits passes, to the byte.
    let fits = sized(LIMIT);
    assert_eq!(http::post(proxy.address(), &[], &fits).await.status, 200);
    assert_eq!(upstream.requests().pop().unwrap().body.len(), LIMIT);

    // One more, by its length: refused before a byte of it was sent.
    let mut connection = Connection::open(proxy.address()).await;
    connection.send(&head(&format!("content-length: {}\r\n", LIMIT + 1))).await;
    assert_eq!(connection.response().await.status, 413);
    assert!(connection.is_closed_by_peer().await);

    // One more, by its chunks: refused while they come.
    let over = sized(LIMIT + 1);
    let mut connection = Connection::open(proxy.address()).await;
    connection.send(&head("transfer-encoding: chunked\r\n")).await;
    for piece in over.as_bytes().chunks(32 << 10) {
        connection.send(format!("{:x}\r\n", piece.len()).as_bytes()).await;
        connection.send(piece).await;
        connection.send(b"\r\n").await;
    }
    assert_eq!(connection.response().await.status, 413);
    assert_eq!(upstream.requests().len(), 1);

    finish(proxy).await;
}

#[tokio::test]
async fn a_client_that_sends_everything_before_it_reads_is_not_reset() {
    let (_upstream, proxy) = start("limits: { max_body: 64KiB }").await;
    for lines in ["content-length: 1310720\r\n", "transfer-encoding: chunked\r\n"] {
        let mut connection = Connection::open(proxy.address()).await;
        connection.send(&head(lines)).await;
        let piece = format!("10000\r\n{}\r\n", "x".repeat(64 << 10));
        for _ in 0..20 {
            let piece = if lines.starts_with('t') { &piece } else { &piece[7..piece.len() - 2] };
            assert!(connection.send(piece.as_bytes()).await, "{lines}");
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(connection.response().await.status, 413, "{lines}");
    }
    finish(proxy).await;
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on_or_not_to() {
    let (upstream, proxy) = start("limits: { max_body: 1KiB }").await;
    let mut connection = Connection::open(proxy.address()).await;
    let length = PING.len();
    connection.send(&head(&format!("expect: 100-continue\r\ncontent-length: {length}\r\n"))).await;
    assert_eq!(connection.head().await.unwrap().0, 100);
    connection.send(PING.as_bytes()).await;
    assert_eq!(connection.response().await.status, 200);
    assert_eq!(upstream.requests().pop().unwrap().header("expect"), None);
    for refused in ["content-length: 2000\r\n", "content-length: 10\r\norigin: http://evil\r\n"] {
        let mut connection = Connection::open(proxy.address()).await;
        connection.send(&head(&format!("expect: 100-continue\r\n{refused}"))).await;
        assert!(matches!(connection.head().await.unwrap().0, 413 | 403));
    }
    finish(proxy).await;
}

#[tokio::test]
async fn all_bodies_together_have_a_budget() {
    let settings = "limits: { max_body: 1MiB, body_budget: 1MiB }";
    let (_upstream, proxy) = start(settings).await;
    let body = sized(700 << 10);
    let (most, rest) = body.as_bytes().split_at(690 << 10);
    let mut first = Connection::open(proxy.address()).await;
    first.send(&head(&format!("content-length: {}\r\n", body.len()))).await;
    first.send(most).await;
    proxy.until("the body is held", |census| census.body_bytes == most.len()).await;

    let second = http::post(proxy.address(), &[], &body).await;
    assert_eq!((second.status, second.header("retry-after")), (503, Some("1")));
    assert_eq!(second.code(), -31006);
    first.send(rest).await;
    assert_eq!(first.response().await.status, 200, "who came first is served");
    assert_eq!(http::post(proxy.address(), &[], &body).await.status, 200, "there is room again");
    finish(proxy).await;
}

#[tokio::test]
async fn many_large_bodies_at_once_are_served_or_told_to_come_later() {
    let settings = "limits: { max_body: 1MiB, body_budget: 2MiB }";
    let (_upstream, proxy) = start(settings).await;
    let (body, address) = (sized(1 << 20), proxy.address());
    let mut clients = JoinSet::new();
    for _ in 0..40 {
        let body = body.clone();
        clients.spawn(async move { http::post(address, &[], &body).await.status });
    }
    let statuses = clients.join_all().await;
    let served = statuses.iter().filter(|status| **status == 200).count();
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert_eq!(served + refused, 40, "{statuses:?}");
    assert!(served > 0);
    finish(proxy).await;
}

#[tokio::test]
async fn two_hundred_of_the_largest_bodies_do_not_grow_the_program_beyond_the_budget() {
    const CLIENTS: usize = 200;
    const LIMIT: usize = 4 << 20;
    const BUDGET: usize = 64 << 20;
    let upstream = Recorder::start().await;
    let settings = "limits: { max_body: 4MiB, body_budget: 64MiB }\nlog: { level: error }";
    let binary = Binary::serve(&format!("{settings}\n{}", http_upstream(&upstream.url()))).await;
    let address = binary.address();
    // A notification, whose answer is small, so that what is measured is what came in.
    let frame = r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"pad":""}}"#;
    let body: Arc<str> =
        frame.replace("\"\"}", &format!("\"{}\"}}", "x".repeat(LIMIT - frame.len()))).into();
    assert_eq!(body.len(), LIMIT);
    // Nobody sends the end before everybody has sent the rest or was refused.
    let all_sent = Arc::new(Barrier::new(CLIENTS));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (body, all_sent) = (Arc::clone(&body), Arc::clone(&all_sent));
        clients.spawn(async move {
            let mut connection = Connection::open(address).await;
            connection.send(&head(&format!("content-length: {LIMIT}\r\n"))).await;
            let (most, end) = body.as_bytes().split_at(LIMIT - 1);
            for piece in most.chunks(64 << 10) {
                if !connection.send(piece).await {
                    break;
                }
            }
            all_sent.wait().await;
            connection.send(end).await;
            connection.response().await.status
        });
    }
    let statuses = clients.join_all().await;
    let count = |status| statuses.iter().filter(|each| **each == status).count();
    let (served, refused) = (count(202), count(503));
    assert_eq!(served + refused, CLIENTS, "{statuses:?}");
    assert!(served > 0 && refused > 0, "{served} served, {refused} refused");
    // The budget once in use, once as what glibc keeps of refused bodies, and the program itself.
    // 800 MiB were sent.
    let most = binary.most_memory();
    assert!(most < 3 * BUDGET, "{} MiB", most >> 20);

    assert_eq!(upstream.requests().len(), served);
    assert_eq!(http::post(address, &[], &body).await.status, 202, "there is room again");
    binary.signal("TERM").await;
    assert!(binary.exit().await.success());
}

#[tokio::test]
async fn a_compressed_body_is_not_unpacked() {
    let (upstream, proxy) = start("").await;
    for coding in ["gzip", "br", "deflate", "identity", "gzip, gzip"] {
        let answer = http::post(proxy.address(), &[("content-encoding", coding)], PING).await;
        assert_eq!(answer.status, 415, "{coding}");
    }
    assert_eq!(upstream.requests().len(), 0);
    finish(proxy).await;
}

#[tokio::test]
async fn five_megabytes_pass_in_both_directions() {
    const FIVE: usize = 5 << 20;
    let text = "x".repeat(FIVE);
    let arguments = format!(r#"{{"text":"{text}"}}"#);
    let stdio = Proxy::to_stdio(&[]).await;
    for client in [Client::modern(&stdio), Client::legacy(&stdio, "2025-11-25").await] {
        let echoed = client.told("echo", &arguments).await;
        assert!(echoed["text"] == *text, "arguments and results");
        let big = client.told("big", &format!(r#"{{"bytes":{FIVE}}}"#)).await;
        assert_eq!(big["text"].as_str().unwrap().len(), FIVE);
    }
    finish(stdio).await;

    let (upstream, proxy) = start("").await;
    for client in [Client::modern(&proxy), Client::legacy(&proxy, "2025-06-18").await] {
        let answer = client.tool("1", "echo", &arguments).await;
        assert!(answer.message()["result"]["echo"]["arguments"]["text"] == *text);
        assert!(upstream.requests().pop().unwrap().body.len() > FIVE);
    }
    finish(proxy).await;
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_and_a_place_comes_back() {
    let (_upstream, proxy) = start("limits: { max_connections: 2 }").await;
    let mut first = Connection::open(proxy.address()).await;
    let mut second = Connection::open(proxy.address()).await;
    for connection in [&mut first, &mut second] {
        connection.send(&http::post_bytes(&[], PING.as_bytes())).await;
        assert_eq!(connection.response().await.status, 200);
    }
    let mut third = Connection::open(proxy.address()).await;
    assert!(third.is_closed_by_peer().await);
    drop(first);
    proxy.until("a place", |census| census.connections == 1).await;
    assert_eq!(http::post(proxy.address(), &[], PING).await.status, 200);
    drop(second);
    proxy.stop().await;
}

#[tokio::test]
async fn sessions_over_the_limit_are_refused_and_a_place_comes_back() {
    let proxy = Proxy::to_stdio_with(&[], "limits: { max_sessions: 1 }").await;
    let first = Client::legacy(&proxy, "2025-11-25").await;
    let hello = initialize("2025-11-25", "{}");
    let refused = http::post(proxy.address(), &[], &hello).await;
    assert_eq!((refused.status, refused.code()), (200, -31006), "told in-band");
    assert_eq!(refused.header("mcp-session-id"), None);
    assert_eq!(first.delete().await.status, 200);
    Client::legacy(&proxy, "2025-11-25").await;
    finish(proxy).await;
}

#[tokio::test]
async fn nesting_and_batches_have_the_configured_limits() {
    let (_upstream, proxy) = start("limits: { max_depth: 4, max_batch: 2 }").await;
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth - 2), "]".repeat(depth - 2));
        legacy("1", "x", &format!(r#"{{"deep":{open}{close}}}"#))
    };
    let batch = |count: usize| format!("[{}]", vec![PING; count].join(","));
    for (body, status, code) in
        [(nested(4), 200, 0), (nested(5), 400, -32600), (batch(2), 200, 0), (batch(3), 400, -32600)]
    {
        let answer = http::post(proxy.address(), &[], &body).await;
        let code_of = if status == 200 { 0 } else { answer.code() };
        assert_eq!((answer.status, code_of), (status, code), "{body}");
    }
    finish(proxy).await;
}

#[tokio::test]
async fn a_connection_that_does_not_say_what_it_speaks_is_closed() {
    let (_upstream, proxy) = start("timeouts: { first_byte: 300ms }").await;
    let mut clients = JoinSet::new();
    for bytes in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
        let address = proxy.address();
        clients.spawn(async move {
            let began = Instant::now();
            let mut connection = Connection::open(address).await;
            connection.send(bytes).await;
            closes_after(&mut connection, began, Duration::from_millis(300)).await;
        });
    }
    // A crowd of them keeps nobody else from being served.
    for _ in 0..200 {
        let address = proxy.address();
        clients.spawn(async move {
            let began = Instant::now();
            let mut connection = Connection::open(address).await;
            closes_after(&mut connection, began, Duration::from_millis(300)).await;
        });
    }
    assert_eq!(http::post(proxy.address(), &[], PING).await.status, 200);
    clients.join_all().await;
    finish(proxy).await;
}

#[tokio::test]
async fn what_speaks_something_else_is_closed_at_once() {
    let (_upstream, proxy) = start("").await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03garbage"[..],
        b"SSH-2.0-OpenSSH_9.0\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"GET /mcp HTTP/9.9\r\nhost: localhost\r\n\r\n",
    ] {
        let began = Instant::now();
        let mut connection = Connection::open(proxy.address()).await;
        connection.send(bytes).await;
        let statuses: Vec<u16> =
            connection.responses().await.iter().map(|each| each.status).collect();
        assert!(matches!(&*statuses, [] | [400]), "{statuses:?}");
        assert!(began.elapsed() < Duration::from_secs(3));
    }
    finish(proxy).await;
}

#[tokio::test]
async fn a_head_has_a_deadline_however_it_drips() {
    let (_upstream, proxy) = start("timeouts: { headers: 400ms, keep_alive: 30s }").await;
    for is_second in [false, true] {
        let mut connection = Connection::open(proxy.address()).await;
        if is_second {
            connection.send(&http::post_bytes(&[], PING.as_bytes())).await;
            assert_eq!(connection.response().await.status, 200);
        }
        let began = Instant::now();
        connection.send(b"POST /mcp HTTP/1.1\r\nhost: localhost\r\n").await;
        for _ in 0..7 {
            sleep(Duration::from_millis(50)).await;
            connection.send(b"x-slow: 1\r\n").await;
        }
        let statuses: Vec<u16> =
            connection.responses().await.iter().map(|each| each.status).collect();
        assert!(matches!(&*statuses, [] | [408]), "{statuses:?}");
        let waited = began.elapsed();
        assert!(waited > Duration::from_millis(350), "{waited:?}");
        assert!(waited < Duration::from_secs(3), "{waited:?}");
    }
    finish(proxy).await;
}

#[tokio::test]
async fn a_body_may_be_slow_but_not_stall_or_drip() {
    let (upstream, proxy) = start("timeouts: { body_idle: 600ms, headers: 300ms }").await;
    let mut connection = Connection::open(proxy.address()).await;
    connection.send(&head(&format!("content-length: {}\r\n", PING.len()))).await;
    for byte in PING.as_bytes().chunks(10) {
        sleep(Duration::from_millis(100)).await;
        connection.send(byte).await;
    }
    assert_eq!(connection.response().await.status, 200, "slow");
    // As long as it comes at a kilobyte per second, it may take longer than the idle time.
    let large = sized(20_000);
    let mut connection = Connection::open(proxy.address()).await;
    connection.send(&head(&format!("content-length: {}\r\n", large.len()))).await;
    for piece in large.as_bytes().chunks(1_000) {
        sleep(Duration::from_millis(50)).await;
        connection.send(piece).await;
    }
    assert_eq!(connection.response().await.status, 200, "slow and steady");

    upstream.clear();
    for drips in [&b""[..], b" "] {
        let mut connection = Connection::open(proxy.address()).await;
        connection.send(&head("content-length: 1000\r\n")).await;
        connection.send(b"{").await;
        let began = Instant::now();
        while !connection.hears_something(Duration::from_millis(100)).await {
            connection.send(drips).await;
            assert!(began.elapsed() < Duration::from_secs(3), "{drips:?}");
        }
        assert_eq!(connection.response().await.status, 408, "{drips:?}");
        let waited = began.elapsed();
        assert!(waited >= Duration::from_millis(550), "{waited:?}");
        assert!(waited < Duration::from_secs(3), "{waited:?}");
        assert!(connection.is_closed_by_peer().await);
    }
    assert_eq!(upstream.requests().len(), 0);
    finish(proxy).await;
}

#[tokio::test]
async fn a_connection_may_rest_for_the_keep_alive_time() {
    let (_upstream, proxy) = start("timeouts: { keep_alive: 400ms, headers: 10s }").await;
    let mut connection = Connection::open(proxy.address()).await;
    for _ in 0..2 {
        connection.send(&http::post_bytes(&[], PING.as_bytes())).await;
        assert_eq!(connection.response().await.status, 200);
        sleep(Duration::from_millis(200)).await;
    }
    let began = Instant::now();
    closes_after(&mut connection, began, Duration::from_millis(100)).await;
    finish(proxy).await;
}

#[tokio::test]
async fn a_call_may_take_longer_than_any_wait_for_the_client() {
    let settings = "timeouts: { first_byte: 100ms, headers: 100ms, body_idle: 100ms, \
                    keep_alive: 100ms, write_stall: 100ms, session_idle: 100ms }";
    let proxy = Proxy::to_stdio_with(&[], settings).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let answer = client.told("echo", r#"{"delay_ms":800,"n":1}"#).await;
    assert_eq!(answer["n"], 1);
    finish(proxy).await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_dropped() {
    let settings = "timeouts: { write_stall: 400ms }";
    let proxy = Proxy::to_stdio_with(&[], settings).await;
    let client = Client::modern(&proxy);
    // More than all socket buffers on the way can hold.
    let mut connection = Connection::open(proxy.address()).await;
    connection.send(&client.tool_bytes("1", "big", r#"{"bytes":15000000}"#)).await;
    proxy.until("it is connected", |census| census.connections == 1).await;
    proxy.until("it is dropped", |census| census.connections == 0).await;
    let cut: Response = connection.response().await;
    assert!(!cut.is_whole, "what was sent is not taken for the whole");
    finish(proxy).await;
}

#[tokio::test]
async fn a_session_that_nobody_uses_ends() {
    let proxy = Proxy::to_stdio_with(&[], "timeouts: { session_idle: 300ms }").await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    assert_eq!(proxy.census().children, 1);
    proxy.until("it ends", |census| (census.sessions, census.children) == (0, 0)).await;
    assert_eq!(client.post(PING).await.status, 404);
    // One that is listened to is in use.
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let _stream = client.listen().await;
    sleep(Duration::from_millis(900)).await;
    assert_eq!(client.post(PING).await.status, 200);
    proxy.stop().await;
}

#[tokio::test]
async fn a_half_closed_socket_is_a_client_that_left() {
    let mut upstream = Scripted::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let headers = tidegate_tests::modern_headers("tools/list", None);
    let body = modern("1", "tools/list", "");
    let mut connection = Connection::open(proxy.address()).await;
    connection.send(&http::post_bytes(&headers, body.as_bytes())).await;
    let mut exchange = upstream.next().await;
    connection.finish().await;
    exchange.closed().await;
    assert!(connection.is_closed_by_peer().await);
    proxy.until("it is gone", |census| census.connections == 0 && census.leases == 0).await;
    finish(proxy).await;
}

#[tokio::test]
async fn a_client_that_resets_leaves_nothing_behind() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = Client::modern(&proxy);
    let call = client.tool_bytes("1", "echo", r#"{"delay_ms":200}"#);
    for end in [1, 20, call.len() / 2, call.len() - 1, call.len()] {
        let mut connection = Connection::open(proxy.address()).await;
        connection.send(&call[..end]).await;
        connection.reset();
    }
    proxy.until("they are gone", |census| (census.connections, census.in_flight) == (0, 0)).await;
    finish(proxy).await;
}

#[tokio::test]
async fn a_child_has_the_configured_limits() {
    let settings = format!(", max_in_flight: 2, max_line: 64KiB{}", timeouts("request: 600ms"));
    let proxy = Proxy::start(&stdio_upstream(&[], &settings)).await;
    let client = Client::modern(&proxy);
    let mut hung = JoinSet::new();
    for _ in 0..2 {
        let client = client.clone();
        hung.spawn(async move { client.tool("1", "hang", "{}").await });
    }
    proxy.until("both hang", |census| census.in_flight == 2).await;
    let third = client.tool("1", "echo", "{}").await;
    assert_eq!((third.status, third.code()), (503, -31006));
    for answer in hung.join_all().await {
        assert_eq!((answer.status, answer.code()), (504, -31002), "{}", answer.text());
    }
    // A line over the limit cannot be cut out of the stream, so its process ends.
    let long = client.tool("1", "big", r#"{"bytes":100000}"#).await;
    assert_eq!(long.status, 502, "{}", long.text());
    assert_eq!(client.tool("1", "echo", "{}").await.status, 200, "the next one gets a new one");
    finish(proxy).await;
}

#[tokio::test]
async fn stopping_waits_as_long_as_configured() {
    for (settings, least, most) in [("300ms", 250, 3_000), ("0s", 0, 1_500)] {
        let proxy = Proxy::to_stdio_with(&[], &format!("timeouts: {{ drain: {settings} }}")).await;
        let address: SocketAddr = proxy.address();
        let call = Client::modern(&proxy).tool_bytes("1", "hang", "{}");
        let mut connection = Connection::open(address).await;
        connection.send(&call).await;
        proxy.until("it hangs", |census| census.in_flight == 1).await;
        let began = Instant::now();
        let outcome = proxy.gateway().stop(tidegate_gateway::Stop::Graceful).await;
        let waited = began.elapsed();
        assert!(waited >= Duration::from_millis(least), "{waited:?}");
        assert!(waited < Duration::from_millis(most), "{waited:?}");
        assert_eq!(outcome.cut, 1);
        assert!(outcome.left.is_empty(), "{outcome:?}");
    }
}
