//! Cutting a stream into blocks, however the chunks fall.

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// A block of a stream: what stands between two blank lines, and the bytes it came as.
///
/// Blank lines beyond the one that ends a block, and a comment at the start of a block, come as
/// blocks without any field, so that they can be passed on at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The bytes of the stream, with the blank line. All blocks in order are the stream.
    pub raw: Bytes,
    /// The payload; lines joined with LF, and without a copy where there is just one. Empty for
    /// the block that primes a resumable stream; `None` where there is no `data` line.
    pub data: Option<Bytes>,
    /// The event id. Possibly empty, which resets it. Ids with NUL are no ids.
    pub id: Option<Bytes>,
    /// The event name; `None` means `message`.
    pub event: Option<Bytes>,
    /// How long to wait before reconnecting, in milliseconds.
    pub retry: Option<u64>,
}

/// A block exceeds the limit. The stream cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an SSE block is longer than {limit} bytes")]
pub struct TooLong {
    /// The limit, in bytes of the block as sent.
    pub limit: usize,
}

/// Cuts a stream into blocks.
///
/// Push a chunk, then take blocks until there is none. Lines end with CR, LF or CRLF, mixed at
/// will; chunks may end anywhere. A block that lies in one chunk is a slice of it. After
/// [`TooLong`] the decoder stays failed.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// What earlier chunks had of the current block.
    held: BytesMut,
    chunk: Bytes,
    /// How much of `chunk` has been seen to belong to the current block.
    seen: usize,
    state: State,
    /// Whether the first block has not been cut yet; only there a byte order mark is one.
    opening: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the start of the stream, with this much of a byte order mark seen.
    Mark(usize),
    /// At the start of a block.
    Start,
    /// In a line.
    Line,
    /// In a comment that opens a block.
    Comment,
    /// Behind the end of a line of a block.
    LineEnd { cr: bool },
    /// A block was too long.
    Failed,
}

impl Decoder {
    /// A decoder for one stream; `max_event` bounds the bytes of a block as sent.
    #[must_use]
    pub fn new(max_event: usize) -> Self {
        Self {
            limit: max_event,
            held: BytesMut::new(),
            chunk: Bytes::new(),
            seen: 0,
            state: State::Mark(0),
            opening: true,
        }
    }

    /// Adds what came from the stream. Cheapest when all blocks of the last chunk were taken.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            self.chunk = [self.chunk.as_ref(), chunk.as_ref()].concat().into();
        }
    }

    /// The next block, or `None` until more is pushed.
    ///
    /// # Errors
    /// When a block exceeds the limit, and ever after.
    #[expect(clippy::should_implement_trait, reason = "`None` is not the end")]
    pub fn next(&mut self) -> Result<Option<Block>, TooLong> {
        loop {
            let rest = self.chunk.get(self.seen..).unwrap_or_default();
            let Some(&byte) = rest.first() else {
                self.held.extend_from_slice(&self.chunk);
                self.chunk.clear();
                self.seen = 0;
                return self.check().map(|()| None);
            };
            match self.state {
                State::Failed => return self.check().map(|()| None),
                State::Mark(length) => match BOM.get(length) {
                    Some(mark) if *mark == byte => {
                        self.seen += 1;
                        self.state = State::Mark(length + 1);
                    }
                    Some(_) if length > 0 => self.state = State::Line,
                    _ => self.state = State::Start,
                },
                State::Start => match breaks(rest) {
                    0 if byte == b':' => self.state = State::Comment,
                    0 => self.state = State::Line,
                    run => return Ok(Some(self.cut(run))),
                },
                State::Line => match memchr2(b'\r', b'\n', rest) {
                    None => self.seen = self.chunk.len(),
                    Some(at) => {
                        self.state = State::LineEnd { cr: rest.get(at) == Some(&b'\r') };
                        self.seen += at + 1;
                    }
                },
                State::Comment => match memchr2(b'\r', b'\n', rest) {
                    None => self.seen = self.chunk.len(),
                    // Whatever ends the comment's block goes with it if it is here, but a comment
                    // does not wait for it.
                    Some(at) => {
                        let run = breaks(rest.get(at..).unwrap_or_default());
                        return self.check_then_cut(at + run);
                    }
                },
                State::LineEnd { cr: true } if byte == b'\n' => {
                    self.seen += 1;
                    self.state = State::LineEnd { cr: false };
                }
                State::LineEnd { .. } if matches!(byte, b'\r' | b'\n') => {
                    // A CR ends the block at once. If its LF is yet to come, that will look like
                    // one more blank line, which means nothing.
                    let pair = rest.starts_with(b"\r\n");
                    return self.check_then_cut(1 + usize::from(pair));
                }
                State::LineEnd { .. } => self.state = State::Line,
            }
        }
    }

    /// What is left of a stream that has ended: an unfinished block, as sent. By the rules of SSE
    /// it is discarded.
    #[must_use]
    pub fn finish(mut self) -> Option<Bytes> {
        self.held.extend_from_slice(&self.chunk);
        (!self.held.is_empty()).then(|| self.held.freeze())
    }

    fn check_then_cut(&mut self, more: usize) -> Result<Option<Block>, TooLong> {
        self.seen += more;
        self.check()?;
        Ok(Some(self.cut(0)))
    }

    /// Ends the block `more` bytes after what was seen.
    fn cut(&mut self, more: usize) -> Block {
        let tail = self.chunk.split_to((self.seen + more).min(self.chunk.len()));
        let raw = if self.held.is_empty() {
            tail
        } else {
            self.held.extend_from_slice(&tail);
            std::mem::take(&mut self.held).freeze()
        };
        self.seen = 0;
        self.state = State::Start;
        let mark = if self.opening && raw.starts_with(BOM) { BOM.len() } else { 0 };
        self.opening = false;
        Block::read(raw, mark)
    }

    fn check(&mut self) -> Result<(), TooLong> {
        if self.state == State::Failed || self.held.len() + self.seen > self.limit {
            self.state = State::Failed;
            self.held = BytesMut::new();
            self.chunk = Bytes::new();
            self.seen = 0;
            return Err(TooLong { limit: self.limit });
        }
        Ok(())
    }
}

impl Block {
    /// Whether the block tells a receiver nothing: a comment or blank lines.
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        self.data.is_none() && self.id.is_none() && self.event.is_none() && self.retry.is_none()
    }

    /// The lines with their ends, without a byte order mark.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.raw.strip_prefix(BOM).unwrap_or(&self.raw);
        std::iter::from_fn(move || {
            let at = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
            let end = match rest.get(at..)? {
                [] if at == 0 => return None,
                [b'\r', b'\n', ..] => at + 2,
                [] => at,
                _ => at + 1,
            };
            let (line, more) = rest.split_at(end);
            rest = more;
            Some(line)
        })
    }

    pub(super) fn read(raw: Bytes, mark: usize) -> Self {
        let mut block = Self { raw: raw.clone(), data: None, id: None, event: None, retry: None };
        let mut joined: Option<BytesMut> = None;
        let mut at = mark;
        while let Some(rest) = raw.get(at..).filter(|rest| !rest.is_empty()) {
            let length = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
            let (name, value) = field(rest.get(..length).unwrap_or_default());
            match name {
                b"data" => {
                    let value = raw.slice_ref(value);
                    match (&mut joined, &block.data) {
                        (Some(joined), _) => append_line(joined, &value),
                        (None, None) => block.data = Some(value),
                        (None, Some(first)) => {
                            let mut lines = BytesMut::with_capacity(raw.len());
                            lines.extend_from_slice(first);
                            append_line(&mut lines, &value);
                            joined = Some(lines);
                        }
                    }
                }
                b"id" if !value.contains(&0) => block.id = Some(raw.slice_ref(value)),
                b"event" => block.event = Some(raw.slice_ref(value)),
                b"retry" => block.retry = milliseconds(value).or(block.retry),
                _ => {}
            }
            at += length + 1;
        }
        if let Some(joined) = joined {
            block.data = Some(joined.freeze());
        }
        block
    }
}

/// How many bytes at the start are line ends.
fn breaks(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

/// The field name and value of a line. A comment has the empty name.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b':', line) {
        None => (line, line.get(line.len()..).unwrap_or_default()),
        Some(colon) => {
            let (name, value) = line.split_at(colon);
            let value = value.get(1..).unwrap_or_default();
            (name, value.strip_prefix(b" ").unwrap_or(value))
        }
    }
}

fn append_line(lines: &mut BytesMut, line: &[u8]) {
    lines.extend_from_slice(b"\n");
    lines.extend_from_slice(line);
}

fn milliseconds(value: &[u8]) -> Option<u64> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}
