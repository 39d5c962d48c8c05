//! Writing a response body that has no end, without the HTTP library.
//!
//! The library keeps a buffer to read into and one to write from, 8 KiB each, for as long as it has
//! a connection. A stream may be open and quiet for days, and there may be thousands. So the library
//! writes the head of such a response, is given a body of which nothing ever comes, and when the
//! head has left, the connection is taken from it. What the body brings is written as chunks here,
//! and when the body has ended the library gets the connection back.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use crate::http::OutBody;

/// As much of a further request is taken while a response is being written; then nothing more is
/// read, and the client's leaving is noticed when it is written to.
const MAX_AHEAD: usize = 4 << 10;
const LINE_END: &[u8] = b"\r\n";
const END: &[u8] = b"0\r\n\r\n";

/// What an HTTP/1.1 connection and its responses agree on.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    body: Mutex<Option<Box<OutBody>>>,
    /// Whether the library has begun to wait for the body.
    is_awaited: AtomicBool,
    /// Whether the library has something that the kernel has not taken.
    is_writing: AtomicBool,
}

/// The body that the library has instead.
#[derive(Debug)]
pub(crate) struct Handed(Arc<Handover>);

impl Handover {
    /// Leaves a body to the connection, and gives what the library has instead. The body must not
    /// own the handover.
    pub(crate) fn put(self: Arc<Self>, body: OutBody) -> Handed {
        self.is_awaited.store(false, Relaxed);
        *self.body.lock() = Some(Box::new(body));
        Handed(self)
    }

    /// Notes whether a write took all there was.
    pub(super) fn note_write(&self, is_writing: bool) {
        self.is_writing.store(is_writing, Relaxed);
    }

    /// Whether the head has left, and there is a body to go on with.
    pub(super) fn is_due(&self) -> bool {
        self.is_awaited.load(Relaxed) && !self.is_writing.load(Relaxed)
    }

    pub(super) fn take(&self) -> Option<Box<OutBody>> {
        self.is_awaited.store(false, Relaxed);
        self.body.lock().take()
    }
}

impl Handed {
    /// The library has asked for the body. It has the head ready then, and writes it next.
    pub(crate) fn awaited(&self) {
        self.0.is_awaited.store(true, Relaxed);
    }
}

/// Writes the rest of a response, and gives back what the client has sent meanwhile.
///
/// # Errors
///
/// When the client has left or takes nothing, and when the body breaks off. Then the response must
/// not look whole.
///
/// # Cancel safety
///
/// Dropped, it leaves the response cut.
pub(super) async fn write_body<S>(
    stream: &mut S,
    body: Box<OutBody>,
    mut ahead: BytesMut,
) -> io::Result<Bytes>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut body = body;
    while let Some(data) = poll_fn(|cx| poll_next(cx, stream, &mut body, &mut ahead)).await? {
        if !data.is_empty() {
            write_chunk(stream, &data).await?;
        }
    }
    drop(body);
    stream.write_all(END).await?;
    stream.flush().await?;
    Ok(ahead.freeze())
}

/// The next piece of the body. While there is none, the client may leave.
fn poll_next<S: AsyncRead + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut S,
    body: &mut OutBody,
    ahead: &mut BytesMut,
) -> Poll<io::Result<Option<Bytes>>> {
    if let Poll::Ready(next) = Pin::new(body).poll_frame(cx) {
        return Poll::Ready(match next {
            Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
            Some(Err(broken)) => Err(io::Error::other(broken)),
            None => Ok(None),
        });
    }
    while ahead.len() < MAX_AHEAD {
        let mut room = [0; 512];
        let mut read = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
        if read.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        ahead.extend_from_slice(read.filled());
    }
    Poll::Pending
}

/// Writes one chunk, in one piece if the kernel takes it.
async fn write_chunk<S: AsyncWrite + Unpin>(stream: &mut S, data: &[u8]) -> io::Result<()> {
    let size = format!("{:x}\r\n", data.len());
    let mut parts = [IoSlice::new(size.as_bytes()), IoSlice::new(data), IoSlice::new(LINE_END)];
    let mut left = &mut parts[..];
    while !left.is_empty() {
        match stream.write_vectored(left).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut left, written),
        }
    }
    Ok(())
}
