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
use tidegate_protocol::{Envelope, Id};
use tidegate_service::{Body, Error, EventStream, Frame, Reply};

use super::Modern;
use crate::exchange::Patience;

const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

type Reopening = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;

/// One client's subscription.
struct Listen {
    modern: Arc<Modern>,
    request: Envelope,
    client_id: Id,
    patience: Patience,
    state: State,
    /// The client has its acknowledgement.
    acknowledged: bool,
}

enum State {
    Open(EventStream),
    Reopening(Reopening),
    Over,
}

/// The reply to a subscription, made to last.
pub(super) fn lasting(
    modern: &Arc<Modern>,
    request: Envelope,
    client_id: Id,
    patience: Patience,
    reply: Reply,
) -> Reply {
    let modern = Arc::clone(modern);
    reply.map_stream(|stream| {
        let state = State::Open(stream);
        EventStream::new(Listen {
            modern,
            request,
            client_id,
            patience,
            state,
            acknowledged: false,
        })
    })
}

impl Listen {
    fn reopen(&mut self) {
        let (modern, request) = (Arc::clone(&self.modern), self.request.clone());
        let (id, patience) = (self.client_id.clone(), self.patience);
        self.state =
            State::Reopening(Box::pin(async move { modern.reopen(&request, id, patience).await }));
    }

    fn reopened(&mut self, reply: Result<Reply, Error>) -> Option<Result<Frame, Error>> {
        let body = match reply {
            Ok(reply) => reply.body,
            Err(error) => {
                self.state = State::Over;
                return Some(Err(error));
            }
        };
        match body {
            Body::Stream(stream) => {
                self.modern.host().counters.resumed_listens.increment();
                self.state = State::Open(stream);
                None
            }
            // The server does not want the subscription any more, and says so.
            Body::One(answer) => {
                self.state = State::Over;
                Some(Ok(Frame::Message(answer)))
            }
            Body::Empty => {
                self.state = State::Over;
                None
            }
        }
    }

    /// Whether the client has this already.
    fn repeats(&mut self, frame: &Frame) -> bool {
        let Frame::Message(message) = frame else { return false };
        let is_ack = message.method().as_deref() == Some(ACKNOWLEDGED);
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
                    let reply = ready!(reopening.as_mut().poll(cx));
                    if let Some(last) = this.reopened(reply) {
                        return Poll::Ready(Some(last));
                    }
                }
                State::Open(stream) => match ready!(Pin::new(stream).poll_next(cx)) {
                    Some(Ok(frame)) if this.repeats(&frame) => (),
                    Some(Err(_)) if !this.modern.host().closing.is_cancelled() => this.reopen(),
                    next => return Poll::Ready(next),
                },
            }
        }
    }
}
