//! Arguments that modern clients repeat in headers, in front of a server that sees no headers.

use std::{fs, time::Duration};

use http::HeaderValue;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_service::{Kind, Retry};
use tokio::time::{Instant, sleep};

use crate::rig::{Client, Rig, SOON, params};

/// The server is asked for its tools no more often than this.
const RELEARN_AFTER: Duration = Duration::from_secs(1);

/// How long a list of tools may take here.
const LISTING: Duration = Duration::from_secs(2);

/// A server whose `tools/list` is answered as a file in the folder says.
fn listing() -> (Rig, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut params = params(&["--tools-as", folder.path().join("as").to_str().unwrap()]);
    params.start_timeout = LISTING;
    (Rig::with(params), folder)
}

fn list_as(folder: &TempDir, how: &str) {
    fs::write(folder.path().join("as"), how).unwrap();
}

/// A client that says so in a header of its tool call.
fn repeating(client: &Client, region: &'static str) -> Client {
    let mut client = client.clone();
    client.headers.insert("mcp-param-region", HeaderValue::from_static(region));
    client
}

fn marked(client: &Client) -> Value {
    client.call(1, "marked", json!({"region": "eu"}))
}

async fn code(client: &Client) -> Value {
    client.ask(&marked(client)).await["error"]["code"].clone()
}

#[tokio::test]
async fn what_the_tools_said_holds_while_the_server_does_not_list_them() {
    let (rig, folder) = listing();
    let client = rig.modern();
    let (honest, lying) = (repeating(&client, "eu"), repeating(&client, "us"));
    assert_eq!(code(&honest).await, json!(null));
    list_as(&folder, "silent");
    // Until the server may be asked again whether its tools have changed.
    sleep(RELEARN_AFTER).await;
    for _ in 0..2 {
        assert_eq!(code(&lying).await, json!(-32020));
        assert_eq!(code(&client).await, json!(-32020), "it is missing");
        assert_eq!(code(&honest).await, json!(null));
    }
    // The next process cannot list them either.
    client.error(&client.call(1, "exit", json!({"code": 1}))).await;
    assert_eq!(code(&lying).await, json!(-32020));
    assert_eq!(code(&honest).await, json!(null));
    assert_eq!(rig.upstream.stats().spawned, 2);
    rig.end().await;
}

#[tokio::test]
async fn a_call_of_a_tool_that_was_never_listed_is_refused_until_it_can_be_checked() {
    let (rig, folder) = listing();
    list_as(&folder, "silent");
    let client = rig.modern();
    let lying = repeating(&client, "us");
    let error = lying.error(&marked(&lying)).await;
    assert_eq!((error.kind, error.retry), (Kind::Protocol, Retry::NotSent), "{error}");
    assert!(error.message().contains("did not list its tools"), "{error}");
    let asked = Instant::now();
    lying.error(&marked(&lying)).await;
    assert!(asked.elapsed() < LISTING, "the server is not asked each time");
    list_as(&folder, "");
    let until = Instant::now() + SOON;
    let refused = loop {
        match lying.reply(&marked(&lying)).await {
            Ok(reply) => break reply.status.as_u16(),
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(refused, 400, "now it is known that the header lies");
    assert_eq!(code(&repeating(&client, "eu")).await, json!(null));
    rig.end().await;
}

#[tokio::test]
async fn a_server_that_knows_no_list_of_tools_has_none_with_marks() {
    let (rig, folder) = listing();
    list_as(&folder, "unknown");
    let client = repeating(&rig.modern(), "us");
    assert_eq!(code(&client).await, json!(null));
    rig.end().await;
}
