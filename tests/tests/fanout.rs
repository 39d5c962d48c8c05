//! What a server says reaches the session and the stream it is for, once, and nobody else.

use serde_json::{Value, json};
use tidegate_tests::{Client, Metrics, Proxy, client::legacy, http, stdio_upstream};
use tokio::task::JoinSet;

const LEGACY: [&str; 3] = ["2025-03-26", "2025-06-18", "2025-11-25"];

fn updated(uri: &str) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}})
}

/// Has the server say these messages.
async fn emit(client: &Client, messages: &[Value]) -> Vec<Value> {
    client.tool("1", "emit", &json!({"messages": messages}).to_string()).await.events()
}

async fn dropped(proxy: &Proxy) -> u64 {
    let labels = ["cause=\"notification\""];
    Metrics::scrape(proxy.ops()).await.count("tidegate_stdio_dropped_messages_total", &labels)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_session_hears_of_its_own_subscriptions_and_each_message_is_on_one_stream() {
    let proxy = Proxy::to_stdio(&[]).await;
    let mut running = JoinSet::new();
    for number in 0..12 {
        let version = LEGACY[number % LEGACY.len()];
        let client = Client::legacy(&proxy, version).await;
        running.spawn(async move {
            // Three streams of one session.
            let mut streams = [client.listen().await, client.listen().await, client.listen().await];
            // All sessions use the same ids and tell apart only what is theirs.
            let uri = |step: usize| format!("file:///{number}/{step}");
            let subscribe = legacy("1", "resources/subscribe", r#"{"uri":"file:///x"}"#);
            assert_eq!(client.post(&subscribe).await.status, 200);
            for step in 0..20 {
                // What is news about the server is on a stream for it, not on the call's.
                assert_eq!(emit(&client, &[updated(&uri(step))]).await, [] as [Value; 0]);
            }
            let [_, _, newest] = &mut streams;
            for step in 0..20 {
                let message = newest.next().await.unwrap();
                assert_eq!(message["params"]["uri"], uri(step), "its own, in order");
            }
            let [first, second, third] = streams;
            third.reset();
            (client, number, first, second)
        });
    }
    for (client, number, first, second) in running.join_all().await {
        // One stream is gone; the next messages are on one of the other two.
        let uri = format!("file:///{number}/last");
        let mut streams = [first, second];
        drop(emit(&client, &[updated(&uri)]).await);
        client.delete().await;
        let mut found = Vec::new();
        for events in &mut streams {
            found.extend(events.all().await);
        }
        let uris: Vec<&str> =
            found.iter().filter_map(|message| message["params"]["uri"].as_str()).collect();
        assert_eq!(uris, [uri.as_str()]);
    }
    assert_eq!(dropped(&proxy).await, 0);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_shared_child_only_what_concerns_all_is_told_to_all_and_once_each() {
    let proxy = Proxy::start(&stdio_upstream(&[], ", sharing: shared")).await;
    let mut sessions = Vec::new();
    for _ in 0..6 {
        let client = Client::legacy(&proxy, "2025-11-25").await;
        let streams = [client.listen().await, client.listen().await];
        sessions.push((client, streams));
    }
    assert_eq!(proxy.census().children, 1);
    // Two calls are under way, so that nothing that names neither can be told whose it is.
    let waiting = sessions[0].0.clone();
    let mut hanging = JoinSet::new();
    hanging.spawn(async move { waiting.tool("9", "hang", "{}").await });
    proxy.until("it is under way", |census| census.in_flight == 1).await;
    let log = json!({"jsonrpc": "2.0", "method": "notifications/message",
        "params": {"level": "info", "data": "whose?"}});
    let token = json!({"jsonrpc": "2.0", "method": "notifications/progress",
        "params": {"progressToken": "nobody's", "progress": 1}});
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    let said = [updated("file:///x"), log, token, changed.clone()];
    assert_eq!(emit(&sessions[1].0, &said).await.len(), 0, "its own stream has none of it");
    assert_eq!(dropped(&proxy).await, 3);
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}"#;
    assert_eq!(sessions[0].0.post(cancel).await.status, 202);
    assert_eq!(hanging.join_all().await[0].events().len(), 0);
    for (client, mut streams) in sessions {
        client.delete().await;
        let mut found = Vec::new();
        for events in &mut streams {
            found.extend(events.all().await);
        }
        assert_eq!(found, std::slice::from_ref(&changed), "on one of its streams");
    }
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_on_the_stream_of_its_call_alone_whoever_else_listens() {
    for sharing in ["session", "shared"] {
        let proxy = Proxy::start(&stdio_upstream(&[], &format!(", sharing: {sharing}"))).await;
        let mut running = JoinSet::new();
        for number in 0..8 {
            let client = Client::legacy(&proxy, LEGACY[number % LEGACY.len()]).await;
            let address = proxy.address();
            running.spawn(async move {
                let mut listening = client.listen().await;
                let mut calls = JoinSet::new();
                for call in 0..6 {
                    // The same tokens everywhere, once as a number and once as a text.
                    let token = if call % 2 == 0 { "7".to_owned() } else { "\"7\"".to_owned() };
                    let params = format!(
                        r#"{{"name":"echo","arguments":{{"progress":5,"delay_ms":5,"n":{call}}},"_meta":{{"progressToken":{token}}}}}"#
                    );
                    let bytes = client.bytes(&legacy(&call.to_string(), "tools/call", &params));
                    calls.spawn(async move {
                        let events = http::raw(address, &bytes).await.events();
                        assert_eq!(events.len(), 6, "{events:?}");
                        for (step, event) in events[..5].iter().enumerate() {
                            let expected: Value = serde_json::from_str(&token).unwrap();
                            assert_eq!(event["params"]["progressToken"], expected);
                            assert_eq!(event["params"]["progress"], step + 1);
                        }
                        assert_eq!(events[5]["result"]["structuredContent"]["n"], call);
                    });
                }
                calls.join_all().await;
                client.delete().await;
                assert_eq!(listening.all().await, [] as [Value; 0], "nothing of it is unasked");
            });
        }
        running.join_all().await;
        assert_eq!(dropped(&proxy).await, 0);
        proxy.stop().await;
    }
}
