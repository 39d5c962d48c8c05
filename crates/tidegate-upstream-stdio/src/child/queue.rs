//! What waits to be written to a process's stdin, already cut into writes.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use tidegate_protocol::line;

/// As much as a pipe takes at once on Linux; a longer write gains nothing.
const CHUNK: usize = 64 * 1024;

/// How much may wait. One message of any length may wait alone.
const MAX_BYTES: usize = 1024 * 1024;
const MAX_LINES: usize = 4096;

/// How far lines of our own making may exceed the limit. They are short, and answer or cancel
/// what was let in before; a process that makes us write more of them than this reads nothing.
const CONTROL_BYTES: usize = 4 * MAX_BYTES;

/// Lines in the order they were queued.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    lines: usize,
    /// An empty buffer to fill next, so that a steady stream of calls allocates nothing.
    spare: BytesMut,
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: BytesMut,
    lines: usize,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// How many messages and bytes wait.
    pub(crate) const fn size(&self) -> (usize, usize) {
        (self.lines, self.bytes)
    }

    /// Whether a client's message of this length may be queued.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        self.is_empty() || (self.bytes + length < MAX_BYTES && self.lines < MAX_LINES)
    }

    /// Queues a message, whether there is room or not.
    pub(crate) fn push(&mut self, message: &[u8]) {
        let fits = |chunk: &&mut Chunk| chunk.bytes.len() + message.len() < CHUNK;
        match self.chunks.back_mut().filter(fits) {
            Some(chunk) => {
                line::encode_into(&mut chunk.bytes, message);
                chunk.lines += 1;
            }
            None => {
                let mut bytes = std::mem::take(&mut self.spare);
                line::encode_into(&mut bytes, message);
                self.chunks.push_back(Chunk { bytes, lines: 1 });
            }
        }
        self.bytes += message.len() + 1;
        self.lines += 1;
    }

    /// Queues a message of our own. Returns `false`, and drops it, where the process has made us
    /// write far too many of them.
    pub(crate) fn push_control(&mut self, message: &Bytes) -> bool {
        let fits = self.bytes + message.len() < CONTROL_BYTES;
        if fits {
            self.push(message);
        }
        fits
    }

    /// The next bytes to write.
    pub(crate) fn take(&mut self) -> Option<BytesMut> {
        let chunk = self.chunks.pop_front()?;
        self.bytes = self.bytes.saturating_sub(chunk.bytes.len());
        self.lines = self.lines.saturating_sub(chunk.lines);
        Some(chunk.bytes)
    }

    /// Gives back a buffer that was written. Large ones are let go.
    pub(crate) fn recycle(&mut self, mut buffer: BytesMut) {
        if buffer.capacity() <= 2 * CHUNK && buffer.capacity() > self.spare.capacity() {
            buffer.clear();
            self.spare = buffer;
        }
    }

    /// Forgets everything: nobody reads it any more.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, CONTROL_BYTES, MAX_BYTES, MAX_LINES, Queue};

    #[test]
    fn short_messages_share_a_write_and_long_ones_do_not() {
        let mut queue = Queue::default();
        queue.push(b"{}");
        queue.push(b"{\n\"a\":\r\n1}");
        queue.push(&vec![b'1'; CHUNK]);
        queue.push(b"[]");
        assert_eq!(queue.take().unwrap().as_ref(), b"{}\n{ \"a\":  1}\n");
        assert_eq!(queue.take().unwrap().len(), CHUNK + 1);
        let last = queue.take().unwrap();
        assert_eq!(last.as_ref(), b"[]\n");
        assert!(queue.take().is_none());
        assert_eq!((queue.bytes, queue.lines), (0, 0));
        queue.recycle(last);
        assert!(queue.spare.is_empty() && queue.spare.capacity() > 0);
    }

    #[test]
    fn room_ends_by_bytes_and_by_count_but_one_message_always_fits() {
        let mut queue = Queue::default();
        assert!(queue.has_room(MAX_BYTES * 5));
        queue.push(b"1");
        assert!(!queue.has_room(MAX_BYTES) && queue.has_room(100));
        for _ in 1..MAX_LINES {
            queue.push(b"1");
        }
        assert!(!queue.has_room(1));
        assert!(queue.push_control(&vec![b'1'; MAX_BYTES].into()));
        assert!(!queue.push_control(&vec![b'1'; CONTROL_BYTES].into()));
    }
}
