//! The scripted server as a child process: it has no event ids, since stdio has none.
//!
//! Its tool `count` reports `count` numbered steps and then answers. Its tool `tell` answers at once
//! and then says as many numbered things unasked. A program of its own, `cargo xtask soak-server`.

use std::io::{BufRead as _, Write as _, stdin, stdout};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::script::answer;

/// Serves until the end of stdin.
pub(crate) fn serve() -> anyhow::Result<()> {
    for line in stdin().lock().lines() {
        let message: Value = serde_json::from_str(&line?)?;
        let Some(id) = message.get("id").cloned() else { continue };
        let params = message.get("params").cloned().unwrap_or_default();
        match message.get("method").and_then(Value::as_str).unwrap_or_default() {
            "initialize" => {
                let result = json!({"protocolVersion": params.get("protocolVersion"),
                    "capabilities": {"tools": {}, "resources": {"subscribe": true}},
                    "serverInfo": {"name": "soak", "version": "1"}});
                say(&json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
            }
            "tools/call" => {
                thread::spawn(move || call(&id, &params));
            }
            _ => say(&json!({"jsonrpc": "2.0", "id": id, "result": {}}).to_string()),
        }
    }
    Ok(())
}

fn call(id: &Value, params: &Value) {
    let arguments = params.get("arguments").cloned().unwrap_or_default();
    let number = |name: &str| arguments.get(name).and_then(Value::as_u64).unwrap_or_default();
    let name = arguments.get("stream").and_then(Value::as_str).unwrap_or_default();
    let every = Duration::from_millis(number("every_ms"));
    let (from, count) = (number("from"), number("count"));
    let is_unasked = params.get("name").and_then(Value::as_str) == Some("tell");
    if is_unasked {
        say(&answer(id, name, 0));
    }
    for event in from + 1..=from + count {
        thread::sleep(every);
        let message = if is_unasked {
            let params = json!({"uri": "soak://it", "stream": name, "event": event});
            json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": params})
        } else {
            let token = params.pointer("/_meta/progressToken");
            let params =
                json!({"progressToken": token, "progress": event, "stream": name, "event": event});
            json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        };
        say(&message.to_string());
    }
    if !is_unasked {
        thread::sleep(every);
        say(&answer(id, name, from + count + 1));
    }
}

fn say(line: &str) {
    let mut out = stdout().lock();
    // Nobody listens any more, and soon stdin ends.
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}
