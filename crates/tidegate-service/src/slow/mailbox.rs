//! Messages that wait for one reader, within bounds.

use std::{collections::VecDeque, sync::Arc};

use tidegate_protocol::{Bytes, Envelope};
use tokio::time::Instant;

use super::{Share, SlowClients, SlowParams, Slowness};

/// Past this many waiting messages the reader is slow, and messages are copied out of the large
/// buffers they were read into.
const PROMPT: usize = 4;

/// What every stream may have without asking: as much as one read of a pipe brings, so that a
/// reader that keeps up shares nothing with others.
const FREE: usize = 64 << 10;

/// One message on its way to a client. `A` names a request of the server.
#[derive(Debug)]
pub struct Item<A> {
    /// The message.
    pub message: Envelope,
    /// The id of the server's request, if it is one.
    pub ask: Option<A>,
    /// When it came.
    pub since: Instant,
}

/// A message that found no room, and why.
#[derive(Debug)]
pub struct Surplus<A> {
    /// The message.
    pub item: Item<A>,
    /// What was used up.
    pub why: Slowness,
}

/// What waits for one stream.
///
/// It is full when what waits, and what it takes to keep it, is as much as its route allows, or as
/// the backlog of all streams has left. Its owner decides what then happens: whoever may wait for
/// the reader [forces](Self::force) in what came and reads on once the mailbox is no longer
/// [full](Self::is_full); whoever may not ends the stream. Nothing is dropped here unasked.
#[derive(Debug)]
pub struct Mailbox<A> {
    items: VecDeque<Item<A>>,
    bytes: usize,
    /// What waited when something found no room, until half of that is read.
    full_at: Option<usize>,
    slow: Option<Arc<SlowClients>>,
    /// What is had of the backlog, once anything is.
    share: Option<Share>,
}

impl<A> Mailbox<A> {
    /// An empty one. Without a route it has that of [`SlowParams::default`].
    pub const fn new(slow: Option<Arc<SlowClients>>) -> Self {
        Self { items: VecDeque::new(), bytes: 0, full_at: None, slow, share: None }
    }

    /// How the route treats the reader, if there is a route.
    pub const fn slow(&self) -> Option<&Arc<SlowClients>> {
        self.slow.as_ref()
    }

    /// Takes a message in. One of any length may wait alone.
    ///
    /// # Errors
    ///
    /// Gives it back if there is no room.
    #[expect(clippy::result_large_err, reason = "lives for one match")]
    pub fn put(&mut self, item: Item<A>) -> Result<(), Surplus<A>> {
        match self.claim(cost(&item)) {
            Ok(()) => {
                self.push(item);
                Ok(())
            }
            Err(why) => {
                self.full_at.get_or_insert(self.bytes);
                Err(Surplus { item, why })
            }
        }
    }

    /// Takes a message in for which there is no room. Only for owners that then wait.
    pub fn force(&mut self, item: Item<A>) {
        self.full_at.get_or_insert(self.bytes);
        self.push(item);
        self.settle();
    }

    /// Takes a message in and lets the oldest that are no requests go for it, at most `count` being
    /// kept. Returns what went, which may be the message itself.
    pub fn put_newest(&mut self, item: Item<A>, count: usize) -> Vec<Item<A>> {
        let mut gone = Vec::new();
        while !self.is_empty() && (self.items.len() >= count || self.claim(cost(&item)).is_err()) {
            // Any request that is dropped would leave the server waiting for ever.
            let Some(oldest) = self.items.iter().position(|item| item.ask.is_none()) else {
                gone.push(item);
                return gone;
            };
            gone.extend(self.remove(oldest));
        }
        self.push(item);
        self.settle();
        gone
    }

    /// The next message.
    pub fn pop(&mut self) -> Option<Item<A>> {
        self.remove(0)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether there was no room for something, and the reader has not read half of it since.
    pub const fn is_full(&self) -> bool {
        self.full_at.is_some()
    }

    /// Whether more waits than a reader that keeps up leaves.
    pub const fn is_behind(&self) -> bool {
        self.bytes > FREE
    }

    /// The moment the oldest message came.
    pub fn oldest(&self) -> Option<Instant> {
        self.items.front().map(|item| item.since)
    }

    /// The moment the oldest request came.
    pub fn oldest_ask(&self) -> Option<Instant> {
        self.items.iter().find(|item| item.ask.is_some()).map(|item| item.since)
    }

    /// Takes out the oldest request that came before the moment.
    pub fn pop_ask_before(&mut self, moment: Instant) -> Option<Item<A>> {
        let stale = |item: &Item<A>| item.ask.is_some() && item.since <= moment;
        self.items.iter().position(stale).and_then(|at| self.remove(at))
    }

    fn push(&mut self, mut item: Item<A>) {
        if self.items.len() >= PROMPT {
            item.message = compact(item.message);
        }
        self.bytes += cost(&item);
        self.items.push_back(item);
    }

    fn remove(&mut self, at: usize) -> Option<Item<A>> {
        let item = self.items.remove(at)?;
        self.bytes = self.bytes.saturating_sub(cost(&item));
        if self.full_at.is_some_and(|full| self.bytes <= full / 2) {
            self.full_at = None;
        }
        self.settle();
        Some(item)
    }

    fn limit(&self) -> usize {
        self.slow.as_ref().map_or_else(|| SlowParams::default().buffer, |slow| slow.params.buffer)
    }

    /// Makes sure that there is room for so many bytes more.
    fn claim(&mut self, more: usize) -> Result<(), Slowness> {
        let wanted = self.bytes + more;
        if self.items.is_empty() || wanted <= FREE.min(self.limit()) {
            return Ok(());
        }
        if wanted > self.limit() {
            return Err(Slowness::Buffer);
        }
        let Some(slow) = &self.slow else { return Ok(()) };
        let share = self.share.get_or_insert_with(|| Share::new(slow.backlog.clone()));
        if share.try_grow(wanted - FREE) { Ok(()) } else { Err(Slowness::Budget) }
    }

    /// Has as much of the backlog as there is, and gives back what is not needed.
    fn settle(&mut self) {
        let needed = self.bytes.saturating_sub(FREE);
        match (&mut self.share, &self.slow) {
            (Some(share), _) if needed != share.bytes => share.set(needed),
            (None, Some(slow)) if needed > 0 => {
                let mut share = Share::new(slow.backlog.clone());
                share.set(needed);
                self.share = Some(share);
            }
            _ => (),
        }
    }
}

impl<A> Default for Mailbox<A> {
    fn default() -> Self {
        Self::new(None)
    }
}

/// What it takes to keep a message.
fn cost<A>(item: &Item<A>) -> usize {
    item.message.len() + size_of::<Item<A>>()
}

/// The same message in a buffer of its own.
fn compact(message: Envelope) -> Envelope {
    Envelope::parse(Bytes::copy_from_slice(message.bytes())).unwrap_or(message)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_protocol::{Bytes, Envelope};
    use tokio::time::Instant;

    use super::{FREE, Item, Mailbox, Slowness};
    use crate::slow::{Backlog, SlowClients, SlowParams};

    const KIB: usize = 1 << 10;

    fn item(ask: Option<u64>, length: usize) -> Item<u64> {
        let head = br#"{"jsonrpc":"2.0","method":"m"#;
        let mut json = head.to_vec();
        json.resize((length - size_of::<Item<u64>>() - 2).max(head.len()), b'x');
        json.extend_from_slice(br#""}"#);
        let message = Envelope::parse(Bytes::from(json)).unwrap();
        Item { message, ask, since: Instant::now() }
    }

    fn mailbox(buffer: usize, backlog: &Backlog) -> Mailbox<u64> {
        let params = SlowParams { buffer, ..SlowParams::default() };
        Mailbox::new(Some(Arc::new(SlowClients::new("/mcp", params, backlog))))
    }

    /// How many messages of 1 KiB it takes, and why no more.
    fn fill(mailbox: &mut Mailbox<u64>) -> (usize, Slowness) {
        for n in 0.. {
            if let Err(surplus) = mailbox.put(item(None, KIB)) {
                return (n, surplus.why);
            }
        }
        unreachable!()
    }

    #[test]
    fn it_is_full_until_half_of_it_is_read() {
        let backlog = Backlog::new(1 << 20);
        let mut mailbox = mailbox(100 * KIB, &backlog);
        assert_eq!(fill(&mut mailbox), (100, Slowness::Buffer));
        assert_eq!(backlog.bytes(), 100 * KIB - FREE);
        for _ in 0..49 {
            assert!(mailbox.pop().is_some() && mailbox.is_full());
        }
        assert!(mailbox.pop().is_some() && !mailbox.is_full());
        assert_eq!(backlog.bytes(), 0);
        assert_eq!(fill(&mut mailbox).0, 50, "what was read left its room");
        mailbox.force(item(Some(1), KIB));
        assert_eq!(backlog.bytes(), 101 * KIB - FREE);
        drop(mailbox);
        assert_eq!(backlog.bytes(), 0);
    }

    #[test]
    fn a_message_of_any_length_waits_alone() {
        let backlog = Backlog::new(8 * KIB);
        let mut mailbox = mailbox(2 * KIB, &backlog);
        assert!(mailbox.put(item(None, 1 << 20)).is_ok());
        assert!(mailbox.put(item(None, KIB)).is_err());
        assert!(mailbox.pop().is_some() && mailbox.is_empty());
        assert!(mailbox.put(item(None, KIB)).is_ok());
    }

    #[test]
    fn each_may_have_what_it_leaves_to_others() {
        let backlog = Backlog::new(1 << 20);
        let mut mailboxes: Vec<_> = (0..20).map(|_| mailbox(1 << 20, &backlog)).collect();
        let taken: Vec<usize> = mailboxes
            .iter_mut()
            .map(|mailbox| {
                let (taken, why) = fill(mailbox);
                assert_eq!(why, Slowness::Budget);
                taken - FREE / KIB
            })
            .collect();
        assert_eq!(taken.iter().take(4).copied().collect::<Vec<_>>(), [512, 256, 128, 64]);
        assert_eq!(taken.last(), Some(&0), "but what each has in any case");
        assert!(backlog.bytes() <= 1 << 20);
        drop(mailboxes);
        assert_eq!(backlog.bytes(), 0);
    }

    #[test]
    fn the_oldest_that_are_no_requests_make_room() {
        let mut mailbox = Mailbox::default();
        assert!(mailbox.put_newest(item(Some(1), KIB), 3).is_empty());
        assert!(mailbox.put_newest(item(None, KIB), 3).is_empty());
        assert!(mailbox.put_newest(item(None, KIB), 3).is_empty());
        let gone = mailbox.put_newest(item(Some(2), KIB), 3);
        assert_eq!(gone.len(), 1);
        assert_eq!(mailbox.put_newest(item(Some(3), KIB), 3).len(), 1);
        let gone = mailbox.put_newest(item(None, KIB), 3);
        assert!(gone.len() == 1 && gone[0].ask.is_none(), "no room but for requests");
        let gone = mailbox.put_newest(item(Some(4), KIB), 3);
        assert_eq!(gone[0].ask, Some(4), "nor for those");
        let asks: Vec<_> = std::iter::from_fn(|| mailbox.pop()).map(|item| item.ask).collect();
        assert_eq!(asks, [Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn many_bytes_make_room_too() {
        let backlog = Backlog::new(1 << 20);
        let mut mailbox = mailbox(4 * KIB, &backlog);
        for _ in 0..4 {
            assert!(mailbox.put_newest(item(None, KIB), 256).is_empty());
        }
        assert_eq!(mailbox.put_newest(item(None, 3 * KIB), 256).len(), 3);
        assert_eq!(mailbox.put_newest(item(None, 50 * KIB), 256).len(), 2);
        assert!(mailbox.pop().is_some() && mailbox.pop().is_none());
    }
}
