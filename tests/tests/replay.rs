//! Streams that are cut and go on: what a client missed comes again, exactly and once, and what is
//! not kept any more is said to be missing.
#![expect(clippy::indexing_slicing, reason = "tests")]

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;
use tidegate_tests::{
    Client, Events, Metrics, Proxy, Scripted,
    client::legacy,
    http::{self, Connection},
    program, stdio_upstream,
};
use tokio::time::{sleep, timeout};

const LEGACY: [&str; 3] = ["2025-03-26", "2025-06-18", "2025-11-25"];

/// A route to the testkit's server with these settings of replay, each with a comma before it.
fn route(settings: &str) -> String {
    let upstream = stdio_upstream(&[], "");
    format!("{upstream}routes: [{{ match: {{ path: /mcp }}, upstream: it{settings} }}]\n")
}

/// A call that reports what it does, step by step.
async fn slow(proxy: &Proxy, client: &Client) -> Events {
    let call =
        r#"{"name":"slow","arguments":{"seconds":0.3,"steps":5},"_meta":{"progressToken":"p"}}"#;
    let connection = Connection::open(proxy.address()).await;
    Events::open(connection, &client.bytes(&legacy("1", "tools/call", call))).await
}

/// A call that sends so many numbered log lines and then answers.
async fn chatter(client: &Client, lines: usize, padding: usize) -> Events {
    let data = "x".repeat(padding);
    let messages: Vec<String> = (1..=lines)
        .map(|line| {
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","line":{line},"data":"{data}"}}}}"#
            )
        })
        .collect();
    client.stream("1", "emit", &format!(r#"{{"messages":[{}]}}"#, messages.join(","))).await
}

/// The lines of a [`chatter`]; 0 is its answer.
fn lines(messages: &[Value]) -> Vec<u64> {
    messages.iter().map(|each| each["params"]["line"].as_u64().unwrap_or_default()).collect()
}

async fn gone(proxy: &Proxy) {
    proxy.until("the client is gone", |census| census.streams == 0).await;
}

async fn metric(proxy: &Proxy, name: &str) -> u64 {
    Metrics::scrape(proxy.ops()).await.count(&format!("tidegate_replay_{name}"), &[])
}

/// Comes back with an id that nothing can be given for.
async fn gap(proxy: &Proxy, client: &Client, last_event_id: &str) {
    let before = metric(proxy, "gaps_total").await;
    let answer = http::raw(proxy.address(), &client.listen_bytes(Some(last_event_id))).await;
    assert_eq!((answer.status, answer.code()), (410, -31010), "{}", answer.text());
    assert_eq!(answer.json()["error"]["data"]["tidegate"]["kind"], "stream_gap");
    assert_eq!(metric(proxy, "gaps_total").await, before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_cut_anywhere_and_resumed_is_the_unbroken_one() {
    let command = program();
    let proxy = Proxy::start(&format!(
        "upstreams: {{ it: {{ stdio: {{ command: [{command:?}, demo-server] }} }} }}\n"
    ))
    .await;
    for version in LEGACY {
        let client = Client::legacy(&proxy, version).await;
        let whole = slow(&proxy, &client).await.all().await;
        assert_eq!(whole.len(), 8, "{whole:?}");
        assert_eq!(whole.last().unwrap()["id"], 1);
        for cut in [0, 1, 2, 4, whole.len() - 1] {
            if version != "2025-11-25" && cut == 0 {
                // Without an id there is nothing to come back with.
                continue;
            }
            let mut events = slow(&proxy, &client).await;
            if version == "2025-11-25" {
                events.primed().await;
            }
            let mut seen = Vec::new();
            for _ in 0..cut {
                seen.push(events.next().await.unwrap());
            }
            let mut last = events.last_id().unwrap().to_owned();
            if cut % 2 == 0 {
                // The proxy hears of it at once.
                events.reset();
                gone(&proxy).await;
                // Cut once more, on the way back.
                let mut again = client.resume(&last).await;
                seen.push(again.next().await.unwrap());
                last = again.last_id().unwrap().to_owned();
            }
            // Here the old connection may still look open to the proxy.
            let mut again = client.resume(&last).await;
            seen.extend(again.all().await);
            assert_eq!(seen, whole, "{version}, cut after {cut}");
        }
    }
    assert_eq!(metric(&proxy, "streams_resumed_total").await, 20);
    assert_eq!(metric(&proxy, "gaps_total").await, 0);
    proxy.stop().await;
}

#[tokio::test]
async fn an_answer_waits_for_a_client_that_left_before_it() {
    let proxy = Proxy::start(&route(", replay_prime_after: 0s")).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let ask = r#"{"method":"roots/list","params":{}}"#;
    let mut events = client.stream("7", "ask", ask).await;
    let first = events.primed().await;
    let asked = events.next().await.unwrap();
    events.reset();
    gone(&proxy).await;
    // The server works on while nobody reads.
    let said = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"roots":[]}}}}"#, asked["id"]);
    assert_eq!(client.post(&said).await.status, 202);
    proxy.until("the answer has come", |census| census.in_flight == 0).await;
    let mut again = client.resume(&first).await;
    assert_eq!(again.next().await.unwrap(), asked, "it may not have arrived the first time");
    let rest = again.all().await;
    assert_eq!((rest.len(), &rest[0]["id"]), (1, &7.into()));
    assert_eq!(
        rest[0]["result"]["structuredContent"]["told"]["result"]["roots"],
        Value::Array(vec![])
    );
    proxy.stop().await;
}

#[tokio::test]
async fn a_route_says_how_long_an_answer_may_take_before_it_becomes_a_stream() {
    for (settings, expected) in
        [("", "application/json"), (", replay_prime_after: 0s", "text/event-stream")]
    {
        let proxy = Proxy::start(&route(settings)).await;
        let client = Client::legacy(&proxy, "2025-11-25").await;
        let answer = client.tool("1", "echo", r#"{"delay_ms":50}"#).await;
        assert_eq!(answer.header("content-type"), Some(expected));
        assert_eq!(answer.message()["id"], 1);
        proxy.stop().await;
    }
}

#[tokio::test]
async fn a_route_says_how_long_a_client_waits_before_it_polls() {
    let settings = ", replay_prime_after: 0s, replay_poll_after: 200ms";
    let proxy = Proxy::start(&route(settings)).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let ask = r#"{"method":"roots/list","params":{}}"#;
    let mut events = client.stream("7", "ask", ask).await;
    let first = events.primed().await;
    let asked = events.next().await.unwrap();
    let place = events.last_id().unwrap().to_owned();
    assert_eq!(events.rest().await, (Vec::new(), true), "it ends in order, without the answer");
    assert_ne!(place, first);
    let said = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"roots":[]}}}}"#, asked["id"]);
    assert_eq!(client.post(&said).await.status, 202);
    let rest = client.resume(&place).await.all().await;
    assert_eq!((rest.len(), &rest[0]["id"]), (1, &7.into()));
    proxy.stop().await;
}

#[tokio::test]
async fn an_older_client_is_given_no_event_that_it_cannot_read() {
    let proxy = Proxy::start(&route(", replay_prime_after: 0s")).await;
    for version in ["2025-03-26", "2025-06-18"] {
        let client = Client::legacy(&proxy, version).await;
        let answer = client.tool("1", "echo", r#"{"delay_ms":50}"#).await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let (rest, is_whole) = chatter(&client, 2, 0).await.rest().await;
        let rest = String::from_utf8(rest).unwrap();
        assert!(is_whole && !rest.contains("data: \n"), "{rest}");
        assert_eq!(rest.matches("id: tg-").count(), 3, "{rest}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_route_without_replay_is_as_if_there_were_none() {
    let proxy = Proxy::start(&route(", replay: off, replay_prime_after: 0s")).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let answer = client.tool("1", "echo", r#"{"delay_ms":50}"#).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let (rest, is_whole) = chatter(&client, 2, 0).await.rest().await;
    assert!(is_whole && !String::from_utf8(rest).unwrap().contains("id: "));
    let census = proxy.census();
    assert_eq!((census.logs, census.log_bytes), (0, 0));
    proxy.stop().await;
}

#[tokio::test]
async fn a_stream_keeps_so_many_events_and_says_what_is_missing() {
    let proxy = Proxy::start(&route(", replay_max_events: 3")).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let mut events = chatter(&client, 5, 0).await;
    let mut ids = vec![events.primed().await];
    while events.next().await.is_some() {
        ids.push(events.last_id().unwrap().to_owned());
    }
    // Five lines and the answer.
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (7, 7));
    for id in &ids[..3] {
        gap(&proxy, &client, id).await;
    }
    for (id, expected) in ids[3..].iter().zip([&[4, 5, 0][..], &[5, 0], &[0], &[]]) {
        assert_eq!(lines(&client.resume(id).await.all().await), expected);
    }
    // An id is of no use in another session, nor is one that nobody was given.
    let other = Client::legacy(&proxy, "2025-11-25").await;
    gap(&proxy, &other, &ids[6]).await;
    let (stem, _) = ids[6].rsplit_once('-').unwrap();
    gap(&proxy, &client, &format!("{stem}-7")).await;
    assert_eq!(metric(&proxy, "events_evicted_total").await, 3);
    assert_eq!(metric(&proxy, "events_logged_total").await, 6);
    assert_eq!(metric(&proxy, "events_replayed_total").await, 6);
    proxy.stop().await;
}

#[tokio::test]
async fn a_stream_and_all_streams_keep_so_many_bytes() {
    let settings = ", replay_max_bytes: 100KiB";
    let proxy =
        Proxy::start(&format!("limits: {{ replay_budget: 1MiB }}\n{}", route(settings))).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let mut firsts = Vec::new();
    for _ in 0..20 {
        let mut events = chatter(&client, 3, 40 << 10).await;
        let start = events.primed().await;
        assert_eq!(lines(&[events.next().await.unwrap()]), [1]);
        let first = events.last_id().unwrap().to_owned();
        assert_eq!(lines(&events.all().await), [2, 3, 0]);
        // Two and a bit fit into one log.
        gap(&proxy, &client, &start).await;
        firsts.push(first);
        gone(&proxy).await;
        let bytes = proxy.census().log_bytes;
        assert!(bytes <= 1 << 20, "{bytes}");
    }
    gap(&proxy, &client, &firsts[0]).await;
    let last = firsts.last().unwrap();
    assert_eq!(lines(&client.resume(last).await.all().await), [2, 3, 0]);
    assert!(proxy.census().logs < 20);
    proxy.stop().await;
}

#[tokio::test]
async fn nothing_is_kept_for_longer_than_the_window() {
    let proxy = Proxy::start(&route(", replay_window: 1s, replay_prime_after: 0s")).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    // One that is over, and one that never will be.
    let mut over = chatter(&client, 1, 0).await;
    let mut places = vec![over.primed().await];
    assert_eq!(lines(&over.all().await), [1, 0]);
    let mut endless = client.stream("2", "hang", "{}").await;
    places.push(endless.primed().await);
    endless.reset();
    proxy.until("both are gone", |census| census.logs == 0).await;
    for place in &places {
        gap(&proxy, &client, place).await;
    }
    proxy.stop().await;
}

#[tokio::test]
async fn a_listener_that_is_cut_off_misses_nothing() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let update = async |uri: &str| {
        let message = format!(
            r#"{{"messages":[{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"{uri}"}}}}]}}"#
        );
        client.tool("1", "emit", &message).await;
    };
    let uri =
        |message: Option<Value>| message.unwrap()["params"]["uri"].as_str().unwrap().to_owned();
    let mut events = client.listen().await;
    let start = events.primed().await;
    update("a").await;
    assert_eq!(uri(events.next().await), "a");
    let after_a = events.last_id().unwrap().to_owned();
    update("b").await;
    assert_eq!(uri(events.next().await), "b");
    events.reset();
    gone(&proxy).await;
    // With two calls under way, a message is nobody's and waits for a listener.
    let mut other = Connection::open(proxy.address()).await;
    other.send(&client.tool_bytes("9", "hang", "{}")).await;
    proxy.until("it is under way", |census| census.in_flight == 1).await;
    update("c").await;
    // What it has not seen, what it missed, and what comes.
    let mut again = client.resume(&after_a).await;
    assert_eq!(
        (uri(again.next().await), uri(again.next().await)),
        ("b".to_owned(), "c".to_owned())
    );
    update("d").await;
    assert_eq!(uri(again.next().await), "d");
    // Whoever comes last has the stream.
    let mut last = client.resume(&start).await;
    for expected in ["a", "b", "c", "d"] {
        assert_eq!(uri(last.next().await), expected);
    }
    assert_eq!(again.all().await, [] as [Value; 0]);
    update("e").await;
    assert_eq!(uri(last.next().await), "e");
    drop((last, other));
    proxy.stop().await;
}

#[tokio::test]
async fn of_two_listeners_each_gets_its_own_and_together_they_get_all() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let (mut one, mut two) = (client.listen().await, client.listen().await);
    let messages: Vec<String> = (0..20)
        .map(|number| {
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"{number:02}"}}}}"#)
        })
        .collect();
    client.tool("1", "emit", &format!(r#"{{"messages":[{}]}}"#, messages.join(","))).await;
    let read = async |events: &mut Events| {
        let mut uris = Vec::new();
        while let Ok(Some(message)) = timeout(Duration::from_millis(300), events.next()).await {
            uris.push(message["params"]["uri"].as_str().unwrap().to_owned());
        }
        uris
    };
    let (first, second) = tokio::join!(read(&mut one), read(&mut two));
    let mut all: Vec<String> = first.iter().chain(&second).cloned().collect();
    all.sort();
    let expected: Vec<String> = (0..20).map(|number| format!("{number:02}")).collect();
    assert_eq!(all, expected, "each on one stream, and none twice");
    drop((one, two));
    proxy.stop().await;
}

#[tokio::test]
async fn an_http_server_without_ids_is_given_ours_where_the_route_says_so() {
    let mut upstream = Scripted::start().await;
    let url = upstream.url();
    let proxy = Proxy::start(&format!(
        "upstreams: {{ it: {{ url: \"{url}\" }} }}\n\
         routes: [{{ match: {{ path: /mcp }}, upstream: it, replay: on }}]\n"
    ))
    .await;
    let (client, ()) = tokio::join!(Client::legacy(&proxy, "2025-11-25"), async {
        let result = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}"#;
        upstream.next().await.json("200 OK", "mcp-session-id: theirs\r\n", result).await;
        upstream.next().await.status("202 Accepted").await;
    });
    let mut connection = Connection::open(proxy.address()).await;
    connection.send(&client.tool_bytes("1", "x", "{}")).await;
    let mut exchange = upstream.next().await;
    exchange.start_stream().await;
    let mut events = Events::of(connection).await;
    events.primed().await;
    exchange.chunk("data: {\"n\":1}\n\n").await;
    assert_eq!(events.next().await.unwrap()["n"], 1);
    let place = events.last_id().unwrap().to_owned();
    events.reset();
    gone(&proxy).await;
    assert!(exchange.stays_open(Duration::from_millis(100)).await, "the call goes on");
    exchange.chunk("id: own\nretry: 5\ndata: {\"n\":2}\n\n").await;
    exchange.chunk("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n").await;
    exchange.chunk("").await;
    exchange.finish().await;
    let (rest, is_whole) = client.resume(&place).await.rest().await;
    let rest = String::from_utf8(rest).unwrap();
    let (stem, _) = place.rsplit_once('-').unwrap();
    let expected = format!(
        "id: {stem}-2\nretry: 5\ndata: {{\"n\":2}}\n\n\
         id: {stem}-3\ndata: {{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{}}}}\n\n"
    );
    assert_eq!((rest, is_whole), (expected, true));
    tokio::join!(proxy.stop(), async { upstream.next().await.status("200 OK").await });
}

#[tokio::test]
async fn calls_without_a_client_end_with_the_session_and_with_the_proxy() {
    let proxy = Proxy::start(&route(", replay_prime_after: 0s")).await;
    for ends_session in [true, false] {
        let client = Client::legacy(&proxy, "2025-11-25").await;
        let tasks = proxy.census().tasks;
        for id in ["1", "2", "3"] {
            let mut events = client.stream(id, "hang", "{}").await;
            events.primed().await;
            events.reset();
        }
        gone(&proxy).await;
        sleep(Duration::from_millis(50)).await;
        let census = proxy.census();
        assert_eq!((census.in_flight, census.logs), (3, 3), "{census:?}");
        assert_eq!(metric(&proxy, "streams_draining").await, 3);
        if ends_session {
            assert_eq!(client.delete().await.status, 200);
            proxy.until("its calls are over", |now| now.logs == 0 && now.tasks < tasks).await;
        }
    }
    // The calls that are left are not waited for, and nothing of them remains.
    proxy.stop().await;
}

#[tokio::test]
async fn a_stop_waits_for_a_call_that_its_client_came_back_to() {
    let command = program();
    let proxy = Proxy::start(&format!(
        "upstreams: {{ it: {{ stdio: {{ command: [{command:?}, demo-server] }} }} }}\n"
    ))
    .await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let mut events = slow(&proxy, &client).await;
    let start = events.primed().await;
    events.reset();
    let mut again = client.resume(&start).await;
    again.next().await.unwrap();
    let (rest, ()) = tokio::join!(again.all(), proxy.stop());
    assert_eq!(rest.last().unwrap()["id"], 1, "{rest:?}");
}
