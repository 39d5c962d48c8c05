//! A histogram of durations without a lock.
//!
//! The one of `prometheus-client` takes a mutex per observation, which every call of every worker
//! would meet twice. This one is two relaxed additions. A scrape may see one of them without the
//! other; the next scrape has both.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000 * MICRO;
const SECOND: u64 = 1_000 * MILLI;

/// The upper bounds in nanoseconds: from a loopback echo to a tool that works for minutes.
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

/// Counts by duration. The last bucket takes what is above every bound.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// A reading: the sum in seconds, and per bucket its bound in seconds and its own count.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) sum: f64,
    pub(crate) count: u64,
    pub(crate) buckets: Vec<(f64, u64)>,
}

impl Histogram {
    pub(crate) fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|&bound| bound < nanos);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Reads the counts; `None` when nothing was observed yet.
    pub(crate) fn read(&self) -> Option<Snapshot> {
        let bounds = BOUNDS.iter().map(|&bound| seconds(bound)).chain([f64::INFINITY]);
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        // Counted from the buckets, so that the count and the bucket +Inf always agree.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = seconds(self.nanos.load(Ordering::Relaxed));
        (count > 0).then_some(Snapshot { sum, count, buckets })
    }
}

fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BOUNDS, Histogram};

    fn check(took: Duration, expected_bound: f64) {
        let histogram = Histogram::default();
        histogram.observe(took);
        let snapshot = histogram.read().unwrap();
        let hit: Vec<_> = snapshot.buckets.iter().filter(|(_, count)| *count == 1).collect();
        assert_eq!(hit.len(), 1);
        assert_eq!(hit[0].0, expected_bound, "{took:?}");
        assert_eq!(snapshot.count, 1);
    }

    #[test]
    fn a_bound_is_inclusive_and_the_rest_is_infinite() {
        assert!(BOUNDS.is_sorted());
        check(Duration::ZERO, 0.0001);
        check(Duration::from_micros(100), 0.0001);
        check(Duration::from_nanos(100_001), 0.00025);
        check(Duration::from_secs(1), 1.0);
        check(Duration::from_secs(300), 300.0);
        check(Duration::from_millis(300_001), f64::INFINITY);
    }

    #[test]
    fn the_sum_is_in_seconds_and_nothing_is_read_from_nothing() {
        let histogram = Histogram::default();
        assert!(histogram.read().is_none());
        histogram.observe(Duration::from_millis(250));
        histogram.observe(Duration::from_millis(1_250));
        assert_eq!(histogram.read().unwrap().sum, 1.5);
    }
}
