//! What can be seen of a running proxy: its own books, and what the kernel says about it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

use anyhow::Context as _;
use serde_json::Value;

use super::http;
use crate::process;

/// Everything that is compared, under a name. Sizes are in KiB.
pub(crate) type Sight = BTreeMap<String, f64>;

pub(super) const FILES: &str = "open files";
pub(super) const THREADS: &str = "threads";
pub(super) const PROCESSES: &str = "processes in the tree";
pub(super) const ZOMBIES: &str = "zombies in the tree";
pub(super) const MEMORY: &str = "resident memory, KiB";

/// Looks at the proxy with this pid and ops listener.
pub(crate) fn look(pid: u32, ops: SocketAddr) -> anyhow::Result<Sight> {
    let mut sight = gauges(&http::get(ops, "/metrics").context("metrics")?);
    let health: Value = serde_json::from_str(&http::get(ops, "/health").context("health")?)?;
    numbers(&health, "health", &mut sight);
    let family = process::descendants(pid);
    let zombies = family.iter().filter(|pid| process::is_zombie(**pid)).count();
    let entries =
        |folder: &str| fs::read_dir(format!("/proc/{pid}/{folder}")).map_or(0, Iterator::count);
    for (name, value) in [
        (FILES, entries("fd")),
        (THREADS, entries("task")),
        (PROCESSES, family.len() - zombies),
        (ZOMBIES, zombies),
        (MEMORY, resident_kib(pid).context("no memory figure")?),
    ] {
        sight.insert(name.to_owned(), value as f64);
    }
    Ok(sight)
}

/// The families of the type gauge, each the sum of its series.
fn gauges(metrics: &str) -> Sight {
    let mut sight: Sight = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" gauge"))
        .map(|family| (family.to_owned(), 0.0))
        .collect();
    for line in metrics.lines() {
        let family = line.split(['{', ' ']).next().unwrap_or_default();
        let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        if let (Some(sum), Some(value)) = (sight.get_mut(family), value) {
            *sum += value;
        }
    }
    sight
}

fn numbers(value: &Value, name: &str, sight: &mut Sight) {
    match value {
        Value::Number(number) => {
            sight.insert(name.to_owned(), number.as_f64().unwrap_or(f64::NAN));
        }
        Value::Object(members) => {
            for (key, value) in members {
                numbers(value, &format!("{name}.{key}"), sight);
            }
        }
        _ => (),
    }
}

pub(crate) fn resident_kib(pid: u32) -> Option<usize> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Sight, gauges, numbers};

    #[test]
    fn gauges_are_summed_over_their_series_and_counters_are_left_out() {
        let text = "# HELP a x\n# TYPE a gauge\na{u=\"1\"} 2\na{u=\"2\"} 3\n# TYPE b counter\n\
                    b_total 7\n# TYPE c gauge\n# TYPE d gauge\nd 4\n# EOF\n";
        let expected = [("a", 5.0), ("c", 0.0), ("d", 4.0)];
        let expected: Sight = expected.map(|(name, value)| (name.to_owned(), value)).into();
        assert_eq!(gauges(text), expected);
    }

    #[test]
    fn the_numbers_of_the_health_report_get_their_path_as_name() {
        let mut sight = Sight::new();
        let report = json!({"live": true, "sessions": 1, "upstreams": {"it": {"processes": 2}}});
        numbers(&report, "health", &mut sight);
        let expected = [("health.sessions", 1.0), ("health.upstreams.it.processes", 2.0)];
        assert_eq!(sight, expected.map(|(name, value)| (name.to_owned(), value)).into());
    }
}
