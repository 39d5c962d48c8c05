//! How long to wait before the next start of a process that keeps failing. Pure.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// A process that lived this long has not failed to start.
const HEALTHY: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// A start has failed.
    pub(super) const fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// A process has ended after it lived this long.
    pub(super) fn ended(&mut self, lived: Duration) {
        if lived < HEALTHY {
            self.failed();
        } else {
            self.failures = 0;
        }
    }

    /// How long to wait now.
    pub(super) fn delay(self) -> Duration {
        match self.failures {
            0 => Duration::ZERO,
            failures => FIRST.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, HEALTHY, LONGEST};

    #[test]
    fn it_doubles_up_to_a_limit_and_a_healthy_life_resets_it() {
        let mut backoff = Backoff::default();
        let mut delays = Vec::new();
        for _ in 0..8 {
            delays.push(backoff.delay().as_millis());
            backoff.failed();
        }
        assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 5000]);
        for _ in 0..100 {
            backoff.ended(HEALTHY / 2);
        }
        assert_eq!(backoff.delay(), LONGEST);
        backoff.ended(HEALTHY);
        assert!(backoff.delay().is_zero());
    }
}
