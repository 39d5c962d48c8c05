//! Sessions that share a process and number their calls alike: every answer is held against its
//! question, by id, by the id's type, and by a nonce that no other call carries.
#![expect(clippy::indexing_slicing, reason = "tests")]

use std::net::SocketAddr;

use serde_json::{Value, json};
use tidegate_tests::{Client, Dice, Mark, Metrics, Proxy, http::Connection, stdio_upstream};
use tokio::task::JoinSet;

const SESSIONS: usize = 64;
const PAIRS_OF_A_SESSION: usize = 63;
const MODERN_CALLERS: usize = 22;
const PAIRS_OF_A_MODERN_CALLER: usize = 44;

/// What came back instead of the right answer.
#[derive(Debug, Default)]
struct Wrong {
    foreign: Vec<String>,
    lost: Vec<String>,
    right: usize,
}

/// A caller with two connections: pairs of calls overlap, and their answers may overtake each other.
async fn converse(
    client: Client,
    address: SocketAddr,
    caller: usize,
    pairs: usize,
    mut dice: Dice,
) -> Wrong {
    let mut wrong = Wrong::default();
    let mut connections = [Connection::open(address).await, Connection::open(address).await];
    for _ in 0..pairs {
        // A handful of ids for everybody, as numbers and as texts that look the same.
        let first = dice.below(4);
        let second = dice.pick(&[json!(first + 1), json!(first.to_string())]).clone();
        let ids = [json!(first), second];
        let mut asked = Vec::new();
        for (connection, id) in connections.iter_mut().zip(ids) {
            let nonce = format!("{caller}-{:016x}", dice.number());
            let (delay, noise) = (dice.below(4), dice.below(3));
            let arguments = json!({"nonce": nonce, "delay_ms": delay, "chatter": noise});
            connection
                .send(&client.tool_bytes(&id.to_string(), "echo", &arguments.to_string()))
                .await;
            asked.push((id, nonce));
        }
        for (connection, (id, nonce)) in connections.iter_mut().zip(asked) {
            let response = connection.response().await;
            if response.status != 200 {
                wrong.lost.push(format!("{id} {nonce}: {} {}", response.status, response.text()));
                continue;
            }
            match judge(&response.message(), &id, &nonce) {
                Ok(()) => wrong.right += 1,
                Err(answer) if answer["error"].is_null() => wrong.foreign.push(answer.to_string()),
                Err(answer) => wrong.lost.push(answer.to_string()),
            }
        }
    }
    wrong
}

fn judge(answer: &Value, id: &Value, nonce: &str) -> Result<(), Value> {
    let is_right = answer["id"] == *id && answer["result"]["structuredContent"]["nonce"] == *nonce;
    if is_right { Ok(()) } else { Err(answer.clone()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_answers_under_colliding_ids_reach_who_asked() {
    let mut dice = Dice::new();
    let mark = Mark::new();
    let settings = format!(", {}, sharing: shared", mark.setting());
    let proxy = Proxy::start(&stdio_upstream(&[], &settings)).await;
    let mut callers = JoinSet::new();
    for caller in 0..SESSIONS {
        let client = Client::legacy(&proxy, ["2025-11-25", "2025-06-18"][caller % 2]).await;
        let address = proxy.address();
        callers.spawn(converse(client, address, caller, PAIRS_OF_A_SESSION, dice.fork()));
    }
    for caller in SESSIONS..SESSIONS + MODERN_CALLERS {
        let (client, address) = (Client::modern(&proxy), proxy.address());
        callers.spawn(converse(client, address, caller, PAIRS_OF_A_MODERN_CALLER, dice.fork()));
    }
    let mut all = Wrong::default();
    while let Some(ended) = callers.join_next().await {
        let mut wrong = ended.unwrap();
        all.foreign.append(&mut wrong.foreign);
        all.lost.append(&mut wrong.lost);
        all.right += wrong.right;
    }
    assert!(all.foreign.is_empty() && all.lost.is_empty(), "{all:#?}");
    assert_eq!(all.right, 10_000);
    // One process for each of the two revisions, and one for the modern callers.
    assert_eq!(mark.pids().len(), 3, "they really shared");
    let metrics = Metrics::scrape(proxy.ops()).await;
    let dropped = |cause| {
        metrics.count("tidegate_stdio_dropped_messages_total", &[&format!("cause=\"{cause}\"")])
    };
    for cause in ["late_answer", "unknown_answer", "duplicate_answer"] {
        assert_eq!(dropped(cause), 0, "{cause}");
    }
    proxy.stop().await;
    mark.until(0, "after the stop").await;
}
