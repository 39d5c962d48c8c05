//! A request of 2026-07-28: everything it needs is in its own `_meta`.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    call::{Call, Failure, Outcome, Peer},
    hub::Change,
    json::{Object, Payload},
    message::{self, Id, Request, RpcError},
    methods,
    question::ClientCapabilities,
    server::Server,
    sink::{Item, Sink},
    version::{Level, Version},
};

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// How many changes one listener may lag behind before its stream is ended.
const LISTEN_BACKLOG: usize = 256;

/// What a request says about its client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope {
    pub(crate) capabilities: ClientCapabilities,
    /// The mildest level to log at; none means no logs.
    pub(crate) log_level: Option<Level>,
}

/// The version that a message names in its `_meta`, which makes it a modern one.
///
/// # Errors
///
/// Invalid params, if it is not a string.
pub(crate) fn named_version(params: &Object) -> Result<Option<String>, RpcError> {
    match params.get::<Object>("_meta") {
        Ok(Some(meta)) => meta.get(VERSION),
        _ => Ok(None),
    }
}

impl Envelope {
    /// Reads a modern request's envelope.
    ///
    /// # Errors
    ///
    /// Invalid params for what is missing or malformed, or that the version is not served.
    pub(crate) fn parse(params: &Object) -> Result<Self, RpcError> {
        let meta: Object = params.need("_meta")?;
        let version: String = meta.need(VERSION)?;
        if version != Version::V2026_07_28.name() {
            return Err(RpcError::unsupported_version(&version));
        }
        let capabilities: Value = meta.need(CAPABILITIES)?;
        if !capabilities.is_object() {
            return Err(RpcError::invalid_params(format!("`{CAPABILITIES}` must be an object")));
        }
        let log_level = match meta.get::<String>(LOG_LEVEL)? {
            None => None,
            Some(name) => Some(
                Level::parse(&name)
                    .ok_or_else(|| RpcError::invalid_params(format!("no level `{name}`")))?,
            ),
        };
        Ok(Self { capabilities: ClientCapabilities::parse(&capabilities), log_level })
    }
}

/// Whether a modern request of that method can be answered.
pub(crate) fn is_method(method: &str) -> bool {
    matches!(method, "server/discover" | "subscriptions/listen") || methods::is_shared(method)
}

/// An answer, and the code of its error for whoever has to choose a status.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) bytes: Bytes,
    pub(crate) code: Option<i64>,
}

impl Answered {
    /// The answer that refuses a request.
    pub(crate) fn refused(id: Option<&Id>, error: &RpcError) -> Self {
        Self { bytes: message::error(id, error), code: Some(error.code) }
    }
}

/// Runs a request to its answer.
pub(crate) async fn run(
    server: Arc<Server>,
    request: Request,
    envelope: Envelope,
    sink: Sink,
) -> Answered {
    let Request { id, method, params } = request;
    let outcome = match method.as_str() {
        "server/discover" => Ok(discover(&server)),
        "subscriptions/listen" => listen(&server, &id, &params, &sink).await,
        method if methods::is_shared(method) => {
            match Call::new(server, Peer::Modern(envelope), sink, method, &params) {
                Ok(call) => methods::answer(call, method, &params).await,
                Err(error) => Err(error.into()),
            }
        }
        method => Err(RpcError::method_not_found(method).into()),
    };
    match outcome {
        Ok(result) | Err(Failure::Input(result)) => {
            Answered { bytes: message::response(&id, &finish(result)), code: None }
        }
        Err(Failure::Rpc(error)) => Answered::refused(Some(&id), &error),
        Err(Failure::Tool(message)) => {
            Answered::refused(Some(&id), &RpcError::new(RpcError::INTERNAL, message))
        }
    }
}

/// Adds what every modern result carries.
fn finish(result: Payload) -> Payload {
    let typed =
        if result.has("resultType") { result } else { result.with("resultType", &"complete") };
    if typed.has("_meta") {
        return typed;
    }
    typed.with("_meta", &json!({ SERVER_INFO: Server::info() }))
}

fn discover(server: &Server) -> Payload {
    Payload::default()
        .with("supportedVersions", &Version::ALL.map(Version::name))
        .with("capabilities", &server.capabilities(Version::V2026_07_28))
        .with("instructions", &Server::INSTRUCTIONS)
        .with("ttlMs", &60_000)
        .with("cacheScope", &"public")
}

/// What one listener hears.
#[derive(Clone, Debug, Default)]
struct Filter {
    tools: bool,
    prompts: bool,
    uris: HashSet<&'static str>,
}

impl Filter {
    /// The part of a requested filter that this server honours.
    fn parse(server: &Server, params: &Object) -> Result<Self, RpcError> {
        let wanted: Object = params.need("notifications")?;
        let changing = server.options.conformance;
        let uris: Vec<String> = wanted.get("resourceSubscriptions")?.unwrap_or_default();
        Ok(Self {
            tools: changing && wanted.get("toolsListChanged")?.unwrap_or(false),
            prompts: changing && wanted.get("promptsListChanged")?.unwrap_or(false),
            uris: uris
                .iter()
                .filter_map(|uri| server.catalogue.resource(uri))
                .map(|resource| resource.uri)
                .collect(),
        })
    }

    fn wants(&self, change: &Change) -> bool {
        match change {
            Change::Tools => self.tools,
            Change::Prompts => self.prompts,
            Change::Resource(uri) => self.uris.contains(uri),
        }
    }

    /// As the acknowledgement tells it.
    fn honoured(&self) -> Payload {
        let mut honoured = Payload::default();
        if self.tools {
            honoured = honoured.with("toolsListChanged", &true);
        }
        if self.prompts {
            honoured = honoured.with("promptsListChanged", &true);
        }
        if !self.uris.is_empty() {
            let mut uris: Vec<&str> = self.uris.iter().copied().collect();
            uris.sort_unstable();
            honoured = honoured.with("resourceSubscriptions", &uris);
        }
        honoured
    }
}

/// Tells a client of changes until it goes, the server stops, or it lags too far behind.
async fn listen(server: &Arc<Server>, id: &Id, params: &Object, sink: &Sink) -> Outcome {
    let filter = Filter::parse(server, params)?;
    let tag = Payload::default().with_raw(SUBSCRIPTION, id.raw().to_owned());
    let (sender, mut changes) = mpsc::channel(LISTEN_BACKLOG);
    let acknowledged =
        Payload::default().with("_meta", &tag).with("notifications", &filter.honoured());
    // Watching starts before the acknowledgement, so that nothing after it is missed.
    let sender = Mutex::new(Some(sender));
    let watching = server.hub.watch(move |change| {
        let mut slot = sender.lock().unwrap_or_else(PoisonError::into_inner);
        if filter.wants(change)
            && slot.as_ref().is_some_and(|to| to.try_send(change.clone()).is_err())
        {
            // Ended rather than thinned out: the client then knows that it must look again.
            *slot = None;
        }
    });
    let note = |method, params: &Payload| Item::Message(message::notification(method, params));
    sink.put(note("notifications/subscriptions/acknowledged", &acknowledged)).await;
    loop {
        let change: Option<Change> = tokio::select! {
            biased;
            () = server.stopped() => None,
            change = changes.recv() => change,
        };
        let Some(change) = change else { break };
        let params = Payload::default().with("_meta", &tag).with_some("uri", change.uri().as_ref());
        sink.put(note(change.method(), &params)).await;
    }
    drop(watching);
    Ok(Payload::default().with("_meta", &tag.with(SERVER_INFO, &Server::info())))
}
