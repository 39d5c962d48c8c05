//! A session's own process: everything in it is for this one client.

use std::{borrow::Cow, sync::Arc, time::Duration};

use tidegate_protocol::{Envelope, Id, Kind as MessageKind, rpc};
use tidegate_service::{Error, Kind, Origin, Reply, Retry, Session, slow::SlowClients};
use tokio::time::Instant;
use tracing::warn;

use super::explain;
use crate::{
    child::{Child, Lease, Stage, State},
    demux::Mode,
    exchange::{Caller, Exchange, Patience, Received},
    spares::{Spares, Taken},
};

/// The use of a process by one session.
#[derive(Clone, Debug)]
pub(crate) struct Process(Arc<Lease>);

impl Process {
    /// A process for a session that says hello: a spare with its answer, or one that is yet to be
    /// greeted.
    ///
    /// # Cancel safety
    /// A process that was found is given up again.
    pub(crate) async fn find(
        spares: &Arc<Spares>,
        request: &Envelope,
        patience: Patience,
    ) -> Result<(Self, Option<Envelope>), Error> {
        let (lease, answer) = match spares.take(request) {
            Some(Taken { lease, answer }) => (lease, answer),
            None => {
                let until = patience.until(Instant::now());
                let ready = spares.host.ready(until).await?;
                let start = spares.place(ready, patience.deadline).await?;
                (start.spawn(Mode::Session, patience.deadline).await?, None)
            }
        };
        if answer.is_some() {
            lease.child().enter(Stage::Serving);
        }
        Ok((Self(Arc::new(lease)), answer))
    }

    /// A process for a session whose client has said hello long ago.
    pub(crate) async fn introduce(
        spares: &Arc<Spares>,
        handshake: &Envelope,
        (session, slow): (&Session, &Option<Arc<SlowClients>>),
        patience: Patience,
    ) -> Result<Self, Error> {
        let start_timeout = spares.host.params.start_timeout;
        let patience = Patience::with_silence(start_timeout, patience.deadline);
        let (process, answer) = Self::find(spares, handshake, patience).await?;
        if answer.is_none() {
            let answer = process.greet(handshake, Id::from_u64(0), patience).await?;
            if answer.kind() != MessageKind::Response {
                let message = "the server refused the handshake in a process of its own";
                let error = Error::new(Kind::Protocol, Origin::Upstream, Retry::NotSent, message);
                return Err(error.at(&spares.host.params.name));
            }
        }
        // Not before: a start that is given up must not end the session.
        process.serve(session, slow.clone());
        let child = process.child();
        let note = rpc::notification("notifications/initialized", "{}");
        child.change(|_, fx| fx.lines.push(note));
        Ok(process)
    }

    /// The session and the process end together from now on. `slow` is of the session's route.
    pub(crate) fn serve(&self, session: &Session, slow: Option<Arc<SlowClients>>) {
        self.child().bind(session.ended().clone(), slow);
    }

    pub(crate) fn child(&self) -> &Arc<Child> {
        self.0.child()
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.child().is_alive()
    }

    /// Greets the process with the client's handshake.
    pub(crate) async fn greet(
        &self,
        request: &Envelope,
        client_id: Id,
        patience: Patience,
    ) -> Result<Envelope, Error> {
        let answer = greet_within(self.child(), request, client_id, patience).await?;
        self.child().enter(Stage::Serving);
        Ok(answer)
    }

    /// Sends one message of the client.
    pub(crate) async fn send(&self, message: Envelope, patience: Patience) -> Result<Reply, Error> {
        let child = self.child();
        let sent = match message.kind() {
            MessageKind::Request => {
                let Some(client_id) = message.id() else { return Ok(Reply::accepted()) };
                let caller = Caller::alone(client_id);
                match Exchange::start(Arc::clone(child), &message, caller, patience).await {
                    Ok(exchange) => {
                        // From here on the message is with the process, and its buffer may be
                        // reused.
                        drop(message);
                        return exchange.reply().await;
                    }
                    Err(refused) => Err(refused),
                }
            }
            MessageKind::Notification => {
                let push = |state: &mut State| state.queue.push(message.bytes());
                child.enqueue(message.len(), patience.until(Instant::now()), push).await
            }
            MessageKind::Response | MessageKind::Error => {
                let now = Instant::now();
                let answer = |state: &mut State| {
                    if let Some(line) = state.demux.client_answers(&message, now) {
                        state.queue.push(&line);
                    }
                };
                child.enqueue(message.len(), patience.until(now), answer).await
            }
        };
        sent.map(|()| Reply::accepted()).map_err(|refused| explain(refused, &child.host))
    }
}

/// Greets a process, with a limit on its silence.
pub(crate) async fn greet(
    child: &Arc<Child>,
    request: &Envelope,
    id: Id,
    silence: Duration,
) -> Result<Envelope, Error> {
    greet_within(child, request, id, Patience::with_silence(silence, None)).await
}

async fn greet_within(
    child: &Arc<Child>,
    request: &Envelope,
    client_id: Id,
    patience: Patience,
) -> Result<Envelope, Error> {
    let greeted = answer_to(child, request, client_id, patience).await;
    match greeted {
        Ok(answer) => {
            child.answered();
            Ok(answer)
        }
        Err(error) => {
            child.blame();
            Err(unstarted(error, child))
        }
    }
}

async fn answer_to(
    child: &Arc<Child>,
    request: &Envelope,
    client_id: Id,
    patience: Patience,
) -> Result<Envelope, Error> {
    let caller = Caller::alone(client_id).uncounted();
    let started = Exchange::start(Arc::clone(child), request, caller, patience).await;
    let mut exchange = started.map_err(|_| gone())?;
    match exchange.first().await {
        Some(Ok(Received::Answer(answer) | Received::Message(answer))) => Ok(answer),
        Some(Err(error)) => Err(error),
        None => Err(gone()),
    }
}

/// The process ended before it was asked.
pub(crate) fn gone() -> Error {
    Error::new(Kind::Died, Origin::Upstream, Retry::NotSent, "the server process is gone")
}

/// A failure before the handshake was over: nothing was asked of the server yet, so that any
/// other may take the call.
pub(crate) fn unstarted(error: Error, child: &Child) -> Error {
    let upstream = &child.params.name;
    let error = match child.last_words() {
        Some(words) => error.because(LastWords(words)),
        None => error,
    };
    warn!(%upstream, pid = child.pid(), error = %error.chain(), "the server process did not start");
    let (kind, message): (Kind, Cow<'static, str>) = match error.kind {
        Kind::Timeout => (Kind::Timeout, error.message().replace("answer", "start").into()),
        Kind::Protocol => (Kind::Protocol, error.message().to_owned().into()),
        _ => (Kind::Unreachable, "the server process ended while it was starting".into()),
    };
    Error::new(kind, Origin::Upstream, Retry::NotSent, message).at(upstream).because(error)
}

/// The end of what a process said on stderr, as the cause of its failure to start. For logs only:
/// it may hold paths and secrets.
#[derive(Debug, thiserror::Error)]
#[error("its last words on stderr: {0:?}")]
struct LastWords(Arc<str>);
