//! What ends without an answer: because the process does, or because nobody came for it in time.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Demux, Effects, Mailbox, Owner, Step, cancelled};
use crate::child::Death;

impl Demux {
    /// The process can serve no more: everybody who waits is told.
    pub(crate) fn die(&mut self, death: &Arc<Death>, fx: &mut Effects) {
        self.death.get_or_insert_with(|| Arc::clone(death));
        let open: Vec<u64> =
            self.calls.iter().filter(|(_, call)| call.is_unanswered()).map(|(id, _)| *id).collect();
        for id in open {
            self.end(id, Step::Dead(Arc::clone(death)), fx);
        }
        self.asks.clear();
        self.overdue.clear();
        self.outbox = Mailbox::default();
        self.missed.clear();
        self.close_listeners(fx);
    }

    /// The process will be replaced: subscriptions, which would never end by themselves, are to
    /// go on with the next one.
    pub(crate) fn part_with_listens(&mut self, fx: &mut Effects) {
        let open: Vec<u64> =
            self.calls.keys().copied().filter(|id| self.is_open_listen(*id)).collect();
        for id in open {
            fx.lines.push(cancelled(id));
            self.end(id, Step::Dead(Arc::new(Death::Replaced)), fx);
        }
    }

    /// A session that shared the process is over: nobody will come for what it has asked.
    pub(crate) fn forget(&mut self, owner: Owner, now: Instant, fx: &mut Effects) {
        let theirs: Vec<u64> =
            self.calls.iter().filter(|(_, call)| call.owner == owner).map(|(id, _)| *id).collect();
        for id in theirs {
            self.give_up(id, now, fx);
        }
        self.close_listeners_of(owner, fx);
        self.missed.remove(&owner);
    }

    /// When [`Self::tick`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        let overdue = self.overdue.front().map(|(due, _)| *due);
        let stale = self.outbox.oldest_ask().map(|since| since + self.patience);
        overdue.into_iter().chain(stale).min()
    }

    /// Gives up what has waited too long without a reader.
    pub(crate) fn tick(&mut self, now: Instant, fx: &mut Effects) {
        while let Some((due, id)) = self.overdue.front().copied() {
            if now < due {
                break;
            }
            self.overdue.pop_front();
            self.give_up(id, now, fx);
        }
        let moment = now.checked_sub(self.patience);
        while let Some(item) = moment.and_then(|moment| self.outbox.pop_ask_before(moment)) {
            self.refuse(item.ask, fx);
        }
    }
}
