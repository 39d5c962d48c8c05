//! Where a stream's messages come from.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::Stream as _;
use http::StatusCode;
use tidegate_protocol::Id;
use tidegate_service::{Body, Error, EventStream, Frame, Kind, Reply};

/// A reply that has not begun.
pub(super) type Head = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;

/// What is still to come.
pub(super) enum Stage {
    /// The reply, which has not begun.
    Head(Head),
    /// The rest of it.
    Frames(EventStream),
    /// Nothing by itself; the server must be asked again. A stream of what a server says unasked
    /// is here while nobody reads it, and a call whose server keeps its own log of the rest.
    Away,
    /// Nothing more.
    Over,
}

/// What the messages are about, and what is still to come.
#[derive(Debug)]
pub(super) struct Source {
    /// The request that is answered; `None` for what a server says unasked.
    pub(super) asked: Option<Id>,
    pub(super) stage: Stage,
}

impl Stage {
    /// Whether somebody has to read on.
    pub(super) const fn is_live(&self) -> bool {
        match self {
            Self::Head(_) | Self::Frames(_) => true,
            Self::Away | Self::Over => false,
        }
    }

    /// What comes next; `None` at the end, which says nothing about what follows.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        loop {
            match self {
                Self::Away | Self::Over => return Poll::Ready(None),
                Self::Frames(frames) => return Pin::new(frames).poll_next(cx),
                Self::Head(head) => match ready!(head.as_mut().poll(cx)) {
                    Err(error) => return Poll::Ready(Some(Err(error))),
                    // The status has gone out already, so what it would have said must be done.
                    Ok(reply) if reply.status == StatusCode::NOT_FOUND => {
                        return Poll::Ready(Some(Err(forgotten())));
                    }
                    Ok(Reply { body: Body::Stream(frames), .. }) => *self = Self::Frames(frames),
                    Ok(Reply { body: Body::One(envelope), .. }) => {
                        *self = Self::Over;
                        return Poll::Ready(Some(Ok(Frame::Message(envelope))));
                    }
                    Ok(Reply { body: Body::Empty, .. }) => return Poll::Ready(None),
                },
            }
        }
    }
}

fn forgotten() -> Error {
    Error::refused(Kind::SessionUnknown, "the server has forgotten the session")
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head(_) => "Head",
            Self::Frames(_) => "Frames",
            Self::Away => "Away",
            Self::Over => "Over",
        })
    }
}
