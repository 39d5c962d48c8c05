//! An upstream over the scripted server, clients of both eras, and the proof that nothing is left.

use std::{collections::BTreeMap, ffi::OsString, future::Future, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use http::HeaderMap;
use serde_json::{Value, json};
use tidegate_process::Spawner;
use tidegate_protocol::{Envelope, Era};
use tidegate_service::{
    Body, Call, Cx, Error, EventStream, Frame, Operation, Reply, Session, Tasks, Timeouts,
    slow::SlowClients,
};
use tidegate_testkit::{procs, stdio_bin};
use tidegate_upstream_stdio::{Params, StdioUpstream};
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt as _;

/// Longer than anything takes, shorter than anybody waits.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Rig {
    pub(crate) upstream: StdioUpstream,
    pub(crate) spawner: Spawner,
    pub(crate) tasks: Tasks,
}

/// A client of one session, or of none where it is a modern one.
#[derive(Clone)]
pub(crate) struct Client {
    upstream: StdioUpstream,
    era: Era,
    pub(crate) session: Option<Session>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) headers: HeaderMap,
    pub(crate) slow: Option<Arc<SlowClients>>,
}

pub(crate) fn params(arguments: &[&str]) -> Params {
    let mut command = vec![OsString::from(stdio_bin())];
    command.extend(arguments.iter().map(OsString::from));
    // The scripts of the server need to find `sleep` and `setsid`.
    let path = std::env::var_os("PATH").unwrap_or_default();
    Params {
        env: BTreeMap::from([("PATH".into(), path)]),
        start_timeout: Duration::from_secs(10),
        stop_grace: Duration::from_millis(500),
        max_line: 4 << 20,
        timeouts: silence(Duration::from_secs(60)),
        ..Params::new("scripted", command)
    }
}

/// Requests may be silent for this long, before and after their first message.
pub(crate) fn silence(limit: Duration) -> Timeouts {
    Timeouts { request: Some(limit), idle: Some(limit), ..Timeouts::default() }
}

impl Rig {
    pub(crate) fn new(arguments: &[&str]) -> Self {
        Self::with(params(arguments))
    }

    pub(crate) fn with(params: Params) -> Self {
        let tasks = Tasks::default();
        let spawner = Spawner::new();
        let upstream = StdioUpstream::new(params, spawner.clone(), tasks.clone());
        Self { upstream, spawner, tasks }
    }

    /// A legacy client that has not said anything.
    pub(crate) fn stranger(&self) -> Client {
        Client {
            upstream: self.upstream.clone(),
            era: Era::Legacy,
            session: Some(Session::new("a-session-of-a-test")),
            deadline: None,
            headers: HeaderMap::new(),
            slow: None,
        }
    }

    /// A legacy client that is ready to go.
    pub(crate) async fn client(&self) -> Client {
        self.client_of(None).await
    }

    /// The same on a route.
    pub(crate) async fn client_of(&self, slow: Option<Arc<SlowClients>>) -> Client {
        let client = Client { slow, ..self.stranger() };
        let answer = client.ask(&initialize()).await;
        assert_eq!(answer["result"]["protocolVersion"], "2025-11-25", "{answer}");
        client.tell(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        client
    }

    /// A legacy client that can do what these capabilities say, and is ready to go.
    pub(crate) async fn able(&self, capabilities: Value) -> Client {
        let client = self.stranger();
        let mut hello = initialize();
        hello["params"]["capabilities"] = capabilities;
        let answer = client.ask(&hello).await;
        assert!(answer["error"].is_null(), "{answer}");
        client.tell(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        client
    }

    pub(crate) fn modern(&self) -> Client {
        Client { session: None, era: Era::Modern, ..self.stranger() }
    }

    /// Stops everything and asserts that nothing is left.
    pub(crate) async fn end(self) {
        within(self.upstream.stop()).await;
        let stats = self.upstream.stats();
        assert_eq!((stats.running, stats.in_flight), (0, 0), "{stats:?}");
        within(self.tasks.stop()).await;
        assert_eq!(self.tasks.alive(), 0);
        within(self.spawner.settled()).await;
        assert_eq!(self.spawner.stats().running, 0);
    }
}

impl Client {
    /// The same client on a route.
    pub(crate) fn on(mut self, slow: &Arc<SlowClients>) -> Self {
        self.slow = Some(Arc::clone(slow));
        self
    }

    pub(crate) async fn reply(&self, message: &Value) -> Result<Reply, Error> {
        self.send(message.to_string()).await
    }

    pub(crate) async fn send(&self, message: String) -> Result<Reply, Error> {
        let envelope = Envelope::parse(message.into()).unwrap();
        self.operate(Operation::Send(envelope)).await
    }

    /// The future of a reply, which a test may poll and drop as it likes.
    pub(crate) fn operate(
        &self,
        operation: Operation,
    ) -> impl Future<Output = Result<Reply, Error>> + use<> {
        let mut cx = Cx::new(self.era);
        cx.session.clone_from(&self.session);
        cx.headers.clone_from(&self.headers);
        cx.slow.clone_from(&self.slow);
        cx.deadline = self.deadline.map(|wait| Instant::now() + wait);
        self.upstream.clone().oneshot(Call { operation, cx })
    }

    /// The one answer to a message.
    pub(crate) async fn ask(&self, message: &Value) -> Value {
        let reply = within(self.reply(message)).await.unwrap();
        match reply.body {
            Body::One(answer) => value(&answer),
            body => panic!("expected one answer, not {body:?}"),
        }
    }

    pub(crate) async fn tell(&self, message: &Value) {
        let reply = within(self.reply(message)).await.unwrap();
        assert!(matches!(reply.body, Body::Empty));
        assert_eq!(reply.status, 202);
    }

    /// A tool's structured result.
    pub(crate) async fn tool(&self, name: &str, arguments: Value) -> Value {
        let answer = self.ask(&self.call(1, name, arguments)).await;
        assert!(answer["error"].is_null(), "{answer}");
        answer["result"]["structuredContent"].clone()
    }

    /// A call of a tool, with the metadata of the era.
    pub(crate) fn call(&self, id: impl Into<Value>, tool: &str, arguments: Value) -> Value {
        self.request(id, "tools/call", json!({"name": tool, "arguments": arguments}))
    }

    pub(crate) fn request(&self, id: impl Into<Value>, method: &str, mut params: Value) -> Value {
        if self.era == Era::Modern {
            let key = |name| format!("io.modelcontextprotocol/{name}");
            params["_meta"][key("protocolVersion")] = "2026-07-28".into();
            params["_meta"][key("clientCapabilities")] = json!({});
        }
        json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params})
    }

    pub(crate) async fn stream(&self, message: &Value) -> EventStream {
        stream(within(self.reply(message)).await.unwrap())
    }

    pub(crate) async fn listen(&self) -> EventStream {
        stream(within(self.operate(Operation::Listen { last_event_id: None })).await.unwrap())
    }

    pub(crate) async fn error(&self, message: &Value) -> Error {
        within(self.reply(message)).await.expect_err("the call should fail")
    }
}

pub(crate) fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": "init", "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"}}})
}

pub(crate) fn cancel(id: impl Into<Value>) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": {"requestId": id.into()}})
}

pub(crate) fn with_token(mut request: Value, token: impl Into<Value>) -> Value {
    request["params"]["_meta"]["progressToken"] = token.into();
    request
}

pub(crate) fn stream(reply: Reply) -> EventStream {
    match reply.body {
        Body::Stream(stream) => stream,
        body => panic!("expected a stream, not {body:?}"),
    }
}

pub(crate) fn value(envelope: &Envelope) -> Value {
    serde_json::from_slice(envelope.bytes()).unwrap()
}

pub(crate) fn frame(frame: Frame) -> Value {
    match frame {
        Frame::Message(message) => value(&message),
        Frame::Block(_) | Frame::Stamped { .. } => panic!("a pipe has no blocks"),
    }
}

/// The next message of a stream.
pub(crate) async fn next(stream: &mut EventStream) -> Value {
    frame(within(stream.next()).await.expect("the stream has ended").unwrap())
}

/// The rest of a stream.
pub(crate) async fn rest(stream: EventStream) -> Vec<Value> {
    within(stream.map(|item| frame(item.unwrap())).collect()).await
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(SOON, future).await.expect("this takes too long")
}

/// Waits for something that other processes do.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < until, "{what} does not happen");
        sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn gone(pid: u32) {
    eventually("the end of a process", || !procs::is_running(pid)).await;
}

pub(crate) fn pid(value: &Value) -> u32 {
    u32::try_from(value["pid"].as_u64().unwrap()).unwrap()
}
