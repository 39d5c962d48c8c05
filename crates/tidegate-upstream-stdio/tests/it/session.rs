//! A legacy session and its process: requests both ways, notifications, progress, cancellation.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};
use tidegate_protocol::Envelope;
use tidegate_service::{Body, Operation};

use crate::rig::{
    Client, Rig, cancel, eventually, frame, next, rest, silence, stream, with_token, within,
};

fn log(data: impl Into<Value>) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/message",
        "params": {"level": "info", "data": data.into()}})
}

fn answer_to(ask: &Value, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": ask["id"], "result": result})
}

async fn seen(client: &Client) -> Vec<Value> {
    let seen = client.tool("seen", json!({})).await;
    let all = seen["seen"].as_array().unwrap().iter();
    all.filter(|message| message["method"] != "notifications/initialized").cloned().collect()
}

#[tokio::test]
async fn ids_come_back_as_they_were_written_and_nothing_else_is_touched() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let ids = [r"1", r#""1""#, r#""\u0061""#, "-7", "123456789012345678901234567890", r#""""#];
    let calls = ids.map(|id| {
        let message = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"delay_ms":20,"big":12345678901234567890}}}}}}"#
        );
        client.send(message)
    });
    for (reply, id) in futures_util::future::join_all(calls).await.into_iter().zip(ids) {
        let Body::One(answer) = reply.unwrap().body else { panic!("expected one answer") };
        assert_eq!(answer.id().unwrap().token(), id.as_bytes());
        let text = String::from_utf8(answer.bytes().to_vec()).unwrap();
        assert!(text.contains("12345678901234567890"), "{text}");
    }
    rig.end().await;
}

#[tokio::test]
async fn one_id_in_flight_many_times_is_answered_as_often() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let calls = (0..200).map(|n| {
        let client = client.clone();
        async move {
            let call = client.call(1, "echo", json!({"n": n, "delay_ms": (n * 7) % 30}));
            client.ask(&call).await["result"]["structuredContent"]["n"].clone()
        }
    });
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(answers, (0..200).map(Value::from).collect::<Vec<_>>());
    rig.end().await;
}

#[tokio::test]
async fn the_first_thing_that_comes_decides_the_shape_of_the_reply() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let call = client.call("c", "echo", json!({"chatter": 2, "progress": 2}));
    let mut messages = rest(client.stream(&with_token(call, "tok")).await).await;
    let answer = messages.pop().unwrap();
    assert_eq!((&answer["id"], messages.len()), (&json!("c"), 4));
    assert_eq!(messages[..2], [log(0), log(1)]);
    assert_eq!(messages[3]["params"], json!({"progress": 2, "progressToken": "tok"}));
    // Without a token and without chatter there is one message.
    client.tool("echo", json!({"progress": 2})).await;
    rig.end().await;
}

#[tokio::test]
async fn a_servers_question_travels_on_the_call_and_the_answer_comes_back() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    for method in ["sampling/createMessage", "elicitation/create", "roots/list", "ping"] {
        let params = json!({"unknown": 1.50, "_meta": {"progressToken": 5}});
        let call = client.call(1, "ask", json!({"method": method, "params": params}));
        let mut stream = client.stream(&call).await;
        let ask = next(&mut stream).await;
        assert_eq!((&ask["method"], &ask["params"]), (&json!(method), &params));
        // What the client says about it is the server's business.
        client
            .tell(&json!({"jsonrpc": "2.0", "method": "notifications/progress",
            "params": {"progressToken": 5, "progress": 1}}))
            .await;
        client.tell(&answer_to(&ask, json!({"said": method}))).await;
        let answer = rest(stream).await.pop().unwrap();
        assert_eq!(answer["result"]["structuredContent"]["told"]["result"]["said"], method);
    }
    rig.end().await;
}

#[tokio::test]
async fn answers_to_questions_that_were_not_asked_are_not_passed_on() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let call = client.call(1, "ask", json!({"method": "roots/list"}));
    let mut stream = client.stream(&call).await;
    let ask = next(&mut stream).await;
    for id in [json!(ask["id"].to_string()), json!(999), json!("x")] {
        client.tell(&json!({"jsonrpc": "2.0", "id": id, "result": {}})).await;
    }
    let refusal =
        json!({"jsonrpc": "2.0", "id": ask["id"], "error": {"code": -1, "message": "no"}});
    client.tell(&refusal).await;
    client.tell(&refusal).await;
    let answer = rest(stream).await.pop().unwrap();
    let told = &answer["result"]["structuredContent"]["told"];
    assert_eq!((&told["error"]["code"], &told["id"]), (&json!(-1), &json!(1)));
    assert_eq!(rig.upstream.stats().stray_client_answers, 4);
    assert_eq!(seen(&client).await, Vec::<Value>::new());
    rig.end().await;
}

#[tokio::test]
async fn a_question_that_the_server_takes_back_is_taken_back_by_its_new_id() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let call = client.call(1, "ask", json!({"method": "roots/list", "cancel": true}));
    // The server's ids start at 1 as well, so one is burnt for a difference.
    rest(client.stream(&call).await).await;
    let messages = rest(client.stream(&call).await).await;
    assert_eq!(messages.len(), 3);
    assert_eq!(messages[1]["method"], "notifications/cancelled");
    assert_eq!(messages[1]["params"]["requestId"], messages[0]["id"]);
    client.tell(&answer_to(&messages[0], json!({}))).await;
    assert_eq!(rig.upstream.stats().stray_client_answers, 1);
    rig.end().await;
}

#[tokio::test]
async fn a_client_cancels_its_own_call_and_only_that() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let other = rig.client().await;
    let hang = |client: &Client| {
        let call = client.call(1, "hang", json!({}));
        tokio::task::unconstrained(
            client.operate(Operation::Send(Envelope::parse(call.to_string().into()).unwrap())),
        )
    };
    let (mine, others) = (hang(&client), hang(&other));
    let mut others = std::pin::pin!(others);
    let mut mine = std::pin::pin!(mine);
    assert!((&mut mine).now_or_never().is_none() && (&mut others).now_or_never().is_none());
    client.tell(&cancel("1")).await;
    client.tell(&cancel(2)).await;
    assert!((&mut mine).now_or_never().is_none(), "neither is the id of the call");
    let mut note = cancel(1);
    note["params"]["reason"] = "enough".into();
    client.tell(&note).await;
    let ended = stream(within(mine).await.unwrap());
    assert_eq!(rest(ended).await, Vec::<Value>::new());
    assert!((&mut others).now_or_never().is_none());
    let notes = seen(&client).await;
    assert_eq!((notes.len(), &notes[0]["params"]["reason"]), (1, &json!("enough")));
    assert!(notes[0]["params"]["requestId"].is_u64());
    assert_eq!(rig.upstream.stats().in_flight, 1);
    other.tell(&cancel(1)).await;
    within(others).await.unwrap();
    rig.end().await;
}

#[tokio::test]
async fn a_legacy_client_that_leaves_does_not_cancel() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let call = client.call(1, "echo", json!({"delay_ms": 100}));
    let envelope = Envelope::parse(call.to_string().into()).unwrap();
    assert!(client.operate(Operation::Send(envelope)).now_or_never().is_none());
    assert_eq!(rig.upstream.stats().in_flight, 1);
    eventually("the answer", || rig.upstream.stats().in_flight == 0).await;
    assert_eq!(rig.upstream.stats().late_answers, 1);
    assert_eq!(seen(&client).await, Vec::<Value>::new());
    rig.end().await;
}

#[tokio::test]
async fn a_question_whose_stream_is_gone_can_still_be_answered() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let call = client.call(1, "ask", json!({"method": "roots/list"}));
    let mut stream = client.stream(&call).await;
    let ask = next(&mut stream).await;
    drop(stream);
    client.tell(&answer_to(&ask, json!({"roots": []}))).await;
    eventually("the answer", || rig.upstream.stats().in_flight == 0).await;
    assert_eq!(rig.upstream.stats().stray_client_answers, 0);
    rig.end().await;
}

#[tokio::test]
async fn what_comes_unasked_is_kept_for_the_first_listener_and_then_flows() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    let old = client.listen().await;
    let mut new = client.listen().await;
    client.tool("emit", json!({"messages": [changed]})).await;
    assert_eq!(next(&mut new).await, changed);
    drop(new);
    let mut old = old;
    client.tool("emit", json!({"messages": [changed]})).await;
    assert_eq!(next(&mut old).await, changed);
    drop(old);
    // With nobody listening, news take the only call.
    let call = client.call(1, "emit", json!({"messages": [changed]}));
    assert_eq!(rest(client.stream(&call).await).await[0], changed);
    rig.end().await;
}

#[tokio::test]
async fn a_large_message_passes_both_ways() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let text = "y".repeat(3 << 20);
    let echoed = client.tool("echo", json!({"text": text})).await;
    assert_eq!(echoed["text"].as_str(), Some(text.as_str()));
    rig.end().await;
}

#[tokio::test]
async fn line_breaks_between_tokens_do_not_break_the_line() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let spread = "{\r\n \"jsonrpc\": \"2.0\",\n\"id\"\n:\n1, \"method\": \"tools/call\",\n\n\
        \"params\": {\"name\":\n\"echo\", \"arguments\": {\"a\": \"x\\ny\"}}\r\n}";
    let reply = within(client.send(spread.to_owned())).await.unwrap();
    let Body::One(answer) = reply.body else { panic!("expected one answer") };
    assert_eq!(crate::rig::value(&answer)["result"]["structuredContent"]["a"], "x\ny");
    rig.end().await;
}

#[tokio::test]
async fn a_call_that_waits_for_the_user_is_not_too_slow() {
    let mut params = crate::rig::params(&[]);
    params.timeouts = silence(Duration::from_millis(150));
    let rig = Rig::with(params);
    let client = rig.client().await;
    let call = client.call(1, "ask", json!({"method": "elicitation/create"}));
    let mut asking = client.stream(&call).await;
    let ask = next(&mut asking).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    client.tell(&answer_to(&ask, json!({"action": "accept"}))).await;
    let answer = next(&mut asking).await;
    assert_eq!(answer["result"]["structuredContent"]["by"], "ask");
    assert!(asking.next().await.map(|item| item.map(frame)).is_none());
    rig.end().await;
}
