//! How long something took, counted without a lock and shown as plain data.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000 * MICRO;
const SECOND: u64 = 1_000 * MILLI;

/// The upper bounds in nanoseconds: from a loopback connection to a child that takes minutes.
const BOUNDS: [u64; 17] = [
    100 * MICRO,
    250 * MICRO,
    500 * MICRO,
    MILLI,
    2_500 * MICRO,
    5 * MILLI,
    10 * MILLI,
    25 * MILLI,
    50 * MILLI,
    100 * MILLI,
    250 * MILLI,
    500 * MILLI,
    SECOND,
    5 * SECOND,
    15 * SECOND,
    60 * SECOND,
    300 * SECOND,
];

/// Counts durations as they happen: two relaxed additions each.
#[derive(Debug, Default)]
pub struct Timings {
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// A reading of [`Timings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// All durations together.
    pub sum: Duration,
    /// How many durations fell under each of [`Times::bounds`] and above the one before it; the
    /// last counts those above every bound.
    pub counts: [u64; BOUNDS.len() + 1],
}

impl Timings {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|&bound| bound < nanos);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        self.nanos.fetch_add(nanos, Relaxed);
    }

    /// Counts something that took no time, without the search for its bound.
    pub fn observe_none(&self) {
        let [first, ..] = &self.counts;
        first.fetch_add(1, Relaxed);
    }

    /// What was counted so far.
    pub fn read(&self) -> Times {
        Times {
            sum: Duration::from_nanos(self.nanos.load(Relaxed)),
            counts: std::array::from_fn(|at| {
                self.counts.get(at).map_or(0, |count| count.load(Relaxed))
            }),
        }
    }
}

impl Times {
    /// The upper bounds, inclusive and rising, one less than there are counts.
    pub fn bounds() -> impl ExactSizeIterator<Item = Duration> {
        BOUNDS.into_iter().map(Duration::from_nanos)
    }

    /// How many durations there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Times, Timings};

    #[test]
    fn a_duration_is_counted_under_the_first_bound_that_is_not_less() {
        let bounds: Vec<_> = Times::bounds().collect();
        assert!(bounds.is_sorted());
        for (at, bound) in bounds.into_iter().enumerate() {
            let timings = Timings::default();
            timings.observe(bound);
            timings.observe(bound + Duration::from_nanos(1));
            let times = timings.read();
            assert_eq!((times.counts[at], times.counts[at + 1]), (1, 1), "{bound:?}");
            assert_eq!(times.count(), 2);
        }
    }

    #[test]
    fn nothing_is_the_shortest_and_the_sum_is_exact() {
        let timings = Timings::default();
        timings.observe_none();
        timings.observe(Duration::ZERO);
        timings.observe(Duration::from_millis(1_250));
        timings.observe(Duration::from_millis(250));
        let times = timings.read();
        assert_eq!((times.counts[0], times.count()), (2, 4));
        assert_eq!(times.sum, Duration::from_millis(1_500));
    }
}
