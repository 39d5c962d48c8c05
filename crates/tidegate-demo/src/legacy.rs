//! A session of the legacy revisions: the handshake and everything it freezes.
//!
//! Owns what one client agreed on, subscribed to and still has to answer. On stdio there is one
//! session per process, over HTTP one per session id.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
use serde_json::{Value, json, value::RawValue};
use tokio::sync::oneshot;

use crate::{
    call::{Call, Failure, Peer},
    calls::{Calls, Ticket},
    hub::Change,
    json::{Object, Payload},
    message::{self, Answer, Id, Notification, Request, RpcError},
    methods,
    question::ClientCapabilities,
    server::Server,
    sink::{Item, Sink},
    version::{Level, Version},
};

/// What a client answered: the raw result, or the text of its error.
type Reply = Result<Box<RawValue>, String>;

/// One legacy client.
#[derive(Debug)]
pub(crate) struct Session {
    server: Arc<Server>,
    state: Mutex<State>,
    /// The requests that the client waits for.
    pub(crate) calls: Calls,
    asked: Arc<Mutex<Asked>>,
}

#[derive(Debug)]
struct State {
    /// What `initialize` agreed on; none before it.
    version: Option<Version>,
    capabilities: ClientCapabilities,
    level: Level,
    subscriptions: HashSet<String>,
}

#[derive(Debug, Default)]
struct Asked {
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<Reply>>,
}

/// What a request turned into.
#[derive(Debug)]
pub(crate) enum Begun {
    /// It is answered already.
    Answered(Bytes),
    /// It has to run.
    Running(Ticket),
}

impl Session {
    pub(crate) fn new(server: Arc<Server>) -> Arc<Self> {
        Arc::new(Self {
            server,
            state: Mutex::new(State {
                version: None,
                capabilities: ClientCapabilities::default(),
                level: Level::Info,
                subscriptions: HashSet::new(),
            }),
            calls: Calls::default(),
            asked: Arc::default(),
        })
    }

    /// The agreed revision; the newest legacy one before the handshake.
    pub(crate) fn version(&self) -> Version {
        self.state().version.unwrap_or(Version::NEWEST_LEGACY)
    }

    /// Whether the handshake is done.
    pub(crate) fn is_initialized(&self) -> bool {
        self.state().version.is_some()
    }

    pub(crate) fn capabilities(&self) -> ClientCapabilities {
        self.state().capabilities
    }

    /// The mildest level that the client wants to see.
    pub(crate) fn level(&self) -> Level {
        self.state().level
    }

    /// Takes a request. What changes the session is done here and now, in order of arrival.
    pub(crate) fn begin(&self, request: &Request) -> Begun {
        let done = match request.method.as_str() {
            "initialize" => self.initialize(&request.params),
            "ping" => Ok(Payload::default()),
            _ if !self.is_initialized() => Err(RpcError::invalid_request("initialize first")),
            "logging/setLevel" => self.set_level(&request.params),
            "resources/subscribe" => self.subscribe(&request.params),
            "resources/unsubscribe" => self.unsubscribe(&request.params),
            method if methods::is_shared(method) => match self.calls.begin(&request.id) {
                Ok(ticket) => return Begun::Running(ticket),
                Err(error) => Err(error),
            },
            method => Err(RpcError::method_not_found(method)),
        };
        Begun::Answered(match done {
            Ok(result) => message::response(&request.id, &result),
            Err(error) => message::error(Some(&request.id), &error),
        })
    }

    /// Runs a request to its answer; nothing if it was cancelled.
    pub(crate) async fn run(
        self: Arc<Self>,
        request: Request,
        ticket: Ticket,
        sink: Sink,
    ) -> Option<Bytes> {
        let Request { id, method, params } = request;
        let server = Arc::clone(&self.server);
        let work = async {
            let call = Call::new(server, Peer::Legacy(self), sink, &method, &params)?;
            methods::answer(call, &method, &params).await
        };
        let outcome = ticket.run(work).await?;
        Some(match outcome {
            Ok(result) => message::response(&id, &result),
            Err(Failure::Rpc(error)) => message::error(Some(&id), &error),
            Err(Failure::Tool(message)) => {
                message::error(Some(&id), &RpcError::new(RpcError::INTERNAL, message))
            }
            // Only a modern call asks this way.
            Err(Failure::Input(_)) => {
                message::error(Some(&id), &RpcError::new(RpcError::INTERNAL, "no input here"))
            }
        })
    }

    /// Takes a notification. One that means nothing here is ignored.
    pub(crate) fn notified(&self, notification: &Notification) {
        if notification.method == "notifications/cancelled"
            && let Some(id) = notification.params.raw("requestId").and_then(Id::parse)
        {
            self.calls.cancel(id.key());
        }
    }

    /// Takes the client's answer to a request of ours. A late or unknown one is ignored.
    pub(crate) fn answered(&self, answer: Answer) {
        let waiting = answer
            .id
            .raw()
            .get()
            .parse()
            .ok()
            .and_then(|id: u64| lock(&self.asked).waiting.remove(&id));
        if let Some(waiting) = waiting {
            // The asker may have been cancelled meanwhile.
            drop(waiting.send(answer.outcome));
        }
    }

    /// Registers a request of ours. The guard takes it back, and tells the client so.
    pub(crate) fn ask(&self, sink: Sink) -> (Asking, oneshot::Receiver<Reply>) {
        let (sender, receiver) = oneshot::channel();
        let mut asked = lock(&self.asked);
        asked.last += 1;
        let id = asked.last;
        asked.waiting.insert(id, sender);
        (Asking { id, sink, asked: Arc::downgrade(&self.asked) }, receiver)
    }

    /// The notification that tells this client of a change, if it wants it.
    pub(crate) fn notice(&self, change: &Change) -> Option<Bytes> {
        let state = self.state();
        state.version?;
        let mut params = Payload::default();
        if let Some(uri) = change.uri() {
            if !state.subscriptions.contains(uri) {
                return None;
            }
            params = params.with("uri", &uri);
        }
        Some(message::notification(change.method(), &params))
    }

    /// Gives up everything that waits for the client.
    pub(crate) fn hang_up(&self) {
        lock(&self.asked).waiting.clear();
    }

    fn initialize(&self, params: &Object) -> Result<Payload, RpcError> {
        let requested: String = params.need("protocolVersion")?;
        let capabilities: Value = params.need("capabilities")?;
        let version = Version::parse(&requested)
            .filter(|version| !version.is_modern())
            .unwrap_or(Version::NEWEST_LEGACY);
        let mut state = self.state();
        if state.version.is_some() {
            return Err(RpcError::invalid_request("initialized already"));
        }
        state.version = Some(version);
        state.capabilities = ClientCapabilities::parse(&capabilities);
        Ok(Payload::default()
            .with("protocolVersion", &version.name())
            .with("capabilities", &self.server.capabilities(version))
            .with("serverInfo", &Server::info())
            .with("instructions", &Server::INSTRUCTIONS))
    }

    fn set_level(&self, params: &Object) -> Result<Payload, RpcError> {
        let level: String = params.need("level")?;
        let level = Level::parse(&level)
            .ok_or_else(|| RpcError::invalid_params(format!("there is no level `{level}`")))?;
        self.state().level = level;
        Ok(Payload::default())
    }

    fn subscribe(&self, params: &Object) -> Result<Payload, RpcError> {
        let uri: String = params.need("uri")?;
        if self.server.catalogue.resource(&uri).is_none() {
            return Err(methods::not_found(self.version(), &uri));
        }
        self.state().subscriptions.insert(uri);
        Ok(Payload::default())
    }

    fn unsubscribe(&self, params: &Object) -> Result<Payload, RpcError> {
        let uri: String = params.need("uri")?;
        self.state().subscriptions.remove(&uri);
        Ok(Payload::default())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A request of ours that waits for the client.
#[derive(Debug)]
pub(crate) struct Asking {
    id: u64,
    sink: Sink,
    asked: Weak<Mutex<Asked>>,
}

impl Asking {
    /// The id of the request.
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let Some(asked) = self.asked.upgrade() else { return };
        // Still there: neither answered nor given up with the session.
        if lock(&asked).waiting.remove(&self.id).is_some() {
            let params = Payload::default().with("requestId", &json!(self.id));
            let cancelled = message::notification("notifications/cancelled", &params);
            self.sink.try_put(Item::Message(cancelled));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
