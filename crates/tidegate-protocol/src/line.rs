//! One message per line, as stdio servers talk.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use memchr::memchr;

/// A line exceeds the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {limit} bytes")]
pub struct TooLong {
    /// The limit, in bytes, the line's end not counted.
    pub limit: usize,
}

/// Cuts a byte stream into lines.
///
/// Push a chunk, then take lines until there is none. Lines end with LF or CRLF; blank lines are
/// skipped; a line that lies in one chunk is a slice of it.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// What earlier chunks had of the current line.
    held: BytesMut,
    chunk: Bytes,
    /// Whether the rest of the current line is to be dropped.
    dropping: bool,
}

impl Decoder {
    /// A decoder for one stream; `max_line` bounds the bytes of a line without its end.
    #[must_use]
    pub fn new(max_line: usize) -> Self {
        Self { limit: max_line, held: BytesMut::new(), chunk: Bytes::new(), dropping: false }
    }

    /// Adds what came from the stream. Cheapest when all lines of the last chunk were taken.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            self.chunk = [self.chunk.as_ref(), chunk.as_ref()].concat().into();
        }
    }

    /// Adds a copy of what came from the stream.
    pub fn push_slice(&mut self, chunk: &[u8]) {
        self.push(Bytes::copy_from_slice(chunk));
    }

    /// The next line that is not blank, without its end, or `None` until more is pushed.
    ///
    /// # Errors
    /// When a line exceeds the limit, as soon as it does and once for that line. The rest of it is
    /// dropped without being kept, and the lines after it can still be read.
    #[expect(clippy::should_implement_trait, reason = "`None` is not the end")]
    pub fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        loop {
            let Some(end) = memchr(b'\n', &self.chunk) else {
                return self.hold().map(|()| None);
            };
            let tail = self.chunk.split_to(end);
            self.chunk.advance(1);
            if std::mem::take(&mut self.dropping) {
                continue;
            }
            let line = if self.held.is_empty() {
                tail
            } else {
                self.held.extend_from_slice(&tail);
                std::mem::take(&mut self.held).freeze()
            };
            let line = without_cr(line);
            if line.len() > self.limit {
                return Err(TooLong { limit: self.limit });
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }

    /// What is left of a stream that has ended: a line without its end, unless blank.
    #[must_use]
    pub fn finish(mut self) -> Option<Bytes> {
        if self.dropping {
            return None;
        }
        self.held.extend_from_slice(&self.chunk);
        let line = without_cr(self.held.freeze());
        (!line.trim_ascii().is_empty()).then_some(line)
    }

    /// Keeps an unfinished line for later, unless it is too long already.
    fn hold(&mut self) -> Result<(), TooLong> {
        let chunk = std::mem::take(&mut self.chunk);
        if self.dropping {
            return Ok(());
        }
        // One more byte may turn out to be a CR.
        if self.held.len() + chunk.len() > self.limit.saturating_add(1) {
            self.held = BytesMut::new();
            self.dropping = true;
            return Err(TooLong { limit: self.limit });
        }
        self.held.extend_from_slice(&chunk);
        Ok(())
    }
}

/// Appends one message as a line.
///
/// Line breaks between the message's tokens become spaces. `message` must be JSON, which has no
/// raw ones elsewhere.
pub fn encode_into(out: &mut BytesMut, message: &[u8]) {
    out.reserve(message.len() + 1);
    push_unbroken(out, message);
    out.put_u8(b'\n');
}

/// Appends `text` with a space in place of each CR and LF.
pub(crate) fn push_unbroken(out: &mut impl BufMut, text: &[u8]) {
    let mut copied = 0;
    for at in memchr::memchr2_iter(b'\r', b'\n', text) {
        out.put_slice(text.get(copied..at).unwrap_or_default());
        out.put_u8(b' ');
        copied = at + 1;
    }
    out.put_slice(text.get(copied..).unwrap_or_default());
}

fn without_cr(mut line: Bytes) -> Bytes {
    if line.last() == Some(&b'\r') {
        line.truncate(line.len() - 1);
    }
    line
}

#[cfg(test)]
mod tests;
