//! Clients of HTTP+SSE (2024-11-05): a stream that says where to post, and every way to leave it.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::churn::{ask, part, pause, slow};
use super::http::{Connection, request};
use crate::dice::Dice;
use crate::process::signal;

/// A client with its stream open.
struct Client {
    address: SocketAddr,
    path: &'static str,
    stream: Connection,
    /// What came on the stream and is not taken yet.
    text: String,
    /// Where to post.
    endpoint: String,
}

/// One visit, of one of the kinds there are.
pub(super) fn visit(
    address: SocketAddr,
    path: &'static str,
    dice: &mut Dice,
) -> anyhow::Result<()> {
    let mut client = Client::open(address, path)?;
    let kind = dice.below(6);
    if kind > 0 {
        client.greet()?;
    }
    match kind {
        // Before it said who it is.
        0 => (),
        1 => {
            client.start_slow_call()?;
            pause(dice.below(20));
        }
        // It leaves when its answer is about to come.
        2 => client.post(&call("echo", &json!({"text": "x"})))?,
        3 if path == "/own" => client.kill_the_child()?,
        _ => (0..4).try_for_each(|_| client.call("echo", &json!({"text": "x"})).map(drop))?,
    }
    part(client.stream, dice);
    Ok(())
}

fn call(name: &str, arguments: &Value) -> Value {
    let params = json!({"name": name, "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params})
}

impl Client {
    fn open(address: SocketAddr, path: &'static str) -> anyhow::Result<Self> {
        let mut stream = Connection::open(address)?;
        stream.send(&request("GET", &format!("{path}/sse"), &[], ""))?;
        let head = stream.stream(false)?;
        ensure!(head.status == 200, "status {}", head.status);
        let mut client =
            Self { address, path, stream, text: String::new(), endpoint: String::new() };
        client.endpoint = client.event("endpoint")?;
        Ok(client)
    }

    /// The data of the next event of this kind; others are passed over.
    fn event(&mut self, kind: &str) -> anyhow::Result<String> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name| event.lines().find_map(|line| line.strip_prefix(name));
                let found = (field("event: ") == Some(kind)).then(|| field("data: ")).flatten();
                let found = found.map(str::to_owned);
                self.text = rest.to_owned();
                if let Some(data) = found {
                    return Ok(data);
                }
            }
            let chunk = self.stream.chunk()?;
            ensure!(!chunk.is_empty(), "the stream has ended");
            self.text.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    fn post(&self, message: &Value) -> anyhow::Result<()> {
        let bytes = request("POST", &self.endpoint, &[], &message.to_string());
        let answer = ask(self.address, &bytes)?;
        ensure!(answer.status == 202, "status {}", answer.status);
        Ok(())
    }

    /// The message that answers the request with this id.
    fn answer(&mut self, id: u32) -> anyhow::Result<Value> {
        loop {
            let message: Value = serde_json::from_str(&self.event("message")?)?;
            if message.get("id") == Some(&json!(id)) && message.get("method").is_none() {
                return Ok(message);
            }
        }
    }

    fn greet(&mut self) -> anyhow::Result<()> {
        let params = json!({"protocolVersion": "2024-11-05", "capabilities": {},
            "clientInfo": {"name": "leak-check", "version": "0"}});
        let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        self.post(&hello)?;
        let answer = self.answer(0)?;
        ensure!(answer.get("result").is_some(), "{answer}");
        self.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
    }

    fn call(&mut self, name: &str, arguments: &Value) -> anyhow::Result<Value> {
        self.post(&call(name, arguments))?;
        let answer = self.answer(5)?;
        ensure!(answer.get("result").is_some(), "{answer}");
        Ok(answer)
    }

    fn start_slow_call(&self) -> anyhow::Result<()> {
        let (name, arguments) = slow(self.path);
        self.post(&call(name, &arguments))
    }

    /// Kills the session's child in the middle of a call, which is answered all the same.
    fn kill_the_child(&mut self) -> anyhow::Result<()> {
        let told = self.call("pid", &json!({}))?;
        let pid = told.pointer("/result/structuredContent/pid").and_then(Value::as_u64);
        let pid = pid.and_then(|pid| u32::try_from(pid).ok()).context("no pid")?;
        self.start_slow_call()?;
        signal(pid, Signal::KILL);
        let answer = self.answer(5).context("a call of a killed child is not answered")?;
        ensure!(answer.get("error").is_some(), "{answer}");
        Ok(())
    }
}
