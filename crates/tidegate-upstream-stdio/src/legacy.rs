//! Legacy calls: everything belongs to a session, and a session holds a [`Seat`].
//!
//! The seat is a process of its own, or a share in a common one. It is bound to the session and
//! given up with it, whichever ends first.

mod common;
mod offer;
mod own;
mod seat;
mod waits;

use std::sync::Arc;

use http::StatusCode;
use tidegate_protocol::{Envelope, Kind as MessageKind};
use tidegate_service::{
    Body, Cx, Error, Kind, Operation, Origin, Reply, Retry, Session, slow::SlowClients,
};
use tokio::time::Instant;

pub(crate) use self::{
    common::Commons,
    own::{gone, greet, unstarted},
};
use self::{
    own::Process,
    seat::{Place, Seat},
};
use crate::{
    child::Refused,
    exchange::{Patience, waited},
    host::Host,
    spares::Spares,
};

/// Serves one operation of a legacy client.
pub(crate) async fn serve(
    spares: &Arc<Spares>,
    commons: &Commons,
    operation: Operation,
    cx: Cx,
) -> Result<Reply, Error> {
    let host = &spares.host;
    let Some(session) = cx.session else {
        let message = "the request names no session";
        return Err(Error::refused(Kind::SessionMissing, message).at(&host.params.name));
    };
    match operation {
        Operation::Send(message) if is_initialize(&message) => {
            initialize(spares, commons, &message, &session, (cx.deadline, cx.slow)).await
        }
        Operation::Send(message) => {
            let seat = bound(host, &session)?;
            let timeouts = cx.timeouts.as_deref();
            let patience = Patience::with_call(&host.params, timeouts, cx.deadline);
            send(spares, &seat, &session, message, patience).await
        }
        Operation::Listen { .. } => {
            let seat = bound(host, &session)?;
            let timeouts = cx.timeouts.as_deref();
            let patience = Patience::with_call(&host.params, timeouts, cx.deadline);
            seat.listen(spares, &session, patience).await.map(Reply::stream)
        }
        Operation::EndSession => {
            let seat = bound(host, &session)?;
            // A process of its own hears of it and is seen out.
            session.end();
            seat.leave();
            Ok(Reply::with(StatusCode::OK, Body::Empty))
        }
    }
}

async fn send(
    spares: &Arc<Spares>,
    seat: &Seat,
    session: &Session,
    message: Envelope,
    patience: Patience,
) -> Result<Reply, Error> {
    let host = &spares.host;
    if message.is_method("notifications/cancelled") {
        seat.cancel(&message);
        return Ok(Reply::accepted());
    }
    let call = message.id().filter(|_| message.kind() == MessageKind::Request);
    let Some(call) = call.filter(|_| !seat.is_ready(host)) else {
        return deliver(spares, seat, session, message, patience).await;
    };
    // It may have to wait for a process, which cannot know what the client takes back meanwhile.
    let reply = Box::pin(deliver(spares, seat, session, message, patience));
    seat.unless_cancelled(&call, reply).await
}

/// Takes a message to where the session's messages go.
async fn deliver(
    spares: &Arc<Spares>,
    seat: &Seat,
    session: &Session,
    message: Envelope,
    patience: Patience,
) -> Result<Reply, Error> {
    let introduces = message.is_method("notifications/initialized");
    match seat.place(spares, session, patience).await? {
        // It was said for the client when the session moved.
        Place::Own(_) if introduces && seat.was_introduced() => Ok(Reply::accepted()),
        Place::Own(process) => process.send(message, patience).await,
        Place::Common(common, whose) => common.send(whose, message, patience).await,
    }
}

/// Gives the session a seat and answers the handshake.
async fn initialize(
    spares: &Arc<Spares>,
    commons: &Commons,
    request: &Envelope,
    session: &Session,
    (deadline, slow): (Option<Instant>, Option<Arc<SlowClients>>),
) -> Result<Reply, Error> {
    let host = &spares.host;
    let name = &host.params.name;
    if session.is_ended() {
        return Err(Error::refused(Kind::SessionUnknown, "the session has ended").at(name));
    }
    if session.is_bound() {
        return Err(again(name));
    }
    let Some(client_id) = request.id() else { return Ok(Reply::accepted()) };
    let patience = Patience::with_silence(host.params.start_timeout, deadline);
    if host.shares() {
        let (common, answer) = commons.greet(request, &client_id, patience).await?;
        let seat = Seat::common(common, host.new_owner(), request, slow);
        if !session.bind(Arc::new(seat)) {
            return Err(again(name));
        }
        return Ok(Reply::one(answer));
    }
    let (process, answer) = Process::find(spares, request, patience).await?;
    if !session.bind(Arc::new(Seat::own(process.clone()))) {
        // Somebody else was faster; the process that was not bound is given up.
        return Err(again(name));
    }
    process.serve(session, slow);
    let answer = match answer {
        Some(answer) => Ok(answer.edit(&[(tidegate_protocol::Field::Id, client_id.token())])),
        None => process.greet(request, client_id, patience).await,
    };
    if !answer.as_ref().is_ok_and(|answer| answer.kind() == MessageKind::Response) {
        // There is no session without a handshake.
        session.end();
    }
    answer.map(Reply::one)
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

/// A shared process did not take a call in. Says whether the call may go to the next one.
pub(crate) fn try_next(refused: Refused, host: &Host) -> Result<(), Error> {
    match refused {
        Refused::Gone if host.closing.is_cancelled() => Err(host.draining()),
        Refused::Gone => Ok(()),
        Refused::Full | Refused::Stuck(_) => Err(explain(refused, host)),
    }
}

/// The seat of a session that is alive.
fn bound(host: &Host, session: &Session) -> Result<Arc<Seat>, Error> {
    let seat = session.binding::<Seat>();
    seat.filter(|seat| !session.is_ended() && seat.is_alive()).ok_or_else(|| {
        Error::refused(Kind::SessionUnknown, "the session has ended or is not known")
            .at(&host.params.name)
    })
}

fn again(name: &Arc<str>) -> Error {
    Error::refused(Kind::BadRequest, "the session is initialized already").at(name)
}

fn is_initialize(message: &Envelope) -> bool {
    message.kind() == MessageKind::Request && message.is_method("initialize")
}
