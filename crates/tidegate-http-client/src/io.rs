//! The socket under hyper, with two checks that hyper does not make.
//!
//! Before a connection is used again the kernel is asked, not the runtime: what the peer sent or
//! closed a moment ago may not have been noticed yet, and a request written then would be answered
//! by bytes that belong to nobody, or be lost with its outcome unknown. And what comes before the
//! head of a response is bounded, because hyper skips interim responses without end. It can also
//! keep a body from hyper, see [`Hold`].

mod hold;

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use self::hold::HeadEnd;
pub(crate) use self::hold::Hold;

/// How many bytes may come before the end of a response head, interim responses included.
pub(crate) const MAX_HEAD: usize = 64 << 10;

/// A connection's bytes.
#[derive(Debug)]
pub(crate) struct Io {
    stream: Stream,
    watch: Arc<Watch>,
    head_end: HeadEnd,
    /// What has come of a body that is kept back, or was.
    held: Bytes,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What the user of a connection tells its socket. Only one task uses either.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Whether the next read asks the kernel if the connection is still clean.
    probe: AtomicBool,
    /// How many more bytes may come before the response head is complete.
    head_left: AtomicUsize,
    /// Whether something is on its way that the kernel has not taken.
    is_writing: AtomicBool,
    /// How many bytes of the request the socket has taken.
    written: AtomicUsize,
    pub(crate) hold: Hold,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self {
            probe: AtomicBool::new(false),
            head_left: AtomicUsize::new(usize::MAX),
            is_writing: AtomicBool::new(false),
            written: AtomicUsize::new(0),
            hold: Hold::default(),
        }
    }

    /// A request is about to be written.
    pub(crate) fn before_request(&self) {
        self.probe.store(true, Relaxed);
        self.head_left.store(MAX_HEAD, Relaxed);
        self.written.store(0, Relaxed);
    }

    /// Whether a request with a body of this length has been written whole. The library writes a
    /// head and what there is of a body in one piece.
    pub(crate) fn has_written(&self, body: usize) -> bool {
        !self.is_writing.load(Relaxed) && self.written.load(Relaxed) > body
    }

    fn note_write(&self, wanted: usize, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let taken = match &wrote {
            Poll::Ready(Ok(taken)) => *taken,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        self.is_writing.store(taken < wanted, Relaxed);
        self.written.fetch_add(taken, Relaxed);
        wrote
    }

    /// The head of the response is complete.
    pub(crate) fn head_done(&self) {
        self.head_left.store(usize::MAX, Relaxed);
    }

    /// Whether the head was longer than allowed.
    pub(crate) fn head_too_long(&self) -> bool {
        self.head_left.load(Relaxed) == 0
    }

    fn count(&self, read: usize) {
        let left = self.head_left.load(Relaxed);
        if left != usize::MAX {
            self.head_left.store(left.saturating_sub(read), Relaxed);
        }
    }
}

impl Io {
    pub(crate) fn plain(stream: TcpStream, watch: Arc<Watch>) -> Self {
        Self::new(Stream::Plain(stream), watch)
    }

    pub(crate) fn tls(stream: TlsStream<TcpStream>, watch: Arc<Watch>) -> Self {
        Self::new(Stream::Tls(Box::new(stream)), watch)
    }

    fn new(stream: Stream, watch: Arc<Watch>) -> Self {
        Self { stream, watch, head_end: HeadEnd::default(), held: Bytes::new() }
    }

    /// What has come of a body that was kept back.
    pub(crate) fn take_held(&mut self) -> Bytes {
        std::mem::take(&mut self.held)
    }

    /// Asks the kernel what waits to be read. `None` means nothing that matters.
    fn probe(&self) -> Option<io::Result<()>> {
        let (socket, is_plain) = match &self.stream {
            Stream::Plain(stream) => (stream, true),
            Stream::Tls(stream) => (stream.get_ref().0, false),
        };
        match SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]) {
            // Closed: a read of nothing says so.
            Ok(0) => Some(Ok(())),
            Ok(_) if is_plain => Some(Err(io::Error::other("bytes arrived before the request"))),
            // TLS may have something to say between requests, such as a session ticket.
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.watch.probe.load(Relaxed) {
            self.watch.probe.store(false, Relaxed);
            if let Some(found) = self.probe() {
                return Poll::Ready(found);
            }
        }
        if self.watch.hold.is_holding() {
            // Nobody needs to be woken: whoever releases the body polls for it.
            return Poll::Pending;
        }
        if !self.held.is_empty() {
            let length = self.held.len().min(buf.remaining());
            buf.put_slice(self.held.get(..length).unwrap_or_default());
            self.held.advance(length);
            return Poll::Ready(Ok(()));
        }
        let too_long = self.watch.head_too_long();
        let before = buf.filled().len();
        let read = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        let came = buf.filled().len() - before;
        if too_long && came > 0 {
            // Only now: what came before may have been a head and a whole body in one piece, after
            // which nothing follows.
            return Poll::Ready(Err(io::Error::other("response head too long")));
        }
        self.watch.count(came);
        let this = &mut *self;
        let new = buf.filled().get(before..).unwrap_or_default();
        if let Some(end) = this.head_end.look(&this.watch.hold, new) {
            this.held = Bytes::copy_from_slice(new.get(end..).unwrap_or_default());
            buf.set_filled(before + end);
        }
        read
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        self.watch.note_write(buf.len(), wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        self.watch.note_write(bufs.iter().map(|buf| buf.len()).sum(), wrote)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        if flushed.is_pending() {
            // TLS has taken it and the kernel has not.
            self.watch.is_writing.store(true, Relaxed);
        } else if matches!(self.stream, Stream::Tls(_)) {
            self.watch.is_writing.store(false, Relaxed);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
