//! The byte stream of a client connection, with two of the clocks that bound a client: how long a
//! request's head may take once it has begun, and how long a client may refuse to take what is
//! ready for it. A connection that is busy pays for neither.
//!
//! How long a connection may rest is not for the stream to tell: between requests the library
//! waits for the next byte without asking again, so that a timer set here would never be.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{BufMut as _, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{Activity, handover::Handover};

/// Pieces that are no longer than this together are joined and sent: copying them costs less than
/// having the kernel read a list of them.
const JOINED: usize = 1 << 10;

/// A stream that gives back the bytes already read from it and times its peer out.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    read_ahead: Bytes,
    activity: Arc<Activity>,
    handover: Arc<Handover>,
    /// When the head that is being read began. Unused in HTTP/2, where frames of many requests
    /// mix and the library bounds headers itself.
    head_began: Option<Instant>,
    clocks_heads: bool,
    head_clock: Clock,
    write_clock: Clock,
}

/// A timer that costs nothing until it is needed.
#[derive(Debug, Default)]
struct Clock {
    sleep: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl<S> Guarded<S> {
    pub(super) fn new(
        stream: S,
        read_ahead: Bytes,
        activity: Arc<Activity>,
        is_http2: bool,
    ) -> Self {
        let clocks_heads = !is_http2;
        let head_began = clocks_heads.then(Instant::now);
        Self {
            stream,
            read_ahead,
            activity,
            handover: Arc::default(),
            head_began,
            clocks_heads,
            head_clock: Clock::default(),
            write_clock: Clock::default(),
        }
    }

    /// What the connection agrees on with its responses.
    pub(super) const fn handover(&self) -> &Arc<Handover> {
        &self.handover
    }

    /// The same stream, at rest, with what has been read of the next request.
    pub(super) fn resting(mut self, read_ahead: Bytes) -> Self {
        self.head_began = (!read_ahead.is_empty()).then(Instant::now);
        self.read_ahead = read_ahead;
        self
    }

    /// Notes what a read brought, and whether the peer has been too slow with a head.
    fn watch_head(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<()> {
        if !self.clocks_heads || self.activity.is_busy() {
            self.head_began = None;
            self.head_clock.armed = false;
            return Poll::Pending;
        }
        if read {
            self.head_began.get_or_insert_with(Instant::now);
            return Poll::Pending;
        }
        match self.head_began {
            None => Poll::Pending,
            Some(began) => {
                let deadline = began + self.activity.timeouts().headers;
                self.head_clock.poll_at(cx, deadline)
            }
        }
    }

    /// Notes whether a write took all of `length` bytes.
    fn watch_write(
        &mut self,
        cx: &mut Context<'_>,
        length: usize,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let is_whole = matches!(&wrote, Poll::Ready(Ok(taken)) if *taken == length);
        self.handover.note_write(!is_whole);
        self.watch_stall(cx, wrote)
    }

    /// Turns a write that cannot proceed into an error once it has waited too long.
    fn watch_stall<T>(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.write_clock.armed = false;
            return wrote;
        }
        let patience = self.activity.patience();
        ready!(self.write_clock.poll_after(cx, patience));
        self.activity.note_stalled();
        Poll::Ready(Err(stalled("the client took no bytes")))
    }
}

impl Clock {
    fn poll_after(&mut self, cx: &mut Context<'_>, wait: Duration) -> Poll<()> {
        // Once armed, the deadline stands until progress is made.
        let deadline = Instant::now() + wait;
        self.poll_at(cx, deadline)
    }

    fn poll_at(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if !self.armed {
            sleep.as_mut().reset(deadline);
            self.armed = true;
        }
        sleep.as_mut().poll(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.read_ahead.is_empty() {
            let take = this.read_ahead.len().min(buf.remaining());
            buf.put_slice(&this.read_ahead.split_to(take));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        let progressed = read.is_ready() && buf.filled().len() > before;
        let too_slow = this.watch_head(cx, progressed).is_ready();
        if read.is_pending() && too_slow {
            return Poll::Ready(Err(stalled("the request's head did not come in time")));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let wrote = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.watch_write(cx, buf.len(), wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let length = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        let wrote = if length <= JOINED {
            let mut joined = [0; JOINED];
            let mut room = &mut joined[..];
            for buf in bufs {
                room.put_slice(buf);
            }
            Pin::new(&mut this.stream).poll_write(cx, joined.split_at(length).0)
        } else {
            Pin::new(&mut this.stream).poll_write_vectored(cx, bufs)
        };
        this.watch_write(cx, length, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.watch_stall(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn stalled(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, IoSlice},
        pin::Pin,
        sync::Arc,
        task::{Context, Poll},
        time::Duration,
    };

    use bytes::Bytes;
    use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, duplex};

    use super::{Activity, Guarded, JOINED};
    use crate::params::Timeouts;

    const TIMEOUTS: Timeouts = Timeouts {
        first_byte: Duration::from_secs(1),
        headers: Duration::from_secs(10),
        body_idle: Duration::from_secs(1),
        keep_alive: Duration::from_secs(75),
        write_stall: Duration::from_secs(60),
        initialize: Duration::ZERO,
        heartbeat: Duration::from_secs(15),
    };

    /// Notes how it is written to.
    #[derive(Debug, Default)]
    struct Notes(Vec<String>);

    impl AsyncWrite for Notes {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(format!("one of {}: {}", bytes.len(), bytes.escape_ascii()));
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let length = pieces.iter().map(|piece| piece.len()).sum();
            self.0.push(format!("{} of {length}", pieces.len()));
            Poll::Ready(Ok(length))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn small_pieces_leave_joined_and_large_ones_uncopied() {
        let activity = Arc::new(Activity::new(TIMEOUTS));
        let mut stream = Guarded::new(Notes::default(), Bytes::new(), activity, false);
        let small = [IoSlice::new(b"head "), IoSlice::new(b""), IoSlice::new(b"body")];
        assert_eq!(stream.write_vectored(&small).await.unwrap(), 9);
        let body = vec![b'x'; JOINED];
        let large = [IoSlice::new(b"head "), IoSlice::new(&body)];
        assert_eq!(stream.write_vectored(&large).await.unwrap(), JOINED + 5);
        assert_eq!(stream.stream.0, ["one of 9: head body", "2 of 1029"]);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_read_ahead_come_first() {
        let (near, mut far) = duplex(64);
        let activity = Arc::new(Activity::new(TIMEOUTS));
        let mut stream = Guarded::new(near, Bytes::from_static(b"POST "), activity, false);
        far.write_all(b"/mcp").await.unwrap();
        let mut read = [0; 9];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"POST /mcp");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_drips_is_cut_at_its_deadline_however_often_it_drips() {
        let (near, mut far) = duplex(64);
        let activity = Arc::new(Activity::new(TIMEOUTS));
        let mut stream = Guarded::new(near, Bytes::from_static(b"P"), activity, false);
        let began = tokio::time::Instant::now();
        let drip = async {
            loop {
                far.write_all(b"x").await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let read = async {
            let mut byte = [0; 1];
            loop {
                if let Err(error) = stream.read_exact(&mut byte).await {
                    return error;
                }
            }
        };
        let error = tokio::select! { error = read => error, () = drip => unreachable!() };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_request_is_under_way_silence_is_fine() {
        let (near, _far) = duplex(64);
        let activity = Arc::new(Activity::new(TIMEOUTS));
        let _entered = activity.enter();
        let mut stream = Guarded::new(near, Bytes::new(), activity, false);
        let mut byte = [0; 1];
        let silent = tokio::time::timeout(Duration::from_secs(600), stream.read(&mut byte)).await;
        assert!(silent.is_err(), "nothing came and nothing broke");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_dropped() {
        let (near, mut far) = duplex(8);
        let activity = Arc::new(Activity::new(TIMEOUTS));
        let mut stream = Guarded::new(near, Bytes::new(), activity, false);
        stream.write_all(b"12345678").await.unwrap();
        let began = tokio::time::Instant::now();
        let error = stream.write_all(b"more").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 60);
        // Progress starts the clock anew.
        far.read_exact(&mut [0; 8]).await.unwrap();
        stream.write_all(b"9").await.unwrap();
    }
}
