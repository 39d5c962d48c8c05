//! The calls of one client that are under way, and what comes of them.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_util::{
    StreamExt as _,
    future::BoxFuture,
    stream::{FuturesUnordered, SelectAll},
};
use http::StatusCode;
use tidegate_protocol::{Bytes, Envelope, Id, Kind as MessageKind, Limits, split_batch};
use tidegate_service::{Body, Error, EventStream, Frame, Kind, Origin, Reply, Retry};

/// The most messages that a server may put into one event (2025-03-26 allows several).
const MAX_BATCH: usize = 256;

/// One call, as its replies need to know it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// That of a request; nothing else has an answer.
    pub(super) id: Option<Id>,
    pub(super) what: What,
}

/// What kind of message a call brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Initialize,
    Request,
    /// `notifications/initialized`.
    Initialized,
    /// A notification or an answer.
    Note,
}

/// The calls. Polls as a stream that never ends.
#[derive(Default)]
pub(super) struct Calls {
    begun: FuturesUnordered<BoxFuture<'static, (Asked, Result<Reply, Error>)>>,
    streams: SelectAll<Pin<Box<Messages>>>,
}

/// What becomes of calls.
#[derive(Debug)]
pub(super) enum Event {
    /// The reply to a call has begun.
    Head(Asked, Head),
    /// A message for the client.
    Message(Envelope),
    /// A call is over; with what the client must be told if it has no answer.
    Over(Asked, Option<Error>),
}

/// What the head of a reply tells.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) session: Option<http::HeaderValue>,
    pub(super) status: StatusCode,
}

/// The messages of one reply that is a stream.
struct Messages {
    asked: Asked,
    frames: EventStream,
    unpacked: Vec<Envelope>,
    is_answered: bool,
    is_over: bool,
}

impl Calls {
    pub(super) fn begin(&mut self, asked: Asked, reply: BoxFuture<'static, Result<Reply, Error>>) {
        self.begun.push(Box::pin(async move { (asked, reply.await) }));
    }

    /// What has come of the calls, in the order in which it can be said.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, out: &mut Vec<Event>) -> Poll<()> {
        if let Poll::Ready(Some((asked, reply))) = self.begun.poll_next_unpin(cx) {
            self.replied(asked, reply, out);
            return Poll::Ready(());
        }
        match self.streams.poll_next_unpin(cx) {
            Poll::Ready(Some(event)) => {
                out.push(event);
                Poll::Ready(())
            }
            // An empty set says that it has ended; it is asked again when it has grown.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn replied(&mut self, asked: Asked, reply: Result<Reply, Error>, out: &mut Vec<Event>) {
        let Reply { status, mut headers, body } = match reply {
            Ok(reply) => reply,
            Err(error) => return out.push(Event::Over(asked, Some(error))),
        };
        let session = headers.remove(tidegate_protocol::header::MCP_SESSION_ID);
        let head = Head { session, status };
        out.push(Event::Head(asked.clone(), head));
        match body {
            Body::Empty => {
                let error = asked.id.is_some().then(|| no_answer(status));
                out.push(Event::Over(asked, error));
            }
            Body::One(message) => {
                let message = named(message, asked.id.as_ref());
                let is_answer = answers(&message, asked.id.as_ref());
                let error = (asked.id.is_some() && !is_answer).then(|| no_answer(status));
                out.extend([Event::Message(message), Event::Over(asked, error)]);
            }
            Body::Stream(frames) => self.streams.push(Box::pin(Messages {
                asked,
                frames,
                unpacked: Vec::new(),
                is_answered: false,
                is_over: false,
            })),
        }
    }
}

impl Stream for Messages {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let this = &mut *self;
        loop {
            if let Some(message) = this.unpacked.pop() {
                let message = named(message, this.asked.id.as_ref());
                this.is_answered |= answers(&message, this.asked.id.as_ref());
                return Poll::Ready(Some(Event::Message(message)));
            }
            if this.is_over {
                return Poll::Ready(None);
            }
            let error = match ready!(this.frames.poll_next_unpin(cx)) {
                Some(Ok(frame)) => {
                    this.unpacked = unpack(frame);
                    continue;
                }
                Some(Err(error)) => Some(error),
                None => None,
            };
            this.is_over = true;
            let is_due = this.asked.id.is_some() && !this.is_answered;
            let error = is_due.then(|| error.unwrap_or_else(broken_off));
            return Poll::Ready(Some(Event::Over(this.asked.clone(), error)));
        }
    }
}

/// The messages of a frame, the last one first. Event ids and names mean nothing to an HTTP+SSE
/// client, and what is no message would only break it.
pub(super) fn unpack(frame: Frame) -> Vec<Envelope> {
    let block = match frame {
        Frame::Message(message) | Frame::Stamped { message, .. } => return vec![message],
        Frame::Block(block) => block,
    };
    let is_message = block.event.is_none_or(|name| name == "message");
    let Some(data) = block.data.filter(|data| is_message && !data.is_empty()) else {
        return Vec::new();
    };
    let parts = if data.trim_ascii_start().first() == Some(&b'[') {
        split_batch(&data, &Limits::default(), MAX_BATCH).unwrap_or_default()
    } else {
        vec![data]
    };
    let parse = |part: Bytes| match Envelope::parse(part) {
        Ok(message) => Some(message),
        Err(error) => {
            tracing::debug!(%error, "the upstream sent an event that is no message");
            None
        }
    };
    parts.into_iter().rev().filter_map(parse).collect()
}

fn answers(message: &Envelope, id: Option<&Id>) -> bool {
    let is_answer = matches!(message.kind(), MessageKind::Response | MessageKind::Error);
    is_answer && message.id().as_ref() == id
}

/// An error without an id is about the request that it answers. Elsewhere its place tells that; on
/// the one stream of the client only an id does.
fn named(message: Envelope, id: Option<&Id>) -> Envelope {
    let (Some(id), None, Some(error)) = (id, message.id(), message.error()) else {
        return message;
    };
    let (id, error) = (String::from_utf8_lossy(id.token()), String::from_utf8_lossy(error));
    let named = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#);
    Envelope::parse(named.into()).unwrap_or(message)
}

fn no_answer(status: StatusCode) -> Error {
    let status = status.as_u16();
    let message = format!("the server answered HTTP {status} without an answer to the request");
    Error::new(Kind::Protocol, Origin::Upstream, Retry::Never, message)
}

fn broken_off() -> Error {
    let message = "the server ended its stream before the answer, outcome unknown";
    Error::new(Kind::Died, Origin::Upstream, Retry::Never, message)
}
