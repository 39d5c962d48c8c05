//! From a reply to an HTTP response.

use http::{HeaderName, HeaderValue, Response, header};
use tidegate_protocol::{Era, Id};
use tidegate_service::{Body, Reply};

use super::{
    EVENTS, Front, JSON, OutBody,
    stream::{Listening, Params, StreamBody},
};

const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) fn reply(
    reply: Reply,
    front: &Front,
    era: Era,
    id: Option<Id>,
    listening: Listening,
) -> Response<OutBody> {
    let Reply { status, mut headers, body } = reply;
    let body = match body {
        Body::Empty => OutBody::empty(),
        Body::One(envelope) => {
            headers.insert(header::CONTENT_TYPE, JSON);
            OutBody::full(envelope.into_bytes())
        }
        Body::Stream(frames) => {
            headers.insert(header::CONTENT_TYPE, EVENTS);
            headers
                .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
            headers.insert(NO_BUFFERING, HeaderValue::from_static("no"));
            let heartbeat = front.params().timeouts.heartbeat;
            // A stream may last; what it keeps of its request must not keep the buffer that the
            // request was read into.
            let (id, listening) = (id.as_ref().map(Id::detach), listening.detach());
            let params = Params { era, id, listening, heartbeat };
            let stream = StreamBody::new(frames, params, front.draining(), front.counters());
            OutBody::stream(stream)
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
