//! When a broken stream is taken up again, and when not. No socket, no clock, no dice.

use std::time::Duration;

use http::HeaderValue;
use tidegate_protocol::{holds_answer, sse::Block};
use tokio::time::Instant;

use super::recent::{Novelty, Recent};
use crate::Reconnect;

/// What is known of one stream across its connections.
#[derive(Debug)]
pub(super) struct State {
    policy: Reconnect,
    purpose: Purpose,
    /// The id to go on from; empty if there is none.
    last: Vec<u8>,
    /// How long the server wants to be left alone.
    retry: Option<Duration>,
    /// The answer has come, so whatever happens now is the end.
    is_answered: bool,
    recent: Recent,
    /// What this connection has brought.
    connection: Connection,
    trouble: Trouble,
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The answer to a request.
    Answer,
    /// What the server says unasked. It has no end.
    Unasked,
}

#[derive(Debug)]
struct Connection {
    since: Instant,
    /// Whether it is the first one.
    is_first: bool,
    /// Whether anything came, be it a comment.
    is_alive: bool,
    /// Whether an event came that the reader did not have.
    has_news: bool,
}

/// A run of breaks with nothing new between them.
#[derive(Debug, Default)]
struct Trouble {
    /// When it began.
    since: Option<Instant>,
    /// Reconnects so far; the pauses grow with them.
    attempt: u32,
    /// Those of them that brought nothing.
    failures: u32,
}

/// What to do with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    Pass,
    /// Pass it, and note that its id was used before.
    PassReused,
    /// The reader has it.
    Drop,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// In order.
    Ended,
    /// In the middle.
    Cut,
    /// It was never opened: an attempt failed.
    Failed,
}

/// What to do after a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is the end of the stream, whatever it was.
    End,
    /// Reconnect then.
    Reconnect { at: Instant, attempt: u32 },
    /// Enough.
    GiveUp { failures: u32, waited: Duration },
}

impl State {
    /// A stream that begins `now`, behind the event `last` if its reader wanted that.
    pub(super) fn new(
        policy: Reconnect,
        purpose: Purpose,
        last: Option<&HeaderValue>,
        now: Instant,
    ) -> Self {
        Self {
            policy,
            purpose,
            last: last.map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
            retry: None,
            is_answered: false,
            recent: Recent::default(),
            connection: Connection { since: now, is_first: true, is_alive: false, has_news: false },
            trouble: Trouble::default(),
        }
    }

    /// A block has come.
    pub(super) fn saw(&mut self, block: &Block) -> Passage {
        self.connection.is_alive = true;
        if let Some(retry) = block.retry {
            self.retry = Some(Duration::from_millis(retry));
        }
        let passage = match &block.id {
            None => Passage::Pass,
            Some(id) if id.is_empty() => {
                self.last.clear();
                Passage::Pass
            }
            Some(id) => match self.recent.see(id) {
                // What the reader has stays behind it: the stream does not go backwards.
                Novelty::Replayed => return Passage::Drop,
                novelty => {
                    self.last.clear();
                    // One that fits into no header is none to go on from.
                    if HeaderValue::from_bytes(id).is_ok() {
                        self.last.extend_from_slice(id);
                    }
                    if novelty == Novelty::New { Passage::Pass } else { Passage::PassReused }
                }
            },
        };
        self.connection.has_news |= !block.is_silent();
        // Where nothing can be resumed it does not matter, and messages need not be read.
        if !self.is_answered && !self.last.is_empty() {
            self.is_answered = block.data.as_ref().is_some_and(holds_answer);
        }
        passage
    }

    /// Another connection goes on with the stream.
    pub(super) fn opened(&mut self, now: Instant) {
        self.recent.broke();
        self.connection =
            Connection { since: now, is_first: false, is_alive: false, has_news: false };
    }

    /// A connection ended, or an attempt failed. `jitter` lies between 0 and 1.
    pub(super) fn broke(&mut self, how: Break, now: Instant, jitter: f64) -> Next {
        if self.is_answered || (self.purpose == Purpose::Answer && self.last.is_empty()) {
            return Next::End;
        }
        if how != Break::Failed {
            self.judge(how, now);
        }
        let trouble = &mut self.trouble;
        let since = *trouble.since.get_or_insert(now);
        if how == Break::Failed {
            trouble.failures = trouble.failures.saturating_add(1);
        }
        let waited = now.saturating_duration_since(since);
        let waited = Duration::from_millis(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
        if trouble.failures >= self.policy.attempts.get() || now >= since + self.policy.window {
            return Next::GiveUp { failures: trouble.failures, waited };
        }
        trouble.attempt = trouble.attempt.saturating_add(1);
        let attempt = trouble.attempt;
        let last_moment = since + self.policy.window;
        Next::Reconnect { at: (now + self.pause(attempt, jitter)).min(last_moment), attempt }
    }

    /// Whether there is an id to go on from.
    pub(super) const fn has_place(&self) -> bool {
        !self.last.is_empty()
    }

    /// The id to go on from.
    pub(super) fn last(&self) -> Option<HeaderValue> {
        if self.last.is_empty() { None } else { HeaderValue::from_bytes(&self.last).ok() }
    }

    /// When the trouble began that is not over.
    pub(super) const fn in_trouble_since(&self) -> Option<Instant> {
        self.trouble.since
    }

    /// What a connection that is over says about those to come.
    fn judge(&mut self, how: Break, now: Instant) {
        let Connection { since, is_first, is_alive, has_news } = self.connection;
        let lasted = now.saturating_duration_since(since) >= self.policy.max;
        let is_poll =
            self.purpose == Purpose::Answer && how == Break::Ended && self.retry.is_some();
        if has_news || lasted || is_poll {
            // The pauses begin anew. With a poll it is the server who sets them.
            self.trouble.attempt = 0;
            self.trouble.failures = 0;
        } else if how == Break::Cut && !is_first {
            self.trouble.failures = self.trouble.failures.saturating_add(1);
        }
        let is_quiet_by_nature = self.purpose == Purpose::Unasked && how == Break::Ended;
        if is_alive || is_quiet_by_nature {
            self.trouble.since = None;
        }
    }

    /// Full jitter under a limit that doubles, but never less than the server asked for.
    fn pause(&self, attempt: u32, jitter: f64) -> Duration {
        let Reconnect { base, max, window, .. } = self.policy;
        let least = self.retry.unwrap_or_default().min(window);
        let doubled = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        let most = base.max(least).saturating_mul(doubled.max(1)).min(max).max(least);
        least + (most - least).mul_f64(jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests;
