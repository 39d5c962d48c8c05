//! What a handler may do while it runs: report progress, log, ask the client for input.
//!
//! Asking is where the eras differ most. A legacy client gets a request and the handler waits; a
//! modern one gets a result that says what is missing and calls again. Handlers do not see that:
//! [`Call::gather`] either has the answers or fails with [`Failure::Input`], and a modern retry
//! runs the handler from its start with the answers at hand.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json, value::RawValue};
use tokio::time::timeout;

use crate::{
    json::{Object, Payload},
    legacy::Session,
    message::{self, RpcError},
    modern::Envelope,
    server::Server,
    sink::{Item, Sink},
    version::{Level, Version},
};

/// How long a handler waits for a legacy client's answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(600);

/// Why a handler has no result.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The request fails.
    Rpc(RpcError),
    /// The tool fails: a result with `isError`.
    Tool(String),
    /// The client must answer first (2026-07-28).
    Input(Payload),
}

impl From<RpcError> for Failure {
    fn from(error: RpcError) -> Self {
        Self::Rpc(error)
    }
}

/// What a handler returns.
pub(crate) type Outcome = Result<Payload, Failure>;

/// Something to ask the client for.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    method: &'static str,
    params: Value,
}

impl Question {
    /// A form for the user to fill in.
    pub(crate) fn form(message: &str, properties: &Value, required: &[&str]) -> Self {
        let params = json!({
            "message": message,
            "requestedSchema": {
                "type": "object", "properties": properties, "required": required,
            },
        });
        Self { method: "elicitation/create", params }
    }

    /// A prompt for the client's model.
    pub(crate) fn sample(prompt: &str, max_tokens: u32) -> Self {
        let params = json!({
            "messages": [{ "role": "user", "content": { "type": "text", "text": prompt } }],
            "maxTokens": max_tokens,
        });
        Self { method: "sampling/createMessage", params }
    }

    /// The client's roots.
    pub(crate) fn roots() -> Self {
        Self { method: "roots/list", params: json!({}) }
    }

    /// The client capability it needs.
    fn capability(&self) -> Value {
        match self.method {
            "elicitation/create" => json!({ "elicitation": { "form": {} } }),
            "sampling/createMessage" => json!({ "sampling": {} }),
            _ => json!({ "roots": {} }),
        }
    }

    /// The params as `version` has them: forms have a mode since 2025-11-25.
    fn params(&self, version: Version) -> Value {
        let mut params = self.params.clone();
        if self.method == "elicitation/create"
            && version >= Version::V2025_11_25
            && let Some(map) = params.as_object_mut()
        {
            map.insert("mode".to_owned(), json!("form"));
        }
        params
    }
}

/// What a client declared that it can be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientCapabilities {
    pub(crate) form: bool,
    pub(crate) sampling: bool,
    pub(crate) roots: bool,
}

impl ClientCapabilities {
    /// Reads the object that a client sent. `elicitation: {}` means forms.
    pub(crate) fn parse(value: &Value) -> Self {
        let form = value.get("elicitation").and_then(Value::as_object);
        Self {
            form: form.is_some_and(|map| map.contains_key("form") || !map.contains_key("url")),
            sampling: value.get("sampling").is_some_and(Value::is_object),
            roots: value.get("roots").is_some_and(Value::is_object),
        }
    }

    /// Whether this question may be asked.
    pub(crate) fn allow(self, question: &Question) -> bool {
        match question.method {
            "elicitation/create" => self.form,
            "sampling/createMessage" => self.sampling,
            _ => self.roots,
        }
    }
}

/// The client's answers, by key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers(BTreeMap<&'static str, Object>);

impl Answers {
    /// The answer object.
    pub(crate) fn of(&self, key: &str) -> Object {
        self.0.get(key).cloned().unwrap_or_default()
    }

    /// The `action` of a filled form: accept, decline or cancel.
    pub(crate) fn action(&self, key: &str) -> String {
        self.of(key).get("action").ok().flatten().unwrap_or_default()
    }

    /// The content of a filled form, as it was sent.
    pub(crate) fn content(&self, key: &str) -> String {
        self.of(key).raw("content").map_or("{}", RawValue::get).to_owned()
    }

    /// One string of a filled form.
    pub(crate) fn field(&self, key: &str, field: &str) -> Option<String> {
        self.of(key).get::<Object>("content").ok()??.get(field).ok()?
    }

    /// The text that a model gave.
    pub(crate) fn sampled(&self, key: &str) -> String {
        let content: Option<Object> = self.of(key).get("content").ok().flatten();
        let text = content.and_then(|content| content.get("text").ok().flatten());
        text.unwrap_or_else(|| "no text".to_owned())
    }

    /// How many roots the client listed.
    pub(crate) fn root_count(&self, key: &str) -> usize {
        self.of(key).get::<Vec<Value>>("roots").ok().flatten().map_or(0, |roots| roots.len())
    }
}

/// Whose call it is.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    Legacy(Arc<Session>),
    Modern(Envelope),
}

/// One running request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) server: Arc<Server>,
    pub(crate) peer: Peer,
    pub(crate) sink: Sink,
    /// Method and name, which bind a request state to what it is for.
    pub(crate) label: String,
    progress_token: Option<Box<RawValue>>,
    input_responses: Object,
    state: Object,
}

impl Call {
    /// Prepares a request to be handled.
    ///
    /// # Errors
    ///
    /// Invalid params, if the client's answers are no object or the state is not ours.
    pub(crate) fn new(
        server: Arc<Server>,
        peer: Peer,
        sink: Sink,
        method: &str,
        params: &Object,
    ) -> Result<Self, RpcError> {
        let meta: Object = params.get("_meta")?.unwrap_or_default();
        let name = params.get("name").ok().flatten().or_else(|| params.get("uri").ok().flatten());
        let label = format!("{method} {}", name.unwrap_or_else(String::new));
        let (mut input_responses, mut state) = (Object::default(), Object::default());
        if matches!(peer, Peer::Modern(_)) {
            if params.raw("inputResponses").is_some() {
                input_responses = params.need("inputResponses")?;
            }
            if let Some(sealed) = params.get::<String>("requestState")? {
                state = server
                    .seal
                    .open(&label, &sealed)
                    .and_then(|open| serde_json::from_str(&open).ok())
                    .ok_or_else(|| RpcError::invalid_params("`requestState` is not ours"))?;
            }
        }
        let progress_token = meta.raw("progressToken").map(ToOwned::to_owned);
        Ok(Self { server, peer, sink, label, progress_token, input_responses, state })
    }

    /// The revision that the client speaks.
    pub(crate) fn version(&self) -> Version {
        match &self.peer {
            Peer::Legacy(session) => session.version(),
            Peer::Modern(_) => Version::V2026_07_28,
        }
    }

    /// What the client declared.
    pub(crate) fn capabilities(&self) -> ClientCapabilities {
        match &self.peer {
            Peer::Legacy(session) => session.capabilities(),
            Peer::Modern(envelope) => envelope.capabilities,
        }
    }

    /// One string of the state that the client brought back.
    pub(crate) fn state(&self, key: &str) -> Option<String> {
        self.state.get(key).ok().flatten()
    }

    /// Says that this will take a while.
    pub(crate) async fn open(&self) {
        self.sink.put(Item::Open).await;
    }

    /// Drops the connection and goes on, where the client can come back for the answer.
    pub(crate) async fn hang_up(&self) {
        self.sink.put(Item::Open).await;
        self.sink.put(Item::Break).await;
    }

    /// Reports progress, if the client asked for it. `done` must grow from report to report.
    pub(crate) async fn progress(&self, done: u64, total: u64, text: &str) {
        let Some(token) = &self.progress_token else { return };
        let mut params = Payload::default()
            .with_raw("progressToken", token.clone())
            .with("progress", &done)
            .with("total", &total);
        if self.version() >= Version::V2025_03_26 {
            params = params.with("message", &text);
        }
        self.notify("notifications/progress", &params).await;
    }

    /// Logs, if the client wants messages of this level.
    pub(crate) async fn log(&self, level: Level, text: &str) {
        let wanted = match &self.peer {
            Peer::Legacy(session) => Some(session.level()),
            Peer::Modern(envelope) => envelope.log_level,
        };
        if wanted.is_none_or(|least| level < least) {
            return;
        }
        let params = Payload::default()
            .with("level", &level.name())
            .with("logger", &"tidegate-demo")
            .with("data", &text);
        self.notify("notifications/message", &params).await;
    }

    async fn notify(&self, method: &str, params: &Payload) {
        self.sink.put(Item::Message(message::notification(method, params))).await;
    }

    /// Asks the client. `state` is what a modern client carries to its next try.
    ///
    /// # Errors
    ///
    /// That the client cannot be asked this; that it refused; or, for a modern client, what it
    /// has to answer before it calls again.
    pub(crate) async fn gather(
        &self,
        questions: Vec<(&'static str, Question)>,
        state: Option<Value>,
    ) -> Result<Answers, Failure> {
        for (_, question) in &questions {
            self.require(question)?;
        }
        match &self.peer {
            Peer::Modern(_) => self.look_up(&questions, state),
            Peer::Legacy(session) => {
                let mut answers = Answers::default();
                for (key, question) in questions {
                    answers.0.insert(key, self.request(session, &question).await?);
                }
                Ok(answers)
            }
        }
    }

    fn require(&self, question: &Question) -> Result<(), Failure> {
        if self.capabilities().allow(question) {
            return Ok(());
        }
        let message = format!("the client did not declare that it can be asked {}", question.method);
        Err(match self.peer {
            Peer::Legacy(_) => Failure::Tool(message),
            Peer::Modern(_) => Failure::Rpc(
                RpcError::new(RpcError::MISSING_CAPABILITY, message)
                    .with_data(json!({ "requiredCapabilities": question.capability() })),
            ),
        })
    }

    /// Finds the answers in a modern retry. A wrong or missing one is asked for again.
    fn look_up(
        &self,
        questions: &[(&'static str, Question)],
        state: Option<Value>,
    ) -> Result<Answers, Failure> {
        let mut answers = Answers::default();
        let mut missing = serde_json::Map::new();
        for (key, question) in questions {
            match self.input_responses.get::<Object>(key) {
                Ok(Some(answer)) if is_answer(question, &answer) => {
                    answers.0.insert(key, answer);
                }
                _ => {
                    let params = question.params(self.version());
                    let request = json!({ "method": question.method, "params": params });
                    missing.insert((*key).to_owned(), request);
                }
            }
        }
        if missing.is_empty() {
            return Ok(answers);
        }
        let state = state.map(|state| self.server.seal.close(&self.label, &state.to_string()));
        Err(Failure::Input(
            Payload::default()
                .with("resultType", &"input_required")
                .with("inputRequests", &missing)
                .with_some("requestState", state.as_ref()),
        ))
    }

    /// Asks a legacy client and waits.
    async fn request(&self, session: &Session, question: &Question) -> Result<Object, Failure> {
        let (pending, answer) = session.ask(self.sink.clone());
        let params = question.params(session.version());
        let request = message::request(pending.id(), question.method, &params);
        self.sink.put(Item::Message(request)).await;
        match timeout(ANSWER_LIMIT, answer).await {
            Ok(Ok(Ok(answer))) => serde_json::from_str(answer.get())
                .map_err(|_| Failure::Tool("the client's answer is no object".to_owned())),
            Ok(Ok(Err(error))) => {
                Err(Failure::Tool(format!("the client refused {}: {error}", question.method)))
            }
            Ok(Err(_)) => Err(Failure::Tool("the client is gone".to_owned())),
            Err(_) => Err(Failure::Tool("the client did not answer in time".to_owned())),
        }
    }
}

/// Whether an answer has the form that its question asks for.
fn is_answer(question: &Question, answer: &Object) -> bool {
    let has = |key: &str| answer.raw(key).is_some();
    match question.method {
        "elicitation/create" => matches!(
            answer.get::<String>("action").ok().flatten().as_deref(),
            Some("accept" | "decline" | "cancel")
        ),
        "sampling/createMessage" => has("role") && has("content"),
        _ => matches!(answer.get::<Vec<Value>>("roots"), Ok(Some(_))),
    }
}
