//! An HTTP/1.1 connection while an event stream comes over it, taken from the HTTP library.
//!
//! The library keeps a buffer to write from and one to read into for as long as a connection is
//! open, and the second grows to what came in one piece. A stream may be open and quiet for days,
//! and there may be thousands. So once the head of its response has been read, the connection is
//! taken over: it reads into memory that all share ([`Buffers`]) and has none while it is quiet.
//! All chunks of one read leave in one piece, too, where the library hands out each by itself.
//!
//! Only chunked bodies are read here, which those of event streams are; see [`is_fit`].

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
    response,
};
use tidegate_pool::Buffers;
use tokio::io::{AsyncRead as _, ReadBuf};

use super::chunks::Chunks;
use crate::{
    fault::{BodyError, Fault},
    io::Io,
};

/// The most that is read at once.
const READ: usize = 64 << 10;

/// A connection in the middle of a response body.
pub(super) struct Stream {
    io: Io,
    chunks: Chunks,
    /// What had come behind the head.
    rest: Bytes,
    /// Whether the server keeps the connection open behind the body.
    keeps_alive: bool,
}

/// Whether the body behind this head can be read by a [`Stream`]: events, in chunks and in no other
/// coding.
pub(super) fn is_fit(head: &response::Parts) -> bool {
    let is = |name, wanted: &[u8]| {
        let mut values = head.headers.get_all(name).iter();
        let is_wanted = values.next().is_some_and(|value| {
            let mut parts = value.as_bytes().split(|byte| *byte == b';');
            parts.next().unwrap_or_default().trim_ascii().eq_ignore_ascii_case(wanted)
        });
        is_wanted && values.next().is_none()
    };
    head.status == StatusCode::OK
        && head.version == Version::HTTP_11
        && is(CONTENT_TYPE, b"text/event-stream")
        && is(TRANSFER_ENCODING, b"chunked")
        && !head.headers.contains_key(CONTENT_LENGTH)
}

impl Stream {
    /// Goes on with a connection whose response head has been read, and `rest` behind it.
    pub(super) fn new(io: Io, rest: Bytes, head: &response::Parts) -> Self {
        let keeps_alive = !closes(&head.headers);
        Self { io, chunks: Chunks::default(), rest, keeps_alive }
    }

    /// The next piece of the body; `None` is its proper end.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        while !self.chunks.is_over() {
            let (mut buffer, length) = if self.rest.is_empty() {
                let mut buffer = Buffers::shared().take(READ);
                let mut read = ReadBuf::new(buffer.as_mut());
                match ready!(Pin::new(&mut self.io).poll_read(cx, &mut read)) {
                    Ok(()) => (),
                    Err(error) => return Poll::Ready(Some(Err(broken(error)))),
                }
                let length = read.filled().len();
                if length == 0 {
                    return Poll::Ready(Some(Err(Fault::Cut(None))));
                }
                (buffer, length)
            } else {
                let length = self.rest.len().min(READ);
                let mut buffer = Buffers::shared().take(length);
                let piece = self.rest.split_to(length);
                if let Some(room) = buffer.as_mut().get_mut(..length) {
                    room.copy_from_slice(&piece);
                }
                (buffer, length)
            };
            let read = buffer.as_mut().get_mut(..length).unwrap_or_default();
            match self.chunks.compact(read) {
                Ok(0) => (),
                Ok(length) => return Poll::Ready(Some(Ok(buffer.freeze(length)))),
                Err(flaw) => {
                    return Poll::Ready(Some(Err(Fault::Body(BodyError::Chunk(flaw)))));
                }
            }
        }
        Poll::Ready(None)
    }

    /// The connection, if the body has ended and another exchange may follow.
    pub(super) fn into_io(self) -> Option<Io> {
        let is_clean = self.chunks.is_over() && !self.chunks.has_excess() && self.rest.is_empty();
        (is_clean && self.keeps_alive).then_some(self.io)
    }
}

fn closes(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
}

fn broken(error: io::Error) -> Fault {
    Fault::Cut(Some(BodyError::Io(error)))
}
