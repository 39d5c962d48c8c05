//! Modern clients and the one process that they share.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tidegate_service::{Body, Kind, Operation, Retry};
use tidegate_testkit::procs;
use tokio::time::Instant;

use crate::rig::{
    Client, Rig, cancel, eventually, next, params, pid, rest, silence, value, with_token, within,
};

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

async fn status_and_code(client: &Client, message: &Value) -> (u16, Value) {
    let reply = within(client.reply(message)).await.unwrap();
    let status = reply.status.as_u16();
    let Body::One(answer) = reply.body else { panic!("expected one answer") };
    (status, value(&answer)["error"].clone())
}

#[tokio::test]
async fn many_clients_with_one_id_each_get_their_own_answers() {
    let rig = Rig::new(&[]);
    let clients = (0..64_u64).map(|client| {
        let modern = rig.modern();
        async move {
            for round in 0..40_u64 {
                let nonce = client * 1000 + round;
                let delay = (nonce * 31) % 9;
                let call = modern.call(1, "echo", json!({"nonce": nonce, "delay_ms": delay}));
                let answer = modern.ask(&call).await;
                assert_eq!(answer["result"]["structuredContent"]["nonce"], nonce);
            }
        }
    });
    join_all(clients).await;
    let stats = rig.upstream.stats();
    assert_eq!((stats.spawned, stats.unknown_answers, stats.duplicate_answers), (1, 0, 0));
    rig.end().await;
}

#[tokio::test]
async fn the_same_token_twice_reports_to_its_owners() {
    let rig = Rig::new(&[]);
    let clients = (0..8_u64).map(|n| {
        let client = rig.modern();
        async move {
            let arguments = json!({"progress": n + 1, "delay_ms": 20, "n": n});
            let call = with_token(client.call(1, "echo", arguments), "tok");
            let messages = rest(client.stream(&call).await).await;
            assert_eq!(messages.len() as u64, n + 2);
            assert_eq!(messages[0]["params"]["progressToken"], "tok");
            assert_eq!(messages.last().unwrap()["result"]["structuredContent"]["n"], n);
        }
    });
    join_all(clients).await;
    assert_eq!(rig.upstream.stats().notifications_dropped, 0);
    rig.end().await;
}

#[tokio::test]
async fn a_modern_client_that_leaves_cancels_its_own_call() {
    let rig = Rig::new(&[]);
    let client = rig.modern();
    client.tool("echo", json!({})).await;
    let hang = client.call(1, "hang", json!({}));
    let mut kept = Box::pin(client.stream(&hang));
    assert!(futures_util::poll!(&mut kept).is_pending());
    {
        let call = client.call(1, "hang", json!({}));
        let mut dropped = Box::pin(client.reply(&call));
        assert!(futures_util::poll!(&mut dropped).is_pending());
        assert_eq!(rig.upstream.stats().in_flight, 2);
    }
    assert_eq!(rig.upstream.stats().in_flight, 1);
    // A note says nothing about whose request it means.
    client.tell(&cancel(1)).await;
    let seen = client.tool("seen", json!({})).await;
    let notes = seen["seen"].as_array().unwrap();
    assert_eq!(notes.len(), 1);
    assert_eq!(notes[0]["method"], "notifications/cancelled");
    drop(kept);
    assert_eq!(rig.upstream.stats().in_flight, 0);
    rig.end().await;
}

#[tokio::test]
async fn an_error_has_the_status_that_its_code_asks_for() {
    let rig = Rig::new(&[]);
    let client = rig.modern();
    let (status, error) = status_and_code(&client, &client.request(1, "no/such", json!({}))).await;
    assert_eq!((status, &error["code"]), (404, &json!(-32601)));
    // Ids on the pipe: 1 was the probe, 2 the question for tools, 3 the call above.
    for (n, code) in [-32020, -32021, -32022].into_iter().enumerate() {
        let id = 4 + 2 * n;
        let told = json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": "?"}});
        let hang = client.call(1, "hang", json!({}));
        let emit = client.call(2, "emit", json!({"messages": [told]}));
        let ((status, error), _) = tokio::join!(status_and_code(&client, &hang), client.ask(&emit));
        assert_eq!((status, &error["code"]), (400, &json!(code)));
    }
    let (status, error) = status_and_code(&client, &client.call(1, "no tool", json!({}))).await;
    assert_eq!((status, &error["code"]), (200, &json!(-32602)));
    rig.end().await;
}

#[tokio::test]
async fn a_discovery_is_passed_on() {
    let rig = Rig::new(&[]);
    let client = rig.modern();
    let answer = client.ask(&client.request("d", "server/discover", json!({}))).await;
    assert_eq!(
        (&answer["id"], &answer["result"]["supportedVersions"]),
        (&json!("d"), &json!(["2026-07-28"]))
    );
    rig.end().await;
}

#[tokio::test]
async fn a_subscription_hears_its_news_under_its_own_id_and_ends_with_a_result() {
    for by_cancel in [false, true] {
        let rig = Rig::new(&[]);
        let client = rig.modern();
        let wanted = json!({"notifications": {"toolsListChanged": true}});
        let listen = |id: Value| client.request(id, "subscriptions/listen", wanted.clone());
        let mut text = client.stream(&listen(json!("7"))).await;
        let mut number = client.stream(&listen(json!(7))).await;
        for (stream, id) in [(&mut text, json!("7")), (&mut number, json!(7))] {
            let ack = next(stream).await;
            assert_eq!(ack["method"], "notifications/subscriptions/acknowledged");
            assert_eq!(ack["params"]["_meta"][SUBSCRIPTION], id);
        }
        client.tool("touch", json!({})).await;
        for (stream, id) in [(&mut text, json!("7")), (&mut number, json!(7))] {
            assert_eq!(next(stream).await["params"]["_meta"][SUBSCRIPTION], id);
        }
        client.tool("end_listens", json!({"cancel": by_cancel})).await;
        for (stream, id) in [(text, json!("7")), (number, json!(7))] {
            let end = rest(stream).await;
            assert_eq!(end.len(), 1);
            assert_eq!((&end[0]["id"], &end[0]["result"]["_meta"][SUBSCRIPTION]), (&id, &id));
            assert_eq!(end[0]["result"]["resultType"], "complete");
        }
        rig.end().await;
    }
}

#[tokio::test]
async fn a_subscription_outlives_every_timeout_and_is_cancelled_when_dropped() {
    let mut params = params(&[]);
    params.timeouts = silence(Duration::from_millis(150));
    let rig = Rig::with(params);
    let mut client = rig.modern();
    client.tool("echo", json!({})).await;
    client.deadline = Some(Duration::from_millis(200));
    let listen = client.request(1, "subscriptions/listen", json!({"notifications": {}}));
    let mut stream = client.stream(&listen).await;
    next(&mut stream).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    client.tool("touch", json!({})).await;
    next(&mut stream).await;
    drop(stream);
    assert_eq!(client.tool("seen", json!({})).await["seen"].as_array().unwrap().len(), 1);
    rig.end().await;
}

#[tokio::test]
async fn what_a_shared_process_says_unasked_reaches_nobody() {
    let rig = Rig::new(&[]);
    let client = rig.modern();
    let messages = json!([
        {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"},
        {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": 1}},
        {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}},
        {"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage"},
        {"jsonrpc": "2.0", "id": 2, "method": "ping"},
    ]);
    // One answer, not a stream.
    client.tool("emit", json!({"messages": messages})).await;
    let stats = rig.upstream.stats();
    assert_eq!((stats.notifications_dropped, stats.violations), (3, 2));
    let seen = client.tool("seen", json!({})).await;
    let codes: Vec<_> =
        seen["seen"].as_array().unwrap().iter().map(|told| told["error"]["code"].clone()).collect();
    assert_eq!(codes, [-32601, -32601]);
    rig.end().await;
}

#[tokio::test]
async fn a_call_that_asked_for_log_lines_gets_them_while_it_is_the_only_one() {
    let rig = Rig::new(&[]);
    let client = rig.modern();
    let mut call = client.call(1, "echo", json!({"chatter": 2}));
    call["params"]["_meta"]["io.modelcontextprotocol/logLevel"] = "info".into();
    assert_eq!(rest(client.stream(&call).await).await.len(), 3);
    rig.end().await;
}

#[tokio::test]
async fn a_server_that_is_not_modern_is_found_out_once_and_stopped() {
    let cases = [
        ("unknown", "2025-11-25"),
        ("silent", "2025-11-25"),
        ("exit", "2025-11-25"),
        ("unsupported", "2025-06-18"),
    ];
    for (discover, version) in cases {
        let mut params = params(&["--discover", discover]);
        params.start_timeout = Duration::from_millis(300);
        let rig = Rig::with(params);
        let client = rig.modern();
        let calls = join_all((0..5).map(|n| {
            let client = client.clone();
            async move { status_and_code(&client, &client.call(n, "echo", json!({}))).await }
        }));
        for (status, error) in calls.await {
            assert_eq!((status, &error["code"]), (400, &json!(-32022)), "{discover}");
            assert_eq!(error["data"]["supported"][0], version);
            assert_eq!(error["data"]["requested"], "2026-07-28");
        }
        assert_eq!(rig.upstream.stats().spawned, 1, "one probe for all");
        eventually("the end of the probe", || rig.upstream.stats().running == 0).await;
        // The same server serves legacy sessions.
        rig.client().await.tool("echo", json!({})).await;
        rig.end().await;
    }
}

#[tokio::test]
async fn a_process_that_dies_fails_its_calls_and_the_next_call_gets_another() {
    let rig = Rig::new(&[]);
    let client = rig.modern();
    let first = pid(&client.tool("pid", json!({})).await);
    let hang = client.call(1, "hang", json!({}));
    let exit = client.call(1, "exit", json!({"code": 4}));
    let (one, two) = tokio::join!(client.error(&hang), client.error(&exit));
    for error in [one, two] {
        assert_eq!((error.kind, error.retry), (Kind::Died, Retry::Never));
    }
    let asked = Instant::now();
    let second = pid(&client.tool("pid", json!({})).await);
    assert_ne!(first, second);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert!(!procs::is_running(first));
    rig.end().await;
}

#[tokio::test]
async fn sessions_and_answers_are_not_for_modern_clients() {
    let rig = Rig::new(&[]);
    let client = rig.modern();
    for operation in [Operation::EndSession, Operation::Listen { last_event_id: None }] {
        let error = client.operate(operation).await.expect_err("refused");
        assert_eq!(error.kind, Kind::Unsupported);
    }
    let answer = json!({"jsonrpc": "2.0", "id": 1, "result": {}});
    assert_eq!(client.error(&answer).await.kind, Kind::BadRequest);
    assert_eq!(rig.upstream.stats().spawned, 0);
    rig.end().await;
}

#[tokio::test]
async fn both_eras_are_served_side_by_side() {
    let rig = Rig::new(&[]);
    let (legacy, modern) = (rig.client().await, rig.modern());
    let pids: HashSet<u32> = [
        pid(&legacy.tool("pid", json!({})).await),
        pid(&modern.tool("pid", json!({})).await),
        pid(&rig.modern().tool("pid", json!({})).await),
    ]
    .into();
    assert_eq!(pids.len(), 2);
    rig.end().await;
}

#[tokio::test]
async fn a_start_that_takes_too_long_for_one_caller_goes_on_for_the_next() {
    let rig = Rig::new(&["--discover", "silent"]);
    let mut client = rig.modern();
    client.deadline = Some(Duration::from_millis(100));
    let error = client.error(&client.call(1, "echo", json!({}))).await;
    assert_eq!((error.kind, error.retry), (Kind::Timeout, Retry::NotSent));
    assert!(error.message().ends_with("for the server process to start"), "{error}");
    assert_eq!(rig.upstream.stats().running, 1);
    rig.end().await;
}

#[tokio::test]
async fn an_upstream_that_is_dropped_takes_its_process_along() {
    let rig = Rig::new(&["--fork"]);
    let client = rig.modern();
    let group = pid(&client.tool("pid", json!({})).await);
    assert_eq!(procs::in_group(group).len(), 2);
    let Rig { upstream, tasks, .. } = rig;
    drop((upstream, client));
    within(tasks.wait()).await;
    eventually("the end of the group", || procs::in_group(group).is_empty()).await;
}
