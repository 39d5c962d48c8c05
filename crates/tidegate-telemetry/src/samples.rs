//! What other parts of the program know, read when a scraper asks.
//!
//! Sessions, children, pools and connections are counted where they live, as plain numbers without
//! a name. A source registered by [`crate::Telemetry::register_source`] copies them into
//! [`Samples`] and says there which [`Gauge`] or [`Counter`] each one is.

use std::collections::BTreeMap;

use prometheus_client::encoding::DescriptorEncoder;

use crate::{
    exposition::{Row, Value, write},
    names::{Counter, Family, Gauge, Label},
};

/// One scrape's worth of numbers from elsewhere.
///
/// A series told twice is added up, so two pools of one upstream need not know of each other.
/// Label values must come from the configuration or from a closed set, never from a peer.
#[derive(Debug, Default)]
pub struct Samples {
    gauges: Series<Gauge>,
    counters: Series<Counter>,
}

type Series<F> = BTreeMap<(F, Vec<Box<str>>), u64>;

/// A number that can be counted to.
pub trait Count: sealed::Sealed {
    /// The number, as wide as it is exposed.
    fn widen(self) -> u64;
}

impl Samples {
    /// Tells the present value of a gauge.
    ///
    /// A label that the gauge does not have is ignored (and a mistake that tests catch: it panics
    /// in debug builds); one that is not given is left out.
    pub fn gauge(&mut self, gauge: Gauge, labels: &[(Label, &str)], value: impl Count) {
        add(&mut self.gauges, gauge, &gauge.family(), labels, value.widen());
    }

    /// Tells a count since the start of the process, or of the part that counts. Labels are as for
    /// [`Samples::gauge`].
    pub fn counter(&mut self, counter: Counter, labels: &[(Label, &str)], value: impl Count) {
        add(&mut self.counters, counter, &counter.family(), labels, value.widen());
    }

    pub(crate) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        for &gauge in Gauge::ALL {
            write(encoder, &gauge.family(), rows(&self.gauges, gauge))?;
        }
        for &counter in Counter::ALL {
            write(encoder, &counter.family(), rows(&self.counters, counter))?;
        }
        Ok(())
    }
}

fn add<F: Ord>(
    series: &mut Series<F>,
    name: F,
    family: &Family,
    labels: &[(Label, &str)],
    value: u64,
) {
    debug_assert!(
        labels.iter().all(|(label, _)| family.labels.contains(label)),
        "{} has no such label: {labels:?}",
        family.name
    );
    let value_of = |wanted| labels.iter().find(|(label, _)| *label == wanted).map(|(_, v)| *v);
    let values = family.labels.iter().map(|&label| value_of(label).unwrap_or_default().into());
    let total = series.entry((name, values.collect())).or_default();
    *total = total.saturating_add(value);
}

fn rows<F: Copy + Ord>(series: &Series<F>, name: F) -> impl Iterator<Item = Row<'_>> {
    series.range((name, Vec::new())..).take_while(move |((found, _), _)| *found == name).map(
        |((_, labels), value)| Row {
            labels: labels.iter().map(|label| &**label).collect(),
            value: Value::Count(*value),
        },
    )
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! counts {
    ($($number:ty),+) => {$(
        impl sealed::Sealed for $number {}

        impl Count for $number {
            fn widen(self) -> u64 {
                u64::try_from(self).unwrap_or(u64::MAX)
            }
        }
    )+};
}

counts!(u32, u64, usize);
