//! The client's end of a stream.

use std::{
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use http::HeaderValue;
use tidegate_protocol::sse::Block;
use tidegate_service::{Error, EventStream, Frame, Session};
use tokio::time::{Instant, Sleep, sleep};

use super::line::{Left, Line, Seen};

/// Reads one stream from some place on. Dropped, it leaves.
#[derive(Debug)]
pub(super) struct Reader {
    line: Arc<Line>,
    session: Session,
    turn: u64,
    /// The next event to read.
    at: u64,
    priming: Option<Block>,
    /// When the client is to come back instead of waiting.
    hang_up: Option<Pin<Box<Sleep>>>,
    is_over: bool,
}

impl Reader {
    /// The first reader of a new stream.
    pub(super) fn first(line: Arc<Line>, session: Session) -> Self {
        let priming = line.priming();
        let mut reader = Self::at(line, session, 0, 1);
        reader.priming = priming;
        reader
    }

    /// One that comes back, and has seen the event `cursor`.
    pub(super) fn resumed(line: Arc<Line>, session: Session, cursor: u64) -> Result<Self, Error> {
        let turn = line.resume(cursor, Instant::now())?;
        Ok(Self::at(line, session, turn, cursor + 1))
    }

    fn at(line: Arc<Line>, session: Session, turn: u64, at: u64) -> Self {
        let hang_up = line.poll_after().map(|patience| Box::pin(sleep(patience)));
        Self { line, session, turn, at, priming: None, hang_up, is_over: false }
    }

    /// A client that waits has an id by now, and was told how soon to come back.
    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        let Some(hang_up) = &mut self.hang_up else { return Poll::Pending };
        ready!(hang_up.as_mut().poll(cx));
        self.is_over = true;
        Poll::Ready(None)
    }

    /// Whether the stream answers a request.
    pub(super) fn is_answer(&self) -> bool {
        self.line.is_answer()
    }

    /// See [`Line::wanted`].
    pub(super) fn wanted(&self) -> Option<Option<HeaderValue>> {
        self.line.wanted()
    }

    /// See [`Line::skip`].
    pub(super) fn skip(&self) -> Error {
        self.line.skip()
    }

    /// See [`Line::attach`].
    pub(super) fn attach(&self, frames: Option<EventStream>) {
        self.line.attach(self.turn, frames);
    }
}

impl Stream for Reader {
    type Item = Result<Frame, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(priming) = self.priming.take() {
            return Poll::Ready(Some(Ok(Frame::Block(priming))));
        }
        if self.is_over {
            return Poll::Ready(None);
        }
        let Poll::Ready(seen) = self.line.poll_read(self.turn, self.at, cx) else {
            return self.poll_hang_up(cx);
        };
        Poll::Ready(match seen {
            Seen::Event(number, frame) => {
                self.at = number + 1;
                Some(Ok(frame))
            }
            Seen::Aside(frame) => Some(Ok(frame)),
            Seen::Failed(error) => Some(Err(error)),
            Seen::Ended => None,
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let left = Left { at: Instant::now(), was_primed: self.priming.is_none() };
        self.line.leave(self.turn, left, self.session.enter());
    }
}
