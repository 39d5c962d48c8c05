//! Readers that stand still, and those beside them.

use std::sync::Arc;

use futures_util::{StreamExt as _, future::join_all};
use serde_json::{Value, json};
use tidegate_service::{
    EventStream, Kind, Operation,
    slow::{Backlog, Policy, SlowClients, SlowParams},
};
use tidegate_upstream_stdio::{Params, Sharing};

use crate::rig::{
    Client, Rig, cancel, eventually, frame, gone, next, params, pid, rest, with_token, within,
};

const BUFFER: usize = 256 << 10;
/// So many messages that neither the buffer nor the pipe holds them.
const LINES: usize = 6000;

fn route(policy: Policy, backlog: &Backlog) -> Arc<SlowClients> {
    let params = SlowParams { policy, buffer: BUFFER, ..SlowParams::default() };
    Arc::new(SlowClients::new("/mcp", params, backlog))
}

/// A call that sends much before its answer, all of it its own.
fn flood(client: &Client) -> Value {
    with_token(client.call(1, "echo", json!({"progress": LINES})), "t")
}

async fn paused(rig: &Rig, times: u64) {
    eventually("a pause", || rig.upstream.stats().pauses == times).await;
}

/// All that a stream still brings, and the kind of failure it ends with, if it does.
async fn all(mut stream: EventStream) -> (Vec<Value>, Option<Kind>) {
    let mut found = Vec::new();
    while let Some(item) = within(stream.next()).await {
        match item {
            Ok(item) => found.push(frame(item)),
            Err(error) => return (found, Some(error.kind)),
        }
    }
    (found, None)
}

#[tokio::test]
async fn a_process_stands_still_with_the_only_reader_of_its_session() {
    let backlog = Backlog::default();
    let slow = route(Policy::Pause, &backlog);
    let rig = Rig::new(&[]);
    let client = rig.client_of(Some(Arc::clone(&slow))).await;
    let stream = client.stream(&flood(&client)).await;
    paused(&rig, 1).await;
    assert!(backlog.bytes() <= 2 * BUFFER, "{}", backlog.bytes());
    // It reads no more either, and yet gets all of this once it goes on.
    let note = json!({"jsonrpc": "2.0", "method": "notifications/much", "params": {"y": "y".repeat(900_000)}});
    client.tell(&note).await;
    assert_eq!(rest(stream).await.len(), LINES + 1);
    assert_eq!(client.tool("seen", json!({})).await["seen"].as_array().unwrap().len(), 2);
    let stats = rig.upstream.stats();
    assert!(stats.pauses >= 1 && stats.notifications_dropped == 0, "{stats:?}");
    assert_eq!((backlog.bytes(), slow.stats()), (0, [0; 3]));
    rig.end().await;
}

#[tokio::test]
async fn a_call_beside_a_reader_that_stands_still_is_answered_and_the_other_is_told() {
    let slow = route(Policy::Pause, &Backlog::default());
    let rig = Rig::new(&[]);
    let client = rig.client_of(Some(Arc::clone(&slow))).await;
    let stream = client.stream(&flood(&client)).await;
    paused(&rig, 1).await;
    // Behind all that the first call still sends.
    client.tool("echo", json!({})).await;
    let (found, end) = all(stream).await;
    assert_eq!(end, Some(Kind::SlowClient));
    assert!((100..LINES).contains(&found.len()), "{}", found.len());
    assert_eq!(slow.stats(), [0, 1, 0]);
    rig.end().await;
}

#[tokio::test]
async fn a_process_that_stands_still_goes_on_when_its_reader_leaves_or_takes_the_call_back() {
    for leaves in [true, false] {
        let rig = Rig::new(&[]);
        let client = rig.client_of(Some(route(Policy::Pause, &Backlog::default()))).await;
        let stream = client.stream(&flood(&client)).await;
        paused(&rig, 1).await;
        if leaves {
            drop(stream);
        } else {
            client.tell(&cancel(1)).await;
            let (found, end) = all(stream).await;
            assert!(end.is_none() && found.len() < LINES);
        }
        eventually("the rest is read", || rig.upstream.stats().in_flight == 0).await;
        client.tool("echo", json!({})).await;
        rig.end().await;
    }
}

#[tokio::test]
async fn a_process_that_stands_still_ends_with_its_session_and_with_the_proxy() {
    for stops in [true, false] {
        let rig = Rig::new(&[]);
        let client = rig.client_of(Some(route(Policy::Pause, &Backlog::default()))).await;
        let process = pid(&client.tool("pid", json!({})).await);
        let stream = client.stream(&flood(&client)).await;
        paused(&rig, 1).await;
        if !stops {
            client.operate(Operation::EndSession).await.unwrap();
            gone(process).await;
        }
        rig.end().await;
        let (found, end) = all(stream).await;
        // It was told to end in an orderly way, and what it still said is there.
        assert!(found.len() == LINES + 1 || end == Some(Kind::Died), "{} {end:?}", found.len());
    }
}

#[tokio::test]
async fn what_finds_no_room_on_a_get_stream_comes_on_the_call_beside_it() {
    let slow = route(Policy::Pause, &Backlog::default());
    let rig = Rig::new(&[]);
    let client = rig.client_of(Some(Arc::clone(&slow))).await;
    let listening = client.listen().await;
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed",
        "params": {"_meta": {"x": "x".repeat(1000)}}});
    let call = client.call(1, "emit", json!({"messages": [changed], "repeat": 300}));
    let found = rest(client.stream(&call).await).await.len();
    let (heard, end) = all(listening).await;
    assert_eq!((end, slow.stats()), (Some(Kind::SlowClient), [0, 1, 0]));
    // The one for which there was no room waits for the next stream.
    let mut again = client.listen().await;
    next(&mut again).await;
    assert_eq!((again.missed(), heard.len() + found), (0, 300));
    drop(again);
    rig.end().await;
}

#[tokio::test]
async fn one_that_stands_still_and_ninety_nine_that_read_share_a_process() {
    for era in ["legacy", "modern"] {
        let backlog = Backlog::default();
        let slow = route(Policy::Pause, &backlog);
        let rig = Rig::with(Params { sharing: Sharing::Shared, ..params(&[]) });
        let client = async || match era {
            "legacy" => rig.client_of(Some(Arc::clone(&slow))).await,
            _ => rig.modern().on(&slow),
        };
        let stalled = client().await;
        let progress = |count: usize| json!({"progress": count, "delay_ms": 1});
        let call = with_token(stalled.call(1, "echo", progress(LINES)), 1);
        let stream = stalled.stream(&call).await;
        let live = join_all((0..99).map(async |number| {
            let client = client().await;
            let call = with_token(client.call(number, "echo", progress(30)), number);
            let stream = client.stream(&call).await;
            rest(stream).await
        }));
        for (number, found) in within(live).await.into_iter().enumerate() {
            assert_eq!(found.len(), 31, "{era}");
            assert!(found[..30].iter().all(|each| each["params"]["progressToken"] == number));
            assert_eq!(found[30]["id"], number);
        }
        eventually("it is ended", || slow.stats() == [0, 1, 0]).await;
        assert!(backlog.bytes() <= BUFFER);
        let (found, end) = all(stream).await;
        assert_eq!(end, Some(Kind::SlowClient), "{era}");
        assert!((100..LINES).contains(&found.len()), "{era}: {}", found.len());
        assert_eq!((backlog.bytes(), rig.upstream.stats().pauses), (0, 0));
        rig.end().await;
    }
}

#[tokio::test]
async fn a_subscription_that_is_not_read_ends_and_the_others_go_on() {
    let slow = route(Policy::Pause, &Backlog::default());
    let rig = Rig::new(&[]);
    let client = rig.modern().on(&slow);
    let listen = |id: &str| {
        let params = json!({"notifications": {"toolsListChanged": true}});
        client.request(id, "subscriptions/listen", params)
    };
    let stalled = client.stream(&listen("a")).await;
    let mut live = client.stream(&listen("b")).await;
    next(&mut live).await;
    while slow.stats() == [0; 3] {
        client.tool("touch", json!({})).await;
        next(&mut live).await;
    }
    client.tool("touch", json!({})).await;
    next(&mut live).await;
    let (found, end) = all(stalled).await;
    assert_eq!((end, slow.stats()), (Some(Kind::SlowClient), [0, 1, 0]));
    assert!(found.len() > 100, "{}", found.len());
    drop(live);
    rig.end().await;
}
