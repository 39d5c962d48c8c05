//! A subscription that outlives the process it began with.
//!
//! When a process dies or is replaced, its open subscriptions are sent to the next one (2026-07-28,
//! stdio: listens are re-sent after a crash). The client's stream goes on; it has its
//! acknowledgement already and does not get another.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use tidegate_protocol::Envelope;
use tidegate_service::{Body, Error, EventStream, Frame, Kind, Reply};
use tokio::time::Instant;

use super::{Modern, decline};
use crate::{
    child::Child,
    exchange::{Caller, Exchange, Patience},
    legacy::try_next,
    single::Found,
};

const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

type Reopening = Pin<Box<dyn Future<Output = Result<Sent, Error>> + Send>>;

/// One client's subscription.
struct Listen {
    modern: Arc<Modern>,
    request: Envelope,
    caller: Caller,
    patience: Patience,
    state: State,
    /// The client has its acknowledgement.
    acknowledged: bool,
}

enum State {
    /// With the process that it is open with.
    Open(EventStream, Arc<Child>),
    Reopening(Reopening),
    Over,
}

/// What came of sending a subscription.
enum Sent {
    Taken(Reply, Arc<Child>),
    /// The server is no modern one.
    Declined(Reply),
}

/// The reply to a subscription, made to last.
pub(super) async fn lasting(
    modern: &Arc<Modern>,
    request: Envelope,
    caller: Caller,
    patience: Patience,
) -> Result<Reply, Error> {
    let (reply, child) = match send(modern, &request, caller.clone(), patience).await? {
        Sent::Taken(reply, child) => (reply, child),
        Sent::Declined(reply) => return Ok(reply),
    };
    let modern = Arc::clone(modern);
    // What is sent again is not asked by the client again, who does not wait for it either.
    let (caller, patience) = (caller.uncounted(), Patience { deadline: None, ..patience });
    Ok(reply.map_stream(|stream| {
        let state = State::Open(stream, child);
        let acknowledged = false;
        EventStream::new(Listen { modern, request, caller, patience, state, acknowledged })
    }))
}

/// Sends a subscription to the process that there is now, and to the next one where that is
/// replaced before it has said anything.
async fn send(
    modern: &Modern,
    request: &Envelope,
    mut caller: Caller,
    patience: Patience,
) -> Result<Sent, Error> {
    let until = patience.until(Instant::now());
    let patience = Patience { deadline: Some(until), ..patience };
    loop {
        let child = match modern.0.find(until).await? {
            Found::Ready(child, _) => child,
            Found::Unfit(supported) => return Ok(Sent::Declined(decline(request, &supported))),
        };
        match Exchange::start(Arc::clone(&child), request, caller.clone(), patience).await {
            Ok(exchange) => match exchange.reply_unless_replaced().await? {
                Some(reply) => return Ok(Sent::Taken(reply, child)),
                // It may be the call that spent the process, and must not spend each.
                None => caller = caller.uncounted(),
            },
            Err(refused) => try_next(refused, modern.host())?,
        }
    }
}

impl Listen {
    fn reopen(&mut self) {
        let (modern, request) = (Arc::clone(&self.modern), self.request.clone());
        let (caller, patience) = (self.caller.clone(), self.patience);
        self.state =
            State::Reopening(Box::pin(
                async move { send(&modern, &request, caller, patience).await },
            ));
    }

    fn reopened(&mut self, sent: Result<Sent, Error>) -> Option<Result<Frame, Error>> {
        self.state = State::Over;
        let body = match sent {
            Ok(Sent::Taken(reply, child)) => match reply.body {
                Body::Stream(stream) => {
                    self.modern.host().counters.resumed_listens.increment();
                    self.state = State::Open(stream, child);
                    return None;
                }
                body => body,
            },
            Ok(Sent::Declined(reply)) => reply.body,
            Err(error) => return Some(Err(error)),
        };
        match body {
            // The server does not want the subscription any more, and says so.
            Body::One(answer) => Some(Ok(Frame::Message(answer))),
            Body::Stream(_) | Body::Empty => None,
        }
    }

    /// Whether the client has this already.
    fn repeats(&mut self, frame: &Frame) -> bool {
        let Frame::Message(message) = frame else { return false };
        let is_ack = message.is_method(ACKNOWLEDGED);
        is_ack && std::mem::replace(&mut self.acknowledged, true)
    }
}

impl Stream for Listen {
    type Item = Result<Frame, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Over => return Poll::Ready(None),
                State::Reopening(reopening) => {
                    let sent = ready!(reopening.as_mut().poll(cx));
                    if let Some(last) = this.reopened(sent) {
                        return Poll::Ready(Some(last));
                    }
                }
                State::Open(stream, child) => {
                    let next = ready!(Pin::new(stream).poll_next(cx));
                    // A process that lives meant to end it, though what it said cannot be read: it
                    // would do so again, as fast as it is asked.
                    let failed = matches!(next, Some(Err(_)));
                    let is_slow =
                        matches!(&next, Some(Err(error)) if error.kind == Kind::SlowClient);
                    let lost = failed && !is_slow && !child.is_up();
                    match next {
                        Some(Ok(frame)) if this.repeats(&frame) => (),
                        _ if lost && !this.modern.host().closing.is_cancelled() => this.reopen(),
                        next => {
                            if failed {
                                this.state = State::Over;
                            }
                            return Poll::Ready(next);
                        }
                    }
                }
            }
        }
    }
}
