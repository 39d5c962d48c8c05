//! From the bytes of a pipe to messages.

use bytes::{Bytes, BytesMut};
use tidegate_protocol::{
    Envelope, Id, Limits, ParseError, ParseErrorKind,
    line::{Decoder, TooLong},
    split_batch,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
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

/// One readable end, with a buffer that grows with what comes.
#[derive(Debug)]
pub(super) struct Pipe<R> {
    reader: Option<R>,
    buffer: BytesMut,
    chunk: usize,
}

impl<R: AsyncRead + Unpin> Pipe<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader: Some(reader), buffer: BytesMut::new(), chunk: MIN_READ }
    }

    pub(super) const fn is_open(&self) -> bool {
        self.reader.is_some()
    }

    /// Reads once. `false` means that this was the end.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub(super) async fn read(&mut self) -> bool {
        let Some(reader) = &mut self.reader else { return false };
        if self.buffer.capacity() - self.buffer.len() < self.chunk / 4 {
            self.buffer.reserve(self.chunk);
        }
        match reader.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => {
                self.reader = None;
                false
            }
            Ok(length) => {
                if length >= self.chunk / 4 {
                    self.chunk = (self.chunk * 2).min(MAX_READ);
                }
                true
            }
        }
    }

    /// Like [`Self::read`], also after the end.
    pub(super) async fn read_open(&mut self) -> bool {
        self.is_open() && self.read().await
    }

    /// What was read.
    pub(super) fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }
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

    /// Hands over all messages that are complete with this chunk.
    pub(super) fn digest(&mut self, chunk: Bytes, child: &Child, pid: u32) -> Result<(), TooLong> {
        let Some(mut decoder) = self.decoder.take() else { return Ok(()) };
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
        end
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
