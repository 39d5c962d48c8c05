//! The legacy revisions over Streamable HTTP.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tidegate_demo::Options;

use crate::{
    pipe::{call, initialize, text},
    web::Web,
};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

#[tokio::test]
async fn a_session_lives_from_initialize_to_delete() {
    let web = Web::open(Options::default()).await;
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let id = web.initialize(version, &json!({})).await;
        assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()) && id.len() == 32, "{id}");
        let session = ("mcp-session-id", id.as_str());
        let ours = ("mcp-protocol-version", version);

        assert_eq!(web.post(&[session, ours], PING).await.json().await["result"], json!({}));
        assert_eq!(web.post(&[session], PING).await.status, StatusCode::OK);
        assert_eq!(web.post(&[ours], PING).await.status, StatusCode::BAD_REQUEST);
        let other = if version == "2025-06-18" { "2025-11-25" } else { "2025-06-18" };
        for wrong in [other, "1999-01-01", "nonsense"] {
            let reply = web.post(&[session, ("mcp-protocol-version", wrong)], PING).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{wrong}");
        }
        let again = initialize(version, &json!({})).to_string();
        assert_eq!(web.post(&[session], again).await.status, StatusCode::BAD_REQUEST);

        let end = web.send(Method::DELETE, "/mcp", &[session, ours], "").await;
        assert_eq!(end.status, StatusCode::OK);
        assert_eq!(web.post(&[session, ours], PING).await.status, StatusCode::NOT_FOUND);
        let end = web.send(Method::DELETE, "/mcp", &[session, ours], "").await;
        assert_eq!(end.status, StatusCode::NOT_FOUND);
    }
    let unknown = web.post(&[("mcp-session-id", "0123")], PING).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(web.post(&[], PING).await.status, StatusCode::BAD_REQUEST);
    web.close().await;
}

#[tokio::test]
async fn what_cannot_be_a_message_is_refused_by_its_status() {
    let web = Web::open(Options { max_message: 1000, ..Options::default() }).await;
    let (content, accept) =
        (("content-type", "application/json; charset=utf-8"), ("accept", "*/*"));
    let post = Method::POST;
    for (headers, body, status) in [
        (vec![content, accept], "{", StatusCode::BAD_REQUEST),
        (vec![content, accept], "[]", StatusCode::BAD_REQUEST),
        (vec![content, ("accept", "application/json")], PING, StatusCode::NOT_ACCEPTABLE),
        (vec![content, ("accept", "text/event-stream")], PING, StatusCode::NOT_ACCEPTABLE),
        (vec![content], PING, StatusCode::NOT_ACCEPTABLE),
        (vec![accept], PING, StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (vec![("content-type", "text/plain"), accept], PING, StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (vec![content, accept, ("origin", "http://evil.example")], PING, StatusCode::FORBIDDEN),
        (vec![content, accept, ("host", "evil.example")], PING, StatusCode::FORBIDDEN),
    ] {
        let reply = web.send(post.clone(), "/mcp", &headers, body).await;
        assert_eq!(reply.status, status, "{headers:?} {body}");
    }
    let long = format!("{PING}{}", " ".repeat(1000));
    assert_eq!(web.post(&[], long).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let elsewhere = web.send(post, "/other", &[content, accept], PING).await;
    assert_eq!(elsewhere.status, StatusCode::NOT_FOUND);
    for method in [Method::GET, Method::DELETE, Method::PUT] {
        let reply = web.send(method, "/mcp", &[accept], "").await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
        assert!(reply.headers.contains_key("allow"));
    }
    web.close().await;
}

#[tokio::test]
async fn an_answer_alone_is_json_and_anything_more_a_stream() {
    let web = Web::open(Options::default()).await;
    for (version, primed) in [("2025-06-18", false), ("2025-11-25", true)] {
        let id = web.initialize(version, &json!({})).await;
        let session = ("mcp-session-id", id.as_str());
        let huge = "123456789012345678901234567890";
        let body = web.post(&[session], call(huge, "echo", &json!({ "text": "a" }))).await;
        let bytes = body.bytes().await;
        assert!(bytes.starts_with(format!(r#"{{"jsonrpc":"2.0","id":{huge},"#).as_bytes()));

        let mut params = json!({ "name": "slow", "arguments": { "seconds": 0.05, "steps": 2 } });
        params["_meta"] = json!({ "progressToken": "tok" });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
        let mut reply = web.post(&[session], body.to_string()).await;
        let mut events = Vec::new();
        while let Some(event) = reply.event().await {
            events.push(event);
        }
        if primed {
            let prime = events.remove(0);
            assert_eq!((prime.data.as_str(), prime.id.is_some()), ("", true));
            assert!(prime.retry.is_some());
        }
        let ids: std::collections::BTreeSet<_> = events.iter().map(|event| &event.id).collect();
        assert_eq!(ids.len(), events.len(), "ids are unique");
        let methods: Vec<Value> =
            events.iter().map(|event| event.json()["method"].clone()).collect();
        let (log, progress) = ("notifications/message", "notifications/progress");
        assert_eq!(
            methods,
            [json!(log), json!(progress), json!(progress), json!(log), Value::Null]
        );
        assert_eq!(events.last().unwrap().json()["id"], 1);
    }
    web.close().await;
}

#[tokio::test]
async fn a_client_that_lost_its_stream_comes_back_for_the_answer() {
    let web = Web::open(Options::default()).await;
    let id = web.initialize("2025-11-25", &json!({})).await;
    let session = ("mcp-session-id", id.as_str());
    let body = call("1", "slow", &json!({ "seconds": 0.2, "steps": 1 }));
    let mut reply = web.post(&[session], body).await;
    let last = reply.event().await.unwrap().id.unwrap();
    drop(reply);

    let accept = ("accept", "text/event-stream");
    let resume = [session, accept, ("last-event-id", last.as_str())];
    let mut reply = web.send(Method::GET, "/mcp", &resume, "").await;
    assert_eq!(reply.event().await.unwrap().data, "");
    let rest = reply.rest().await;
    assert!(text(rest.last().unwrap()).starts_with("Done"), "{rest:?}");

    // Once more from the start, though the call is over.
    let mut reply = web.send(Method::GET, "/mcp", &resume, "").await;
    reply.event().await.unwrap();
    assert_eq!(reply.rest().await, rest);

    for unknown in ["99-1", "1-99", "nonsense", ""] {
        let resume = [session, accept, ("last-event-id", unknown)];
        let reply = web.send(Method::GET, "/mcp", &resume, "").await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{unknown}");
    }
    web.close().await;
}

#[tokio::test]
async fn a_cancelled_call_ends_its_stream_without_an_answer() {
    let web = Web::open(Options::default()).await;
    let id = web.initialize("2025-06-18", &json!({})).await;
    let session = ("mcp-session-id", id.as_str());
    let mut reply = web.post(&[session], call("7", "slow", &json!({ "seconds": 500 }))).await;
    assert_eq!(reply.message().await["params"]["data"], "started");
    let cancel = json!({
        "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 7 },
    });
    let accepted = web.post(&[session], cancel.to_string()).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED);
    assert!(reply.rest().await.is_empty());
    web.close().await;
}

#[tokio::test]
async fn deleting_a_session_ends_what_runs_in_it() {
    let web = Web::open(Options::default()).await;
    let id = web.initialize("2025-06-18", &json!({})).await;
    let session = ("mcp-session-id", id.as_str());
    let mut call = web.post(&[session], call("7", "slow", &json!({ "seconds": 500 }))).await;
    call.message().await;
    let listen = [session, ("accept", "text/event-stream")];
    let mut stream = web.send(Method::GET, "/mcp", &listen, "").await;
    web.send(Method::DELETE, "/mcp", &[session], "").await;
    assert!(call.rest().await.is_empty());
    assert!(stream.rest().await.is_empty());
    web.close().await;
}

#[tokio::test]
async fn a_question_goes_out_on_the_stream_of_its_call() {
    let web = Web::open(Options::default()).await;
    let id = web.initialize("2025-11-25", &json!({ "elicitation": {} })).await;
    let session = ("mcp-session-id", id.as_str());
    let mut reply = web.post(&[session], call("1", "ask", &json!({}))).await;
    assert_eq!(reply.event().await.unwrap().data, "");
    let asked = reply.message().await;
    assert_eq!(asked["method"], "elicitation/create");

    // Nobody else can answer it.
    let stranger = web.initialize("2025-11-25", &json!({ "elicitation": {} })).await;
    let answer = json!({
        "jsonrpc": "2.0", "id": asked["id"],
        "result": { "action": "accept", "content": { "answer": "stolen" } },
    });
    let strange = ("mcp-session-id", stranger.as_str());
    assert_eq!(web.post(&[strange], answer.to_string()).await.status, StatusCode::ACCEPTED);

    let answer = answer.to_string().replace("stolen", "blue");
    assert_eq!(web.post(&[session], answer).await.status, StatusCode::ACCEPTED);
    let rest = reply.rest().await;
    assert_eq!((rest.len(), text(&rest[0])), (1, "You answered: blue"));
    web.close().await;
}

#[tokio::test]
async fn the_standalone_stream_has_updates_and_its_newest_reader_gets_them() {
    let clock_period = std::time::Duration::from_millis(20);
    let web = Web::open(Options { clock_period, ..Options::default() }).await;
    let id = web.initialize("2025-06-18", &json!({})).await;
    let session = ("mcp-session-id", id.as_str());
    let listen = [session, ("accept", "text/event-stream")];
    let mut older = web.send(Method::GET, "/mcp", &listen, "").await;
    let subscribe = json!({
        "jsonrpc": "2.0", "id": 1, "method": "resources/subscribe",
        "params": { "uri": "demo://clock" },
    });
    let reply = web.post(&[session], subscribe.to_string()).await;
    assert_eq!(reply.json().await["result"], json!({}));
    let note = older.message().await;
    assert_eq!(note["method"], "notifications/resources/updated");
    assert_eq!(note["params"]["uri"], "demo://clock");

    let mut newer = web.send(Method::GET, "/mcp", &listen, "").await;
    assert_eq!(newer.message().await, note);
    older.rest().await;
    assert_eq!(newer.message().await, note);
    web.close().await;
    newer.rest().await;
}

#[tokio::test]
async fn batches_are_taken_in_one_revision_only() {
    let web = Web::open(Options::default()).await;
    let id = web.initialize("2025-03-26", &json!({})).await;
    let session = ("mcp-session-id", id.as_str());
    let note = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let ping: Value = serde_json::from_str(PING).unwrap();
    let echo: Value =
        serde_json::from_str(&call(r#""1""#, "echo", &json!({ "text": "t" }))).unwrap();
    let batch = json!([note, ping, echo, initialize("2025-03-26", &json!({}))]);
    let reply = web.post(&[session], batch.to_string()).await;
    let answers = reply.json().await;
    let mut ids: Vec<String> =
        answers.as_array().unwrap().iter().map(|answer| answer["id"].to_string()).collect();
    ids.sort();
    assert_eq!(ids, [r#""1""#, r#""init""#, "1"]);
    assert!(answers.to_string().contains("initialized already"));

    assert_eq!(
        web.post(&[session], json!([note, note]).to_string()).await.status,
        StatusCode::ACCEPTED
    );
    let answer = json!({ "jsonrpc": "2.0", "id": 1, "result": {} });
    let mixed = json!([ping, answer]).to_string();
    assert_eq!(web.post(&[session], mixed).await.status, StatusCode::BAD_REQUEST);

    let slow: Value =
        serde_json::from_str(&call("2", "slow", &json!({ "seconds": 0.01, "steps": 1 }))).unwrap();
    let mut reply = web.post(&[session], json!([ping, slow]).to_string()).await;
    let answered = reply.rest().await;
    let answered: Vec<_> = answered.iter().filter(|message| message.get("id").is_some()).collect();
    assert_eq!(answered.len(), 2);

    let id = web.initialize("2025-06-18", &json!({})).await;
    let reply = web.post(&[("mcp-session-id", &id)], json!([ping]).to_string()).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert_eq!(reply.json().await["error"]["code"], -32600);
    web.close().await;
}

#[tokio::test]
async fn two_hundred_calls_run_side_by_side_in_one_session_over_both_http_versions() {
    let web = Web::open(Options::default()).await;
    for web in [web, Web::open(Options::default()).await.over_http2()] {
        let id = web.initialize("2025-11-25", &json!({})).await;
        let session = [("mcp-session-id", id.as_str())];
        let calls = (0..200).map(|number| {
            let (web, session) = (&web, &session);
            async move {
                let arguments = json!({ "text": number.to_string() });
                let reply = web.post(session, call(&number.to_string(), "echo", &arguments)).await;
                let answer = reply.json().await;
                assert_eq!(answer["id"], number);
                assert_eq!(text(&answer), number.to_string());
            }
        });
        futures_util::future::join_all(calls).await;
        web.close().await;
    }
}
