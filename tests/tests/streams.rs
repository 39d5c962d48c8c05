//! Event streams (battery F): passed on as they come, cut where they are cut, cancelled where the
//! era says so, and asked through where servers ask clients.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_tests::{
    Client, Events, Exchange, Proxy, Scripted,
    client::{initialize, legacy},
    http::{self, Connection},
    stdio_upstream, timeouts,
};
use tokio::time::{Instant, sleep, timeout};

const ANSWER: &str = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n";

/// A stream through the proxy, and the upstream's end of it.
async fn relayed(proxy: &Proxy, upstream: &mut Scripted, client: &Client) -> (Events, Exchange) {
    let mut connection = Connection::open(proxy.address()).await;
    connection.send(&client.tool_bytes("1", "x", "{}")).await;
    let mut exchange = upstream.next().await;
    exchange.start_stream().await;
    (Events::of(connection).await, exchange)
}

/// A proxy before a scripted upstream, and a client of each era.
async fn start(settings: &str) -> (Proxy, Scripted, [Client; 2]) {
    let mut upstream = Scripted::start().await;
    let url = upstream.url();
    let text = format!("upstreams: {{ it: {{ http: {{ url: \"{url}\"{settings} }} }} }}\n");
    let proxy = Proxy::start(&text).await;
    let (older, ()) = tokio::join!(Client::legacy(&proxy, "2025-11-25"), async {
        let result = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}"#;
        upstream.next().await.json("200 OK", "mcp-session-id: theirs\r\n", result).await;
        upstream.next().await.status("202 Accepted").await;
    });
    let newer = Client::modern(&proxy);
    (proxy, upstream, [newer, older])
}

/// Stops the proxy while the upstream lets the sessions be ended.
async fn finish(proxy: Proxy, mut upstream: Scripted) {
    tokio::join!(proxy.stop(), async {
        let exchange = upstream.next().await;
        assert!(exchange.request.head.starts_with("DELETE"), "{}", exchange.request.head);
        exchange.status("200 OK").await;
    });
}

#[tokio::test]
async fn events_pass_byte_for_byte_and_none_waits_for_the_next() {
    let (proxy, mut upstream, clients) = start("").await;
    for client in &clients {
        let (mut events, mut exchange) = relayed(&proxy, &mut upstream, client).await;
        for event in [
            "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\",\"params\":{\"n\":1.0}}\n\n",
            "event: message\nid: 7-\u{e9}\nretry: 250\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"m\"}\n\n",
            "id: 8\r\ndata:{\"jsonrpc\":\"2.0\",\r\ndata: \"method\":\"m\"}\r\n\r\n",
            "data: {\"jsonrpc\":\"2.0\",\rdata:\"method\":\"m\"}\r\r\n",
            ": a comment\n\n",
            "id: 9\ndata:\n\n",
            "unknown: field\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"m\"}\n: inside\nx\n\n",
            ANSWER,
        ] {
            exchange.chunk(event).await;
            assert_eq!(String::from_utf8(events.bytes(event.len()).await).unwrap(), event);
        }
        exchange.chunk("").await;
        assert_eq!(events.rest().await, (Vec::new(), true));
    }
    finish(proxy, upstream).await;
}

#[tokio::test]
async fn events_that_come_byte_by_byte_or_all_at_once_are_the_same() {
    let (proxy, mut upstream, clients) = start("").await;
    let note = "id: 1\r\nevent: message\r\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"\u{e9}\u{1f600}\"}\r\n\r\n";
    let whole = format!("\u{feff}{note}: ping\n\n{}{ANSWER}", note.replace("\r\n", "\r"));
    let large = format!(
        "data: {{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{{\"x\":\"{}\"}}}}\n\n{ANSWER}",
        "x".repeat(5 << 20)
    );
    for client in &clients {
        for (bytes, step) in [(&whole, 1), (&whole, 7), (&whole, 10_000), (&large, 64 << 10)] {
            let (mut events, mut exchange) = relayed(&proxy, &mut upstream, client).await;
            let write = async {
                for piece in bytes.as_bytes().chunks(step) {
                    exchange.chunk(piece).await;
                }
                exchange.chunk("").await;
            };
            let ((read, is_whole), ()) = tokio::join!(events.rest(), write);
            assert!(is_whole);
            assert!(read == bytes.as_bytes(), "{step}: {}", String::from_utf8_lossy(&read[..200]));
        }
    }
    finish(proxy, upstream).await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_looks_cut_to_whoever_can_recover() {
    let (proxy, mut upstream, [newer, older]) = start(", reconnect: off").await;
    let note = "data: {\"jsonrpc\":\"2.0\",\"method\":\"m\"}\n\n";
    let with_id = format!("id: 5\n{note}");
    // Modern clients ask again, legacy ones resume if there are ids; the others must be told.
    for (client, sent, is_told) in [
        (&newer, note, false),
        (&newer, &*with_id, false),
        (&older, &*with_id, false),
        (&older, note, true),
    ] {
        for tail in ["", "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"resu"] {
            for is_reset in [true, false] {
                let (mut events, mut exchange) = relayed(&proxy, &mut upstream, client).await;
                exchange.chunk(sent).await;
                assert_eq!(events.bytes(sent.len()).await, sent.as_bytes());
                if !tail.is_empty() {
                    exchange.chunk(tail).await;
                }
                if is_reset {
                    exchange.reset();
                } else {
                    exchange.finish().await;
                }
                if is_told {
                    let error = events.next().await.expect("an error");
                    assert_eq!(
                        (&error["id"], &error["error"]["code"]),
                        (&json!(1), &json!(-31007))
                    );
                }
                assert_eq!(events.rest().await, (Vec::new(), is_told), "and no half event");
            }
        }
    }
    finish(proxy, upstream).await;
}

#[tokio::test]
async fn a_json_answer_that_breaks_off_is_an_error_and_not_half_a_body() {
    let (proxy, mut upstream, [newer, older]) = start("").await;
    for (client, status) in [(&newer, 502), (&older, 200)] {
        for head in ["content-length: 1000", "transfer-encoding: chunked"] {
            let (answer, ()) = tokio::join!(client.tool("1", "x", "{}"), async {
                let mut exchange = upstream.next().await;
                exchange
                    .write(format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{head}\r\n\r\n"
                    ))
                    .await;
                exchange.write("1f\r\n{\"jsonrpc\":\"2.0\",").await;
                exchange.finish().await;
            });
            assert_eq!((answer.status, answer.code()), (status, -31007), "{}", answer.text());
            assert_eq!(answer.json()["error"]["data"]["tidegate"]["retryable"], false);
        }
    }
    finish(proxy, upstream).await;
}

#[tokio::test]
async fn silence_of_the_upstream_ends_at_its_deadline_and_says_so() {
    let (proxy, mut upstream, [newer, older]) =
        start(&timeouts("request: 300ms, idle: 300ms")).await;
    for (client, status) in [(&newer, 504), (&older, 200)] {
        let began = Instant::now();
        let (answer, mut exchange) =
            tokio::join!(client.tool("1", "x", "{}"), async { upstream.next().await });
        assert_eq!((answer.status, answer.code()), (status, -31002), "{}", answer.text());
        assert!(began.elapsed() >= Duration::from_millis(280));
        exchange.closed().await;
        let is_legacy = status == 200;
        if is_legacy {
            called_off(&mut upstream).await;
        }
        // In the middle of a stream the deadline starts anew with each event.
        let (mut events, mut exchange) = relayed(&proxy, &mut upstream, client).await;
        for _ in 0..3 {
            sleep(Duration::from_millis(150)).await;
            exchange.chunk("data: {\"jsonrpc\":\"2.0\",\"method\":\"m\"}\n\n").await;
            assert_eq!(events.next().await.unwrap()["method"], "m");
        }
        let last = events.next().await.unwrap();
        assert_eq!(last["error"]["code"], -31002, "{last}");
        assert_eq!(events.rest().await, (Vec::new(), true));
        exchange.closed().await;
        if is_legacy {
            called_off(&mut upstream).await;
        }
    }
    finish(proxy, upstream).await;
}

/// A legacy server is told that nobody waits any more.
async fn called_off(upstream: &mut Scripted) {
    let exchange = upstream.next().await;
    let body = String::from_utf8_lossy(&exchange.request.body).into_owned();
    assert!(
        body.contains("notifications/cancelled") && body.contains(r#""requestId":1,"#),
        "{body}"
    );
    exchange.status("202 Accepted").await;
}

#[tokio::test]
async fn a_modern_client_that_leaves_cancels_over_http() {
    let (proxy, mut upstream, [newer, _]) = start("").await;
    for is_streaming in [false, true] {
        for is_reset in [false, true] {
            let mut connection = Connection::open(proxy.address()).await;
            connection.send(&newer.tool_bytes("1", "x", "{}")).await;
            let mut exchange = upstream.next().await;
            if is_streaming {
                exchange.start_stream().await;
                exchange.chunk("data: {\"jsonrpc\":\"2.0\",\"method\":\"m\"}\n\n").await;
                connection.head().await.unwrap();
            }
            let left = Instant::now();
            if is_reset {
                connection.reset();
            } else {
                drop(connection);
            }
            exchange.closed().await;
            assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
        }
    }
    finish(proxy, upstream).await;
}

/// What a process has been told, other than `initialized`.
async fn seen(client: &Client) -> Vec<Value> {
    let mut seen = client.told("seen", "{}").await;
    let all = seen["seen"].take();
    let all = all.as_array().unwrap().iter();
    all.filter(|each| each["method"] != "notifications/initialized").cloned().collect()
}

/// Waits until a process has been told something.
async fn told(client: &Client) -> Vec<Value> {
    let told = async {
        loop {
            let seen = seen(client).await;
            if !seen.is_empty() {
                return seen;
            }
        }
    };
    timeout(Duration::from_secs(5), told).await.unwrap()
}

#[tokio::test]
async fn a_modern_client_that_leaves_cancels_over_stdio() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = Client::modern(&proxy);
    assert_eq!(seen(&client).await, [] as [Value; 0], "and it has started");
    let mut connection = Connection::open(proxy.address()).await;
    connection.send(&client.tool_bytes("\"mine\"", "hang", "{}")).await;
    proxy.until("it hangs", |census| census.in_flight == 1).await;
    drop(connection);
    let seen = told(&client).await;
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0]["method"], "notifications/cancelled");
    assert!(seen[0]["params"]["requestId"].is_u64(), "the id that the process knows");
    proxy.until("nothing is left", |census| (census.in_flight, census.connections) == (0, 0)).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_legacy_client_that_leaves_cancels_nothing() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let mut connection = Connection::open(proxy.address()).await;
    connection.send(&client.tool_bytes("1", "echo", r#"{"delay_ms":300}"#)).await;
    proxy.until("it is under way", |census| census.in_flight == 1).await;
    drop(connection);
    proxy.until("the client is gone", |census| census.connections == 0).await;
    assert_eq!(seen(&client).await, [] as [Value; 0]);
    // The late answer reaches nobody, and the session goes on.
    sleep(Duration::from_millis(400)).await;
    assert_eq!(client.told("echo", r#"{"n":2}"#).await["n"], 2);
    assert_eq!(seen(&client).await, [] as [Value; 0]);
    proxy.stop().await;
}

#[tokio::test]
async fn a_legacy_client_cancels_by_saying_so() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = Client::legacy(&proxy, "2025-06-18").await;
    let mut connection = Connection::open(proxy.address()).await;
    connection.send(&client.tool_bytes("\"a\"", "hang", "{}")).await;
    proxy.until("it hangs", |census| census.in_flight == 1).await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a","reason":"enough"}}"#;
    assert_eq!(client.post(cancel).await.status, 202);
    let seen = told(&client).await;
    assert!(seen[0]["params"]["requestId"].is_u64(), "{seen:?}");
    assert_eq!(seen[0]["params"]["reason"], "enough");
    // One for a request that is not in flight goes nowhere.
    let stray = cancel.replace("\"a\"", "\"b\"");
    assert_eq!(client.post(&stray).await.status, 202);
    assert_eq!(self::seen(&client).await.len(), 1);
    drop(connection);
    proxy.stop().await;
}

#[tokio::test]
async fn what_a_server_says_unasked_comes_on_the_get_stream() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let other = Client::legacy(&proxy, "2025-11-25").await;
    let (mut mine, mut theirs) = (client.listen().await, other.listen().await);
    let emit = r#"{"messages":[{"jsonrpc":"2.0","method":"notifications/tools/list_changed"},{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:b"}}]}"#;
    let answer = client.tool("1", "emit", emit).await;
    assert_eq!(answer.message()["id"], 1);
    assert!(!answer.text().contains("list_changed"), "on one stream only");
    assert_eq!(mine.next().await.unwrap()["method"], "notifications/tools/list_changed");
    assert_eq!(mine.next().await.unwrap()["params"]["uri"], "a:b");
    // Nobody else hears of it: the next thing on the other stream is its own.
    let own = emit.replace("a:b", "c:d");
    other.tool("1", "emit", &own).await;
    theirs.next().await.unwrap();
    assert_eq!(theirs.next().await.unwrap()["params"]["uri"], "c:d");
    drop((mine, theirs));
    proxy.stop().await;
}

#[tokio::test]
async fn a_server_asks_its_client_and_is_answered() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    for (method, params) in [
        ("sampling/createMessage", r#"{"messages":[],"maxTokens":5,"n":1.50}"#),
        ("elicitation/create", r#"{"message":"who?","requestedSchema":{"type":"object"}}"#),
        ("roots/list", "{}"),
        ("ping", "{}"),
    ] {
        for reply in
            [r#""result":{"n":12345678901234567890}"#, r#""error":{"code":-1,"message":"no"}"#]
        {
            let arguments = format!(r#"{{"method":"{method}","params":{params}}}"#);
            let mut events = client.stream("1", "ask", &arguments).await;
            let asked = events.next().await.unwrap();
            assert_eq!(asked["method"], method, "{asked}");
            assert_eq!(asked["params"], serde_json::from_str::<Value>(params).unwrap());
            let id = &asked["id"];
            let said = format!(r#"{{"jsonrpc":"2.0","id":{id},{reply}}}"#);
            assert_eq!(client.post(&said).await.status, 202);
            let answer = events.next().await.unwrap();
            assert_eq!(answer["id"], 1);
            let told = &answer["result"]["structuredContent"]["told"];
            let reply: Value = serde_json::from_str(&format!("{{{reply}}}")).unwrap();
            assert_eq!((&told["result"], &told["error"]), (&reply["result"], &reply["error"]));
            assert_eq!(events.rest().await, (Vec::new(), true));
            // Saying it twice is no use, and no harm.
            assert_eq!(client.post(&said).await.status, 202);
        }
    }
    assert_eq!(seen(&client).await, [] as [Value; 0], "no stray answer came through");
    proxy.stop().await;
}

#[tokio::test]
async fn a_question_is_answered_by_the_client_that_was_asked() {
    let proxy = Proxy::to_stdio(&[]).await;
    let clients =
        [Client::legacy(&proxy, "2025-11-25").await, Client::legacy(&proxy, "2025-11-25").await];
    // Both processes number their questions from one.
    let ask = r#"{"method":"elicitation/create","params":{}}"#;
    let mut streams = Vec::new();
    let mut ids = Vec::new();
    for client in &clients {
        let mut events = client.stream("1", "ask", ask).await;
        ids.push(events.next().await.unwrap()["id"].clone());
        streams.push(events);
    }
    for number in [1, 0] {
        let id = &ids[number];
        let said = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"by":{number}}}}}"#);
        assert_eq!(clients[number].post(&said).await.status, 202);
        let answer = streams[number].next().await.unwrap();
        assert_eq!(answer["result"]["structuredContent"]["told"]["result"]["by"], number);
    }
    drop(streams);
    proxy.stop().await;
}

#[tokio::test]
async fn questions_and_resumption_pass_through_to_an_http_upstream() {
    let (proxy, mut upstream, [_, client]) = start(", reconnect: off").await;
    // A question on a stream, answered by a POST of its own.
    let (mut events, mut exchange) = relayed(&proxy, &mut upstream, &client).await;
    let asked = "id: 3\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"q\",\"method\":\"roots/list\"}\n\n";
    exchange.chunk(asked).await;
    assert_eq!(events.next().await.unwrap()["id"], "q");
    let said = r#"{"jsonrpc":"2.0","id":"q","result":{ "roots" : [] }}"#;
    let (accepted, ()) = tokio::join!(client.post(said), async {
        let exchange = upstream.next().await;
        assert_eq!(exchange.request.body, said.as_bytes());
        assert_eq!(exchange.request.header("mcp-session-id"), Some("theirs"));
        exchange.status("202 Accepted").await;
    });
    assert_eq!((accepted.status, &*accepted.text()), (202, ""));
    exchange.reset();
    assert_eq!(events.rest().await, (Vec::new(), false), "it can be resumed");

    // The client resumes with the last event it saw.
    let mut connection = Connection::open(proxy.address()).await;
    let mut headers = client.headers();
    headers.extend([("accept", "text/event-stream"), ("last-event-id", "3")]);
    connection.send(&http::request("GET", "/mcp", &headers)).await;
    let mut exchange = upstream.next().await;
    assert!(exchange.request.head.starts_with("GET /mcp HTTP/1.1\r\n"));
    assert_eq!(exchange.request.header("last-event-id"), Some("3"));
    assert_eq!(exchange.request.header("mcp-session-id"), Some("theirs"));
    exchange.start_stream().await;
    exchange.chunk(format!("id: 4\n{ANSWER}")).await;
    let mut events = Events::of(connection).await;
    assert_eq!(events.next().await.unwrap()["id"], 1);
    exchange.chunk("").await;
    assert_eq!(events.rest().await, (Vec::new(), true));

    // An upstream that has no GET stream says so.
    let get = http::request("GET", "/mcp", &headers);
    let (refused, ()) = tokio::join!(http::raw(proxy.address(), &get), async {
        upstream.next().await.status("405 Method Not Allowed").await;
    });
    assert_eq!(refused.status, 405);
    finish(proxy, upstream).await;
}

#[tokio::test]
async fn initialize_may_be_answered_by_a_stream() {
    let mut upstream = Scripted::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let mut connection = Connection::open(proxy.address()).await;
    let hello = initialize("2025-06-18", "{}");
    connection.send(&http::post_bytes(&[], hello.as_bytes())).await;
    let mut exchange = upstream.next().await;
    exchange
        .write(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nmcp-session-id: theirs\r\n\
             transfer-encoding: chunked\r\nconnection: close\r\n\r\n",
        )
        .await;
    exchange.chunk("id: 0\ndata:\n\n").await;
    exchange.chunk("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n").await;
    exchange
        .chunk("data: {\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{\"protocolVersion\":\"2025-06-18\",\"capabilities\":{}}}\n\n")
        .await;
    let (status, headers) = connection.head().await.unwrap();
    let session = headers.iter().find(|(name, _)| name == "mcp-session-id");
    assert!(status == 200 && session.is_some_and(|(_, id)| id != "theirs"), "{headers:?}");
    exchange.chunk("").await;
    exchange.finish().await;
    let mut text = Vec::new();
    while let Some(chunk) = connection.chunk().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("id: 0\ndata:\n\n"), "{text}");
    assert_eq!(text.matches("data: {").count(), 2);
    finish(proxy, upstream).await;
}

#[tokio::test]
async fn a_subscription_hears_what_is_tagged_for_it_until_it_ends() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = Client::modern(&proxy);
    const TAG: &str = "io.modelcontextprotocol/subscriptionId";
    // All clients count from one.
    for ends_by_cancel in [false, true] {
        let mut streams = [client.subscribe("1").await, client.subscribe("\"1\"").await];
        for (events, id) in streams.iter_mut().zip([json!(1), json!("1")]) {
            let first = events.next().await.unwrap();
            assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
            assert_eq!(first["params"]["_meta"][TAG], id);
        }
        client.told("touch", "{}").await;
        for (events, id) in streams.iter_mut().zip([json!(1), json!("1")]) {
            let news = events.next().await.unwrap();
            assert_eq!(news["method"], "notifications/tools/list_changed");
            assert_eq!(news["params"]["_meta"][TAG], id);
        }
        client.told("end_listens", &format!(r#"{{"cancel":{ends_by_cancel}}}"#)).await;
        for (events, id) in streams.iter_mut().zip([json!(1), json!("1")]) {
            let last = events.next().await.unwrap();
            assert_eq!((&last["id"], &last["result"]["_meta"][TAG]), (&id, &id), "{last}");
            assert_eq!(last["result"]["resultType"], "complete");
            assert_eq!(events.rest().await, (Vec::new(), true));
        }
    }
    // One that its client leaves is cancelled, and the other hears no less.
    let (left, mut kept) = (client.subscribe("1").await, client.subscribe("1").await);
    left.reset();
    assert_eq!(told(&client).await[0]["method"], "notifications/cancelled");
    client.told("touch", "{}").await;
    assert_eq!(kept.next().await.unwrap()["params"]["_meta"][TAG], 1);
    kept.next().await.unwrap();
    drop(kept);
    proxy.until("none is left", |census| (census.streams, census.in_flight) == (0, 0)).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody() {
    let text = format!(
        "timeouts: {{ write_stall: 500ms }}\n{}",
        stdio_upstream(&[], &timeouts("request: 5s, idle: 5s"))
    );
    let proxy = Proxy::start(&text).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let mut stuck = Connection::open(proxy.address()).await;
    let noise = "x".repeat(10_000);
    let emit = format!(
        r#"{{"repeat":2000,"messages":[{{"jsonrpc":"2.0","method":"notifications/message","params":{{"data":"{noise}"}}}}]}}"#
    );
    stuck.send(&client.tool_bytes("1", "emit", &emit)).await;
    proxy.until("it is there", |census| census.connections == 1).await;
    let other = Client::legacy(&proxy, "2025-11-25").await;
    for n in 0..20 {
        assert_eq!(other.told("echo", &format!(r#"{{"n":{n}}}"#)).await["n"], n);
    }
    // Its process stands still with it until it is cut off.
    proxy.until("it is over", |census| (census.streams, census.in_flight) == (0, 0)).await;
    assert_eq!(client.post(&legacy("2", "ping", "{}")).await.status, 200, "its session lives on");
    drop(stuck);
    proxy.assert_alive().await;
    proxy.stop().await;
}
