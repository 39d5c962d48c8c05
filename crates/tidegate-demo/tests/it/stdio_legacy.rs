//! The legacy revisions over a pipe.

use std::time::Duration;

use serde_json::json;
use tidegate_demo::Options;
use tokio::time::{Instant, timeout};

use crate::pipe::{Pipe, call, initialize, text};

const VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

#[tokio::test]
async fn every_legacy_revision_is_agreed_on_and_any_other_becomes_the_newest() {
    for version in VERSIONS {
        let mut pipe = Pipe::legacy(version, json!({})).await;
        pipe.send(call("1", "add", &json!({ "a": 1, "b": 2.5 }))).await;
        let answer = pipe.receive().await;
        assert_eq!(text(&answer), "3.5");
        let structured = version >= "2025-06-18";
        assert_eq!(answer["result"].get("structuredContent").is_some(), structured, "{version}");
        assert!(answer["result"].get("resultType").is_none());
        assert!(pipe.close().await.is_empty());
    }
    for version in ["2026-07-28", "1999-01-01"] {
        let mut pipe = Pipe::open(Options::default());
        pipe.send(initialize(version, &json!({}))).await;
        assert_eq!(pipe.receive().await["result"]["protocolVersion"], "2025-11-25");
    }
}

#[tokio::test]
async fn the_handshake_comes_first_and_once() {
    let mut pipe = Pipe::open(Options::default());
    pipe.send(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).await;
    assert_eq!(pipe.receive().await["error"]["code"], -32600);
    pipe.send(r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#).await;
    assert_eq!(pipe.line().await, r#"{"jsonrpc":"2.0","id":2,"result":{}}"#);
    pipe.send(initialize("2025-11-25", &json!({}))).await;
    assert!(pipe.receive().await["result"].is_object());
    pipe.send(initialize("2025-11-25", &json!({}))).await;
    assert_eq!(pipe.receive().await["error"]["code"], -32600);
}

#[tokio::test(start_paused = true)]
async fn ids_that_only_look_alike_are_different_calls_and_come_back_verbatim() {
    let mut pipe = Pipe::legacy("2025-11-25", json!({})).await;
    let ids = ["1", r#""1""#, "123456789012345678901234567890", r#""\u0031\/""#, "-7"];
    for (index, id) in ids.iter().enumerate() {
        let seconds = 10 * (ids.len() - index);
        pipe.send(call(id, "slow", &json!({ "seconds": seconds, "steps": 1 }))).await;
    }
    // A second call with a running id is refused, whatever its notation.
    pipe.send(call(r#""\u0031""#, "echo", &json!({ "text": "x" }))).await;
    assert!(
        pipe.line().await.starts_with(r#"{"jsonrpc":"2.0","id":"\u0031","error":{"code":-32600"#)
    );
    let mut expected = ids.to_vec();
    while let Some(id) = expected.pop() {
        let mut line = pipe.line().await;
        while line.contains("notifications/message") {
            line = pipe.line().await;
        }
        let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"#);
        assert!(line.starts_with(&head), "{line}");
    }
}

#[tokio::test]
async fn a_value_comes_back_byte_for_byte() {
    let mut pipe = Pipe::legacy("2025-06-18", json!({})).await;
    let value = r#"{"z":123456789012345678901234567890,"a":1.0e2,"s":"\u00e9\/","n":[ 1 , 2 ]}"#;
    pipe.send(format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"hi","value":{value}}}}}}}"#
    ))
    .await;
    let line = pipe.line().await;
    assert!(line.contains(&format!(r#""structuredContent":{{"value":{value}}}"#)), "{line}");
}

#[tokio::test(start_paused = true)]
async fn progress_comes_in_order_and_before_the_answer() {
    let mut pipe = Pipe::legacy("2025-11-25", json!({})).await;
    pipe.send(json!({
        "jsonrpc": "2.0", "id": 5, "method": "logging/setLevel", "params": { "level": "error" },
    }))
    .await;
    assert_eq!(pipe.receive().await["result"], json!({}));
    pipe.send(json!({
        "jsonrpc": "2.0", "id": 6, "method": "tools/call",
        "params": {
            "name": "slow",
            "arguments": { "seconds": 9, "steps": 3 },
            "_meta": { "progressToken": "tok" },
        },
    }))
    .await;
    for step in 1..=3 {
        let note = pipe.receive().await;
        assert_eq!(note["method"], "notifications/progress");
        assert_eq!(note["params"]["progressToken"], "tok");
        assert_eq!(
            (&note["params"]["progress"], &note["params"]["total"]),
            (&json!(step), &json!(3))
        );
    }
    assert_eq!(pipe.receive().await["id"], 6);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_is_not_answered_and_its_id_is_free_again() {
    let mut pipe = Pipe::legacy("2025-11-25", json!({})).await;
    pipe.send(call("7", "slow", &json!({ "seconds": 500 }))).await;
    assert_eq!(pipe.receive().await["params"]["data"], "started");
    pipe.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"7"}}"#)
        .await;
    pipe.send(r#"{"jsonrpc":"2.0","id":8,"method":"ping"}"#).await;
    assert_eq!(pipe.receive().await["id"], 8);
    pipe.send(call("7", "echo", &json!({ "text": "a" }))).await;
    assert_eq!(pipe.receive().await["error"]["code"], -32600, "the wrong type cancelled it");

    pipe.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#)
        .await;
    pipe.send(call("7", "echo", &json!({ "text": "b" }))).await;
    assert_eq!(text(&pipe.receive().await), "b");
    assert!(pipe.close().await.is_empty());
}

#[tokio::test]
async fn asking_sends_a_request_and_waits_for_its_answer() {
    for (answer, expected) in [
        (
            json!({ "result": { "action": "accept", "content": { "answer": "blue" } } }),
            "You answered: blue",
        ),
        (json!({ "result": { "action": "decline" } }), "You declined to answer."),
        (json!({ "result": { "action": "cancel" } }), "You closed the question."),
    ] {
        let mut pipe = Pipe::legacy("2025-11-25", json!({ "elicitation": {} })).await;
        // The server's ids are its own: both sides use 1 here.
        pipe.send(call("1", "ask", &json!({ "question": "Which?" }))).await;
        let asked = pipe.receive().await;
        assert_eq!(asked["method"], "elicitation/create");
        assert_eq!(
            (&asked["params"]["message"], &asked["params"]["mode"]),
            (&json!("Which?"), &json!("form"))
        );
        let mut answer = answer;
        answer["jsonrpc"] = json!("2.0");
        answer["id"] = asked["id"].clone();
        pipe.send(answer).await;
        let done = pipe.receive().await;
        assert_eq!((&done["id"], text(&done)), (&json!(1), expected));
    }
}

#[tokio::test]
async fn a_refused_or_impossible_question_fails_the_tool() {
    let mut pipe = Pipe::legacy("2025-06-18", json!({ "elicitation": {} })).await;
    pipe.send(call("1", "ask", &json!({}))).await;
    let asked = pipe.receive().await;
    assert!(asked["params"].get("mode").is_none(), "forms have a mode since 2025-11-25");
    pipe.send(json!({
        "jsonrpc": "2.0", "id": asked["id"], "error": { "code": -1, "message": "no" },
    }))
    .await;
    assert_eq!(pipe.receive().await["result"]["isError"], true);

    let mut pipe = Pipe::legacy("2025-11-25", json!({ "elicitation": { "url": {} } })).await;
    pipe.send(call("1", "ask", &json!({}))).await;
    assert_eq!(pipe.receive().await["result"]["isError"], true);
}

#[tokio::test]
async fn a_cancelled_call_takes_its_question_back() {
    let mut pipe = Pipe::legacy("2025-11-25", json!({ "elicitation": {} })).await;
    pipe.send(call("1", "ask", &json!({}))).await;
    let asked = pipe.receive().await;
    pipe.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#)
        .await;
    let taken_back = pipe.receive().await;
    assert_eq!(taken_back["method"], "notifications/cancelled");
    assert_eq!(taken_back["params"]["requestId"], asked["id"]);
    // A late answer is ignored.
    pipe.send(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "action": "cancel" } }))
        .await;
    pipe.send(r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#).await;
    assert_eq!(pipe.receive().await["id"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_hears_the_clock_until_it_unsubscribes() {
    let mut pipe = Pipe::legacy("2025-11-25", json!({})).await;
    let request = |id: u32, method: &str, uri: &str| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": { "uri": uri } });
    pipe.send(request(1, "resources/subscribe", "demo://none")).await;
    assert_eq!(pipe.receive().await["error"]["code"], -32002);
    pipe.send(request(2, "resources/subscribe", "demo://clock")).await;
    assert_eq!(pipe.receive().await["id"], 2);
    for _ in 0..3 {
        let note = pipe.receive().await;
        assert_eq!(note["method"], "notifications/resources/updated");
        assert_eq!(note["params"], json!({ "uri": "demo://clock" }));
    }
    pipe.send(request(3, "resources/read", "demo://clock")).await;
    let read = pipe.receive().await;
    let content: serde_json::Value =
        serde_json::from_str(read["result"]["contents"][0]["text"].as_str().unwrap()).unwrap();
    assert!(content["uptimeSeconds"].as_u64().unwrap() >= 2);
    pipe.send(request(4, "resources/unsubscribe", "demo://clock")).await;
    assert_eq!(pipe.receive().await["id"], 4);
    assert!(timeout(Duration::from_secs(60), pipe.line()).await.is_err(), "still subscribed");
}

#[tokio::test]
async fn batches_exist_in_one_revision_only() {
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/x"},{"jsonrpc":"2.0","id":"1","method":"tools/call","params":{"name":"echo","arguments":{"text":"t"}}},{"jsonrpc":"2.0","id":null,"method":"ping"}]"#;
    let mut pipe = Pipe::legacy("2025-03-26", json!({})).await;
    pipe.send(batch).await;
    let answers = pipe.receive().await;
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 3);
    assert_eq!((&answers[0]["id"], &answers[1]["id"]), (&json!(1), &json!("1")));
    assert_eq!(answers[2]["error"]["code"], -32600);

    let mut pipe = Pipe::legacy("2025-06-18", json!({})).await;
    pipe.send(batch).await;
    assert_eq!(pipe.receive().await["error"]["code"], -32600);
}

#[tokio::test]
async fn bad_lines_are_refused_and_the_pipe_goes_on() {
    let mut pipe = Pipe::open(Options { max_message: 200, ..Options::default() });
    for (line, code) in [
        ("{", -32700),
        ("nonsense", -32700),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":7}"#, -32602),
    ] {
        pipe.send(line).await;
        assert_eq!(pipe.receive().await["error"]["code"], code, "{line}");
    }
    pipe.send("x".repeat(100_000)).await;
    assert_eq!(pipe.receive().await["error"]["code"], -32600);
    pipe.send("").await;
    pipe.send("\r").await;
    pipe.send(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
    assert_eq!(pipe.receive().await["id"], 1);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_input_ends_the_server_even_with_calls_running() {
    let started = Instant::now();
    let mut pipe = Pipe::legacy("2025-11-25", json!({ "elicitation": {} })).await;
    pipe.send(call("1", "slow", &json!({ "seconds": 500 }))).await;
    assert_eq!(pipe.receive().await["params"]["data"], "started");
    pipe.send(call("2", "ask", &json!({}))).await;
    assert_eq!(pipe.receive().await["method"], "elicitation/create");
    let rest = pipe.close().await;
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert!(rest[0].contains("the client is gone"), "{rest:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn two_hundred_calls_and_large_messages_are_answered() {
    let mut pipe = Pipe::legacy("2025-11-25", json!({})).await;
    for id in 0..200 {
        pipe.send(call(&id.to_string(), "echo", &json!({ "text": id.to_string() }))).await;
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let answer = pipe.receive().await;
        assert_eq!(text(&answer), answer["id"].to_string());
        seen.insert(answer["id"].as_u64().unwrap());
    }
    assert_eq!(seen.len(), 200);

    let data = "y".repeat(5 << 20);
    pipe.send(call("1", "big", &json!({ "bytes": 5 << 20, "data": data }))).await;
    let answer = pipe.receive().await;
    assert_eq!(text(&answer).len(), 5 << 20);
    let sizes = json!({ "sent": 5 << 20, "received": 5 << 20 });
    assert_eq!(answer["result"]["structuredContent"], sizes);
}

#[tokio::test]
async fn lists_have_pages_and_completion_completes() {
    let mut pipe = Pipe::open(Options { page_size: Some(4), ..Options::default() });
    pipe.send(initialize("2025-11-25", &json!({}))).await;
    pipe.receive().await;
    let list = |cursor: Option<&str>| json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { "cursor": cursor } });
    pipe.send(list(None)).await;
    let first = pipe.receive().await;
    assert_eq!(first["result"]["tools"].as_array().unwrap().len(), 4);
    pipe.send(list(first["result"]["nextCursor"].as_str())).await;
    let second = pipe.receive().await;
    assert_eq!(second["result"]["tools"].as_array().unwrap().len(), 2);
    assert!(second["result"].get("nextCursor").is_none());
    for cursor in ["nonsense", "3", "8", "-4"] {
        pipe.send(list(Some(cursor))).await;
        assert_eq!(pipe.receive().await["error"]["code"], -32602, "{cursor}");
    }
    pipe.send(json!({
        "jsonrpc": "2.0", "id": 2, "method": "completion/complete",
        "params": {
            "ref": { "type": "ref/prompt", "name": "greet" },
            "argument": { "name": "language", "value": "e" },
        },
    }))
    .await;
    let values = &pipe.receive().await["result"]["completion"]["values"];
    assert_eq!(*values, json!(["English", "Esperanto"]));
    pipe.send(json!({
        "jsonrpc": "2.0", "id": 3, "method": "prompts/get",
        "params": { "name": "greet", "arguments": { "name": "Ada", "language": "French" } },
    }))
    .await;
    let prompt = pipe.receive().await;
    let said = prompt["result"]["messages"][0]["content"]["text"].as_str().unwrap();
    assert!(said.contains("Ada") && said.contains("French"));
}

#[tokio::test]
async fn the_tools_say_what_is_wrong_with_their_arguments() {
    let mut pipe = Pipe::legacy("2025-11-25", json!({})).await;
    for (tool, arguments) in [
        ("echo", json!({})),
        ("echo", json!({ "text": 1 })),
        ("add", json!({ "a": 1 })),
        ("add", json!({ "a": 1, "b": "two" })),
        ("slow", json!({ "steps": 0 })),
        ("slow", json!({ "seconds": -1 })),
        ("big", json!({ "bytes": 1_u64 << 40 })),
        ("fail", json!({ "message": "as told" })),
    ] {
        pipe.send(call("1", tool, &arguments)).await;
        assert_eq!(pipe.receive().await["result"]["isError"], true, "{tool} {arguments}");
    }
    pipe.send(call("1", "none", &json!({}))).await;
    assert_eq!(pipe.receive().await["error"]["code"], -32602);
    let exact = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":9007199254740993,"b":1}}}"#;
    pipe.send(exact).await;
    assert_eq!(text(&pipe.receive().await), "9007199254740994");
}
