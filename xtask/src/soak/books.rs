//! What a run counts, for both ends of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::judge::Faults;

/// Findings that are told by name; the rest is only counted.
const TOLD: usize = 40;

/// The counts of one run. Clones are the same books.
#[derive(Clone, Default)]
pub(super) struct Books(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    counts: BTreeMap<&'static str, u64>,
    latencies: BTreeMap<&'static str, Vec<Duration>>,
    faults: Faults,
    findings: Vec<String>,
    untold: usize,
    is_quiet: bool,
}

impl Books {
    /// Books of a run whose findings are wanted.
    pub(super) fn quiet() -> Self {
        let books = Self::default();
        books.0.borrow_mut().is_quiet = true;
        books
    }

    pub(super) fn count(&self, what: &'static str) {
        *self.0.borrow_mut().counts.entry(what).or_default() += 1;
    }

    pub(super) fn get(&self, what: &str) -> u64 {
        self.0.borrow().counts.get(what).copied().unwrap_or_default()
    }

    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        self.0.borrow().counts.iter().map(|(what, count)| (*what, *count)).collect()
    }

    /// So long from a break until the next event.
    pub(super) fn took(&self, what: &'static str, time: Duration) {
        self.0.borrow_mut().latencies.entry(what).or_default().push(time);
    }

    /// Each kind of break with its times, the shortest first.
    pub(super) fn latencies(&self) -> Vec<(&'static str, Vec<Duration>)> {
        let inner = self.0.borrow();
        let sorted = inner.latencies.iter().map(|(what, times)| {
            let mut times = times.clone();
            times.sort_unstable();
            (*what, times)
        });
        sorted.collect()
    }

    /// A transcript is closed.
    pub(super) fn judged(&self, name: &str, faults: Faults) {
        self.0.borrow_mut().faults.add(faults);
        if !faults.is_none() {
            self.finding(format!("{name}: {faults:?}"));
        }
    }

    pub(super) fn faults(&self) -> Faults {
        self.0.borrow().faults
    }

    pub(super) fn finding(&self, what: String) {
        let mut inner = self.0.borrow_mut();
        if inner.findings.len() < TOLD {
            if !inner.is_quiet {
                // At once, beside what happens around it.
                println!("soak: FINDING {what}");
            }
            inner.findings.push(what);
        } else {
            inner.untold += 1;
        }
    }

    pub(super) fn findings(&self) -> Vec<String> {
        let inner = self.0.borrow();
        let mut findings = inner.findings.clone();
        if inner.untold > 0 {
            findings.push(format!("and {} more", inner.untold));
        }
        findings
    }
}

/// The value below which this share of the sorted times lies.
pub(super) fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * share).round();
    // It lies within the list.
    sorted.get(at as usize).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::quantile;

    #[test]
    fn quantiles_of_few_and_of_many() {
        let times: Vec<Duration> = (0..=100).map(Duration::from_millis).collect();
        for (share, expected) in [(0.0, 0), (0.5, 50), (0.99, 99), (1.0, 100)] {
            assert_eq!(quantile(&times, share), Duration::from_millis(expected));
        }
        assert_eq!(quantile(&[Duration::from_secs(1)], 0.99), Duration::from_secs(1));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
