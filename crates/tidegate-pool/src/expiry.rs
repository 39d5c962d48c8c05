//! When a thing is too old to be used again.

use std::time::Duration;

use tokio::time::Instant;

use crate::Reason;

/// The limits on the use of one thing; none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expiry {
    /// How long it may lie unused.
    pub idle: Option<Duration>,
    /// How old it may get.
    pub lifetime: Option<Duration>,
    /// How often it may be used.
    pub uses: Option<u64>,
}

/// What a thing has been through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// When it was made.
    pub born: Instant,
    /// When its last use ended.
    pub idle_since: Instant,
    /// How often it has been used.
    pub uses: u64,
}

impl Expiry {
    /// Why a thing must not be used again at `now`, if so. A limit that is reached is over.
    pub fn judge(&self, usage: &Usage, now: Instant) -> Option<Reason> {
        let over = |since: Instant, limit: Option<Duration>| {
            limit.is_some_and(|limit| now.saturating_duration_since(since) >= limit)
        };
        if over(usage.born, self.lifetime) {
            Some(Reason::Lifetime)
        } else if self.uses.is_some_and(|limit| usage.uses >= limit) {
            Some(Reason::Uses)
        } else if over(usage.idle_since, self.idle) {
            Some(Reason::Idle)
        } else {
            None
        }
    }
}

impl Usage {
    /// A thing made at `now` and never used.
    pub const fn new(now: Instant) -> Self {
        Self { born: now, idle_since: now, uses: 0 }
    }

    /// One use more, which ended at `now`.
    pub const fn used(&mut self, now: Instant) {
        self.uses = self.uses.saturating_add(1);
        self.idle_since = now;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Expiry, Usage};
    use crate::Reason;

    #[test]
    fn each_limit_counts_from_its_own_start_and_ends_when_it_is_reached() {
        const SECOND: Duration = Duration::from_secs(1);
        let born = Instant::now();
        let mut usage = Usage::new(born);
        usage.used(born + SECOND);
        usage.used(born + 2 * SECOND);
        let check = |expiry: Expiry, after: Duration, expected| {
            assert_eq!(expiry.judge(&usage, born + after), expected, "{expiry:?} {after:?}");
        };
        let almost = SECOND - Duration::from_nanos(1);
        let idle = Expiry { idle: Some(SECOND), ..Expiry::default() };
        check(idle, 2 * SECOND + almost, None);
        check(idle, 3 * SECOND, Some(Reason::Idle));
        let lifetime = Expiry { lifetime: Some(SECOND), ..Expiry::default() };
        check(lifetime, almost, None);
        check(lifetime, SECOND, Some(Reason::Lifetime));
        check(Expiry { uses: Some(3), ..Expiry::default() }, 99 * SECOND, None);
        check(Expiry { uses: Some(2), ..Expiry::default() }, SECOND, Some(Reason::Uses));
        check(Expiry::default(), 99 * SECOND, None);
        let all = Expiry { idle: Some(SECOND), lifetime: Some(SECOND), uses: Some(1) };
        check(all, 9 * SECOND, Some(Reason::Lifetime));
    }
}
