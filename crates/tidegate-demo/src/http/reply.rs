//! HTTP responses: one JSON message, an SSE stream, or a bare status.

use std::{convert::Infallible, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use tokio::time::timeout;

use crate::{
    log::Reader,
    message::{self, RpcError},
};

/// Any body that this server sends.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How often a silent stream sends a comment.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a client should wait before it polls again, in milliseconds.
const RETRY: u32 = 500;

/// A status without a body.
pub(crate) fn bare(status: StatusCode) -> Response<Body> {
    respond(status, Full::default().boxed_unsync())
}

/// One JSON message.
pub(crate) fn json(status: StatusCode, bytes: Bytes) -> Response<Body> {
    let mut response = respond(status, Full::new(bytes).boxed_unsync());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A status with an error that belongs to no request.
pub(crate) fn refuse(status: StatusCode, error: &RpcError) -> Response<Body> {
    json(status, message::error(None, error))
}

/// A method that the endpoint does not have.
pub(crate) fn not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = bare(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// An SSE stream of these events.
pub(crate) fn stream(events: impl Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    let frames = events.map(|event| Ok(Frame::data(event)));
    let mut response = respond(StatusCode::OK, StreamBody::new(frames).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn respond(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// One message as an event.
pub(crate) fn event(id: Option<&str>, message: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(message.len() + 64);
    if let Some(id) = id {
        event.put_slice(b"id: ");
        event.put_slice(id.as_bytes());
        event.put_u8(b'\n');
    }
    event.put_slice(b"event: message\ndata: ");
    event.put_slice(message);
    event.put_slice(b"\n\n");
    event.freeze()
}

/// The events of a legacy stream. `prime` starts it with an id, so that a client can come back
/// before anything was sent, and says after how long (2025-11-25).
pub(crate) fn replay(number: u64, after: u64, reader: Reader, prime: bool) -> Response<Body> {
    let first =
        prime.then(|| Bytes::from(format!("id: {number}-{after}\nretry: {RETRY}\ndata: \n\n")));
    let rest = stream::unfold(reader, move |mut reader| async move {
        let event = match timeout(KEEP_ALIVE, reader.next()).await {
            Ok(Some((event_number, message))) => {
                event(Some(&format!("{number}-{event_number}")), &message)
            }
            Ok(None) => return None,
            Err(_) => keep_alive(),
        };
        Some((event, reader))
    });
    stream(stream::iter(first).chain(rest))
}

/// The comment that keeps a silent stream open.
pub(crate) const fn keep_alive() -> Bytes {
    Bytes::from_static(b": keep-alive\n\n")
}

/// How long a stream may be silent.
pub(crate) const fn silence() -> Duration {
    KEEP_ALIVE
}
