//! The log of one stream. Pure: it is told what time it is.
//!
//! Events are numbered from 1 without a hole. The oldest go first, when there are too many, when
//! they take too much memory, or when they are too old; how many are gone is known, so a reader
//! gets exactly what it missed or hears that there is a gap.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use tidegate_protocol::sse::Block;
use tokio::time::Instant;

/// What a log costs before its first event, about.
pub const BASE_COST: usize = 512;

/// How much one log may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Most events.
    pub events: usize,
    /// Most bytes, what is needed to keep them included.
    pub bytes: usize,
    /// The age at which an event goes.
    pub age: Duration,
}

/// Why there is nothing to go on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// Something after the place is not kept any more.
    Evicted,
    /// There was never such an event.
    NeverSent,
}

/// The last events of one stream.
#[derive(Debug)]
pub struct Log {
    kept: VecDeque<Entry>,
    /// The number of the oldest event that is kept, or will be.
    first: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    block: Block,
}

impl Entry {
    const fn cost(&self) -> usize {
        self.block.raw.len() + size_of::<Self>()
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { kept: VecDeque::new(), first: 1, bytes: BASE_COST }
    }
}

impl Log {
    /// The number that the next event will have.
    pub fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// What the log takes, about, in bytes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an event; the oldest make room for it. Returns how many went. One that is too large by
    /// itself goes at once.
    pub fn append(&mut self, block: Block, now: Instant, limits: &LogLimits) -> usize {
        let entry = Entry { at: now, block };
        self.bytes += entry.cost();
        self.kept.push_back(entry);
        let mut evicted = self.expire(now, limits.age, self.next());
        while (self.kept.len() > limits.events || self.bytes > limits.bytes) && self.evict() {
            evicted += 1;
        }
        evicted
    }

    /// Drops what is older than `age` and comes before the event `unread`. Returns how many went.
    pub fn expire(&mut self, now: Instant, age: Duration, unread: u64) -> usize {
        let mut evicted = 0;
        while self.first < unread
            && self.kept.front().is_some_and(|oldest| now.duration_since(oldest.at) >= age)
            && self.evict()
        {
            evicted += 1;
        }
        evicted
    }

    /// Drops the oldest event. `false` if there is none.
    pub fn evict(&mut self) -> bool {
        let Some(oldest) = self.kept.pop_front() else { return false };
        self.bytes -= oldest.cost();
        self.first += 1;
        true
    }

    /// Notes that something is missing before the next event: nothing before it can be gone on
    /// from any more. Returns how many events went.
    pub fn skip(&mut self) -> usize {
        let mut evicted = 0;
        while self.evict() {
            evicted += 1;
        }
        // A number that no event has, in place of what is missing.
        self.first += 1;
        evicted
    }

    /// Whether all that follows on the event `cursor` can still be read.
    ///
    /// # Errors
    /// When it cannot, and why.
    pub fn check(&self, cursor: u64) -> Result<(), Missed> {
        if cursor >= self.next() {
            return Err(Missed::NeverSent);
        }
        if cursor + 1 < self.first { Err(Missed::Evicted) } else { Ok(()) }
    }

    /// The event of this number, if it is kept.
    pub fn get(&self, number: u64) -> Option<&Block> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.kept.get(index).map(|entry| &entry.block)
    }
}
