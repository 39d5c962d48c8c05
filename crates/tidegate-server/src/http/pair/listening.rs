//! What the upstream says unasked, for as long as the client is there.
//!
//! The upstream may end its stream at any time; then it is opened again, after a pause, where the
//! last one has ended. An upstream without such a stream is not asked again.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};
use http::{HeaderValue, StatusCode};
use tidegate_protocol::Envelope;
use tidegate_service::{
    Body, Call, Cx, Error, EventStream, Frame, Kind, Operation, Reply, Upstream,
};
use tokio::time::{Sleep, sleep};

use super::calls::unpack;

/// The first pause before a stream is opened again; doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The upstream's stream.
pub(super) struct Listening {
    state: State,
    edge: Upstream,
    cx: Cx,
    last_event_id: Option<HeaderValue>,
    pause: Duration,
    unpacked: Vec<Envelope>,
}

enum State {
    Opening(BoxFuture<'static, Result<Reply, Error>>),
    Open(EventStream),
    Paused(Pin<Box<Sleep>>),
}

/// Why there is nothing more to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// The upstream has no such stream.
    None,
    /// The session is over.
    Ended,
}

impl Listening {
    pub(super) fn new(edge: Upstream, cx: Cx) -> Self {
        let state = State::Opening(listen(&edge, &cx, None));
        Self { state, edge, cx, last_event_id: None, pause: FIRST_PAUSE, unpacked: Vec::new() }
    }

    /// The next message; an error says that there will be none.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Envelope, Silence>> {
        loop {
            if let Some(message) = self.unpacked.pop() {
                return Poll::Ready(Ok(message));
            }
            self.state = match &mut self.state {
                State::Opening(reply) => match ready!(reply.poll_unpin(cx)) {
                    Ok(Reply { body: Body::Stream(frames), .. }) => State::Open(frames),
                    Ok(reply) if reply.status == StatusCode::NOT_FOUND => {
                        return Poll::Ready(Err(Silence::Ended));
                    }
                    Ok(_) => return Poll::Ready(Err(Silence::None)),
                    Err(error) => match error.kind {
                        Kind::SessionUnknown | Kind::SessionMissing => {
                            return Poll::Ready(Err(Silence::Ended));
                        }
                        Kind::Unsupported => return Poll::Ready(Err(Silence::None)),
                        _ => {
                            // What was missed may be what cannot be had any more.
                            self.last_event_id = None;
                            self.pause()
                        }
                    },
                },
                State::Open(frames) => match ready!(frames.poll_next_unpin(cx)) {
                    Some(Ok(frame)) => {
                        self.note(&frame);
                        self.unpacked = unpack(frame);
                        continue;
                    }
                    Some(Err(_)) | None => self.pause(),
                },
                State::Paused(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    State::Opening(listen(&self.edge, &self.cx, self.last_event_id.clone()))
                }
            };
        }
    }

    fn note(&mut self, frame: &Frame) {
        self.pause = FIRST_PAUSE;
        let (Frame::Block(block) | Frame::Stamped { block, .. }) = frame else { return };
        if let Some(id) = &block.id {
            let id = HeaderValue::from_maybe_shared(id.clone()).ok();
            self.last_event_id = id.filter(|id| !id.is_empty());
        }
        if let Some(retry) = block.retry {
            self.pause = Duration::from_millis(retry).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        }
    }

    fn pause(&mut self) -> State {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        State::Paused(Box::pin(sleep(pause)))
    }
}

fn listen(
    edge: &Upstream,
    cx: &Cx,
    last_event_id: Option<HeaderValue>,
) -> BoxFuture<'static, Result<Reply, Error>> {
    let call = Call { operation: Operation::Listen { last_event_id }, cx: cx.clone() };
    edge.answer(call)
}
