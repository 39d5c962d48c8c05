//! Whether what was seen is a leak. Pure: it gets numbers and gives findings.

use super::sight::{MEMORY, Sight, ZOMBIES};

/// Words in the names of things that exist only while somebody wants something, a word a line. At
/// rest there are none of them, whatever there was at the start.
const BUSY: &str = include_str!("../../../tests/src/busy.txt");

/// More of them. Idle connections are among them, since the configuration of this check lets them
/// expire soon.
const BUSY_HERE: [&str; 4] =
    ["connections_idle", "health.connections", "health.streams", "health.sessions"];

/// Words in the names of what may be any number: settings, identity, and sizes, which wander.
const IGNORED: [&str; 8] =
    ["_max", "build_info", "process_", "seconds", "bytes", "resident", "rss", "cpu"];

/// What is asked of a number at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// It is zero.
    Zero,
    /// It is at most what it was at the start: what is kept for the next call.
    NoMore,
    /// It is at least what it was at the start: places that can be had.
    NoLess,
    /// Its trend over the rounds is judged, see [`slope`].
    Trend,
    /// Nothing.
    Free,
}

impl Rule {
    pub(super) fn of(name: &str) -> Self {
        let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
        if name == MEMORY {
            Self::Trend
        } else if name == ZOMBIES || has(&BUSY_HERE) || BUSY.lines().any(|word| name.contains(word))
        {
            Self::Zero
        } else if has(&IGNORED) {
            Self::Free
        } else if name.contains("available") {
            Self::NoLess
        } else {
            Self::NoMore
        }
    }

    /// The rule in a table.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Zero => "0",
            Self::NoMore => "<= start",
            Self::NoLess => ">= start",
            Self::Trend => "trend",
            Self::Free => "any",
        }
    }

    fn holds(self, start: f64, now: f64) -> bool {
        match self {
            Self::Zero => now == 0.0,
            Self::NoMore => now <= start,
            Self::NoLess => now >= start,
            Self::Trend | Self::Free => true,
        }
    }
}

/// What one look at rest gives away, against the look at the start.
pub(crate) fn compare(start: &Sight, now: &Sight) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, value) in now {
        let (rule, before) = (Rule::of(name), start.get(name).copied());
        // What was not there before began with nothing.
        if !rule.holds(before.unwrap_or_default(), *value) {
            let before = before.map_or_else(|| "missing".to_owned(), |before| before.to_string());
            let rule = rule.describe();
            findings.push(format!("{name}: {value}, at the start {before}, rule {rule}"));
        }
    }
    for name in start.keys().filter(|name| !now.contains_key(*name)) {
        findings.push(format!("{name} cannot be seen any more"));
    }
    findings
}

/// The slope of the least-squares line through `values` at 0, 1, 2 …
pub(crate) fn slope(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let middle = (count - 1.0) / 2.0;
    let mean = values.iter().sum::<f64>() / count;
    let steps = (0..values.len()).map(|step| step as f64 - middle);
    let (mut over, mut under) = (0.0, 0.0);
    for (step, value) in steps.zip(values) {
        over += step * (value - mean);
        under += step * step;
    }
    if under == 0.0 { 0.0 } else { over / under }
}

/// Whether memory grows by more than `limit` a round.
pub(super) fn trend(looks: &[Sight], limit: f64) -> (f64, Option<String>) {
    let memory: Vec<f64> = looks.iter().filter_map(|look| look.get(MEMORY).copied()).collect();
    let slope = slope(&memory);
    let finding = (slope > limit).then(|| {
        format!("resident memory grows by {slope:.0} KiB a round, at most {limit:.0}: {memory:?}")
    });
    (slope, finding)
}

#[cfg(test)]
mod tests {
    use super::super::sight::{FILES, MEMORY, PROCESSES, Sight, ZOMBIES};
    use super::{Rule, compare, slope, trend};

    fn sight(values: &[(&str, f64)]) -> Sight {
        values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn each_kind_of_leak_is_found_and_rest_is_not() {
        let start = [
            ("tidegate_requests_in_flight", 0.0),
            ("tidegate_sessions_open", 0.0),
            ("tidegate_stdio_children", 1.0),
            ("tidegate_http_pool_connections_available", 32.0),
            ("tidegate_http_pool_connections_max", 32.0),
            ("process_open_fds", 20.0),
            ("health.streams", 0.0),
            (FILES, 20.0),
            (PROCESSES, 1.0),
            (ZOMBIES, 0.0),
            (MEMORY, 9_000.0),
        ];
        let changed = |name: &str, value: f64| {
            let mut now = sight(&start);
            assert!(now.insert(name.to_owned(), value).is_some(), "{name}");
            compare(&sight(&start), &now)
        };
        assert_eq!(compare(&sight(&start), &sight(&start)), [""; 0]);
        for (name, leaked, fine) in [
            ("tidegate_requests_in_flight", 1.0, 0.0),
            ("tidegate_sessions_open", 1.0, 0.0),
            ("tidegate_stdio_children", 2.0, 0.0),
            ("tidegate_http_pool_connections_available", 31.0, 33.0),
            ("health.streams", 1.0, 0.0),
            (FILES, 21.0, 19.0),
            (PROCESSES, 2.0, 0.0),
            (ZOMBIES, 1.0, 0.0),
        ] {
            let findings = changed(name, leaked);
            assert!(findings.len() == 1 && findings[0].starts_with(name), "{findings:?}");
            assert_eq!(changed(name, fine), [""; 0], "{name}");
        }
        for name in ["tidegate_http_pool_connections_max", "process_open_fds", MEMORY] {
            assert_eq!(changed(name, 99_999.0), [""; 0], "{name}");
        }
    }

    #[test]
    fn a_gauge_that_appears_or_vanishes_is_looked_at() {
        let start = sight(&[("a_children", 0.0)]);
        assert_eq!(compare(&start, &sight(&[("a_children", 0.0), ("b_children", 1.0)])).len(), 1);
        assert_eq!(compare(&start, &sight(&[("a_children", 0.0), ("b_children", 0.0)])).len(), 0);
        assert_eq!(compare(&start, &sight(&[])).len(), 1);
    }

    #[test]
    fn what_is_busy_must_be_zero_even_if_it_was_not_at_the_start() {
        let held = sight(&[("tidegate_stdio_requests_in_flight", 1.0)]);
        assert_eq!(compare(&held, &held).len(), 1);
        assert_eq!(Rule::of("tidegate_stdio_requests_in_flight"), Rule::Zero);
        assert_eq!(Rule::of("health.upstreams.web.connections_in_use"), Rule::Zero);
        assert_eq!(Rule::of("health.tasks"), Rule::NoMore);
    }

    #[test]
    fn the_slope_is_that_of_the_least_squares_line() {
        for (values, expected) in [
            (&[5.0, 5.0, 5.0, 5.0][..], 0.0),
            (&[1.0, 3.0, 5.0, 7.0], 2.0),
            (&[0.0, 10.0, 0.0, 10.0, 0.0], 0.0),
            (&[1.0], 0.0),
            (&[], 0.0),
        ] {
            assert!((slope(values) - expected).abs() < 1e-9, "{values:?}");
        }
    }

    #[test]
    fn memory_that_climbs_is_a_leak_and_memory_that_jumps_is_not() {
        let looks =
            |values: &[f64]| values.iter().map(|v| sight(&[(MEMORY, *v)])).collect::<Vec<_>>();
        let climbs = looks(&[9_000.0, 9_310.0, 9_590.0, 9_900.0, 10_210.0]);
        assert!(trend(&climbs, 256.0).1.is_some());
        let jumps = looks(&[9_000.0, 9_300.0, 9_100.0, 9_290.0, 9_120.0]);
        assert!(trend(&jumps, 256.0).1.is_none());
    }
}
