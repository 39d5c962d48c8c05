//! From numbers to text: one family with its samples at a time.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

use crate::{histogram::Snapshot, names::Family};

/// What a scraper is told about the text of [`crate::Telemetry::render`].
///
/// Counters carry `_total` in their samples but not in their type lines, and the text ends with a
/// mark; a scraper must know that it reads OpenMetrics.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One series.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    /// The values of the family's labels, in its order. An empty value leaves the label out, which
    /// means the same.
    pub(crate) labels: Vec<&'a str>,
    pub(crate) value: Value,
}

/// What a series has to say.
#[derive(Debug)]
pub(crate) enum Value {
    Count(u64),
    Real(f64),
    Histogram(Snapshot),
}

/// Writes a family, or nothing when it has no series.
pub(crate) fn write<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    family: &Family,
    rows: impl IntoIterator<Item = Row<'a>>,
) -> fmt::Result {
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    let mut metric =
        encoder.encode_descriptor(family.name, family.help, family.unit.as_ref(), family.kind)?;
    for row in rows {
        let names = family.labels.iter().map(|label| label.as_str());
        let labels: Vec<_> = names.zip(row.labels).filter(|(_, v)| !v.is_empty()).collect();
        if labels.is_empty() {
            write_value(&mut metric, family.kind, &row.value)?;
        } else {
            let labels = labels.as_slice();
            write_value(&mut metric.encode_family(&labels)?, family.kind, &row.value)?;
        }
    }
    Ok(())
}

fn write_value(metric: &mut MetricEncoder<'_>, kind: MetricType, value: &Value) -> fmt::Result {
    match (kind, value) {
        (MetricType::Counter, Value::Count(count)) => {
            metric.encode_counter::<NoLabelSet, _, u64>(count, None)
        }
        (MetricType::Counter, Value::Real(real)) => {
            metric.encode_counter::<NoLabelSet, _, u64>(real, None)
        }
        (_, Value::Count(count)) => metric.encode_gauge(count),
        (_, Value::Real(real)) => metric.encode_gauge(real),
        (_, Value::Histogram(Snapshot { sum, count, buckets })) => {
            metric.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
        }
    }
}
