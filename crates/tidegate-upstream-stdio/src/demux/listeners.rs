//! The open streams for what the server says unasked.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tidegate_protocol::Envelope;
use tidegate_service::slow::{SlowClients, Slowness, Surplus};

use super::{Demux, Effects, Item, Mailbox, Mode, Owner};

/// The streams, in the order they were opened.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    open: Vec<Listener>,
    last: u64,
    closed: bool,
}

#[derive(Debug)]
pub(super) struct Listener {
    key: u64,
    owner: Owner,
    pub(super) mailbox: Mailbox,
    pub(super) waker: Option<Waker>,
    /// It ends once it is read to the end.
    closed: bool,
    /// Why it ended, until that was told.
    overflowed: Option<Slowness>,
}

/// A stream that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    /// To poll it by.
    pub(crate) key: u64,
    /// How many messages came for the session since its last stream, and found no room.
    pub(crate) missed: u64,
}

impl Listeners {
    pub(super) fn is_empty(&self) -> bool {
        self.open.iter().all(|each| each.closed)
    }

    pub(super) fn any_full(&self) -> bool {
        self.open.iter().any(|each| !each.closed && each.mailbox.is_full())
    }

    /// The newest that takes messages, of this session or of any.
    pub(super) fn newest(&mut self, owner: Option<Owner>) -> Option<&mut Listener> {
        let meant =
            |each: &&mut Listener| !each.closed && owner.is_none_or(|owner| each.owner == owner);
        self.open.iter_mut().rev().find(meant)
    }
}

impl Listener {
    /// Ends it, since it is not read.
    pub(super) fn overflow(&mut self, why: Slowness) {
        self.closed = true;
        self.overflowed = Some(why);
        if let Some(slow) = self.mailbox.slow() {
            slow.ended(why);
        }
    }
}

impl Demux {
    /// Opens a stream, which gets what has been waiting and, as long as it is the newest, what
    /// comes. `slow` is of its route, where that is not the one of the process.
    pub(crate) fn listen(&mut self, owner: Owner, slow: Option<Arc<SlowClients>>) -> Opened {
        let key = self.listeners.last + 1;
        self.listeners.last = key;
        let mailbox = match self.mode {
            Mode::Session => std::mem::replace(&mut self.outbox, Mailbox::new(self.slow.clone())),
            Mode::Common | Mode::Modern => Mailbox::new(slow),
        };
        let (waker, closed, overflowed) = (None, false, None);
        self.listeners.open.push(Listener { key, owner, mailbox, waker, closed, overflowed });
        Opened { key, missed: self.missed.remove(&owner).unwrap_or_default() }
    }

    /// The next message of a stream, or why it ended; `None` at its end.
    pub(crate) fn poll_listener(
        &mut self,
        key: u64,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<Envelope, Slowness>>> {
        let closed = self.listeners.closed;
        let Some(listener) = self.listeners.open.iter_mut().find(|open| open.key == key) else {
            return Poll::Ready(None);
        };
        if let Some(item) = listener.mailbox.pop() {
            return Poll::Ready(Some(Ok(item.message)));
        }
        if let Some(why) = listener.overflowed.take() {
            return Poll::Ready(Some(Err(why)));
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
        let Listener { owner, mailbox: mut unread, closed, overflowed, .. } =
            self.listeners.open.remove(at);
        if self.mode == Mode::Common {
            let has_left = !closed || overflowed.is_some();
            if has_left && self.listeners.newest(Some(owner)).is_none() {
                // What comes for it from now on is missed.
                self.missed.entry(owner).or_default();
            }
            while let Some(item) = unread.pop() {
                self.tell(owner, item, fx);
            }
            return;
        }
        // Before what came later, if that waits as well.
        let mut newer = std::mem::replace(&mut self.outbox, Mailbox::new(self.slow.clone()));
        for mailbox in [&mut unread, &mut newer] {
            while let Some(item) = mailbox.pop() {
                self.place(self.unasked(), item, fx);
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

    /// Puts a message onto one stream of every session that has any, and notes that it is missed
    /// by those that had one.
    pub(super) fn tell_all(&mut self, item: &Item, fx: &mut Effects) {
        let mut owners: Vec<Owner> = self.listeners.open.iter().map(|open| open.owner).collect();
        owners.extend(self.missed.keys());
        owners.sort_unstable_by_key(|owner| owner.0);
        owners.dedup();
        for owner in owners {
            let message = item.message.clone();
            self.tell(owner, Item { message, ask: None, since: item.since }, fx);
        }
    }

    /// Puts a message onto the newest stream of one session.
    fn tell(&mut self, owner: Owner, mut item: Item, fx: &mut Effects) {
        while let Some(newest) = self.listeners.newest(Some(owner)) {
            let put = newest.mailbox.put(item);
            fx.is_behind |= newest.mailbox.is_behind();
            fx.wake.extend(newest.waker.take());
            let Err(Surplus { item: surplus, why }) = put else { return };
            newest.overflow(why);
            item = surplus;
        }
        self.miss(owner);
    }

    /// Ends all streams once they are read to the end.
    pub(crate) fn close_listeners(&mut self, fx: &mut Effects) {
        self.listeners.closed = true;
        for listener in &mut self.listeners.open {
            fx.wake.extend(listener.waker.take());
        }
    }
}
