//! A client at the other end of a pipe. Sends text, so that a test decides each byte.

use std::{fmt::Display, io};

use serde_json::{Value, json};
use tidegate_demo::{Options, serve_stdio};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines, ReadHalf,
        WriteHalf, duplex, split,
    },
    task::JoinSet,
};

/// A client and its server.
pub(crate) struct Pipe {
    server: JoinSet<io::Result<()>>,
    to: WriteHalf<DuplexStream>,
    from: Lines<BufReader<ReadHalf<DuplexStream>>>,
}

impl Pipe {
    pub(crate) fn open(options: Options) -> Self {
        let (ours, theirs) = duplex(1 << 16);
        let (stdin, stdout) = split(theirs);
        let (from, to) = split(ours);
        let mut server = JoinSet::new();
        server.spawn(serve_stdio(options, stdin, stdout));
        Self { server, to, from: BufReader::new(from).lines() }
    }

    /// Opens a pipe and shakes hands.
    pub(crate) async fn legacy(version: &str, capabilities: Value) -> Self {
        let mut pipe = Self::open(Options::default());
        pipe.send(initialize(version, &capabilities)).await;
        let answer = pipe.receive().await;
        assert_eq!(answer["result"]["protocolVersion"], version);
        pipe.send(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        pipe
    }

    pub(crate) async fn send(&mut self, line: impl Display) {
        self.to.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// The next line as it came.
    pub(crate) async fn line(&mut self) -> String {
        self.from.next_line().await.unwrap().expect("the server closed the pipe")
    }

    pub(crate) async fn receive(&mut self) -> Value {
        let line = self.line().await;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Closes our end; what the server still said, and how it ended.
    pub(crate) async fn close(mut self) -> Vec<String> {
        self.to.shutdown().await.unwrap();
        let mut rest = Vec::new();
        while let Some(line) = self.from.next_line().await.unwrap() {
            rest.push(line);
        }
        self.server.join_next().await.unwrap().unwrap().unwrap();
        rest
    }
}

pub(crate) fn initialize(version: &str, capabilities: &Value) -> Value {
    json!({
        "jsonrpc": "2.0", "id": "init", "method": "initialize",
        "params": {
            "protocolVersion": version,
            "capabilities": capabilities,
            "clientInfo": { "name": "test", "version": "0" },
        },
    })
}

/// A legacy tool call. `id` is JSON text.
pub(crate) fn call(id: &str, tool: &str, arguments: &Value) -> String {
    let params = json!({ "name": tool, "arguments": arguments });
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#)
}

/// The envelope of a modern request.
pub(crate) fn envelope(capabilities: &Value) -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "0" },
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    })
}

/// A modern request. `id` is JSON text; the envelope is added to `params`.
pub(crate) fn modern(id: &str, method: &str, mut params: Value, capabilities: &Value) -> String {
    let mut meta = envelope(capabilities);
    if let Some(given) = params["_meta"].as_object() {
        meta.as_object_mut().unwrap().extend(given.clone());
    }
    params["_meta"] = meta;
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

/// The text of a tool result.
pub(crate) fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {answer}"))
}
