//! 2026-07-28 over a pipe, also next to a legacy session on the same one.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_demo::Options;
use tokio::time::timeout;

use crate::pipe::{Pipe, call, initialize, modern, text};

fn none() -> Value {
    json!({})
}

#[tokio::test]
async fn discover_tells_what_is_served() {
    let mut pipe = Pipe::open(Options::default());
    pipe.send(modern(r#""d""#, "server/discover", json!({}), &none())).await;
    let result = &pipe.receive().await["result"];
    assert_eq!(result["supportedVersions"][0], "2026-07-28");
    assert_eq!(result["resultType"], "complete");
    assert!(result["ttlMs"].is_u64() && result["cacheScope"] == "public");
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "tidegate-demo");
}

#[tokio::test]
async fn a_request_that_is_not_served_gets_the_fitting_error() {
    let mut pipe = Pipe::open(Options::default());
    let version = "io.modelcontextprotocol/protocolVersion";
    let capabilities = "io.modelcontextprotocol/clientCapabilities";
    for (method, meta, code) in [
        ("tools/list", json!({ version: "2030-01-01", capabilities: {} }), -32022),
        ("tools/list", json!({ version: "2025-11-25", capabilities: {} }), -32022),
        ("tools/list", json!({ version: "2026-07-28" }), -32602),
        ("tools/list", json!({ version: 7, capabilities: {} }), -32602),
        ("ping", json!({ version: "2026-07-28", capabilities: {} }), -32601),
        ("initialize", json!({ version: "2026-07-28", capabilities: {} }), -32601),
        ("nonsense", json!({ version: "2026-07-28", capabilities: {} }), -32601),
    ] {
        pipe.send(
            json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": { "_meta": meta } }),
        )
        .await;
        let answer = pipe.receive().await;
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!(1), &json!(code)),
            "{method}"
        );
        if code == -32022 {
            assert_eq!(answer["error"]["data"]["requested"], meta[version]);
            assert!(answer["error"]["data"]["supported"][0].is_string());
        }
    }
    pipe.send(modern("2", "resources/read", json!({ "uri": "demo://none" }), &none())).await;
    let answer = pipe.receive().await;
    assert_eq!(answer["error"]["code"], -32602);
    assert_eq!(answer["error"]["data"]["uri"], "demo://none");
}

#[tokio::test]
async fn both_eras_share_a_pipe_and_its_ids() {
    let mut pipe = Pipe::open(Options::default());
    pipe.send(modern(
        "1",
        "tools/call",
        json!({ "name": "echo", "arguments": { "text": "new" } }),
        &none(),
    ))
    .await;
    let answer = pipe.receive().await;
    assert_eq!((text(&answer), &answer["result"]["resultType"]), ("new", &json!("complete")));
    pipe.send(initialize("2025-06-18", &json!({}))).await;
    pipe.receive().await;
    pipe.send(call(r#""1""#, "echo", &json!({ "text": "old" }))).await;
    let answer = pipe.receive().await;
    assert_eq!((text(&answer), answer["result"].get("resultType")), ("old", None));
}

#[tokio::test]
async fn asking_returns_what_is_missing_and_a_retry_completes() {
    let able = json!({ "elicitation": {} });
    let mut pipe = Pipe::open(Options::default());
    let ask = json!({ "name": "ask", "arguments": { "question": "Which?" } });
    pipe.send(modern("1", "tools/call", ask.clone(), &able)).await;
    let result = pipe.receive().await["result"].clone();
    assert_eq!(result["resultType"], "input_required");
    assert_eq!(result["inputRequests"]["answer"]["method"], "elicitation/create");
    assert_eq!(result["inputRequests"]["answer"]["params"]["message"], "Which?");

    let retry = |responses: Value| {
        let mut params = ask.clone();
        params["inputResponses"] = responses;
        modern("2", "tools/call", params, &able)
    };
    let accept = json!({ "action": "accept", "content": { "answer": "blue" } });
    pipe.send(retry(json!({ "answer": accept, "unknown": {} }))).await;
    assert_eq!(text(&pipe.receive().await), "You answered: blue");
    for wrong in [json!({}), json!({ "answer": 7 }), json!({ "answer": { "action": "?" } })] {
        pipe.send(retry(wrong)).await;
        assert_eq!(pipe.receive().await["result"]["resultType"], "input_required");
    }
    pipe.send(retry(Value::Null)).await;
    assert_eq!(pipe.receive().await["error"]["code"], -32602);

    pipe.send(modern("3", "tools/call", ask.clone(), &none())).await;
    let error = &pipe.receive().await["error"];
    assert_eq!(error["code"], -32021);
    assert_eq!(error["data"]["requiredCapabilities"], json!({ "elicitation": { "form": {} } }));
}

#[tokio::test]
async fn a_state_opens_for_its_own_call_only() {
    let able = json!({ "elicitation": {} });
    let mut pipe = Pipe::open(Options { conformance: true, ..Options::default() });
    let tool = |name: &str, state: &str| {
        json!({
            "name": name, "requestState": state,
            "inputResponses": { "confirm": { "action": "accept", "content": { "ok": true } } },
        })
    };
    let (ours, other) =
        ("test_input_required_result_request_state", "test_input_required_result_tampered_state");
    pipe.send(modern("1", "tools/call", json!({ "name": ours }), &able)).await;
    let asked = pipe.receive().await;
    let state = asked["result"]["requestState"].as_str().unwrap();
    pipe.send(modern("2", "tools/call", tool(ours, state), &able)).await;
    assert!(text(&pipe.receive().await).starts_with("state-ok"));
    pipe.send(modern("3", "tools/call", tool(other, state), &able)).await;
    assert_eq!(pipe.receive().await["error"]["code"], -32602);
    pipe.send(modern("4", "tools/call", tool(ours, &format!("{state}x")), &able)).await;
    assert_eq!(pipe.receive().await["error"]["code"], -32602);
}

#[tokio::test(start_paused = true)]
async fn logs_come_only_if_the_request_wants_them() {
    let mut pipe = Pipe::open(Options::default());
    let slow = |meta: Value| json!({ "name": "slow", "arguments": { "seconds": 1, "steps": 1 }, "_meta": meta });
    pipe.send(modern("1", "tools/call", slow(json!({})), &none())).await;
    assert_eq!(pipe.receive().await["id"], 1);
    let level = "io.modelcontextprotocol/logLevel";
    pipe.send(modern("2", "tools/call", slow(json!({ level: "warning" })), &none())).await;
    assert_eq!(pipe.receive().await["id"], 2);
    pipe.send(modern("3", "tools/call", slow(json!({ level: "info" })), &none())).await;
    assert_eq!(pipe.receive().await["params"]["data"], "started");
    assert_eq!(pipe.receive().await["params"]["data"], "finished");
    assert_eq!(pipe.receive().await["id"], 3);
    pipe.send(modern("4", "tools/call", slow(json!({ level: "loud" })), &none())).await;
    assert_eq!(pipe.receive().await["error"]["code"], -32602);
}

#[tokio::test(start_paused = true)]
async fn a_listener_hears_what_it_asked_for_until_it_cancels() {
    let mut pipe = Pipe::open(Options::default());
    let wanted = json!({
        "toolsListChanged": true, "resourceSubscriptions": ["demo://clock", "demo://none"],
    });
    // A number and the string of it are two subscriptions.
    for id in ["5", r#""5""#] {
        pipe.send(modern(id, "subscriptions/listen", json!({ "notifications": wanted }), &none()))
            .await;
        let line = pipe.line().await;
        let tag = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
        assert!(line.contains(&tag), "{line}");
        let ack: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ack["method"], "notifications/subscriptions/acknowledged");
        let honoured = json!({ "resourceSubscriptions": ["demo://clock"] });
        assert_eq!(ack["params"]["notifications"], honoured);
    }
    let mut tags = Vec::new();
    for _ in 0..4 {
        let note = pipe.receive().await;
        assert_eq!(note["method"], "notifications/resources/updated");
        assert_eq!(note["params"]["uri"], "demo://clock");
        tags.push(note["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].clone());
    }
    assert!(tags.contains(&json!(5)) && tags.contains(&json!("5")));

    for id in ["5", r#""5""#] {
        pipe.send(format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
        ))
        .await;
    }
    pipe.send(modern("9", "server/discover", json!({}), &none())).await;
    while pipe.receive().await["id"] != json!(9) {}
    assert!(timeout(Duration::from_secs(60), pipe.line()).await.is_err(), "still listening");
}

#[tokio::test]
async fn the_end_of_input_completes_a_listener() {
    let mut pipe = Pipe::open(Options::default());
    pipe.send(modern("5", "subscriptions/listen", json!({ "notifications": {} }), &none())).await;
    assert_eq!(pipe.receive().await["params"]["notifications"], json!({}));
    let rest = pipe.close().await;
    let result: Value = serde_json::from_str(rest.last().unwrap()).unwrap();
    assert_eq!((&result["id"], &result["result"]["resultType"]), (&json!(5), &json!("complete")));
    assert_eq!(result["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 5);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_is_not_answered() {
    let mut pipe = Pipe::open(Options::default());
    let slow = json!({
        "name": "slow", "arguments": { "seconds": 500 }, "_meta": { "progressToken": 12 },
    });
    pipe.send(modern("1", "tools/call", slow, &none())).await;
    assert_eq!(pipe.receive().await["params"]["progressToken"], 12);
    pipe.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#)
        .await;
    assert!(timeout(Duration::from_secs(600), pipe.line()).await.is_err());
}
