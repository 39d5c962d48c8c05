//! Reads messages and answers what the protocol itself defines.

use std::{
    collections::HashMap,
    io::{self, BufRead as _},
};

use serde_json::{Value, json};

use crate::{
    options::Options,
    pipe::Pipe,
    tools::{self, Waiting},
};

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
const MODERN: &str = "2026-07-28";

pub(crate) struct Server {
    pub(crate) options: Options,
    pub(crate) pipe: Pipe,
    /// What clients told us without wanting an answer, for the tool `seen`.
    pub(crate) seen: Vec<Value>,
    /// Calls that wait for a client's answer, by the id of our own request.
    pub(crate) asked: HashMap<String, Waiting>,
    /// The ids of the open listens.
    pub(crate) listens: Vec<Value>,
    pub(crate) minted: u64,
    /// The parameters of `initialize`.
    pub(crate) hello: Value,
    /// Memory that is kept.
    pub(crate) held: Vec<Vec<u8>>,
}

impl Server {
    pub(crate) fn new(options: Options, pipe: Pipe) -> Self {
        Self {
            options,
            pipe,
            seen: Vec::new(),
            asked: HashMap::new(),
            listens: Vec::new(),
            minted: 0,
            hello: Value::Null,
            held: Vec::new(),
        }
    }

    pub(crate) fn run(&mut self) {
        let mut input = io::BufReader::with_capacity(65_536, io::stdin().lock());
        let mut line = Vec::new();
        loop {
            line.clear();
            match input.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => (),
            }
            if let Ok(message) = serde_json::from_slice::<Value>(&line) {
                self.receive(&message);
            }
            // One write for all that came in one read.
            if input.buffer().is_empty() {
                self.pipe.flush();
            }
        }
        self.pipe.flush();
    }

    fn receive(&mut self, message: &Value) {
        if self.options.mute {
            return;
        }
        let params = &message["params"];
        match (message["method"].as_str(), message.get("id")) {
            (Some(method), Some(id)) => self.request(method, id, params),
            (Some(method), None) => self.notification(method, params, message),
            (None, _) => tools::answered(self, message),
        }
    }

    fn request(&mut self, method: &str, id: &Value, params: &Value) {
        let modern = !params["_meta"]["io.modelcontextprotocol/protocolVersion"].is_null();
        match method {
            "initialize" => self.initialize(id, params),
            "server/discover" => self.discover(id, params),
            _ if modern && self.options.era == "legacy" => {
                self.fail(id, -32600, "not initialized");
            }
            "ping" if !modern => self.pipe.send(&json!({"jsonrpc": "2.0", "id": id, "result": {}})),
            "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" if !modern => {
                self.result(id, json!({}));
            }
            "tools/list" => match self.options.tools_as().as_str() {
                "silent" => (),
                "unknown" => self.fail(id, -32601, "method not found"),
                list => match serde_json::from_str(list) {
                    Ok(Value::Array(tools)) => self.result(id, json!({"tools": tools})),
                    _ => self.result(id, tools::list()),
                },
            },
            "tools/call" => tools::call(self, id, params),
            "subscriptions/listen" if modern => self.listen(id, params),
            "tasks/result" => tools::task_result(self, id, params),
            _ => self.fail(id, -32601, "method not found"),
        }
    }

    fn initialize(&mut self, id: &Value, params: &Value) {
        self.hello.clone_from(params);
        match self.options.initialize.as_str() {
            "silent" => return,
            "exit" => die(5),
            "error" => return self.fail(id, -32602, "no such version"),
            "log" => self.pipe.send(&json!({"jsonrpc": "2.0", "method": "notifications/message",
                "params": {"level": "info", "data": "starting"}})),
            _ => (),
        }
        if self.options.era == "modern" {
            return self.fail(id, -32601, "initialize is gone");
        }
        let wanted = params["protocolVersion"].as_str().unwrap_or_default();
        let version = match wanted {
            "2024-11-05" | "2025-03-26" | "2025-06-18" | "2025-11-25" => wanted,
            _ => "2025-11-25",
        };
        self.result(
            id,
            json!({
                "protocolVersion": version,
                "capabilities": {"tools": {"listChanged": true}, "logging": {}},
                "serverInfo": {"name": "testkit-stdio", "version": "1"},
            }),
        );
    }

    fn discover(&self, id: &Value, params: &Value) {
        match self.options.discover.as_str() {
            "silent" => return,
            "exit" => die(6),
            "unsupported" => {
                let requested = &params["_meta"]["io.modelcontextprotocol/protocolVersion"];
                return self.pipe.send(&json!({"jsonrpc": "2.0", "id": id, "error": {
                    "code": -32022, "message": "unsupported",
                    "data": {"supported": ["2025-06-18"], "requested": requested}}}));
            }
            "unknown" => return self.fail(id, -32601, "method not found"),
            _ => (),
        }
        if self.options.era == "legacy" {
            return self.fail(id, -32600, "not initialized");
        }
        self.result(
            id,
            json!({
                "supportedVersions": [MODERN],
                "capabilities": {"tools": {"listChanged": true}},
                "ttlMs": 0, "cacheScope": "private",
            }),
        );
    }

    fn listen(&mut self, id: &Value, params: &Value) {
        self.listens.push(id.clone());
        if self.options.no_ack_while.as_ref().is_some_and(|file| file.exists()) {
            return;
        }
        self.pipe.send(&json!({"jsonrpc": "2.0",
            "method": "notifications/subscriptions/acknowledged",
            "params": {"notifications": params["notifications"], "_meta": {SUBSCRIPTION: id}}}));
    }

    /// Tells every listen that the tools changed.
    pub(crate) fn touch(&self) {
        for id in &self.listens {
            self.pipe.send(&json!({"jsonrpc": "2.0",
                "method": "notifications/tools/list_changed",
                "params": {"_meta": {SUBSCRIPTION: id}}}));
        }
    }

    /// Ends every listen, in one of the two ways that the specification has.
    pub(crate) fn end_listens(&mut self, by_cancel: bool) {
        for id in self.listens.drain(..) {
            let message = if by_cancel {
                json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
                    "params": {"requestId": id}})
            } else {
                json!({"jsonrpc": "2.0", "id": id,
                    "result": {"resultType": "complete", "_meta": {SUBSCRIPTION: id}}})
            };
            self.pipe.send(&message);
        }
    }

    fn notification(&mut self, method: &str, params: &Value, message: &Value) {
        self.seen.push(message.clone());
        if method == "notifications/cancelled" {
            self.listens.retain(|id| *id != params["requestId"]);
        }
    }

    pub(crate) fn result(&self, id: &Value, result: Value) {
        self.pipe.send(&answer(id, result));
    }

    pub(crate) fn fail(&self, id: &Value, code: i64, message: &str) {
        self.pipe.send(&json!({"jsonrpc": "2.0", "id": id,
            "error": {"code": code, "message": message}}));
    }
}

/// A response that both eras accept.
pub(crate) fn answer(id: &Value, mut result: Value) -> Value {
    if let Some(members) = result.as_object_mut() {
        members.entry("resultType").or_insert_with(|| "complete".into());
    }
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

/// Ends the process in the middle of everything.
#[expect(clippy::exit, reason = "that is what is tested")]
pub(crate) fn die(code: u8) -> ! {
    std::process::exit(i32::from(code))
}
