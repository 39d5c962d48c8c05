//! A process that legacy sessions share: greeted once, by us, as a client that can do nothing.
//!
//! There is one for each protocol version that clients ask for, since the handshake settles the
//! version for the process.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tidegate_protocol::{Envelope, Era, Field, Id, Kind as MessageKind, Version, rpc};
use tidegate_service::{Error, EventStream, Kind, Origin, Reply, Retry};
use tokio::time::Instant;

use super::{greet, offer, seat::Whose, try_next};
use crate::{
    child::Child,
    demux::{Mode, Owner},
    exchange::{Caller, Exchange, Patience},
    host::Host,
    listen::listen,
    single::{Found, Greeted, Greeting, Single},
    spares::Spares,
};

/// The common processes of one upstream.
#[derive(Debug)]
pub(crate) struct Commons {
    spares: Arc<Spares>,
    by_version: Mutex<HashMap<Version, Arc<Common>>>,
}

/// The common process for one version.
#[derive(Debug)]
pub(crate) struct Common(Arc<Single<Hello>>);

/// The handshake of the proxy itself.
#[derive(Debug)]
pub(crate) struct Hello {
    version: Version,
    start_timeout: Duration,
}

/// No process can be unfit: a server that refuses the handshake has failed.
#[derive(Clone, Debug)]
pub(crate) enum Never {}

impl Commons {
    pub(crate) fn new(spares: Arc<Spares>) -> Self {
        Self { spares, by_version: Mutex::default() }
    }

    /// Answers a client's handshake with what the common process said to ours.
    pub(crate) async fn greet(
        &self,
        request: &Envelope,
        client_id: &Id,
        patience: Patience,
    ) -> Result<(Arc<Common>, Envelope), Error> {
        let common = self.of(request);
        let until = patience.until(Instant::now());
        let (_, answer) = common.find(until).await?;
        Ok((common, answer.edit(&[(Field::Id, client_id.token())])))
    }

    /// Forgets processes that are gone.
    pub(crate) fn tidy(&self) {
        for common in self.by_version.lock().values() {
            common.0.tidy();
        }
    }

    fn of(&self, request: &Envelope) -> Arc<Common> {
        let wanted = request.param_version().and_then(|version| Version::parse(&version));
        // A client that asks for something else is offered the latest there is.
        let wanted = wanted.filter(|version| version.era() == Era::Legacy);
        let version = wanted.unwrap_or(Version::LATEST_LEGACY);
        let mut by_version = self.by_version.lock();
        let common = by_version.entry(version).or_insert_with(|| {
            let start_timeout = self.spares.host.params.start_timeout;
            let hello = Hello { version, start_timeout };
            Arc::new(Common(Arc::new(Single::new(Arc::clone(&self.spares), hello))))
        });
        Arc::clone(common)
    }
}

impl Common {
    /// Sends one message of a session.
    pub(crate) async fn send(
        &self,
        whose: &Whose,
        message: Envelope,
        patience: Patience,
    ) -> Result<Reply, Error> {
        match message.kind() {
            MessageKind::Request => self.call(whose, message, patience).await,
            // What a client may notify a server of concerns a process that knows the client.
            MessageKind::Notification => Ok(Reply::accepted()),
            // The process was told that nobody answers, and nobody was asked.
            MessageKind::Response | MessageKind::Error => {
                self.host().counters.stray_client_answers.increment();
                Ok(Reply::accepted())
            }
        }
    }

    /// Whether the process is there, as far as is known.
    pub(crate) fn is_up(&self) -> bool {
        self.0.is_up()
    }

    /// Opens a stream of what concerns every session.
    pub(crate) async fn listen(
        &self,
        whose: &Whose,
        patience: Patience,
    ) -> Result<EventStream, Error> {
        let (child, _) = self.find(patience.until(Instant::now())).await?;
        Ok(listen(child, whose.owner, whose.slow.clone()))
    }

    /// A session is over.
    pub(crate) fn forget(&self, owner: Owner) {
        let now = Instant::now();
        for child in self.host().children() {
            child.change(|state, fx| state.demux.forget(owner, now, fx));
        }
    }

    /// Ends the streams of a session that has a process of its own now.
    pub(crate) fn part_with(&self, owner: Owner) {
        for child in self.host().children() {
            child.change(|state, fx| state.demux.close_listeners_of(owner, fx));
        }
    }

    async fn call(
        &self,
        whose: &Whose,
        request: Envelope,
        patience: Patience,
    ) -> Result<Reply, Error> {
        let Some(client_id) = request.id() else { return Ok(Reply::accepted()) };
        let method = request.method();
        if offer::withholds(method.as_deref().unwrap_or_default()) {
            return Ok(withheld(&client_id));
        }
        drop(method);
        let until = patience.until(Instant::now());
        let Whose { owner, slow } = whose.clone();
        let caller = Caller { id: client_id, owner, era: Era::Legacy, counts: true, slow };
        loop {
            let (child, _) = self.find(until).await?;
            match Exchange::start(child, &request, caller.clone(), patience).await {
                Ok(exchange) => {
                    // From here on the message is with the process.
                    drop(request);
                    return exchange.reply().await;
                }
                Err(refused) => try_next(refused, self.host())?,
            }
        }
    }

    /// The client of a session takes a call back. It may be with a process that takes no others any
    /// more.
    pub(crate) fn cancel(&self, owner: Owner, note: &Envelope) {
        for child in self.host().children() {
            child.cancel(owner, note);
        }
    }

    async fn find(&self, until: Instant) -> Result<(Arc<Child>, Envelope), Error> {
        match self.0.find(until).await? {
            Found::Ready(child, answer) => Ok((child, answer)),
            Found::Unfit(never) => match never {},
        }
    }

    fn host(&self) -> &Host {
        self.0.host()
    }
}

impl Greeting for Hello {
    /// The answer to the handshake, as sessions are to see it.
    type Facts = Envelope;
    type Unfit = Never;
    const MODE: Mode = Mode::Common;

    async fn greet(&self, child: &Arc<Child>) -> Greeted<Envelope, Never> {
        let Some(request) = self.request() else {
            return Greeted::Failed(refused(child, "the handshake cannot be written"));
        };
        let answer = match greet(child, &request, Id::from_u64(0), self.start_timeout).await {
            Ok(answer) => answer,
            Err(error) => return Greeted::Failed(error),
        };
        if answer.kind() != MessageKind::Response {
            return Greeted::Failed(refused(child, "the server refused the handshake"));
        }
        let note = rpc::notification("notifications/initialized", "{}");
        child.change(|_, fx| fx.lines.push(note));
        let offered = answer.result().and_then(offer::shared);
        let offered = offered.map(|result| rpc::result(&Id::from_u64(0), &result));
        let edited = offered.and_then(|bytes| Envelope::parse(bytes).ok());
        Greeted::Ready(edited.unwrap_or(answer))
    }
}

impl Hello {
    fn request(&self) -> Option<Envelope> {
        let params = format!(
            concat!(
                r#"{{"protocolVersion":"{}","capabilities":{{}},"#,
                r#""clientInfo":{{"name":"tidegate","version":"{}"}}}}"#
            ),
            self.version,
            env!("CARGO_PKG_VERSION")
        );
        Envelope::parse(rpc::request(&Id::from_u64(0), "initialize", &params)).ok()
    }
}

fn refused(child: &Child, message: &'static str) -> Error {
    Error::new(Kind::Protocol, Origin::Upstream, Retry::NotSent, message).at(&child.params.name)
}

fn withheld(id: &Id) -> Reply {
    let message = "not offered, because sessions share this server; \
                   it needs `sharing: session` in the proxy's configuration";
    let body = rpc::error(Some(id), rpc::code::METHOD_NOT_FOUND, message, None);
    Envelope::parse(body).map_or_else(|_| Reply::accepted(), Reply::one)
}
