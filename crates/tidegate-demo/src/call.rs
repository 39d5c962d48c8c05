//! What a handler may do while it runs: report progress, log, ask the client for input.
//!
//! Asking is where the eras differ most. A legacy client gets a request and the handler waits; a
//! modern one gets a result that says what is missing and calls again. Handlers do not see that:
//! [`Call::gather`] either has the answers or fails with [`Failure::Input`], and a modern retry
//! runs the handler from its start with the answers at hand.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json, value::RawValue};
use tokio::time::timeout;

use crate::{
    json::{Object, Payload},
    legacy::Session,
    message::{self, Id, RpcError},
    modern::Envelope,
    question::{Answers, ClientCapabilities, Question},
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
        let text = |key: &str| params.get::<String>(key).ok().flatten();
        let name = text("name").or_else(|| text("uri")).unwrap_or_default();
        let label = format!("{method} {name}");
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
        // A token is a string or an integer, as an id is.
        let progress_token = meta.raw("progressToken").filter(|token| Id::parse(token).is_some());
        let progress_token = progress_token.map(ToOwned::to_owned);
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
                    answers.insert(key, self.request(session, &question).await?);
                }
                Ok(answers)
            }
        }
    }

    fn require(&self, question: &Question) -> Result<(), Failure> {
        if self.capabilities().allow(question) {
            return Ok(());
        }
        let message =
            format!("the client did not declare that it can be asked {}", question.method());
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
                Ok(Some(answer)) if question.is_answered_by(&answer) => {
                    answers.insert(key, answer);
                }
                _ => {
                    let params = question.params(self.version());
                    let request = json!({ "method": question.method(), "params": params });
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
        let request = message::request(pending.id(), question.method(), &params);
        self.sink.put(Item::Message(request)).await;
        match timeout(ANSWER_LIMIT, answer).await {
            Ok(Ok(Ok(answer))) => serde_json::from_str(answer.get())
                .map_err(|_| Failure::Tool("the client's answer is no object".to_owned())),
            Ok(Ok(Err(error))) => {
                Err(Failure::Tool(format!("the client refused {}: {error}", question.method())))
            }
            Ok(Err(_)) => Err(Failure::Tool("the client is gone".to_owned())),
            Err(_) => Err(Failure::Tool("the client did not answer in time".to_owned())),
        }
    }
}
