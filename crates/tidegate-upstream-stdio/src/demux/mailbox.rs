//! Messages that wait for one reader, within bounds.

use std::collections::VecDeque;

use tidegate_protocol::{Bytes, Envelope};
use tokio::time::Instant;

const MAX_ITEMS: usize = 256;
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Past this many waiting messages the reader is slow, and messages are copied out of the large
/// buffers they were read into.
const PROMPT: usize = 4;

/// One message on its way to a client.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) envelope: Envelope,
    /// Our id of the server's request, if it is one.
    pub(super) ask: Option<u64>,
    /// When it came.
    pub(super) since: Instant,
}

/// A queue with a stated overflow: the oldest notification goes first, requests are never lost.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    items: VecDeque<Item>,
    bytes: usize,
}

/// What became of a message that was put into a mailbox.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "lives for one match")]
pub(super) enum Put {
    /// It waits for the reader.
    Kept,
    /// It waits, and an older notification was dropped for it.
    Displaced,
    /// There is room for requests only.
    Refused(Item),
}

impl Mailbox {
    pub(super) fn put(&mut self, mut item: Item) -> Put {
        let mut displaced = false;
        while !self.has_room(item.envelope.len()) {
            // Any request that is dropped would leave the server waiting for ever.
            let Some(oldest) = self.items.iter().position(|item| item.ask.is_none()) else {
                return Put::Refused(item);
            };
            if let Some(old) = self.items.remove(oldest) {
                self.bytes = self.bytes.saturating_sub(old.envelope.len());
            }
            displaced = true;
        }
        if self.items.len() >= PROMPT {
            item.envelope = compact(item.envelope);
        }
        self.bytes += item.envelope.len();
        self.items.push_back(item);
        if displaced { Put::Displaced } else { Put::Kept }
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes = self.bytes.saturating_sub(item.envelope.len());
        Some(item)
    }

    /// The moment the oldest waiting request came.
    pub(super) fn oldest_ask(&self) -> Option<Instant> {
        self.items.iter().find(|item| item.ask.is_some()).map(|item| item.since)
    }

    /// Takes out the oldest request that came before the moment.
    pub(super) fn pop_ask_before(&mut self, moment: Instant) -> Option<Item> {
        let stale = |item: &Item| item.ask.is_some() && item.since <= moment;
        let item = self.items.iter().position(stale).and_then(|at| self.items.remove(at))?;
        self.bytes = self.bytes.saturating_sub(item.envelope.len());
        Some(item)
    }

    fn has_room(&self, length: usize) -> bool {
        self.items.is_empty() || (self.items.len() < MAX_ITEMS && self.bytes + length <= MAX_BYTES)
    }
}

/// The same message in a buffer of its own.
pub(super) fn compact(envelope: Envelope) -> Envelope {
    let copy = Envelope::parse(Bytes::copy_from_slice(envelope.bytes()));
    copy.unwrap_or(envelope)
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::{Bytes, Envelope};
    use tokio::time::Instant;

    use super::{Item, MAX_BYTES, MAX_ITEMS, Mailbox, Put};

    fn item(ask: Option<u64>, padding: usize) -> Item {
        let json = format!(r#"{{"jsonrpc":"2.0","method":"m{}"}}"#, "x".repeat(padding));
        let envelope = Envelope::parse(Bytes::from(json)).unwrap();
        Item { envelope, ask, since: Instant::now() }
    }

    #[test]
    fn the_oldest_notification_makes_room_and_requests_stay() {
        let mut mailbox = Mailbox::default();
        assert!(matches!(mailbox.put(item(Some(1), 0)), Put::Kept));
        assert!(matches!(mailbox.put(item(None, 1)), Put::Kept));
        for n in 2..MAX_ITEMS as u64 {
            assert!(matches!(mailbox.put(item(Some(n), 0)), Put::Kept));
        }
        assert!(matches!(mailbox.put(item(Some(999), 0)), Put::Displaced));
        assert!(matches!(mailbox.put(item(Some(1000), 0)), Put::Refused(_)));
        assert!(matches!(mailbox.put(item(None, 0)), Put::Refused(_)));
        let asks: Vec<_> = std::iter::from_fn(|| mailbox.pop()).map(|item| item.ask).collect();
        assert_eq!(asks.len(), MAX_ITEMS);
        assert!(asks.iter().all(Option::is_some));
        assert_eq!(mailbox.bytes, 0);
    }

    #[test]
    fn bytes_are_bounded_but_one_message_always_fits() {
        let mut mailbox = Mailbox::default();
        assert!(matches!(mailbox.put(item(None, MAX_BYTES)), Put::Kept));
        assert!(matches!(mailbox.put(item(None, 10)), Put::Displaced));
        assert_eq!(mailbox.pop().unwrap().envelope.len(), item(None, 10).envelope.len());
        assert!(mailbox.pop().is_none());
    }
}
