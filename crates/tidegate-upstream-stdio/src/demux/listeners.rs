//! The open streams for what the server says unasked.

use std::task::{Context, Poll, Waker};

use tidegate_protocol::Envelope;

use super::{Demux, Effects, Item, Mailbox, Mode, Owner};

/// The streams, in the order they were opened.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    open: Vec<Listener>,
    last: u64,
    closed: bool,
}

#[derive(Debug)]
struct Listener {
    key: u64,
    owner: Owner,
    mailbox: Mailbox,
    waker: Option<Waker>,
    closed: bool,
}

impl Listeners {
    pub(super) const fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

impl Demux {
    /// Opens a stream, which gets what has been waiting and, as long as it is the newest, what
    /// comes. Returns the key to poll it by.
    pub(crate) fn listen(&mut self, owner: Owner) -> u64 {
        let key = self.listeners.last + 1;
        self.listeners.last = key;
        let mailbox = std::mem::take(&mut self.outbox);
        self.listeners.open.push(Listener { key, owner, mailbox, waker: None, closed: false });
        key
    }

    /// The next message of a stream; `None` at its end.
    pub(crate) fn poll_listener(&mut self, key: u64, cx: &Context<'_>) -> Poll<Option<Envelope>> {
        let closed = self.listeners.closed;
        let Some(listener) = self.listeners.open.iter_mut().find(|open| open.key == key) else {
            return Poll::Ready(None);
        };
        if let Some(item) = listener.mailbox.pop() {
            return Poll::Ready(Some(item.envelope));
        }
        if closed || listener.closed {
            return Poll::Ready(None);
        }
        listener.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The reader of a stream has left. What it did not read goes to the next one.
    pub(crate) fn unlisten(&mut self, key: u64, fx: &mut Effects) {
        let Some(at) = self.listeners.open.iter().position(|open| open.key == key) else { return };
        let Listener { owner, mailbox: mut unread, .. } = self.listeners.open.remove(at);
        while let Some(item) = unread.pop() {
            match self.mode {
                Mode::Session | Mode::Modern => self.place(self.unasked(), item, fx),
                Mode::Common => self.tell(owner, item, fx),
            }
        }
    }

    /// Ends the streams of one session once they are read to the end.
    pub(crate) fn close_listeners_of(&mut self, owner: Owner, fx: &mut Effects) {
        for listener in self.listeners.open.iter_mut().filter(|open| open.owner == owner) {
            listener.closed = true;
            fx.wake.extend(listener.waker.take());
        }
    }

    /// Puts a message onto one stream of every session that has any.
    pub(super) fn tell_all(&mut self, item: &Item, fx: &mut Effects) {
        let mut owners: Vec<Owner> = self.listeners.open.iter().map(|open| open.owner).collect();
        owners.sort_unstable_by_key(|owner| owner.0);
        owners.dedup();
        for owner in owners {
            let envelope = item.envelope.clone();
            self.tell(owner, Item { envelope, ask: None, since: item.since }, fx);
        }
    }

    /// Puts a message onto the newest stream of one session.
    fn tell(&mut self, owner: Owner, item: Item, fx: &mut Effects) {
        let newest = self.listeners.open.iter_mut().rev().find(|open| open.owner == owner);
        let Some(newest) = newest else {
            self.counters.notifications_dropped.increment();
            return;
        };
        let put = newest.mailbox.put(item);
        fx.wake.extend(newest.waker.take());
        if self.settle(put).is_some() {
            self.counters.notifications_dropped.increment();
        }
    }

    /// Ends all streams once they are read to the end.
    pub(crate) fn close_listeners(&mut self, fx: &mut Effects) {
        self.listeners.closed = true;
        for listener in &mut self.listeners.open {
            fx.wake.extend(listener.waker.take());
        }
    }

    pub(super) fn put_listener(&mut self, item: Item, fx: &mut Effects) -> Option<Item> {
        let Some(newest) = self.listeners.open.last_mut() else { return Some(item) };
        let put = newest.mailbox.put(item);
        fx.wake.extend(newest.waker.take());
        self.settle(put)
    }
}
