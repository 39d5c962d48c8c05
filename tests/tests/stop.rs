//! Stopping (battery K): whoever is being served is served, whoever would never end is ended, and
//! nothing is left.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use serde_json::Value;
use tidegate_gateway::{Outcome, Stop};
use tidegate_testkit::procs;
use tidegate_tests::{
    Binary, Client, Events, Proxy, Recorder, Scripted,
    client::{META, initialize, modern},
    http::{self, Connection},
    modern_headers, stdio_upstream,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

async fn stop(proxy: &Proxy) -> Outcome {
    proxy.gateway().stop(Stop::Graceful).await
}

#[tokio::test]
async fn a_graceful_stop_waits_for_calls_and_takes_no_new_ones() {
    let proxy = Proxy::to_stdio(&[]).await;
    let (newer, older) = (Client::modern(&proxy), Client::legacy(&proxy, "2025-11-25").await);
    let slow = r#"{"delay_ms":700,"progress":1}"#;
    let mut idle = Connection::open(proxy.address()).await;
    idle.send(&http::post_bytes(&[], b"{")).await;
    assert_eq!(idle.response().await.status, 400);
    let (first, second, outcome, ()) = tokio::join!(
        newer.tool("1", "echo", slow),
        older.tool("1", "echo", slow),
        async {
            proxy.until("both are under way", |census| census.in_flight == 2).await;
            stop(&proxy).await
        },
        async {
            assert!(idle.is_closed_by_peer().await, "an idle connection is closed at once");
            assert!(tokio::net::TcpStream::connect(proxy.address()).await.is_err(), "no new ones");
        },
    );
    assert!(outcome.is_clean(), "{outcome:?}");
    for answer in [first, second] {
        assert_eq!(answer.message()["result"]["structuredContent"]["delay_ms"], 700);
    }
}

#[tokio::test]
async fn a_stop_waits_for_http_calls_and_streams() {
    let mut upstream = Scripted::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let client = Client::modern(&proxy);
    let mut plain = Connection::open(proxy.address()).await;
    plain.send(&client.tool_bytes("1", "x", "{}")).await;
    let plain_exchange = upstream.next().await;
    let mut streamed = Connection::open(proxy.address()).await;
    streamed.send(&client.tool_bytes("1", "x", "{}")).await;
    let mut exchange = upstream.next().await;
    exchange.start_stream().await;
    let mut events = Events::of(streamed).await;
    let (outcome, ()) = tokio::join!(stop(&proxy), async {
        proxy.until("it has begun", |_| true).await;
        let note = "data: {\"jsonrpc\":\"2.0\",\"method\":\"m\"}\n\n";
        exchange.chunk(note).await;
        assert_eq!(events.next().await.unwrap()["method"], "m");
        let answer = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
        plain_exchange.json("200 OK", "", answer).await;
        assert_eq!(plain.response().await.text(), answer);
        exchange.chunk(format!("data: {answer}\n\n")).await;
        exchange.chunk("").await;
        assert_eq!(events.next().await.unwrap()["id"], 1);
        assert_eq!(events.rest().await, (Vec::new(), true));
    });
    assert!(outcome.is_clean(), "{outcome:?}");
}

#[tokio::test]
async fn streams_that_would_never_end_are_ended_as_their_era_wants_it() {
    let proxy = Proxy::to_stdio(&[]).await;
    let older = Client::legacy(&proxy, "2025-11-25").await;
    let mut get = older.listen().await;
    let mut subscription = Client::modern(&proxy).subscribe("\"s\"").await;
    subscription.next().await.unwrap();
    let began = Instant::now();
    let outcome = stop(&proxy).await;
    assert!(outcome.is_clean() && began.elapsed() < Duration::from_secs(5), "{outcome:?}");
    let (rest, is_whole) = get.rest().await;
    // Behind the event that says where the stream begins.
    let rest = String::from_utf8(rest).unwrap();
    assert!(is_whole && rest.ends_with("\n\nretry: 1000\n\n"), "{rest}");
    let last = subscription.next().await.unwrap();
    assert_eq!((&last["id"], &last["result"]["resultType"]), (&"s".into(), &"complete".into()));
    assert_eq!(last["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "s");
    assert_eq!(subscription.rest().await, (Vec::new(), true));
}

#[tokio::test]
async fn an_endless_stream_over_http_is_ended_and_its_session_too() {
    let mut upstream = Scripted::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let mut listener = Connection::open(proxy.address()).await;
    let body = modern("1", "subscriptions/listen", r#""notifications":{},"#);
    let headers = modern_headers("subscriptions/listen", None);
    listener.send(&http::post_bytes(&headers, body.as_bytes())).await;
    let mut exchange = upstream.next().await;
    exchange.start_stream().await;
    let mut events = Events::of(listener).await;
    let (outcome, ()) = tokio::join!(stop(&proxy), exchange.closed());
    assert!(outcome.is_clean(), "{outcome:?}");
    assert_eq!(events.next().await.unwrap()["result"]["resultType"], "complete");
    assert_eq!(events.rest().await, (Vec::new(), true));

    let upstream = Recorder::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    Client::legacy(&proxy, "2025-11-25").await;
    proxy.stop().await;
    let last = upstream.requests().pop().unwrap();
    assert!(last.head.starts_with("DELETE"), "the upstream is told: {}", last.head);
}

#[tokio::test]
async fn clients_that_say_nothing_hold_up_no_stop() {
    let proxy = Proxy::to_stdio(&[]).await;
    let mut silent = Connection::open(proxy.address()).await;
    let mut half = Connection::open(proxy.address()).await;
    half.send(b"PRI * HTTP").await;
    proxy.until("they are there", |census| census.connections == 2).await;
    let began = Instant::now();
    let outcome = stop(&proxy).await;
    assert!(outcome.is_clean() && began.elapsed() < Duration::from_secs(3), "{outcome:?}");
    assert!(silent.is_closed_by_peer().await && half.is_closed_by_peer().await);
}

#[tokio::test]
async fn a_request_that_stalls_is_cut_when_the_drain_is_over() {
    for bytes in [
        &b"POST /mcp HTTP/1.1\r\nhost: localhost\r\n"[..],
        b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let proxy = Proxy::to_stdio_with(&[], "timeouts: { drain: 400ms }").await;
        let mut stalled = Connection::open(proxy.address()).await;
        stalled.send(bytes).await;
        proxy.until("it is there", |census| census.connections == 1).await;
        let began = Instant::now();
        let outcome = stop(&proxy).await;
        assert!(began.elapsed() < Duration::from_secs(3));
        assert!(outcome.cut <= 1 && outcome.left.is_empty(), "{outcome:?}");
    }
}

#[tokio::test]
async fn processes_that_refuse_to_go_are_killed_with_their_offspring() {
    let modes: [&[&str]; 4] = [
        &["--ignore-eof"],
        &["--ignore-eof", "--ignore-term"],
        &["--fork"],
        &["--fork", "--ignore-eof", "--ignore-term"],
    ];
    let mut running = JoinSet::new();
    for mode in modes {
        running.spawn(async move {
            let proxy = Proxy::start(&stdio_upstream(mode, ", stop_grace: 300ms")).await;
            let client = Client::legacy(&proxy, "2025-11-25").await;
            let pid = client.told("pid", "{}").await["pid"].as_u64().unwrap();
            let group = u32::try_from(pid).unwrap();
            assert!(!procs::in_group(group).is_empty());
            let began = Instant::now();
            let outcome = stop(&proxy).await;
            assert!(outcome.is_clean(), "{mode:?} {outcome:?}");
            assert!(began.elapsed() < Duration::from_secs(5), "{mode:?}");
            // The kernel ends a killed grandchild when it is scheduled.
            let ended = timeout(Duration::from_secs(5), async {
                while !procs::in_group(group).is_empty() {
                    sleep(Duration::from_millis(5)).await;
                }
            });
            assert!(ended.await.is_ok(), "{mode:?}");
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn hung_children_of_both_kinds_are_cut_in_time() {
    let settings = "timeouts: { drain: 300ms }";
    let upstream = stdio_upstream(&["--ignore-eof"], ", stop_grace: 300ms");
    let proxy = Proxy::start(&format!("{settings}\n{upstream}")).await;
    let older = Client::legacy(&proxy, "2025-11-25").await;
    let mut calls = Vec::new();
    for client in [&Client::modern(&proxy), &older] {
        let mut call = Connection::open(proxy.address()).await;
        call.send(&client.tool_bytes("1", "hang", "{}")).await;
        calls.push(call);
    }
    proxy.until("both hang", |census| census.in_flight == 2).await;
    let began = Instant::now();
    let outcome = stop(&proxy).await;
    assert_eq!(outcome.cut, 2);
    assert!(outcome.left.is_empty(), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn stop_now_hurries_a_graceful_stop() {
    let proxy = Proxy::to_stdio_with(&[], "timeouts: { drain: 60s }").await;
    let mut call = Connection::open(proxy.address()).await;
    call.send(&Client::modern(&proxy).tool_bytes("1", "hang", "{}")).await;
    proxy.until("it hangs", |census| census.in_flight == 1).await;
    let began = Instant::now();
    let (graceful, now) = tokio::join!(stop(&proxy), async {
        sleep(Duration::from_millis(100)).await;
        proxy.gateway().stop(Stop::Now).await
    });
    assert_eq!(graceful, now);
    assert!(now.cut == 1 && now.left.is_empty() && began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn dropping_the_handle_drains_and_releases_everything() {
    let proxy = Proxy::to_stdio(&[]).await;
    let (address, ops) = (proxy.address(), proxy.ops());
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let pid = client.told("pid", "{}").await["pid"].as_u64().unwrap();
    let slow = client.tool_bytes("1", "echo", r#"{"delay_ms":300}"#);
    let mut call = Connection::open(address).await;
    call.send(&slow).await;
    proxy.until("it is under way", |census| census.in_flight == 1).await;
    let gateway = proxy.into_gateway();
    let finished = gateway.finished();
    drop(gateway);
    assert_eq!(call.response().await.status, 200);
    let outcome = timeout(Duration::from_secs(10), finished.wait()).await.unwrap();
    assert!(outcome.is_clean(), "{outcome:?}");
    for address in [address, ops] {
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
    assert!(!procs::is_running(u32::try_from(pid).unwrap()));
}

#[tokio::test]
async fn a_stop_during_everything_leaves_nothing() {
    // Connects, handshakes, calls, streams and cancellations in all stages, cut at any moment.
    for round in 0..6_u64 {
        let proxy = Proxy::to_stdio_with(&[], "timeouts: { drain: 200ms }").await;
        let (address, newer) = (proxy.address(), Client::modern(&proxy));
        let mut crowd = JoinSet::new();
        for number in 0..24_u64 {
            let newer = newer.clone();
            crowd.spawn(async move {
                let Ok(stream) = tokio::net::TcpStream::connect(address).await else { return };
                drop(stream);
                let mut connection = Connection::open(address).await;
                let bytes = match number % 4 {
                    0 => newer.tool_bytes("1", "echo", r#"{"delay_ms":50}"#),
                    1 => newer.tool_bytes("1", "hang", "{}"),
                    2 => http::post_bytes(&[], initialize("2025-11-25", "{}").as_bytes()),
                    _ => b"POST /mcp HTTP/1.1\r\nhost: ".to_vec(),
                };
                connection.send(&bytes).await;
                connection.response().await;
            });
        }
        sleep(Duration::from_millis(round * 30)).await;
        let outcome = stop(&proxy).await;
        assert!(outcome.left.is_empty(), "{round}: {outcome:?}");
        crowd.shutdown().await;
    }
}

/// A program with a session's child and a shared one; returns their process ids.
async fn with_children(settings: &str) -> (Binary, Vec<u32>, Vec<(String, String)>) {
    let binary = Binary::serve(&format!("{settings}\n{}", stdio_upstream(&[], ""))).await;
    let hello = initialize("2025-11-25", "{}");
    let opened = http::post(binary.address(), &[], &hello).await;
    let session = opened.header("mcp-session-id").unwrap().to_owned();
    let older = vec![("mcp-session-id".to_owned(), session)];
    let call = |meta: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"pid","arguments":{{}}{meta}}}}}"#
        )
    };
    let as_older = [("mcp-session-id", &*older[0].1)];
    let newer = modern_headers("tools/call", Some("pid"));
    let mut pids = Vec::new();
    for (headers, body) in [(&as_older[..], call("")), (&newer[..], call(&format!(",{META}")))] {
        let answer = http::post(binary.address(), headers, &body).await.message();
        let pid = answer["result"]["structuredContent"]["pid"].as_u64().unwrap();
        pids.push(u32::try_from(pid).unwrap());
    }
    assert!(pids.iter().all(|pid| procs::is_running(*pid)));
    (binary, pids, older)
}

/// The bytes of a call of a tool by a legacy client.
fn older_call(session: &[(String, String)], name: &str, arguments: &str) -> Vec<u8> {
    let params = format!(r#"{{"name":"{name}","arguments":{arguments}}}"#);
    let body = tidegate_tests::client::legacy("1", "tools/call", &params);
    http::post_bytes(&[("mcp-session-id", &session[0].1)], body.as_bytes())
}

async fn gone(pids: &[u32]) {
    let gone = timeout(Duration::from_secs(6), async {
        while pids.iter().any(|pid| procs::is_running(*pid)) {
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(gone.await.is_ok(), "still there: {pids:?}");
}

#[tokio::test]
async fn a_signal_lets_calls_finish_and_the_exit_code_is_zero() {
    for name in ["TERM", "INT"] {
        let (binary, pids, session) = with_children("").await;
        let health = http::get(binary.ops(), "/health/ready", &[]).await;
        assert_eq!(health.status, 200);
        let mut call = Connection::open(binary.address()).await;
        call.send(&older_call(&session, "echo", r#"{"delay_ms":600}"#)).await;
        let mut stream = Connection::open(binary.address()).await;
        let get = [("mcp-session-id", &*session[0].1), ("accept", "text/event-stream")];
        stream.send(&http::request("GET", "/mcp", &get)).await;
        let mut events = Events::of(stream).await;
        in_flight(&binary, 1).await;
        binary.signal(name).await;
        let ready = timeout(Duration::from_secs(5), async {
            // Not ready any more, for as long as there is somebody to be told.
            while http::get(binary.ops(), "/health/ready", &[]).await.status == 200 {}
        });
        ready.await.unwrap();
        let answer = call.response().await.message();
        assert_eq!(answer["result"]["structuredContent"]["delay_ms"], 600);
        assert!(events.rest().await.1);
        assert_eq!(binary.exit().await.code(), Some(0), "{name}");
        gone(&pids).await;
    }
}

/// Waits until so many calls are in flight, by what the program says of itself.
async fn in_flight(binary: &Binary, count: usize) {
    let reached = timeout(Duration::from_secs(5), async {
        let wanted = format!(" {count}");
        loop {
            let metrics = http::get(binary.ops(), "/metrics", &[]).await.text();
            let is_it = |line: &&str| {
                line.starts_with("tidegate_stdio_requests_in_flight") && line.ends_with(&wanted)
            };
            if metrics.lines().find(is_it).is_some() {
                return;
            }
        }
    });
    assert!(reached.await.is_ok(), "{count} in flight");
}

#[tokio::test]
async fn a_second_signal_cuts_calls_and_the_exit_code_tells() {
    let (mut binary, pids, session) = with_children("timeouts: { drain: 60s }").await;
    let mut call = Connection::open(binary.address()).await;
    call.send(&older_call(&session, "hang", "{}")).await;
    in_flight(&binary, 1).await;
    binary.signal("TERM").await;
    binary.logs("draining").await;
    let began = Instant::now();
    binary.signal("INT").await;
    assert_eq!(binary.exit().await.code(), Some(1));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let cut = call.response().await;
    assert!(cut.status == 0 || !cut.is_whole, "{cut:?}");
    gone(&pids).await;
}

#[tokio::test]
async fn a_hung_call_is_cut_when_the_drain_is_over_and_the_exit_code_tells() {
    let (binary, pids, session) = with_children("timeouts: { drain: 500ms }").await;
    let mut call = Connection::open(binary.address()).await;
    call.send(&older_call(&session, "hang", "{}")).await;
    let _silent = Connection::open(binary.address()).await;
    in_flight(&binary, 1).await;
    let began = Instant::now();
    binary.signal("TERM").await;
    assert_eq!(binary.exit().await.code(), Some(1));
    let waited = began.elapsed();
    assert!(waited > Duration::from_millis(450) && waited < Duration::from_secs(4), "{waited:?}");
    gone(&pids).await;
}

#[tokio::test]
async fn children_end_when_the_proxy_is_killed() {
    let (binary, pids, _) = with_children("").await;
    binary.signal("KILL").await;
    assert_eq!(binary.exit().await.code(), None, "by a signal");
    gone(&pids).await;
}

#[tokio::test]
async fn an_address_in_use_is_told_and_the_exit_code_too() {
    let upstream = Recorder::start().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "the program is what is tested")]
    let output = tokio::process::Command::new(tidegate_tests::program())
        .args(["serve", "--listen", &address.to_string(), "--upstream", &upstream.url()])
        .env("TIDEGATE__OPS__ADDRESS", "127.0.0.1:0")
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&address.to_string()), "{said}");
}

#[tokio::test]
async fn the_program_serves_what_the_library_serves() {
    let upstream = Recorder::start().await;
    let binary = Binary::serve(&tidegate_tests::http_upstream(&upstream.url())).await;
    let answer: Value = http::post(binary.address(), &[], PING).await.json();
    assert_eq!(answer["id"], 1);
    assert_eq!(http::get(binary.ops(), "/health/live", &[]).await.status, 200);
    binary.signal("TERM").await;
    assert_eq!(binary.exit().await.code(), Some(0));
}
