//! An answer that takes its time.
//!
//! Between a client and the proxy there may be others who give up a connection on which nothing
//! happens for a minute. So when a call has been silent for the time of a heartbeat, the head of an
//! event stream is sent, the comments of [`super::stream`] follow, and the answer comes as an event,
//! whatever it is. The price is the HTTP status, so this is the exception: what fails at once, or is
//! answered at once, has one that fits.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use tidegate_protocol::{Envelope, Era, Id};
use tidegate_service::{Answer, Body, Error, EventStream, Frame, Reply, slow::SlowClients};

use super::{error::Rejection, read::Held};
use crate::connection::Patience;

/// The rest of a call whose response has begun.
struct Late {
    state: State,
    era: Era,
    id: Id,
    /// For the response, which has begun.
    slow: Arc<OnceLock<Arc<SlowClients>>>,
    /// The message may not have left yet.
    _held: Held,
}

enum State {
    Waiting(Answer),
    Streaming(EventStream),
    Over,
}

/// The reply to the request `id`, or a stream with it if that does not come in time.
///
/// # Cancel safety
///
/// Dropping the future cancels the call, and so does dropping the stream.
pub(super) async fn reply(
    answer: Answer,
    mut patience: Patience<'_>,
    era: Era,
    id: &Id,
    held: Held,
) -> Result<Reply, Error> {
    let mut answer = Some(answer);
    let reply = poll_fn(|cx| {
        if let Some(answer) = &mut answer
            && let Poll::Ready(reply) = answer.as_mut().poll(cx)
        {
            return Poll::Ready(Some(reply));
        }
        patience.poll_over(cx).map(|()| None)
    })
    .await;
    match (reply, answer) {
        (Some(reply), _) => reply,
        (None, Some(answer)) => {
            let state = State::Waiting(answer);
            let slow = Arc::<OnceLock<_>>::default();
            let late = Late { state, era, id: id.clone(), slow: Arc::clone(&slow), _held: held };
            Ok(Reply::stream(EventStream::new(late).answering().read_by_later(slow)))
        }
        (None, None) => Ok(Reply::accepted()),
    }
}

impl Late {
    /// The reply has come; what it has to say at once.
    fn begin(&mut self, reply: Result<Reply, Error>) -> Option<Frame> {
        self.state = State::Over;
        let body = match reply {
            Ok(reply) => reply.body,
            Err(error) => {
                // A stream that breaks off would say less.
                let told = Rejection::from_error(self.era, Some(self.id.clone()), &error).body();
                return Envelope::parse(told).ok().map(Frame::Message);
            }
        };
        match body {
            Body::One(answer) => Some(Frame::Message(answer)),
            Body::Stream(frames) => {
                if let Some(slow) = frames.slow() {
                    self.slow.get_or_init(|| Arc::clone(slow));
                }
                self.state = State::Streaming(frames);
                None
            }
            Body::Empty => None,
        }
    }
}

impl Stream for Late {
    type Item = Result<Frame, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match &mut self.state {
                State::Over => return Poll::Ready(None),
                State::Streaming(frames) => return Pin::new(frames).poll_next(cx),
                State::Waiting(answer) => {
                    let reply = ready!(answer.as_mut().poll(cx));
                    if let Some(frame) = self.begin(reply) {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
            }
        }
    }
}
