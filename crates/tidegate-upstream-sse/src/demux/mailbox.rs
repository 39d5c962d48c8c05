//! Messages that wait for one reader, within bounds.

use std::collections::VecDeque;

use tidegate_protocol::{Bytes, Envelope, Id};
use tokio::time::Instant;

const MAX_ITEMS: usize = 256;
const MAX_BYTES: usize = 8 << 20;

/// Past this many the reader is slow, and messages are copied out of the buffers they came in.
const PROMPT: usize = 4;

/// One message on its way to the client.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) message: Envelope,
    /// The id of a request of the server.
    pub(super) ask: Option<Id>,
    /// When it came.
    pub(super) since: Instant,
}

/// A queue with a stated overflow: the oldest notifications go first, then what comes is refused.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    items: VecDeque<Item>,
    bytes: usize,
}

impl Mailbox {
    /// Adds a message; returns what had to go, which may be that one.
    pub(super) fn put(&mut self, mut item: Item) -> Vec<Item> {
        let mut gone = Vec::new();
        while !self.has_room(item.message.len()) {
            // A request that is dropped silently would leave the server waiting for ever.
            let Some(oldest) = self.items.iter().position(|item| item.ask.is_none()) else {
                gone.push(item);
                return gone;
            };
            if let Some(old) = self.items.remove(oldest) {
                self.bytes -= old.message.len();
                gone.push(old);
            }
        }
        if self.items.len() >= PROMPT {
            item.message = compact(item.message);
        }
        self.bytes += item.message.len();
        self.items.push_back(item);
        gone
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes -= item.message.len();
        Some(item)
    }

    /// Since when the oldest waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.items.front().map(|item| item.since)
    }

    /// One message always fits, however large.
    fn has_room(&self, length: usize) -> bool {
        self.items.is_empty() || (self.items.len() < MAX_ITEMS && self.bytes + length <= MAX_BYTES)
    }
}

fn compact(message: Envelope) -> Envelope {
    Envelope::parse(Bytes::copy_from_slice(message.bytes())).unwrap_or(message)
}
