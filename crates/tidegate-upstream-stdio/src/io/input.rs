//! From the bytes of a pipe to messages.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tidegate_pool::Buffers;
use tidegate_protocol::{
    Envelope, Id, Limits, ParseError, ParseErrorKind,
    line::{Decoder, TooLong},
    split_batch,
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Duration, Instant},
};
use tracing::warn;

use crate::{child::Child, demux::Effects};

/// How much is read at once: little from a quiet process, much from a busy one.
const MIN_READ: usize = 4 * 1024;
const MAX_READ: usize = 64 * 1024;

/// How often a process's garbage is logged.
const COMPLAIN: Duration = Duration::from_secs(1);

/// How much of a garbage line is logged.
const EXCERPT: usize = 200;

/// Messages of a batch, which 2025-03-26 servers may send.
const MAX_BATCH: usize = 1024;

/// One readable end. It has a buffer only while it looks whether something is there.
#[derive(Debug)]
pub(super) struct Pipe<R> {
    reader: Option<R>,
    buffers: Buffers,
    /// What was read last.
    bytes: Bytes,
    chunk: usize,
}

impl<R: AsyncRead + Unpin> Pipe<R> {
    pub(super) fn new(reader: R) -> Self {
        Self::with(reader, Buffers::shared().clone())
    }

    fn with(reader: R, buffers: Buffers) -> Self {
        Self { reader: Some(reader), buffers, bytes: Bytes::new(), chunk: MIN_READ }
    }

    pub(super) const fn is_open(&self) -> bool {
        self.reader.is_some()
    }

    /// Reads once, unless what was read before has not been taken. `false` means that this was the
    /// end.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub(super) async fn read(&mut self) -> bool {
        if !self.bytes.is_empty() {
            return true;
        }
        let Some(reader) = &mut self.reader else { return false };
        let (buffers, chunk) = (&self.buffers, self.chunk);
        let read = poll_fn(|cx| match chunk {
            MIN_READ => poll_little(cx, Pin::new(&mut *reader)),
            chunk => buffers.poll_read(cx, Pin::new(&mut *reader), chunk),
        });
        match read.await {
            Ok(bytes) if !bytes.is_empty() => {
                if bytes.len() == chunk {
                    self.chunk = (chunk * 4).min(MAX_READ);
                } else if bytes.len() < MIN_READ {
                    self.chunk = MIN_READ;
                }
                self.bytes = bytes;
                true
            }
            Ok(_) | Err(_) => {
                self.reader = None;
                false
            }
        }
    }

    /// Like [`Self::read`], also after the end.
    pub(super) async fn read_open(&mut self) -> bool {
        self.is_open() && self.read().await
    }

    /// What was read.
    pub(super) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.bytes)
    }
}

/// Reads what a quiet process says, by way of the stack: most looks find nothing, and what they
/// find is short, so that copying it costs less than a buffer that is shared.
fn poll_little(cx: &mut Context<'_>, reader: Pin<&mut impl AsyncRead>) -> Poll<io::Result<Bytes>> {
    let mut space = [MaybeUninit::uninit(); MIN_READ];
    let mut buffer = ReadBuf::uninit(&mut space);
    ready!(reader.poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
}

/// The stdout of one process, cut into messages.
#[derive(Debug)]
pub(super) struct Input {
    decoder: Option<Decoder>,
    batch: Vec<Incoming>,
    fx: Effects,
    complained: Option<Instant>,
}

#[derive(Debug)]
enum Incoming {
    Message(Envelope),
    /// An answer that cannot be read but says whose it is.
    Broken(Id),
}

impl Input {
    pub(super) fn new(max_line: usize) -> Self {
        Self {
            decoder: Some(Decoder::new(max_line)),
            batch: Vec::new(),
            fx: Effects::default(),
            complained: None,
        }
    }

    /// Hands over all messages that are complete with this chunk. Says whether much waits for some
    /// reader now.
    pub(super) fn digest(
        &mut self,
        chunk: Bytes,
        child: &Child,
        pid: u32,
    ) -> Result<bool, TooLong> {
        let Some(mut decoder) = self.decoder.take() else { return Ok(false) };
        decoder.push(chunk);
        let end = loop {
            match decoder.next() {
                Ok(Some(line)) => self.parse(&line, child, pid),
                Ok(None) => break Ok(()),
                Err(too_long) => break Err(too_long),
            }
        };
        if !self.batch.is_empty() {
            let now = Instant::now();
            let batch = self.batch.drain(..);
            child.change_with(&mut self.fx, |state, fx| {
                for incoming in batch {
                    match incoming {
                        Incoming::Message(message) => state.demux.receive(message, now, fx),
                        Incoming::Broken(id) => state.demux.receive_broken(&id, fx),
                    }
                }
            });
        }
        // What follows a line that was too long is not to be trusted.
        self.decoder = end.is_ok().then_some(decoder);
        end.map(|()| std::mem::take(&mut self.fx.is_behind))
    }

    /// The stream has ended; a line without its end is no message.
    pub(super) fn finish(&mut self, child: &Child) {
        if self.decoder.take().and_then(Decoder::finish).is_some() {
            child.counters().garbage_lines.increment();
        }
    }

    fn parse(&mut self, line: &Bytes, child: &Child, pid: u32) {
        let limits = Limits { max_depth: Limits::DEPTH_CAP };
        match Envelope::parse_with(line.clone(), &limits) {
            Ok(message) => self.batch.push(Incoming::Message(message)),
            Err(ParseError { kind: ParseErrorKind::Array, .. }) => {
                match split_batch(line, &limits, MAX_BATCH) {
                    Ok(items) => {
                        for item in items.iter().filter(|item| !item.starts_with(b"[")) {
                            self.parse(item, child, pid);
                        }
                    }
                    Err(error) => self.complain(line, &error, child, pid),
                }
            }
            Err(error) => {
                self.complain(line, &error, child, pid);
                // A server's request may have any id; only an answer has one of ours.
                let is_answer = memchr::memmem::find(line, b"\"method\"").is_none();
                self.batch.extend(error.id.filter(|_| is_answer).map(Incoming::Broken));
            }
        }
    }

    fn complain(&mut self, line: &Bytes, error: &ParseError, child: &Child, pid: u32) {
        child.counters().garbage_lines.increment();
        let now = Instant::now();
        if self.complained.is_some_and(|last| now < last + COMPLAIN) {
            return;
        }
        self.complained = Some(now);
        let excerpt = String::from_utf8_lossy(line.get(..EXCERPT).unwrap_or(line));
        let name = &child.params.name;
        warn!(upstream = %name, pid, %error, ?excerpt, "the server printed what is no message");
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tidegate_pool::Buffers;
    use tokio::{io::AsyncWriteExt as _, net::unix::pipe};

    use super::Pipe;

    #[tokio::test]
    async fn a_pipe_that_waits_holds_no_memory_also_after_a_flood() {
        let buffers = Buffers::new(1 << 20);
        let (mut writer, reader) = pipe::pipe().unwrap();
        let mut pipe = Pipe::with(reader, buffers.clone());
        for flood in [1, 100, 60_000, 60_000, 7] {
            assert!(pipe.read().now_or_never().is_none());
            assert_eq!(buffers.stats().lent, 0);
            writer.write_all(&vec![b'x'; flood]).await.unwrap();
            let mut read = 0;
            while read < flood {
                assert!(pipe.read().await && pipe.read().await, "it is there until it is taken");
                let bytes = pipe.take();
                assert!(bytes.iter().all(|byte| *byte == b'x'));
                read += bytes.len();
            }
            assert_eq!(read, flood);
        }
        drop(writer);
        assert!(!pipe.read().await && !pipe.is_open());
        assert_eq!(buffers.stats().lent, 0);
    }
}
