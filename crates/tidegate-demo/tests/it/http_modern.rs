//! 2026-07-28 over Streamable HTTP.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tidegate_demo::Options;

use crate::{
    pipe::{call, modern, text},
    web::{Reply, Web},
};

const VERSION: (&str, &str) = ("mcp-protocol-version", "2026-07-28");

/// A request with the headers that mirror it.
async fn send(web: &Web, method: &str, params: Value, capabilities: &Value) -> Reply {
    let name = params["name"].as_str().or_else(|| params["uri"].as_str()).map(ToOwned::to_owned);
    let mut headers = vec![VERSION, ("mcp-method", method)];
    if let Some(name) = &name {
        headers.push(("mcp-name", name));
    }
    web.post(&headers, modern("1", method, params, capabilities)).await
}

#[tokio::test]
async fn headers_must_say_what_the_body_says() {
    let web = Web::open(Options { conformance: true, ..Options::default() }).await;
    let echo = json!({ "name": "echo", "arguments": { "text": "x" } });
    let (method, name) = (("mcp-method", "tools/call"), ("mcp-name", "echo"));
    let encoded = ("mcp-name", "=?base64?ZWNobw==?=");
    let ok = StatusCode::OK;
    let bad = StatusCode::BAD_REQUEST;
    for (headers, status, code) in [
        (vec![VERSION, method, name], ok, None),
        (vec![VERSION, method, encoded], ok, None),
        (vec![VERSION, ("MCP-METHOD", "tools/call"), ("Mcp-Name", " echo ")], ok, None),
        (vec![VERSION, method, name, ("mcp-session-id", "ignored")], ok, None),
        (vec![method, name], bad, Some(-32020)),
        (vec![("mcp-protocol-version", "2025-11-25"), method, name], bad, Some(-32020)),
        (vec![VERSION, VERSION, method, name], bad, Some(-32020)),
        (vec![VERSION, name], bad, Some(-32020)),
        (vec![VERSION, ("mcp-method", "TOOLS/CALL"), name], bad, Some(-32020)),
        (vec![VERSION, method], bad, Some(-32020)),
        (vec![VERSION, method, ("mcp-name", "add")], bad, Some(-32020)),
        (vec![VERSION, method, ("mcp-name", "=?base64?ZWNobw?=")], bad, Some(-32020)),
    ] {
        let reply = web.post(&headers, modern("9", "tools/call", echo.clone(), &json!({}))).await;
        assert_eq!(reply.status, status, "{headers:?}");
        assert!(!reply.headers.contains_key("mcp-session-id"));
        let answer = reply.json().await;
        assert_eq!(answer["id"], 9);
        assert_eq!(answer["error"]["code"].as_i64(), code, "{headers:?}");
    }
    web.close().await;
}

#[tokio::test]
async fn what_is_not_served_has_its_status_and_code() {
    let web = Web::open(Options::default()).await;
    let (missing, unknown) = (StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND);
    for method in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "nonsense"] {
        let reply = send(&web, method, json!({}), &json!({})).await;
        assert_eq!(reply.status, unknown, "{method}");
        assert_eq!(reply.json().await["error"]["code"], -32601);
    }
    let ask = json!({ "name": "ask", "arguments": {} });
    let reply = send(&web, "tools/call", ask, &json!({})).await;
    assert_eq!(reply.status, missing);
    assert_eq!(reply.json().await["error"]["code"], -32021);

    let reply = send(&web, "tools/call", json!({ "name": "none" }), &json!({})).await;
    assert_eq!(
        (reply.status, &reply.json().await["error"]["code"]),
        (StatusCode::OK, &json!(-32602))
    );

    let future = ("mcp-protocol-version", "2030-01-01");
    let list = modern("1", "tools/list", json!({}), &json!({})).replace("2026-07-28", "2030-01-01");
    let reply = web.post(&[future, ("mcp-method", "tools/list")], list).await;
    assert_eq!(reply.status, missing);
    assert_eq!(reply.json().await["error"]["data"]["requested"], "2030-01-01");

    // A modern header without a modern body.
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
    let reply = web.post(&[VERSION, ("mcp-method", "tools/list")], list).await;
    assert_eq!((reply.status, &reply.json().await["error"]["code"]), (missing, &json!(-32602)));
    let hello = list.replace("tools/list", "initialize");
    let reply = web.post(&[VERSION], hello).await;
    assert_eq!((reply.status, &reply.json().await["error"]["code"]), (missing, &json!(-32020)));
    let reply = web.post(&[VERSION], r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).await;
    assert_eq!(reply.status, missing);
    let batch = format!("[{}]", modern("1", "tools/list", json!({}), &json!({})));
    for headers in [vec![VERSION], vec![]] {
        let reply = web.post(&headers, batch.clone()).await;
        assert_eq!((reply.status, &reply.json().await["error"]["code"]), (missing, &json!(-32600)));
    }
    let note = r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#;
    assert_eq!(web.post(&[VERSION], note).await.status, StatusCode::ACCEPTED);
    for method in [Method::GET, Method::DELETE] {
        let headers = [VERSION, ("accept", "text/event-stream"), ("mcp-session-id", "x")];
        let reply = web.send(method, "/mcp", &headers, "").await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(reply.headers["allow"], "POST");
    }
    web.close().await;
}

#[tokio::test]
async fn cacheable_results_have_their_hints_and_every_result_its_type() {
    let web = Web::open(Options::default()).await;
    for (method, params, scope) in [
        ("server/discover", json!({}), "public"),
        ("tools/list", json!({}), "public"),
        ("prompts/list", json!({}), "public"),
        ("resources/list", json!({}), "public"),
        ("resources/templates/list", json!({}), "public"),
        ("resources/read", json!({ "uri": "demo://clock" }), "private"),
    ] {
        let result = send(&web, method, params, &json!({})).await.json().await["result"].clone();
        assert_eq!(result["resultType"], "complete", "{method}");
        assert!(result["ttlMs"].is_u64(), "{method}");
        assert_eq!(result["cacheScope"], scope, "{method}");
    }
    web.close().await;
}

#[tokio::test]
async fn progress_and_logs_come_on_the_stream_of_their_request() {
    let web = Web::open(Options::default()).await;
    let params = json!({
        "name": "slow",
        "arguments": { "seconds": 0.02, "steps": 2 },
        "_meta": { "progressToken": 5, "io.modelcontextprotocol/logLevel": "info" },
    });
    let mut reply = send(&web, "tools/call", params, &json!({})).await;
    assert_eq!(reply.headers["x-accel-buffering"], "no");
    let first = reply.event().await.unwrap();
    assert_eq!((first.id.is_none(), &first.json()["params"]["data"]), (true, &json!("started")));
    for step in [1, 2] {
        let note = reply.message().await;
        assert_eq!(note["params"]["progressToken"], 5);
        assert_eq!(note["params"]["progress"], step);
    }
    assert_eq!(reply.message().await["params"]["data"], "finished");
    let rest = reply.rest().await;
    assert_eq!((rest.len(), &rest[0]["result"]["resultType"]), (1, &json!("complete")));
    web.close().await;
}

#[tokio::test]
async fn asking_takes_two_requests_and_no_memory() {
    let able = json!({ "elicitation": { "form": {} } });
    let mut params = json!({ "name": "ask", "arguments": {} });
    let web = Web::open(Options::default()).await;
    let asked = send(&web, "tools/call", params.clone(), &able).await.json().await;
    assert_eq!(asked["result"]["resultType"], "input_required");
    web.close().await;

    // Another server takes the retry.
    let web = Web::open(Options::default()).await;
    params["inputResponses"] =
        json!({ "answer": { "action": "accept", "content": { "answer": "blue" } } });
    let answered = send(&web, "tools/call", params, &able).await.json().await;
    assert_eq!(text(&answered), "You answered: blue");
    web.close().await;
}

#[tokio::test]
async fn a_listener_hears_changes_and_the_end_of_the_server() {
    for http2 in [false, true] {
        let mut web = Web::open(Options { conformance: true, ..Options::default() }).await;
        if http2 {
            web = web.over_http2();
        }
        let wanted = json!({ "notifications": { "promptsListChanged": true } });
        let mut listener = send(&web, "subscriptions/listen", wanted, &json!({})).await;
        let ack = listener.message().await;
        assert_eq!(ack["method"], "notifications/subscriptions/acknowledged");
        for tool in ["test_trigger_tool_change", "test_trigger_prompt_change"] {
            send(&web, "tools/call", json!({ "name": tool }), &json!({})).await.json().await;
        }
        let note = listener.message().await;
        assert_eq!(note["method"], "notifications/prompts/list_changed");
        assert_eq!(note["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 1);
        web.shut_down();
        let rest = listener.rest().await;
        assert_eq!((rest.len(), &rest[0]["result"]["resultType"]), (1, &json!("complete")));
        web.close().await;
    }
}

#[tokio::test]
async fn both_eras_share_an_endpoint() {
    let web = Web::open(Options::default()).await;
    let id = web.initialize("2025-06-18", &json!({})).await;
    let echo = json!({ "name": "echo", "arguments": { "text": "new" } });
    let session = ("mcp-session-id", id.as_str());
    let (session, none) = ([session], json!({}));
    let old = web.post(&session, call("1", "echo", &json!({ "text": "old" })));
    let new = send(&web, "tools/call", echo, &none);
    let (old, new) = tokio::join!(old, new);
    let (old, new) = (old.json().await, new.json().await);
    assert_eq!((text(&old), text(&new)), ("old", "new"));
    assert!(old["result"].get("resultType").is_none());
    assert_eq!(new["result"]["resultType"], "complete");
    web.close().await;
}

#[tokio::test]
async fn a_pretty_printed_value_fits_into_one_event() {
    let web = Web::open(Options::default()).await;
    let body = modern("1", "tools/call", json!({ "name": "echo" }), &json!({}));
    let arguments = "{\"text\":\"t\",\r\n\"value\":{\n\"a\":\n123456789012345678901}}";
    let body =
        body.replace(r#""name":"echo""#, &format!(r#""name":"echo","arguments":{arguments}"#));
    let headers = [VERSION, ("mcp-method", "tools/call"), ("mcp-name", "echo")];
    let bytes = web.post(&headers, body).await.bytes().await;
    assert!(!bytes.contains(&b'\n') && !bytes.contains(&b'\r'));
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(text.contains(r#"{ "a": 123456789012345678901}"#), "{text}");
    web.close().await;
}
