//! Opening a session.

use std::{pin::Pin, sync::Arc};

use futures_util::{StreamExt as _, stream};
use http::HeaderValue;
use tidegate_protocol::{Envelope, Kind as MessageKind, Version, header::MCP_SESSION_ID};
use tidegate_service::{
    Answer, Body, Call, Error, EventStream, Frame, Kind, Origin, Reply, Retry, Session, Upstream,
};

use super::refuse;
use crate::{id, store::Store};

/// The most frames looked at before the answer to `initialize` must have come.
const MAX_FRAMES_BEFORE_ANSWER: usize = 64;

pub(super) fn open(inner: Upstream, store: Store, route: &Arc<str>, mut call: Call) -> Answer {
    let Some(place) = store.reserve() else {
        return refuse(Error::new(
            Kind::Overloaded,
            Origin::Gateway,
            Retry::NotSent,
            "as many sessions are open as are allowed; try again later",
        ));
    };
    let route = Arc::clone(route);
    let session = Session::new(id::mint());
    call.cx.session = Some(session.clone());
    Box::pin(async move {
        let in_use = session.enter();
        let (mut reply, answer) = answered(inner.answer(call).await?).await?;
        // An upstream that hung nothing on the session keeps none, and then neither do we.
        let agreed = answer.as_ref().filter(|answer| answer.kind() == MessageKind::Response);
        let (Some(agreed), true) = (agreed, session.is_bound()) else { return Ok(reply) };
        if let Some(version) = agreed.result_version().as_deref().and_then(Version::parse) {
            session.negotiated(version);
        }
        let id = HeaderValue::from_str(session.id()).map_err(|error| {
            Error::new(Kind::Internal, Origin::Gateway, Retry::Never, "no session id")
                .because(error)
        })?;
        reply.headers.insert(MCP_SESSION_ID, id);
        store.insert(session, route, inner, place);
        Ok(reply.on_end(move |_| drop(in_use)))
    })
}

/// The reply together with the answer in it. The session id goes out with the head, so a stream is
/// read until the answer has come; what was read is given out again, in order.
async fn answered(reply: Reply) -> Result<(Reply, Option<Envelope>), Error> {
    let Reply { status, headers, body } = reply;
    let (body, answer) = match body {
        Body::Empty => (Body::Empty, None),
        Body::One(envelope) => (Body::One(envelope.clone()), Some(envelope)),
        Body::Stream(mut frames) => {
            let mut read = Vec::new();
            let mut answer = None;
            while answer.is_none() && read.len() < MAX_FRAMES_BEFORE_ANSWER {
                let Some(frame) = Pin::new(&mut frames).next().await else { break };
                let frame = frame?;
                answer = message(&frame).filter(|envelope| {
                    matches!(envelope.kind(), MessageKind::Response | MessageKind::Error)
                });
                read.push(Ok(frame));
            }
            (Body::Stream(EventStream::new(stream::iter(read).chain(frames))), answer)
        }
    };
    Ok((Reply { status, headers, body }, answer))
}

fn message(frame: &Frame) -> Option<Envelope> {
    match frame {
        Frame::Message(envelope) | Frame::Stamped { message: envelope, .. } => {
            Some(envelope.clone())
        }
        Frame::Block(block) => Envelope::parse(block.data.clone()?).ok(),
    }
}
