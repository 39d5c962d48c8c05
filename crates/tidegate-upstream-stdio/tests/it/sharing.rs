//! Legacy sessions that share a process, and a server that turns out to need a client.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, future::join_all};
use serde_json::{Value, json};
use tidegate_protocol::Envelope;
use tidegate_service::{Body, Kind, Operation};
use tidegate_upstream_stdio::Sharing;

use crate::rig::{
    Client, Rig, cancel, eventually, initialize, next, params, pid, rest, stream, with_token,
    within,
};

fn shared(sharing: Sharing) -> Rig {
    let mut params = params(&[]);
    params.sharing = sharing;
    Rig::with(params)
}

fn changed() -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
}

async fn process(client: &Client) -> u32 {
    pid(&client.tool("pid", json!({})).await)
}

#[tokio::test]
async fn sessions_of_one_version_share_a_process_that_knows_no_client() {
    let rig = shared(Sharing::Shared);
    let one = rig.able(json!({"sampling": {}, "roots": {"listChanged": true}})).await;
    let two = rig.client().await;
    assert_eq!(process(&one).await, process(&two).await);
    let hello = one.tool("hello", json!({})).await;
    assert_eq!(hello["hello"]["capabilities"], json!({}));
    assert_eq!(hello["hello"]["clientInfo"]["name"], "tidegate");
    // Another version is another handshake, hence another process.
    let old = rig.stranger();
    let mut hello = initialize();
    hello["params"]["protocolVersion"] = "2025-03-26".into();
    assert_eq!(old.ask(&hello).await["result"]["protocolVersion"], "2025-03-26");
    assert_ne!(process(&old).await, process(&one).await);
    assert_eq!(rig.upstream.stats().spawned, 2);
    drop((one, two, old));
    assert_eq!(rig.upstream.stats().running, 2, "a shared process outlives its sessions");
    rig.end().await;
}

#[tokio::test]
async fn what_only_one_client_could_use_is_not_offered_and_refused() {
    let rig = shared(Sharing::Shared);
    let client = rig.stranger();
    let answer = client.ask(&initialize()).await;
    assert_eq!(
        (&answer["id"], &answer["result"]["capabilities"]),
        (&json!("init"), &json!({"tools": {"listChanged": true}}))
    );
    for method in ["logging/setLevel", "resources/subscribe", "tasks/list"] {
        let answer = client.ask(&client.request(7, method, json!({}))).await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(7), &json!(-32601)));
    }
    // Notes about the client do not reach a process that has many.
    client.tell(&json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"})).await;
    client.tell(&json!({"jsonrpc": "2.0", "id": 1, "result": {}})).await;
    let seen = client.tool("seen", json!({})).await["seen"].as_array().unwrap().len();
    assert_eq!((seen, rig.upstream.stats().stray_client_answers), (1, 1), "only `initialized`");
    rig.end().await;
}

#[tokio::test]
async fn ten_thousand_calls_with_one_id_each_find_their_question() {
    let rig = shared(Sharing::Shared);
    let clients = join_all((0..64).map(|_| rig.client())).await;
    let calls = clients.iter().enumerate().map(|(client, session)| async move {
        for round in 0..157 {
            let nonce = client * 1000 + round;
            let arguments = json!({"nonce": nonce, "delay_ms": (nonce * 31) % 4, "progress": 1});
            let call = with_token(session.call(round % 3, "echo", arguments), "t");
            let mut messages = rest(session.stream(&call).await).await;
            let answer = messages.pop().unwrap();
            assert_eq!(answer["result"]["structuredContent"]["nonce"], nonce);
            assert_eq!((messages.len(), &answer["id"]), (1, &json!(round % 3)));
        }
    });
    join_all(calls).await;
    let stats = rig.upstream.stats();
    assert_eq!((stats.spawned, stats.unknown_answers, stats.duplicate_answers), (1, 0, 0));
    assert_eq!(stats.notifications_dropped, 0);
    rig.end().await;
}

#[tokio::test]
async fn a_client_cancels_and_leaves_without_touching_the_calls_of_others() {
    let rig = shared(Sharing::Shared);
    let (one, two) = (rig.client().await, rig.client().await);
    let hang = |client: &Client| {
        let call = client.call(1, "hang", json!({})).to_string();
        Box::pin(client.operate(Operation::Send(Envelope::parse(call.into()).unwrap())))
    };
    let (mut mine, mut others) = (hang(&one), hang(&two));
    assert!((&mut mine).now_or_never().is_none() && (&mut others).now_or_never().is_none());
    two.tell(&cancel(1)).await;
    let ended = stream(within(others).await.unwrap());
    assert_eq!(rest(ended).await, Vec::<Value>::new());
    assert!((&mut mine).now_or_never().is_none());
    two.operate(Operation::EndSession).await.unwrap();
    assert_eq!(rig.upstream.stats().in_flight, 1);
    one.tell(&cancel(1)).await;
    within(mine).await.unwrap();
    rig.end().await;
}

#[tokio::test]
async fn what_an_ended_session_has_asked_is_taken_back() {
    let rig = shared(Sharing::Shared);
    let (one, two) = (rig.client().await, rig.client().await);
    let hang = one.call(1, "hang", json!({})).to_string();
    let mut hanging = Box::pin(one.operate(Operation::Send(Envelope::parse(hang.into()).unwrap())));
    assert!((&mut hanging).now_or_never().is_none());
    // Leaving means nothing to a legacy server; the end of the session does.
    drop(hanging);
    assert_eq!(rig.upstream.stats().in_flight, 1);
    one.operate(Operation::EndSession).await.unwrap();
    drop(one);
    assert_eq!(rig.upstream.stats().in_flight, 0);
    let seen = two.tool("seen", json!({})).await;
    let last = seen["seen"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["method"], "notifications/cancelled");
    rig.end().await;
}

#[tokio::test]
async fn everybody_hears_of_a_changed_list_once_and_nobody_hears_what_is_nobodys() {
    let rig = shared(Sharing::Shared);
    let (one, two) = (rig.client().await, rig.client().await);
    let mut streams = [one.listen().await, one.listen().await, two.listen().await];
    let stray = json!({"jsonrpc": "2.0", "method": "notifications/message",
        "params": {"level": "info", "data": "whose?"}});
    // Two calls are in flight, so that the line could be about either.
    let hang = one.call(9, "hang", json!({})).to_string();
    let mut hanging = Box::pin(one.operate(Operation::Send(Envelope::parse(hang.into()).unwrap())));
    assert!((&mut hanging).now_or_never().is_none());
    two.tool("emit", json!({"messages": [stray, changed()]})).await;
    let [old, new, others] = &mut streams;
    assert_eq!(next(new).await, changed());
    assert_eq!(next(others).await, changed());
    assert!(old.next().now_or_never().is_none(), "a message is on one stream of a session");
    assert!(new.next().now_or_never().is_none() && others.next().now_or_never().is_none());
    assert_eq!(rig.upstream.stats().notifications_dropped, 1);
    one.tell(&cancel(9)).await;
    drop(hanging);
    rig.end().await;
}

#[tokio::test]
async fn a_shared_process_that_dies_is_replaced_and_its_sessions_live_on() {
    let rig = shared(Sharing::Shared);
    let (one, two) = (rig.client().await, rig.client().await);
    let first = process(&one).await;
    let hang = one.call(1, "hang", json!({}));
    let exit = two.call(2, "exit", json!({"code": 3}));
    let (hung, ended) = tokio::join!(one.error(&hang), two.error(&exit));
    assert_eq!((hung.kind, ended.kind), (Kind::Died, Kind::Died));
    let second = process(&one).await;
    assert_ne!(first, second);
    assert_eq!(process(&two).await, second);
    assert_eq!(rig.upstream.stats().spawned, 2);
    rig.end().await;
}

#[tokio::test]
async fn a_server_that_asks_all_the_same_gets_its_clients_one_by_one() {
    let rig = shared(Sharing::Auto);
    let asking = rig.able(json!({"roots": {}})).await;
    let other = rig.client().await;
    let mut listening = other.listen().await;
    let common = process(&asking).await;
    assert_eq!(rig.upstream.moved(), None);
    let ask = asking.call(1, "ask", json!({"method": "roots/list"}));
    let refused = asking.ask(&ask).await;
    let told = &refused["result"]["structuredContent"]["told"];
    assert_eq!(told["error"]["code"], -32601, "nobody can be asked there: {refused}");
    let moved = rig.upstream.moved().expect("it has shown what it needs");
    assert_eq!(moved.why, "it needs a client for roots");
    assert_eq!(rig.upstream.stats().moves, 1);
    // From here on the session has a process of its own, which knows what its client can do.
    let own = process(&asking).await;
    assert_ne!(own, common);
    assert_eq!(
        asking.tool("hello", json!({})).await["hello"]["capabilities"],
        json!({"roots": {}})
    );
    let seen = asking.tool("seen", json!({})).await;
    assert_eq!(seen["seen"][0]["method"], "notifications/initialized");
    let mut stream = asking.stream(&ask).await;
    let question = next(&mut stream).await;
    asking.tell(&json!({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}})).await;
    let answer = rest(stream).await.pop().unwrap();
    assert_eq!(answer["result"]["structuredContent"]["told"]["result"], json!({"roots": []}));
    // The other session moves when it speaks, and opens its stream anew.
    let others = process(&other).await;
    assert!(others != common && others != own);
    assert!(within(listening.next()).await.is_none(), "the old stream has ended");
    let newcomer = rig.client().await;
    assert!(![common, own, others].contains(&process(&newcomer).await));
    assert_eq!(rig.upstream.stats().moves, 1, "once and for good");
    rig.end().await;
}

#[tokio::test]
async fn a_tool_that_fails_for_want_of_a_client_moves_a_server_and_other_failures_do_not() {
    let rig = shared(Sharing::Auto);
    let client = rig.client().await;
    for harmless in ["no such file", "the codec does not support sampling at 7 Hz"] {
        client.ask(&client.call(1, "moan", json!({"text": harmless}))).await;
    }
    assert_eq!(rig.upstream.moved(), None);
    let text = "Client does not support sampling (required for sampling/createMessage)";
    client.ask(&client.call(1, "moan", json!({"text": text}))).await;
    assert!(rig.upstream.moved().is_some());
    rig.end().await;
}

#[tokio::test]
async fn a_server_that_has_to_be_shared_stays_shared_whatever_it_asks() {
    let rig = shared(Sharing::Shared);
    let client = rig.client().await;
    let ask = client.call(1, "ask", json!({"method": "sampling/createMessage"}));
    client.ask(&ask).await;
    let ping = client.ask(&client.call(1, "ask", json!({"method": "ping"}))).await;
    assert_eq!(ping["result"]["structuredContent"]["told"]["result"], json!({}));
    assert_eq!((rig.upstream.moved(), rig.upstream.stats().moves), (None, 0));
    assert_eq!(process(&rig.client().await).await, process(&client).await);
    rig.end().await;
}

#[tokio::test]
async fn a_session_that_cannot_move_says_why_and_tries_again() {
    let mut params = params(&[]);
    params.sharing = Sharing::Auto;
    params.max_processes = std::num::NonZeroU32::MIN;
    params.acquire_timeout = Duration::from_millis(50);
    let rig = Rig::with(params);
    let (client, other) = (rig.client().await, rig.client().await);
    let hang = other.call(1, "hang", json!({})).to_string();
    let mut hanging =
        Box::pin(other.operate(Operation::Send(Envelope::parse(hang.into()).unwrap())));
    assert!((&mut hanging).now_or_never().is_none());
    client.ask(&client.call(1, "ask", json!({"method": "roots/list"}))).await;
    // The common process has the only place, and a call to finish.
    let call = client.call(1, "pid", json!({}));
    assert_eq!(client.error(&call).await.kind, Kind::PoolExhausted);
    // A client may take a call back wherever it is worked on.
    other.tell(&cancel(1)).await;
    assert_eq!(rest(stream(within(hanging).await.unwrap())).await, Vec::<Value>::new());
    eventually("the common process's end", || rig.upstream.stats().running == 0).await;
    client.ask(&call).await;
    rig.end().await;
}

#[tokio::test]
async fn a_move_that_is_given_up_is_begun_anew_and_does_not_end_the_session() {
    let mut params = params(&["--start-delay", "300"]);
    params.sharing = Sharing::Auto;
    let rig = Rig::with(params);
    let client = rig.client().await;
    client.ask(&client.call(1, "ask", json!({"method": "roots/list"}))).await;
    eventually("the common process's end", || rig.upstream.stats().running == 0).await;
    let call = Envelope::parse(client.call(1, "pid", json!({})).to_string().into()).unwrap();
    let mut moving = Box::pin(client.operate(Operation::Send(call)));
    assert!((&mut moving).now_or_never().is_none());
    eventually("the move", || rig.upstream.stats().running == 1).await;
    drop(moving);
    eventually("the end of what was given up", || rig.upstream.stats().running == 0).await;
    process(&client).await;
    rig.end().await;
}

/// A session that moves is introduced by the proxy, and its client may say the same only then.
#[tokio::test]
async fn a_server_is_told_once_that_a_session_that_moved_is_initialized() {
    let rig = shared(Sharing::Auto);
    let late = rig.stranger();
    late.ask(&initialize()).await;
    let other = rig.client().await;
    other.ask(&other.call(1, "ask", json!({"method": "roots/list"}))).await;
    assert!(rig.upstream.moved().is_some());
    late.tell(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    let other_note = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"});
    late.tell(&other_note).await;
    let seen = late.tool("seen", json!({})).await;
    let methods: Vec<_> =
        seen["seen"].as_array().unwrap().iter().map(|note| note["method"].clone()).collect();
    assert_eq!(methods, ["notifications/initialized", "notifications/roots/list_changed"]);
    rig.end().await;
}

/// Its sessions move at their next message, and one that starts late would never hear of it.
#[tokio::test]
async fn a_common_process_that_starts_after_the_move_makes_room_for_those_who_moved() {
    let mut params = params(&[]);
    params.sharing = Sharing::Auto;
    params.max_processes = std::num::NonZeroU32::MIN;
    params.idle_timeout = None;
    // So that the processes are looked at more often than every few seconds.
    params.max_rss = Some(1 << 40);
    let rig = Rig::with(params);
    let client = rig.client().await;
    // Another version needs another process, which waits for the only place.
    let old = rig.stranger();
    let mut hello = initialize();
    hello["params"]["protocolVersion"] = "2025-03-26".into();
    let hello = Envelope::parse(hello.to_string().into()).unwrap();
    let mut greeted = Box::pin(old.operate(Operation::Send(hello)));
    assert!((&mut greeted).now_or_never().is_none());
    eventually("the wait", || rig.upstream.stats().places.waiting == 1).await;
    client.ask(&client.call(1, "ask", json!({"method": "roots/list"}))).await;
    assert!(rig.upstream.moved().is_some());
    within(greeted).await.unwrap();
    assert_eq!(rig.upstream.stats().spawned, 2);
    process(&old).await;
    assert_eq!(rig.upstream.stats().spawned, 3);
    rig.end().await;
}

/// A call that waits for its process, when the session moves or the common one is gone, is not with
/// any process yet.
#[tokio::test]
async fn a_call_can_be_taken_back_while_its_process_starts() {
    for moves in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let stall = folder.path().join("stall");
        let mut params = params(&["--stall-while", stall.to_str().unwrap()]);
        params.sharing = Sharing::Auto;
        let rig = Rig::with(params);
        let client = rig.client().await;
        std::fs::write(&stall, "").unwrap();
        if moves {
            client.ask(&client.call(1, "ask", json!({"method": "roots/list"}))).await;
        } else {
            client.error(&client.call(1, "exit", json!({"code": 1}))).await;
        }
        assert_eq!(rig.upstream.moved().is_some(), moves);
        eventually("the end of the process", || rig.upstream.stats().running == 0).await;
        let call = |id: u32| {
            let call = client.call(id, "pid", json!({})).to_string();
            Box::pin(client.operate(Operation::Send(Envelope::parse(call.into()).unwrap())))
        };
        let (mut meant, mut other) = (call(7), call(8));
        assert!((&mut meant).now_or_never().is_none() && (&mut other).now_or_never().is_none());
        eventually("a start", || rig.upstream.stats().running == 1).await;
        client.tell(&cancel(7)).await;
        let ended = stream(within(meant).await.unwrap());
        assert_eq!(rest(ended).await, Vec::<Value>::new());
        assert!((&mut other).now_or_never().is_none(), "it was not meant");
        std::fs::remove_file(&stall).unwrap();
        assert!(matches!(within(other).await.unwrap().body, Body::One(_)));
        // Another call may have the same id, later.
        client.ask(&client.call(7, "pid", json!({}))).await;
        rig.end().await;
    }
}

#[tokio::test]
async fn the_end_of_a_session_is_the_end_of_its_calls_and_of_no_others() {
    let rig = shared(Sharing::Shared);
    let (leaving, staying) = (rig.client().await, rig.client().await);
    let hang = leaving.call(7, "hang", json!({}));
    let left = leaving.reply(&hang);
    let slow = staying.call(7, "echo", json!({"delay_ms": 600}));
    let stays = staying.reply(&slow);
    let ending = async {
        eventually("both are under way", || rig.upstream.stats().in_flight == 2).await;
        leaving.operate(Operation::EndSession).await.unwrap();
        eventually("one is under way", || rig.upstream.stats().in_flight == 1).await;
    };
    let (left, stays, ()) = within(async { tokio::join!(left, stays, ending) }).await;
    assert!(rest(stream(left.unwrap())).await.is_empty(), "there is no answer");
    assert!(matches!(stays.unwrap().body, Body::One(_)));
    // The server was told of the one.
    let told = staying.tool("seen", json!({})).await["seen"].to_string();
    assert_eq!(told.matches("notifications/cancelled").count(), 1, "{told}");
    drop(leaving);
    rig.end().await;
}
