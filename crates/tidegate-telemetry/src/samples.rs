//! What other parts of the program know, read when a scraper asks.
//!
//! Sessions, children, pools and connections are counted where they live, as plain numbers without
//! a name. A source registered by [`crate::Telemetry::register_source`] copies them into
//! [`Samples`] and says there which [`Gauge`], [`Counter`] or [`Histogram`] each one is.

use std::{collections::BTreeMap, iter, time::Duration};

use prometheus_client::encoding::DescriptorEncoder;

use crate::{
    exposition::{Row, Value, write},
    histogram::Snapshot,
    names::{Counter, Family, Gauge, Histogram, Label},
};

use self::sealed::Amount;

/// One scrape's worth of numbers from elsewhere.
///
/// A series told twice is added up, so two pools of one upstream need not know of each other.
/// Label values must come from the configuration or from a closed set, never from a peer.
#[derive(Debug, Default)]
pub struct Samples {
    gauges: Series<Gauge, Amount>,
    counters: Series<Counter, Amount>,
    histograms: Series<Histogram, Buckets>,
}

type Series<F, V> = BTreeMap<(F, Vec<Box<str>>), V>;

/// Durations that somebody counted, as plain data.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times<'a> {
    /// The inclusive upper bound of each bucket but the last, rising.
    pub bounds: &'a [Duration],
    /// How many durations fell into each bucket and no earlier one; the last is for what is above
    /// every bound.
    pub counts: &'a [u64],
    /// All durations together.
    pub sum: Duration,
}

/// A number that can be told: a count, or a time for what is in seconds.
pub trait Count: sealed::Sealed {}

impl Samples {
    /// Tells the present value of a gauge.
    ///
    /// A label that the gauge does not have is ignored (and a mistake that tests catch: it panics
    /// in debug builds); one that is not given is left out.
    pub fn gauge(&mut self, gauge: Gauge, labels: &[(Label, &str)], value: impl Count) {
        entry(&mut self.gauges, gauge, &gauge.family(), labels).add(value.amount());
    }

    /// Tells a count since the start of the process, or of the part that counts. Labels are as for
    /// [`Samples::gauge`].
    pub fn counter(&mut self, counter: Counter, labels: &[(Label, &str)], value: impl Count) {
        entry(&mut self.counters, counter, &counter.family(), labels).add(value.amount());
    }

    /// Tells durations since the start of the process, or of the part that counts. Labels are as
    /// for [`Samples::gauge`]. Nothing is shown until there was one.
    ///
    /// Series that are told twice should have the same bounds: a bound that only one of them has
    /// knows nothing of the other's durations.
    pub fn histogram(&mut self, histogram: Histogram, labels: &[(Label, &str)], times: &Times<'_>) {
        entry(&mut self.histograms, histogram, &histogram.family(), labels).add(times);
    }

    pub(crate) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        for &gauge in Gauge::ALL {
            write(encoder, &gauge.family(), rows(&self.gauges, gauge, Amount::value))?;
        }
        for &counter in Counter::ALL {
            write(encoder, &counter.family(), rows(&self.counters, counter, Amount::value))?;
        }
        for &histogram in Histogram::ALL {
            write(encoder, &histogram.family(), rows(&self.histograms, histogram, Buckets::value))?;
        }
        Ok(())
    }
}

/// The value of a histogram.
#[derive(Debug, Default)]
struct Buckets {
    /// Without bound: above all others.
    counts: BTreeMap<Option<Duration>, u64>,
    sum: Duration,
}

impl Amount {
    const fn add(&mut self, more: Self) {
        self.count = self.count.saturating_add(more.count);
        self.time = self.time.saturating_add(more.time);
    }

    fn value(&self) -> Option<Value> {
        Some(match self.time {
            Duration::ZERO => Value::Count(self.count),
            time => Value::Real(time.as_secs_f64()),
        })
    }
}

impl Buckets {
    fn add(&mut self, times: &Times<'_>) {
        debug_assert_eq!(times.bounds.len() + 1, times.counts.len(), "one count is without bound");
        let bounds = times.bounds.iter().copied().map(Some).chain(iter::once(None));
        for (bound, more) in bounds.zip(times.counts) {
            let count = self.counts.entry(bound).or_default();
            *count = count.saturating_add(*more);
        }
        self.sum = self.sum.saturating_add(times.sum);
    }

    fn value(&self) -> Option<Value> {
        let last = self.counts.get(&None).copied().unwrap_or_default();
        let bounded = self.counts.iter().filter_map(|(bound, count)| Some(((*bound)?, *count)));
        let buckets: Vec<(f64, u64)> = bounded
            .map(|(bound, count)| (bound.as_secs_f64(), count))
            .chain(iter::once((f64::INFINITY, last)))
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.sum.as_secs_f64();
        (count > 0).then_some(Value::Histogram(Snapshot { sum, count, buckets }))
    }
}

fn entry<'a, F: Ord, V: Default>(
    series: &'a mut Series<F, V>,
    name: F,
    family: &Family,
    labels: &[(Label, &str)],
) -> &'a mut V {
    debug_assert!(
        labels.iter().all(|(label, _)| family.labels.contains(label)),
        "{} has no such label: {labels:?}",
        family.name
    );
    let value_of = |wanted| labels.iter().find(|(label, _)| *label == wanted).map(|(_, v)| *v);
    let values = family.labels.iter().map(|&label| value_of(label).unwrap_or_default().into());
    series.entry((name, values.collect())).or_default()
}

fn rows<F: Copy + Ord, V>(
    series: &Series<F, V>,
    name: F,
    value: fn(&V) -> Option<Value>,
) -> impl Iterator<Item = Row<'_>> {
    let range = series.range((name, Vec::new())..);
    range.take_while(move |((found, _), _)| *found == name).filter_map(
        move |((_, labels), told)| {
            let value = value(told)?;
            Some(Row { labels: labels.iter().map(|label| &**label).collect(), value })
        },
    )
}

mod sealed {
    use std::time::Duration;

    pub trait Sealed {
        fn amount(self) -> Amount;
    }

    /// The value of a gauge or counter. A family has values of one kind only, by its unit.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Amount {
        pub count: u64,
        pub time: Duration,
    }
}

macro_rules! counts {
    ($($number:ty),+) => {$(
        impl sealed::Sealed for $number {
            fn amount(self) -> Amount {
                let count = u64::try_from(self).unwrap_or(u64::MAX);
                Amount { count, time: Duration::ZERO }
            }
        }

        impl Count for $number {}
    )+};
}

counts!(u32, u64, usize);

impl sealed::Sealed for bool {
    fn amount(self) -> Amount {
        u64::from(self).amount()
    }
}

/// Yes is 1, no is 0.
impl Count for bool {}

impl sealed::Sealed for Duration {
    fn amount(self) -> Amount {
        Amount { count: 0, time: self }
    }
}

impl Count for Duration {}
