//! The tools. Each is one way to behave or to misbehave.
//!
//! | tool | arguments | does |
//! |---|---|---|
//! | `echo` | anything; `delay_ms`, `progress`, `answers` | returns its arguments, see [`echo`] |
//! | `marked` | `region` | the same; a modern HTTP client repeats `region` in a header |
//! | `hang` | | never answers |
//! | `block` | `ms` | stops reading for a while, then answers |
//! | `ask` | `method`, `params`, `cancel` | asks the client, returns the client's answer |
//! | `emit` | `messages`, `repeat` | sends messages as they are, then answers |
//! | `raw` | `text`, `newline` | writes bytes as they are, then answers |
//! | `giant` | `bytes` | writes a line without end |
//! | `big` | `bytes` | returns a large result |
//! | `exit` | `code`, `partial` | ends the process, perhaps in the middle of a line |
//! | `stderr` | `lines` | writes to stderr, then answers |
//! | `fork` | `setsid`, `ignore_term` | starts a grandchild, returns its pid |
//! | `env`, `args`, `cwd`, `pid` | | what the process was started with |
//! | `seen` | | the notifications received so far |
//! | `touch`, `end_listens` | `cancel` | uses or ends the open subscriptions |
//! | `hold` | `bytes` | keeps that much memory |
//! | `moan` | `text` | fails with this text |
//! | `hello` | | the parameters of the handshake |
//! | `limits` | | what the kernel lets the process use, and as whom it runs |
//! | `close_stdout` | | becomes a process without stdout |

use std::{env, fs, os::unix::process::CommandExt as _, process::Command, thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    options,
    server::{Server, answer, die},
};

/// A call that waits for the client.
pub(crate) struct Waiting {
    id: Value,
    params: Value,
}

pub(crate) fn list() -> Value {
    let names = [
        "echo",
        "hang",
        "block",
        "ask",
        "emit",
        "raw",
        "giant",
        "big",
        "exit",
        "stderr",
        "fork",
        "env",
        "args",
        "cwd",
        "pid",
        "seen",
        "touch",
        "end_listens",
        "hold",
        "moan",
        "hello",
        "limits",
        "close_stdout",
    ];
    let tool = |name| json!({"name": name, "inputSchema": {"type": "object"}});
    let mut tools: Vec<Value> = names.map(tool).into();
    let region = json!({"type": "string", "x-mcp-header": "Region"});
    tools.push(json!({"name": "marked",
        "inputSchema": {"type": "object", "properties": {"region": region}}}));
    json!({"tools": tools})
}

pub(crate) fn call(server: &mut Server, id: &Value, params: &Value) {
    let arguments = &params["arguments"];
    let number = |name: &str| arguments[name].as_u64().unwrap_or_default();
    let result = match params["name"].as_str().unwrap_or_default() {
        "echo" | "marked" => return echo(server, id, params),
        "hang" => return,
        "block" => {
            server.pipe.flush();
            #[expect(clippy::disallowed_methods, reason = "a process that does not read")]
            thread::sleep(Duration::from_millis(number("ms")));
            json!({})
        }
        "ask" => return ask(server, id, params),
        "emit" => emit(server, arguments),
        "raw" => {
            let mut bytes = arguments["text"].as_str().unwrap_or_default().as_bytes().to_vec();
            bytes.extend_from_slice(if arguments["newline"] == false { b"" } else { b"\n" });
            server.pipe.raw(&bytes);
            json!({})
        }
        "giant" => return giant(server, number("bytes")),
        "big" => json!({"text": "x".repeat(usize::try_from(number("bytes")).unwrap_or_default())}),
        "exit" => {
            if arguments["partial"] == true {
                server.pipe.raw(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"resu").as_bytes());
            }
            server.pipe.flush();
            die(u8::try_from(number("code")).unwrap_or_default())
        }
        "stderr" => {
            for line in 0..number("lines") {
                options::complain(&format!("stderr line {line}"));
            }
            if let Some(text) = arguments["text"].as_str() {
                options::complain(text);
            }
            json!({})
        }
        "fork" => {
            let pid =
                options::grandchild(arguments["setsid"] == true, arguments["ignore_term"] == true);
            json!({"pid": pid})
        }
        "env" => json!({"env": env::vars().collect::<std::collections::BTreeMap<_, _>>()}),
        "args" => json!({"args": env::args().collect::<Vec<_>>()}),
        "cwd" => json!({"cwd": env::current_dir().ok().map(|path| path.display().to_string())}),
        "pid" => json!({"pid": std::process::id()}),
        "seen" => json!({"seen": server.seen}),
        "touch" => {
            server.touch();
            json!({})
        }
        "end_listens" => {
            server.end_listens(arguments["cancel"] == true);
            json!({})
        }
        "hold" => {
            let bytes = usize::try_from(number("bytes")).unwrap_or_default();
            // Written to, so that the pages are really there.
            server.held.push(vec![1; bytes]);
            json!({})
        }
        "moan" => {
            let content = json!([{"type": "text", "text": arguments["text"]}]);
            return server.result(id, json!({"content": content, "isError": true}));
        }
        "hello" => json!({"hello": server.hello}),
        "limits" => json!({
            "limits": fs::read_to_string("/proc/self/limits").ok(),
            "status": fs::read_to_string("/proc/self/status").ok(),
        }),
        "close_stdout" => {
            server.pipe.flush();
            drop(Command::new("/bin/sh").args(["-c", "exec >&-; exec sleep 120"]).exec());
            die(9)
        }
        _ => return server.fail(id, -32602, "unknown tool"),
    };
    server.result(id, json!({"content": [], "structuredContent": result}));
}

/// Returns the arguments. `delay_ms` later, after `progress` notifications; `answers` is `once`,
/// `twice`, `unknown` (an id nobody asked with, then the right one) or `text` (the id as a string,
/// then the right one). `chatter` log lines come first.
fn echo(server: &Server, id: &Value, params: &Value) {
    let arguments = &params["arguments"];
    let count = |name: &str| arguments[name].as_u64().unwrap_or_default();
    let token = &params["_meta"]["progressToken"];
    let mut messages = Vec::new();
    for line in 0..count("chatter") {
        messages.push(json!({"jsonrpc": "2.0", "method": "notifications/message",
            "params": {"level": "info", "data": line}}));
    }
    if !token.is_null() {
        for step in 0..count("progress") {
            messages.push(json!({"jsonrpc": "2.0", "method": "notifications/progress",
                "params": {"progressToken": token, "progress": step + 1}}));
        }
    }
    let right = answer(id, json!({"content": [], "structuredContent": arguments}));
    match arguments["answers"].as_str() {
        Some("twice") => messages.push(right.clone()),
        Some("unknown") => messages.push(answer(&json!(9_007_199_254_740_993_u64), json!({}))),
        Some("text") => messages.push(answer(&json!(id.to_string()), json!({"wrong": true}))),
        _ => (),
    }
    messages.push(right);
    let delay = Duration::from_millis(count("delay_ms"));
    if delay.is_zero() {
        for message in &messages {
            server.pipe.send(message);
        }
    } else {
        server.pipe.send_later(delay, &messages);
    }
}

/// Asks the client something and answers with what it says. With `cancel`, takes the question back
/// at once and answers.
fn ask(server: &mut Server, id: &Value, params: &Value) {
    let arguments = &params["arguments"];
    server.minted += 1;
    // Small numbers, so that they collide with the ids of others.
    let ask = json!(server.minted);
    let mut message = json!({"jsonrpc": "2.0", "id": ask, "method": arguments["method"]});
    if !arguments["params"].is_null() {
        message["params"] = arguments["params"].clone();
    }
    server.pipe.send(&message);
    if arguments["cancel"] == true {
        server.pipe.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
            "params": {"requestId": ask, "reason": "never mind"}}));
        return server.result(id, json!({"content": [], "structuredContent": {}}));
    }
    let waiting = Waiting { id: id.clone(), params: params.clone() };
    server.asked.insert(ask.to_string(), waiting);
}

/// A client's answer to one of our requests.
pub(crate) fn answered(server: &mut Server, message: &Value) {
    match server.asked.remove(&message["id"].to_string()) {
        Some(waiting) => {
            let tool = &waiting.params["name"];
            let told = json!({"content": [], "structuredContent": {"told": message, "by": tool}});
            server.result(&waiting.id, told);
        }
        // Kept, so that a test can see what should not have come.
        None => server.seen.push(message.clone()),
    }
}

fn emit(server: &Server, arguments: &Value) -> Value {
    for _ in 0..arguments["repeat"].as_u64().unwrap_or(1) {
        for message in arguments["messages"].as_array().into_iter().flatten() {
            server.pipe.send(message);
        }
    }
    json!({})
}

fn giant(server: &Server, bytes: u64) {
    let chunk = [b'x'; 65_536];
    server.pipe.raw(b"{\"jsonrpc\":\"2.0\",\"method\":\"");
    for _ in 0..bytes.div_ceil(65_536) {
        server.pipe.raw(&chunk);
    }
}

/// Asks with the task's id, as a server does whose task needs input.
pub(crate) fn task_result(server: &mut Server, id: &Value, params: &Value) {
    server.minted += 1;
    let ask = json!(server.minted);
    let related = json!({"io.modelcontextprotocol/related-task": {"taskId": params["taskId"]}});
    server.pipe.send(&json!({"jsonrpc": "2.0", "id": ask, "method": "elicitation/create",
        "params": {"message": "for a task", "_meta": related}}));
    server.asked.insert(ask.to_string(), Waiting { id: id.clone(), params: params.clone() });
}
