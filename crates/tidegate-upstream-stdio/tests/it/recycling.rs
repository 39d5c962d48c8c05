//! Processes that are replaced, and what becomes of those who use them.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::json;
use tidegate_protocol::Envelope;
use tidegate_service::{Kind, Operation};
use tidegate_upstream_stdio::{Params, Sharing};
use tokio::time::Instant;

use crate::rig::{Client, Rig, eventually, gone, next, params, pid, within};

fn shared(change: impl FnOnce(&mut Params)) -> Rig {
    let mut params = params(&[]);
    params.sharing = Sharing::Shared;
    change(&mut params);
    Rig::with(params)
}

async fn process(client: &Client) -> u32 {
    pid(&client.tool("pid", json!({})).await)
}

#[tokio::test]
async fn a_shared_process_that_nobody_uses_ends_and_comes_back() {
    let rig = shared(|params| params.idle_timeout = Some(Duration::from_millis(200)));
    let (legacy, modern) = (rig.client().await, rig.modern());
    let first = [process(&legacy).await, process(&modern).await];
    eventually("the end of both", || rig.upstream.stats().running == 0).await;
    assert_eq!(rig.upstream.stats().recycled.idle, 2);
    for (client, first) in [(&legacy, first[0]), (&modern, first[1])] {
        assert_ne!(process(client).await, first);
    }
    // A call in flight is use.
    let started = Instant::now();
    let slow = legacy.call(1, "echo", json!({"delay_ms": 700}));
    legacy.ask(&slow).await;
    assert!(started.elapsed() >= Duration::from_millis(700));
    rig.end().await;
}

#[tokio::test]
async fn a_session_keeps_its_own_process_however_long_it_is_silent() {
    let mut params = params(&[]);
    params.idle_timeout = Some(Duration::from_millis(40));
    let rig = Rig::with(params);
    let (client, modern) = (rig.client().await, rig.modern());
    let first = process(&client).await;
    modern.tool("pid", json!({})).await;
    // The shared process of the modern caller shows that the limit is at work.
    eventually("the other's end", || rig.upstream.stats().recycled.idle == 1).await;
    assert_eq!(process(&client).await, first);
    rig.end().await;
}

#[tokio::test]
async fn a_process_is_replaced_when_it_is_old_and_finishes_what_it_does() {
    let rig = shared(|params| params.max_age = Some(Duration::from_millis(300)));
    let (client, modern) = (rig.client().await, rig.modern());
    for client in [&client, &modern] {
        let first = process(client).await;
        let slow = client.call(1, "echo", json!({"delay_ms": 900, "n": 7}));
        let mut slow = Box::pin(client.ask(&slow));
        assert!((&mut slow).now_or_never().is_none());
        let before = rig.upstream.stats().recycled.age;
        eventually("its age", || rig.upstream.stats().recycled.age > before).await;
        assert_ne!(process(client).await, first, "new calls go to the next one");
        assert_eq!(within(slow).await["result"]["structuredContent"]["n"], 7);
        gone(first).await;
    }
    rig.end().await;
}

#[tokio::test]
async fn a_process_takes_so_many_calls_and_no_more() {
    let rig = shared(|params| params.max_calls = Some(3));
    let client = rig.client().await;
    // The handshake was not one of them.
    let mut seen = Vec::new();
    for _ in 0..9 {
        seen.push(process(&client).await);
    }
    let mut runs = seen.chunk_by(|one, two| one == two).map(<[u32]>::len).collect::<Vec<_>>();
    assert_eq!((runs.remove(0), runs.remove(0), runs.remove(0)), (3, 3, 3), "{seen:?}");
    assert_eq!(rig.upstream.stats().recycled.calls, 3);
    rig.end().await;
}

/// Otherwise a process is spent before it serves anybody, and so is the next.
#[tokio::test]
async fn what_the_proxy_asks_a_process_is_none_of_its_calls() {
    for max_calls in [1, 2] {
        let rig = shared(|params| params.max_calls = Some(max_calls));
        for client in [rig.client().await, rig.modern()] {
            let before = rig.upstream.stats().recycled.calls;
            let mut seen = Vec::new();
            for _ in 0..4 {
                seen.push(process(&client).await);
            }
            seen.dedup();
            assert_eq!(seen.len() as u64, 4 / max_calls, "{max_calls}: {seen:?}");
            assert_eq!(rig.upstream.stats().recycled.calls - before, 4 / max_calls);
        }
        rig.end().await;
    }
}

/// What ends the session that has one, too, would leave nothing to use.
#[tokio::test]
async fn a_handshake_leaves_a_session_all_the_calls_of_its_process() {
    let mut params = params(&[]);
    params.max_calls = Some(1);
    let rig = Rig::with(params);
    process(&rig.client().await).await;
    rig.end().await;
}

#[tokio::test]
async fn a_session_whose_process_is_spent_ends_after_its_last_answer() {
    let mut params = params(&[]);
    params.max_calls = Some(2);
    let rig = Rig::with(params);
    let client = rig.client().await;
    process(&client).await;
    let last = client.call(1, "ask", json!({"method": "roots/list"}));
    let mut stream = client.stream(&last).await;
    let ask = next(&mut stream).await;
    let error = client.error(&client.call(2, "pid", json!({}))).await;
    assert_eq!(error.kind, Kind::SessionUnknown, "which makes the client start anew");
    // What is in flight is finished, and that takes the client's answer.
    client.tell(&json!({"jsonrpc": "2.0", "id": ask["id"], "result": {"roots": []}})).await;
    assert_eq!(next(&mut stream).await["result"]["structuredContent"]["by"], "ask");
    eventually("the end", || rig.upstream.stats().running == 0).await;
    assert!(client.session.as_ref().unwrap().is_ended());
    rig.end().await;
}

#[tokio::test]
async fn a_process_that_takes_too_much_memory_is_replaced() {
    let rig = shared(|params| params.max_rss = Some(64 << 20));
    let client = rig.client().await;
    let first = process(&client).await;
    eventually("a measurement", || rig.upstream.stats().resident_bytes > 0).await;
    assert_eq!(process(&client).await, first);
    client.tool("hold", json!({"bytes": 100 << 20})).await;
    eventually("its replacement", || rig.upstream.stats().recycled.memory == 1).await;
    assert_ne!(process(&client).await, first);
    gone(first).await;
    rig.end().await;
}

#[tokio::test]
async fn subscriptions_go_on_with_the_next_process() {
    // Replaced by age in one case, killed in the other.
    for crash in [false, true] {
        let rig = shared(|params| {
            params.max_age = (!crash).then_some(Duration::from_secs(1));
        });
        let client = rig.modern();
        let wanted = json!({"notifications": {"toolsListChanged": true}});
        let listen = client.request("sub", "subscriptions/listen", wanted);
        let mut stream = client.stream(&listen).await;
        let ack = next(&mut stream).await;
        assert_eq!(ack["method"], "notifications/subscriptions/acknowledged");
        let first = process(&client).await;
        if crash {
            let error = client.error(&client.call(1, "exit", json!({"code": 1}))).await;
            assert_eq!(error.kind, Kind::Died);
        }
        gone(first).await;
        // The stream is read while the next process comes up, as a client's connection does.
        let told = async {
            loop {
                client.tool("touch", json!({})).await;
                if rig.upstream.stats().resumed_listens == 1 {
                    client.tool("touch", json!({})).await;
                    return;
                }
            }
        };
        let ((), news) = tokio::join!(within(told), next(&mut stream));
        assert_eq!(news["method"], "notifications/tools/list_changed", "no second acknowledgement");
        assert_eq!(news["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "sub");
        drop(stream);
        rig.end().await;
    }
}

/// The server may be replaced before it has said anything to a subscription, the first time and
/// any other time.
#[tokio::test]
async fn subscriptions_without_acknowledgement_go_on_with_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let silent = folder.path().join("silent");
    let mut params = params(&["--no-ack-while", silent.to_str().unwrap()]);
    params.max_calls = Some(2);
    let rig = Rig::with(params);
    let client = rig.modern();
    process(&client).await;
    // It spends its process.
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    let listen = client.request("sub", "subscriptions/listen", wanted);
    let mut stream = client.stream(&listen).await;
    assert_eq!(next(&mut stream).await["method"], "notifications/subscriptions/acknowledged");
    let told = async {
        for spawned in [3, 4] {
            // Sent again by us, it is none of the calls of the next process.
            std::fs::write(&silent, "").unwrap();

            process(&client).await;
            process(&client).await;
            eventually("the next process", || {
                let stats = rig.upstream.stats();
                let settled = (stats.running, stats.states.serving, stats.in_flight) == (1, 1, 1);
                settled && stats.spawned == spawned
            })
            .await;
        }
        // Answered in order: the subscription was read while the file was there.
        process(&client).await;
        assert_eq!(rig.upstream.stats().resumed_listens, 0);
        std::fs::remove_file(&silent).unwrap();
        process(&client).await;
        eventually("its answer", || rig.upstream.stats().resumed_listens == 1).await;
        client.tool("touch", json!({})).await;
    };
    let ((), news) = tokio::join!(within(told), next(&mut stream));
    assert_eq!(news["method"], "notifications/tools/list_changed", "no second acknowledgement");
    assert_eq!(rig.upstream.stats().spawned, 5);
    drop(stream);
    rig.end().await;
}

/// Sent again, it would end the same way again, as fast as the server answers.
#[tokio::test]
async fn a_subscription_that_its_server_ends_with_nonsense_ends_with_an_error() {
    let rig = shared(|_| ());
    let client = rig.modern();
    let listen = client.request("sub", "subscriptions/listen", json!({"notifications": {}}));
    let mut stream = client.stream(&listen).await;
    assert_eq!(next(&mut stream).await["method"], "notifications/subscriptions/acknowledged");
    // Ids on the pipe: 1 was the probe, 2 the question for tools.
    let text = r#"{"jsonrpc":"2.0","id":3,"result":{},"result":{}}"#;
    client.tool("raw", json!({"text": text})).await;
    let error = within(stream.next()).await.unwrap().expect_err("the subscription is broken");
    assert_eq!(error.kind, Kind::Protocol);
    assert!(stream.next().await.is_none());
    let stats = rig.upstream.stats();
    assert_eq!((stats.resumed_listens, stats.spawned), (0, 1));
    rig.end().await;
}

#[tokio::test]
async fn a_reply_that_is_dropped_while_its_process_is_replaced_leaves_nothing() {
    let rig = shared(|params| params.max_age = Some(Duration::from_millis(100)));
    let client = rig.client().await;
    let hang = client.call(1, "hang", json!({})).to_string();
    let mut hanging =
        Box::pin(client.operate(Operation::Send(Envelope::parse(hang.into()).unwrap())));
    assert!((&mut hanging).now_or_never().is_none());
    eventually("its age", || rig.upstream.stats().recycled.age > 0).await;
    client.tell(&crate::rig::cancel(1)).await;
    drop(hanging);
    eventually("its end", || rig.upstream.stats().running == 0).await;
    rig.end().await;
}
