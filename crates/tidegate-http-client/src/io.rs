//! The socket under hyper, with two checks that hyper does not make.
//!
//! Before a connection is used again the kernel is asked, not the runtime: what the peer sent or
//! closed a moment ago may not have been noticed yet, and a request written then would be answered
//! by bytes that belong to nobody, or be lost with its outcome unknown. And what comes before the
//! head of a response is bounded, because hyper skips interim responses without end.

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

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// How many bytes may come before the end of a response head, interim responses included.
pub(crate) const MAX_HEAD: usize = 64 << 10;

/// A connection's bytes.
#[derive(Debug)]
pub(crate) struct Io {
    stream: Stream,
    watch: Arc<Watch>,
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
}

impl Watch {
    pub(crate) const fn new() -> Self {
        Self { probe: AtomicBool::new(false), head_left: AtomicUsize::new(usize::MAX) }
    }

    /// A request is about to be written.
    pub(crate) fn before_request(&self) {
        self.probe.store(true, Relaxed);
        self.head_left.store(MAX_HEAD, Relaxed);
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
    pub(crate) const fn plain(stream: TcpStream, watch: Arc<Watch>) -> Self {
        Self { stream: Stream::Plain(stream), watch }
    }

    pub(crate) fn tls(stream: TlsStream<TcpStream>, watch: Arc<Watch>) -> Self {
        Self { stream: Stream::Tls(Box::new(stream)), watch }
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
        read
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
