//! Clients that do not read: what waits for them, what becomes of it, and that nobody else waits
//! with them.
#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::Value;
use tidegate_tests::{
    Binary, Client, Events, Exchange, Metrics, OldClient, OldServer, Proxy, Scripted,
    client::{legacy, modern},
    http::{self, Connection},
    http_upstream, modern_headers, stdio_upstream,
};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{sleep, timeout},
};

/// What one event of a flood carries.
const PADDING: usize = 10_000;
/// So many of them are more than all sockets on the way hold.
const LINES: usize = 3000;

/// A route with these settings.
fn route(settings: &str) -> String {
    format!("routes: [{{ match: {{ path: /mcp }}, upstream: it, {settings} }}]\n")
}

/// What makes the `emit` tool send so many log lines.
fn flood(lines: usize) -> String {
    let data = "x".repeat(PADDING);
    format!(
        r#"{{"repeat":{lines},"messages":[{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":"{data}"}}}}]}}"#
    )
}

/// A call whose answer is not read.
async fn stalled(address: std::net::SocketAddr, call: &[u8]) -> Connection {
    let mut connection = Connection::open_narrow(address).await;
    connection.send(call).await;
    connection
}

/// The value of a metric, over all labels but these.
async fn metric(proxy: &Proxy, name: &str, labels: &[&str]) -> u64 {
    Metrics::scrape(proxy.ops()).await.count(&format!("tidegate_{name}"), labels)
}

/// Waits for a metric to have this value at least.
async fn until_metric(proxy: &Proxy, name: &str, labels: &[&str], least: u64) {
    for _ in 0..3000 {
        if metric(proxy, name, labels).await >= least {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{name} {labels:?} is not {least}: {}", Metrics::scrape(proxy.ops()).await.text());
}

async fn ended(proxy: &Proxy, reason: &str, least: u64) {
    let reason = format!("reason=\"{reason}\"");
    until_metric(proxy, "slow_client_streams_ended_total", &[&reason, "route=\"/mcp\""], least)
        .await;
}

async fn finish(proxy: Proxy) {
    proxy.until("nothing waits", |census| census.backlog_bytes == 0).await;
    proxy.assert_alive().await;
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_on_reading_has_missed_nothing() {
    let text = format!("{}{}", stdio_upstream(&[], ""), route("slow_client_buffer: 1MiB"));
    let proxy = Proxy::start(&text).await;
    let client = Client::legacy(&proxy, "2025-06-18").await;
    let call = client.tool_bytes("1", "emit", &flood(LINES));
    let stalled = stalled(proxy.address(), &call).await;
    until_metric(&proxy, "upstream_reads_paused_total", &["upstream=\"it\""], 1).await;
    let waits = proxy.census().backlog_bytes;
    assert!((1 << 19..3 << 19).contains(&waits), "{waits}");
    assert_eq!(metric(&proxy, "slow_client_backlog_bytes", &[]).await, waits as u64);
    let mut events = Events::of(stalled).await;
    let all = events.all().await;
    assert_eq!((all.len(), &all[LINES]["id"]), (LINES + 1, &Value::from(1)));
    assert_eq!(metric(&proxy, "slow_client_streams_ended_total", &[]).await, 0);
    drop(events);
    finish(proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stands_still_and_ninety_nine_that_read_share_a_child() {
    for version in ["2025-06-18", "2026-07-28"] {
        let shared = stdio_upstream(&[], ", sharing: shared");
        let proxy = Proxy::start(&format!("{shared}{}", route("slow_client_buffer: 1MiB"))).await;
        let client = async || match version {
            "2026-07-28" => Client::modern(&proxy),
            version => Client::legacy(&proxy, version).await,
        };
        // The child has a short token to repeat, the client gets its own.
        let token = "t".repeat(200);
        let steps = 80_000;
        let first = client().await;
        let stalled = stalled(proxy.address(), &progress(&first, 1, &token, steps)).await;
        let mut live = JoinSet::new();
        for number in 0..99 {
            let (client, address) = (client().await, proxy.address());
            live.spawn(async move {
                let call = progress(&client, number, "same", 100);
                (number, http::raw(address, &call).await.events())
            });
        }
        for (number, events) in live.join_all().await {
            assert_eq!(events.len(), 101, "{version}");
            for (step, event) in events[..100].iter().enumerate() {
                assert_eq!(event["params"]["progressToken"], "same");
                assert_eq!(event["params"]["progress"], step + 1);
            }
            assert_eq!(events[100]["id"], number);
        }
        ended(&proxy, "buffer", 1).await;
        assert_eq!(proxy.census().children, 1);
        assert!(proxy.census().backlog_bytes <= 1 << 20);
        let mut events = Events::of(stalled).await;
        let mut found = events.all().await;
        let told = found.pop().unwrap();
        assert_eq!((&told["id"], &told["error"]["code"]), (&1.into(), &(-31012).into()), "{told}");
        assert_eq!(told["error"]["data"]["tidegate"]["kind"], "slow_client");
        assert!((1000..steps).contains(&found.len()), "{}", found.len());
        for (step, event) in found.iter().enumerate() {
            assert_eq!(event["params"]["progress"], step + 1, "without a hole up to there");
        }
        drop(events);
        assert_eq!(metric(&proxy, "slow_client_streams_ended_total", &[]).await, 1);
        finish(proxy).await;
    }
}

/// A call that reports so many steps, a moment after it was made.
fn progress(client: &Client, id: usize, token: &str, steps: usize) -> Vec<u8> {
    let arguments = format!(r#"{{"progress":{steps},"delay_ms":1}}"#);
    let id = id.to_string();
    if client.headers()[0].1 == "2026-07-28" {
        let params = format!(r#""name":"echo","arguments":{arguments},"#);
        let meta = format!(r#""_meta":{{"progressToken":"{token}","#);
        let body = modern(&id, "tools/call", &params).replace(r#""_meta":{"#, &meta);
        return http::post_bytes(&modern_headers("tools/call", Some("echo")), body.as_bytes());
    }
    let params = format!(
        r#"{{"name":"echo","arguments":{arguments},"_meta":{{"progressToken":"{token}"}}}}"#
    );
    client.bytes(&legacy(&id, "tools/call", &params))
}

/// An event of a flood, as an HTTP server sends it.
fn event(number: usize) -> Vec<u8> {
    let data = "x".repeat(PADDING);
    format!(
        "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{{\"line\":{number},\"data\":\"{data}\"}}}}\n\n"
    )
    .into_bytes()
}

fn last_event(id: &Value) -> Vec<u8> {
    format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}\n\n").into_bytes()
}

/// Answers a call with so many events. Counts those that could be sent.
async fn serve(mut exchange: Exchange, lines: usize, sent: Arc<AtomicUsize>) {
    let asked: Value = serde_json::from_slice(&exchange.request.body).unwrap();
    exchange.start_stream().await;
    for number in 0..lines {
        exchange.chunk(event(number)).await;
        sent.fetch_add(1, Relaxed);
    }
    exchange.chunk(last_event(&asked["id"])).await;
    exchange.chunk("").await;
}

/// Waits until a number stands still, and returns it.
async fn at_rest(number: &AtomicUsize) -> usize {
    let mut last = (0, 0);
    while last.1 < 30 {
        sleep(Duration::from_millis(10)).await;
        let now = number.load(Relaxed);
        last = if now > 0 && now == last.0 { (now, last.1 + 1) } else { (now, 0) };
    }
    last.0
}

fn lines_of(events: &[Value]) -> Vec<u64> {
    events.iter().filter_map(|each| each["params"]["line"].as_u64()).collect()
}

fn up_to(end: usize) -> Vec<u64> {
    (0..end as u64).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stands_still_and_ninety_nine_that_read_share_an_http_server() {
    let mut upstream = Scripted::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let client = Client::modern(&proxy);
    let stalled = stalled(proxy.address(), &client.tool_bytes("1000", "x", "{}")).await;
    let (slow, live) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let mut serving = JoinSet::new();
    serving.spawn(serve(upstream.next().await, LINES * 2, Arc::clone(&slow)));
    let before = at_rest(&slow).await;
    assert!(before < LINES * 2, "its server stands still");
    let mut reading = JoinSet::new();
    for number in 0..99 {
        let (client, address) = (client.clone(), proxy.address());
        reading.spawn(async move {
            let call = client.tool_bytes(&number.to_string(), "x", "{}");
            (number, http::raw(address, &call).await.events())
        });
        serving.spawn(serve(upstream.next().await, 20, Arc::clone(&live)));
    }
    for (number, events) in reading.join_all().await {
        assert_eq!(lines_of(&events), up_to(20));
        assert_eq!(events[20]["id"], number);
    }
    assert_eq!(slow.load(Relaxed), before, "it stood still all the time");
    let mut events = Events::of(stalled).await;
    let all = events.all().await;
    assert_eq!(lines_of(&all), up_to(LINES * 2));
    assert_eq!(all[LINES * 2]["id"], 1000);
    serving.join_all().await;
    drop(events);
    finish(proxy).await;
}

/// An HTTP/2 server that answers each call with events: many to the one with the id 1000.
struct H2Server {
    address: std::net::SocketAddr,
    connections: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
    _running: JoinSet<()>,
}

impl H2Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, sent) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (count, counter) = (Arc::clone(&connections), Arc::clone(&sent));
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Relaxed);
                let counter = Arc::clone(&counter);
                serving.spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    let mut streams = JoinSet::new();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        streams.spawn(h2_answer(
                            request.into_body(),
                            respond,
                            Arc::clone(&counter),
                        ));
                    }
                });
            }
        });
        Self { address, connections, sent, _running: running }
    }
}

async fn h2_answer(
    mut body: h2::RecvStream,
    mut respond: h2::server::SendResponse<Bytes>,
    sent: Arc<AtomicUsize>,
) {
    let mut read = Vec::new();
    while let Some(Ok(piece)) = body.data().await {
        read.extend_from_slice(&piece);
    }
    let asked: Value = serde_json::from_slice(&read).unwrap();
    let lines = if asked["id"] == 1000 { LINES * 2 } else { 20 };
    let head = ::http::Response::builder().header("content-type", "text/event-stream");
    let mut out = respond.send_response(head.body(()).unwrap(), false).unwrap();
    for number in 0..=lines {
        let bytes = if number < lines { event(number) } else { last_event(&asked["id"]) };
        let mut bytes = Bytes::from(bytes);
        while !bytes.is_empty() {
            out.reserve_capacity(bytes.len());
            let Some(Ok(room)) = std::future::poll_fn(|cx| out.poll_capacity(cx)).await else {
                return;
            };
            let piece = bytes.split_to(room.min(bytes.len()));
            out.send_data(piece, number == lines && bytes.is_empty()).unwrap();
        }
        if lines > 20 {
            sent.fetch_add(1, Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stands_still_and_ninety_nine_that_read_share_http2_connections() {
    let server = H2Server::start().await;
    let url = format!("http://{}/mcp", server.address);
    let text = format!("upstreams: {{ it: {{ http: {{ url: \"{url}\", http2: always }} }} }}\n");
    let proxy = Proxy::start(&text).await;
    let client = Client::modern(&proxy);
    let stalled = stalled(proxy.address(), &client.tool_bytes("1000", "x", "{}")).await;
    let before = at_rest(&server.sent).await;
    assert!(before < LINES * 2, "its stream stands still");
    let mut reading = JoinSet::new();
    for number in 0..99 {
        let (client, address) = (client.clone(), proxy.address());
        reading.spawn(async move {
            let call = client.tool_bytes(&number.to_string(), "x", "{}");
            (number, http::raw(address, &call).await.events())
        });
    }
    for (number, events) in reading.join_all().await {
        assert_eq!(lines_of(&events), up_to(20));
        assert_eq!(events[20]["id"], number);
    }
    assert!(server.connections.load(Relaxed) <= 3, "they share");
    assert_eq!(server.sent.load(Relaxed), before, "it stood still all the time");
    let mut events = Events::of(stalled).await;
    let all = events.all().await;
    assert_eq!(lines_of(&all), up_to(LINES * 2));
    drop(events);
    finish(proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_that_ends_streams_cuts_who_takes_nothing_and_not_who_is_slow() {
    let mut upstream = Scripted::start().await;
    let settings = route("slow_client: end, slow_client_after: 700ms");
    let proxy = Proxy::start(&format!("{}{settings}", http_upstream(&upstream.url()))).await;
    let client = Client::modern(&proxy);
    let mut stalled = stalled(proxy.address(), &client.tool_bytes("1", "x", "{}")).await;
    let sent = Arc::<AtomicUsize>::default();
    let mut exchange = upstream.next().await;
    let serving = Arc::clone(&sent);
    let mut gone = JoinSet::new();
    gone.spawn(async move {
        exchange.start_stream().await;
        for number in 0..LINES * 2 {
            let event = event(number);
            exchange.write_some(format!("{:x}\r\n", event.len())).await;
            exchange.write_some(event).await;
            exchange.write_some("\r\n").await;
            serving.fetch_add(1, Relaxed);
        }
    });
    ended(&proxy, "stalled", 1).await;
    let response = stalled.response().await;
    assert!(!response.is_whole, "what was sent is not taken for the whole");
    // The upstream is free again: its connection was closed.
    gone.join_all().await;
    proxy.until("its call is over", |census| (census.streams, census.leases) == (0, 0)).await;

    let mut slow = Connection::open_narrow(proxy.address()).await;
    slow.send(&client.tool_bytes("2", "x", "{}")).await;
    let mut serving = JoinSet::new();
    serving.spawn(serve(upstream.next().await, 1200, sent));
    let mut events = Events::of(slow).await;
    // Far longer than it may take nothing, but it takes something.
    for number in 0..30 {
        assert_eq!(events.next().await.unwrap()["params"]["line"], number);
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(events.all().await.len(), 1200 + 1 - 30);
    assert_eq!(metric(&proxy, "slow_client_streams_ended_total", &[]).await, 1);
    drop(events);
    finish(proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_began_before_its_answer_came_is_ended_too() {
    let mut upstream = Scripted::start().await;
    let settings = route("slow_client: end, slow_client_after: 500ms");
    let heartbeat = "timeouts: { heartbeat: 50ms }\n";
    let text = format!("{heartbeat}{}{settings}", http_upstream(&upstream.url()));
    let proxy = Proxy::start(&text).await;
    let client = Client::modern(&proxy);
    let mut stalled = stalled(proxy.address(), &client.tool_bytes("1", "x", "{}")).await;
    let mut exchange = upstream.next().await;
    assert_eq!(stalled.head().await.unwrap().0, 200, "nothing was said yet");
    exchange.start_stream().await;
    for number in 0..LINES {
        exchange.write_some(format!("{:x}\r\n", event(number).len())).await;
        exchange.write_some(event(number)).await;
        exchange.write_some("\r\n").await;
    }
    // Not only after `timeouts.write_stall`.
    timeout(Duration::from_secs(30), ended(&proxy, "stalled", 1)).await.unwrap();
    drop((stalled, exchange));
    finish(proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_ended_comes_back_for_the_rest() {
    let settings = route(
        "slow_client: end, slow_client_after: 500ms, slow_client_buffer: 40MiB, \
         replay_max_bytes: 60MiB, replay_max_events: 10000",
    );
    let proxy = Proxy::start(&format!("{}{settings}", stdio_upstream(&[], ""))).await;
    let client = Client::legacy(&proxy, "2025-06-18").await;
    let call = client.tool_bytes("1", "emit", &flood(LINES));
    let stalled = stalled(proxy.address(), &call).await;
    ended(&proxy, "stalled", 1).await;
    proxy.until("it is cut", |census| census.streams == 0).await;
    let mut events = Events::of(stalled).await;
    let mut seen = 0;
    while events.next().await.is_some() {
        seen += 1;
    }
    let last = events.last_id().unwrap().to_owned();
    let rest = client.resume(&last).await.all().await;
    assert_eq!((seen + rest.len(), &rest[rest.len() - 1]["id"]), (LINES + 1, &Value::from(1)));
    drop(events);
    finish(proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_waits_has_a_budget() {
    let settings = route("slow_client_buffer: 1MiB");
    let shared = stdio_upstream(&[], ", sharing: shared");
    let limits = "limits: { slow_client_budget: 2MiB }\n";
    let proxy = Proxy::start(&format!("{limits}{shared}{settings}")).await;
    let token = "t".repeat(200);
    let mut stuck = Vec::new();
    for _ in 0..6 {
        let client = Client::modern(&proxy);
        stuck.push(stalled(proxy.address(), &progress(&client, 1, &token, 40_000)).await);
    }
    let labels = ["reason=\"budget\""];
    until_metric(&proxy, "slow_client_streams_ended_total", &labels, 3).await;
    until_metric(&proxy, "slow_client_streams_ended_total", &[], 6).await;
    let waits = proxy.census().backlog_bytes;
    assert!((1 << 19..=2 << 20).contains(&waits), "{waits}");
    // Who keeps up needs none of it.
    let answer = http::raw(proxy.address(), &progress(&Client::modern(&proxy), 7, "t", 100)).await;
    assert_eq!(answer.events().len(), 101);
    drop(stuck);
    finish(proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_stream_that_is_not_taken_ends_and_the_connection_goes_on() {
    let mut upstream = Scripted::start().await;
    let settings = route("slow_client: end, slow_client_after: 500ms");
    let proxy = Proxy::start(&format!("{}{settings}", http_upstream(&upstream.url()))).await;
    let stream = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
    let (requests, connection) = h2::client::Builder::new()
        .initial_window_size(20_000)
        .handshake::<_, Bytes>(stream)
        .await
        .unwrap();
    let mut running = JoinSet::new();
    running.spawn(async move { drop(connection.await) });
    let start = async |upstream: &mut Scripted, id: &str| {
        let mut request = ::http::Request::builder().method("POST").uri("http://localhost/mcp");
        for (name, value) in modern_headers("tools/call", Some("x")) {
            request = request.header(name, value);
        }
        let request = request
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(())
            .unwrap();
        let body = modern(id, "tools/call", r#""name":"x","arguments":{},"#);
        let mut requests = requests.clone().ready().await.unwrap();
        let (response, mut sending) = requests.send_request(request, false).unwrap();
        sending.send_data(Bytes::from(body), true).unwrap();
        let mut exchange = upstream.next().await;
        exchange.start_stream().await;
        exchange.chunk(event(0)).await;
        (response.await.unwrap().into_body(), exchange)
    };
    let (mut slow, mut slow_exchange) = start(&mut upstream, "1").await;
    for number in 0..10 {
        slow_exchange.chunk(event(number)).await;
    }
    // The other one is read all the time, so that the connection is alive.
    let (mut live, mut exchange) = start(&mut upstream, "2").await;
    let mut taken = 0;
    let mut number = 1;
    while metric(&proxy, "slow_client_streams_ended_total", &["reason=\"stalled\""]).await == 0 {
        while taken < number * event(0).len() {
            let piece = live.data().await.unwrap().unwrap();
            live.flow_control().release_capacity(piece.len()).unwrap();
            taken += piece.len();
        }
        exchange.chunk(event(number)).await;
        number += 1;
        assert!(number < 10_000, "it is not ended");
    }
    // Its window is what it may have; then it was reset.
    let mut got = 0;
    let end = loop {
        match slow.data().await {
            Some(Ok(piece)) => got += piece.len(),
            Some(Err(error)) => break Some(error),
            None => break None,
        }
    };
    assert_eq!(got, 20_000);
    assert!(end.is_some_and(|error| error.is_reset()), "cut, not whole");
    slow_exchange.closed().await;
    exchange.chunk(last_event(&2.into())).await;
    exchange.chunk("").await;
    while let Some(piece) = live.data().await {
        let piece = piece.unwrap();
        live.flow_control().release_capacity(piece.len()).unwrap();
    }
    drop((slow, live, requests));
    running.join_all().await;
    finish(proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_client_that_takes_nothing_is_ended_by_its_route_too() {
    let settings = route("sse: true, slow_client: end, slow_client_after: 500ms");
    let proxy = Proxy::start(&format!("{}{settings}", stdio_upstream(&[], ""))).await;
    let stuck = OldClient::ready(&proxy).await;
    for id in 1..=8 {
        stuck.call(&id.to_string(), "big", r#"{"bytes":4000000}"#).await;
    }
    ended(&proxy, "stalled", 1).await;
    proxy.until("its session is over", |census| census.sessions == 0).await;
    drop(stuck);
    finish(proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat_however_much_a_server_says() {
    let text = format!("{}{}", stdio_upstream(&[], ""), route("slow_client_buffer: 1MiB"));
    let proxy = Binary::serve(&text).await;
    let resident = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    };
    let hello = tidegate_tests::client::initialize("2025-06-18", "{}");
    let answer = http::raw(proxy.address(), &http::post_bytes(&[], hello.as_bytes())).await;
    let session = answer.header("mcp-session-id").unwrap().to_owned();
    let headers = [("mcp-session-id", &*session), ("mcp-protocol-version", "2025-06-18")];
    let before = resident(proxy.pid());
    // 60 MB, none of it read.
    let params = format!(r#"{{"name":"emit","arguments":{}}}"#, flood(6000));
    let call = http::post_bytes(&headers, legacy("1", "tools/call", &params).as_bytes());
    let mut stalled = Connection::open(proxy.address()).await;
    stalled.send(&call).await;
    let paused = async || {
        let metrics = Metrics::scrape(proxy.ops()).await;
        metrics.count("tidegate_upstream_reads_paused_total", &[])
    };
    while paused().await == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    let waiting = resident(proxy.pid()) - before;
    assert!(waiting < 24 << 20, "{waiting}");
    let mut events = Events::of(stalled).await;
    let mut count = 0;
    while events.next().await.is_some() {
        count += 1;
    }
    assert_eq!(count, 6001);
    let read = resident(proxy.pid()) - before;
    // The log of the stream has its share, which is 4 MiB.
    assert!(read < 32 << 20, "{read}");
    drop(events);
    proxy.signal("TERM").await;
    assert!(proxy.exit().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_of_an_old_server_stands_still_with_its_client() {
    let server = OldServer::start().await;
    let upstream = format!(
        "upstreams: {{ it: {{ http: {{ url: \"{}\", transport: sse }} }} }}\n",
        server.url()
    );
    let proxy = Proxy::start(&format!("{upstream}{}", route("slow_client_buffer: 1MiB"))).await;
    let client = Client::legacy(&proxy, "2025-06-18").await;
    let steps = 60_000;
    let call = progress(&client, 1, &"t".repeat(200), steps);
    let stalled = stalled(proxy.address(), &call).await;
    until_metric(&proxy, "upstream_reads_paused_total", &[], 1).await;
    assert!(proxy.census().backlog_bytes < 3 << 19);
    // Another session of the server is another stream.
    let other = Client::legacy(&proxy, "2025-06-18").await;
    assert_eq!(other.told("echo", r#"{"n":1}"#).await["n"], 1);
    let mut events = Events::of(stalled).await;
    let all = events.all().await;
    assert_eq!(all.len(), steps + 1);
    for (step, event) in all[..steps].iter().enumerate() {
        assert_eq!(event["params"]["progress"], step + 1);
    }
    drop(events);
    finish(proxy).await;
}
