//! Every future and stream may be dropped at every await, and nothing stays behind.

use std::{future::Future, pin::Pin, time::Duration};

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tidegate_protocol::Envelope;
use tidegate_service::{Body, Operation};
use tokio::time::{sleep, timeout};

use crate::rig::{Client, Rig, eventually, initialize, params, with_token, within};

/// Polls at most `polls` times, then drops. Returns whether it was done before.
async fn poll_times<F: Future>(future: F, polls: usize) -> bool {
    let mut future: Pin<Box<F>> = Box::pin(future);
    for _ in 0..polls {
        if futures_util::poll!(&mut future).is_ready() {
            return true;
        }
        // Lets the process and its task make one step or another.
        sleep(Duration::from_micros(300)).await;
    }
    false
}

fn operation(message: &Value) -> Operation {
    Operation::Send(Envelope::parse(message.to_string().into()).unwrap())
}

/// One call with everything: progress, log lines, a delay, a stream that is read to the end.
async fn full(client: &Client, n: u64) {
    let arguments = json!({"n": n, "delay_ms": n % 3, "progress": 2});
    let call = with_token(client.call(n, "echo", arguments), n);
    let Ok(reply) = client.operate(operation(&call)).await else { return };
    if let Body::Stream(mut stream) = reply.body {
        while stream.next().await.is_some() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn calls_dropped_anywhere_leave_no_trace_in_either_era() {
    let rig = Rig::new(&[]);
    for client in [rig.client().await, rig.modern()] {
        let mut done = 0;
        for n in 0..400_u64 {
            let polls = usize::try_from(n % 16).unwrap();
            done += usize::from(poll_times(full(&client, n), polls).await);
        }
        assert!((1..400).contains(&done), "{done} of 400 were read to the end");
        eventually("the last answer", || rig.upstream.stats().in_flight == 0).await;
        client.tool("echo", json!({})).await;
    }
    assert_eq!(rig.upstream.stats().unknown_answers, 0);
    rig.end().await;
}

#[tokio::test]
async fn handshakes_dropped_anywhere_leave_no_process() {
    let rig = Rig::new(&[]);
    let mut done = 0;
    for polls in 0..24 {
        let stranger = rig.stranger();
        done += usize::from(poll_times(stranger.reply(&initialize()), polls).await);
    }
    eventually("the end of all processes", || rig.upstream.stats().running == 0).await;
    assert!(done > 0, "none was polled to the end");
    assert_eq!(rig.upstream.stats().in_flight, 0);
    rig.end().await;
}

#[tokio::test]
async fn starts_dropped_anywhere_are_finished_for_the_next() {
    for polls in 0..8 {
        let rig = Rig::new(&[]);
        let client = rig.modern();
        poll_times(client.reply(&client.call(1, "echo", json!({}))), polls).await;
        client.tool("echo", json!({})).await;
        assert_eq!(rig.upstream.stats().spawned, 1);
        rig.end().await;
    }
}

#[tokio::test]
async fn callers_dropped_while_they_wait_for_room_have_sent_nothing() {
    let mut params = params(&[]);
    params.max_in_flight = 8;
    let rig = Rig::with(params);
    let client = rig.client().await;
    let block = client.call("b", "block", json!({"ms": 700}));
    let block = client.reply(&block);
    let mut block = Box::pin(block);
    assert!(futures_util::poll!(&mut block).is_pending());
    let large = "z".repeat(700_000);
    for round in 0..3 {
        let waiting = (0..6).map(|n| {
            let (client, large) = (client.clone(), large.clone());
            async move { client.reply(&client.call(n, "echo", json!({"t": large}))).await }
        });
        let all = futures_util::future::join_all(waiting);
        assert!(timeout(Duration::from_millis(20), all).await.is_err(), "round {round}");
    }
    // What was queued was answered; what waited was not sent.
    within(block).await.unwrap();
    eventually("the last answer", || rig.upstream.stats().in_flight == 0).await;
    let late = rig.upstream.stats().late_answers;
    assert!((1..=4).contains(&late), "{late} were sent");
    client.tool("echo", json!({})).await;
    rig.end().await;
}

#[tokio::test]
async fn listeners_dropped_anywhere_lose_nothing() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let hang = client.call("h", "hang", json!({}));
    let mut hang = Box::pin(client.reply(&hang));
    assert!(futures_util::poll!(&mut hang).is_pending());
    let mut heard = Vec::new();
    for n in 0..100_u64 {
        let note = json!({"jsonrpc": "2.0", "method": "notifications/message",
            "params": {"level": "info", "data": n}});
        client.tool("emit", json!({"messages": [note]})).await;
        let mut listening = client.listen().await;
        // Some read one, some read none.
        if n % 3 == 0 {
            heard.push(crate::rig::next(&mut listening).await["params"]["data"].as_u64().unwrap());
        }
    }
    let mut listening = client.listen().await;
    while heard.len() < 100 {
        heard.push(crate::rig::next(&mut listening).await["params"]["data"].as_u64().unwrap());
    }
    assert_eq!(heard, (0..100).collect::<Vec<_>>());
    rig.end().await;
    within(hang).await.expect_err("the process was stopped");
}
