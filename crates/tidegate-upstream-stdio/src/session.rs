//! Legacy calls: one process per session.
//!
//! The process is bound to the session as a [`Lease`] and ends with it, whichever ends first.

use std::sync::Arc;

use http::StatusCode;
use tidegate_protocol::{Envelope, Era, Kind as MessageKind};
use tidegate_service::{Body, Cx, Error, Kind, Operation, Origin, Reply, Retry, Session};
use tokio::time::Instant;
use tracing::warn;

use crate::{
    child::{Child, Host, Refused},
    demux::Mode,
    exchange::{Exchange, Patience, Received, waited},
    listen::listen,
};

/// The use of a process. Dropping it gives the process up.
#[derive(Debug)]
pub(crate) struct Lease {
    child: Arc<Child>,
}

impl Lease {
    /// Takes over a process.
    pub(crate) const fn new(child: Arc<Child>) -> Self {
        Self { child }
    }

    pub(crate) const fn child(&self) -> &Arc<Child> {
        &self.child
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.child.release();
    }
}

/// Serves one operation of a legacy client.
pub(crate) async fn serve(host: &Host, operation: Operation, cx: Cx) -> Result<Reply, Error> {
    let name = &host.params.name;
    let Some(session) = cx.session else {
        return Err(Error::refused(Kind::SessionMissing, "the request names no session").at(name));
    };
    match operation {
        Operation::Send(message) if is_initialize(&message) => {
            initialize(host, &message, &session, cx.deadline).await
        }
        Operation::Send(message) => {
            let child = bound(host, &session)?;
            send(&child, message, cx.deadline).await.map_err(|refused| match refused {
                Failed::Refused(refused) => explain(refused, host),
                Failed::Error(error) => error,
            })
        }
        Operation::Listen { .. } => Ok(Reply::stream(listen(bound(host, &session)?))),
        Operation::EndSession => {
            bound(host, &session)?;
            // The process's task hears of it and sees the process out.
            session.end();
            Ok(Reply::with(StatusCode::OK, Body::Empty))
        }
    }
}

/// Why a message has no reply.
enum Failed {
    Refused(Refused),
    Error(Error),
}

async fn send(
    child: &Arc<Child>,
    message: Envelope,
    deadline: Option<Instant>,
) -> Result<Reply, Failed> {
    let patience = Patience { silence: child.params.request_timeout, deadline };
    match message.kind() {
        MessageKind::Request => {
            let Some(client_id) = message.id() else { return Ok(Reply::accepted()) };
            let child = Arc::clone(child);
            let started = Exchange::start(child, &message, client_id, Era::Legacy, patience);
            let exchange = started.await.map_err(Failed::Refused)?;
            // From here on the message is with the process, and its buffer may be reused.
            drop(message);
            exchange.reply().await.map_err(Failed::Error)
        }
        MessageKind::Notification => {
            let told = notify(child, &message, patience).await;
            told.map(|()| Reply::accepted()).map_err(Failed::Refused)
        }
        MessageKind::Response | MessageKind::Error => {
            let now = Instant::now();
            let told = child.enqueue(message.len(), patience.until(now), |state| {
                if let Some(line) = state.demux.client_answers(&message, now) {
                    state.queue.push(&line);
                }
            });
            told.await.map(|()| Reply::accepted()).map_err(Failed::Refused)
        }
    }
}

async fn notify(child: &Child, note: &Envelope, patience: Patience) -> Result<(), Refused> {
    let now = Instant::now();
    if note.method().as_deref() == Some("notifications/cancelled") {
        child.change(|state, fx| state.demux.client_cancels(note, now, fx));
        return Ok(());
    }
    let push = |state: &mut crate::child::State| state.queue.push(note.bytes());
    child.enqueue(note.len(), patience.until(now), push).await
}

/// Starts the session's process and greets it.
async fn initialize(
    host: &Host,
    request: &Envelope,
    session: &Session,
    deadline: Option<Instant>,
) -> Result<Reply, Error> {
    let name = &host.params.name;
    if session.is_ended() {
        return Err(Error::refused(Kind::SessionUnknown, "the session has ended").at(name));
    }
    if session.is_bound() {
        let message = "the session is initialized already";
        return Err(Error::refused(Kind::BadRequest, message).at(name));
    }
    let Some(client_id) = request.id() else { return Ok(Reply::accepted()) };
    let child = host
        .spawn(Mode::Session, session.ended().clone())
        .map_err(|error| error.into_error(name))?;
    let lease = Lease::new(Arc::clone(&child));
    if !session.bind(Arc::new(lease)) {
        // Somebody else was faster; the lease that was not bound is gone, and its process ends.
        let message = "the session is initialized already";
        return Err(Error::refused(Kind::BadRequest, message).at(name));
    }
    let patience = Patience { silence: host.params.start_timeout, deadline };
    let greeted = greet(Arc::clone(&child), request, client_id, patience).await;
    if greeted.is_err() {
        child.blame();
    }
    if !greeted.as_ref().is_ok_and(|answer| answer.kind() == MessageKind::Response) {
        // There is no session without a handshake.
        session.end();
    }
    greeted.map(Reply::one).map_err(|error| unstarted(error, name))
}

async fn greet(
    child: Arc<Child>,
    request: &Envelope,
    client_id: tidegate_protocol::Id,
    patience: Patience,
) -> Result<Envelope, Error> {
    let gone =
        || Error::new(Kind::Died, Origin::Upstream, Retry::NotSent, "the server process is gone");
    let started = Exchange::start(child, request, client_id, Era::Legacy, patience).await;
    let mut exchange = started.map_err(|_| gone())?;
    match exchange.first().await {
        Some(Ok(Received::Answer(answer) | Received::Message(answer))) => Ok(answer),
        Some(Err(error)) => Err(error),
        None => Err(gone()),
    }
}

/// A failure before the handshake was over: nothing was asked of the server yet, so that any
/// other may take the call.
pub(crate) fn unstarted(error: Error, upstream: &Arc<str>) -> Error {
    warn!(%upstream, error = %error.chain(), "the server process did not start");
    let (kind, message): (Kind, std::borrow::Cow<'static, str>) = match error.kind {
        Kind::Timeout => (Kind::Timeout, error.message().replace("answer", "start").into()),
        Kind::Protocol => (Kind::Protocol, error.message().to_owned().into()),
        _ => (Kind::Unreachable, "the server process ended while it was starting".into()),
    };
    Error::new(kind, Origin::Upstream, Retry::NotSent, message).at(upstream).because(error)
}

/// What a client is told whose message was not taken in.
pub(crate) fn explain(refused: Refused, host: &Host) -> Error {
    let error = match refused {
        Refused::Gone => Error::refused(Kind::SessionUnknown, "the session has ended"),
        Refused::Full => {
            let limit = host.params.max_in_flight;
            let message = format!("the server process works on {limit} requests already");
            Error::new(Kind::Overloaded, Origin::Gateway, Retry::NotSent, message)
        }
        Refused::Stuck(time) => {
            let message = waited(time, "for the server process to read its input");
            Error::new(Kind::Timeout, Origin::Upstream, Retry::NotSent, message)
        }
    };
    error.at(&host.params.name)
}

/// The process of a session that is alive.
fn bound(host: &Host, session: &Session) -> Result<Arc<Child>, Error> {
    let child = session.binding::<Lease>().map(|lease| Arc::clone(lease.child()));
    child.filter(|child| !session.is_ended() && child.is_up()).ok_or_else(|| {
        Error::refused(Kind::SessionUnknown, "the session has ended or is not known")
            .at(&host.params.name)
    })
}

fn is_initialize(message: &Envelope) -> bool {
    message.kind() == MessageKind::Request && message.method().as_deref() == Some("initialize")
}
