//! What the results mean: a pure comparison, tested as data.

use std::collections::BTreeMap;

use super::Lane;
use super::suite::{Check, Results, Scenario, Status, Version};

pub(crate) const HEAD: [&str; 5] = ["scenario", "scored", "direct", "stdio", "http"];

/// A difference that is known and has a reason; only for a scenario that is not scored.
pub(crate) struct Exception {
    version: &'static str,
    scenario: &'static str,
    lane: Lane,
    reason: &'static str,
}

/// A scenario that does not need its exception any more is a problem too, so the list stays true.
pub(crate) const EXCEPTIONS: [Exception; 0] = [];

/// Problems make the run fail; notes are differences with an [`Exception`].
#[derive(Default)]
pub(crate) struct Verdict {
    pub(crate) problems: Vec<String>,
    pub(crate) notes: Vec<String>,
    pub(crate) summary: String,
}

pub(crate) fn headline(version: &Version) -> String {
    format!(
        "{}: {} scenarios, {} scored",
        version.name,
        version.scenarios.len(),
        version.scored.len()
    )
}

/// Compares each lane with the direct one, and the direct one with what is scored.
pub(crate) fn judge(
    versions: &[Version],
    lanes: &BTreeMap<Lane, Results>,
    exceptions: &[Exception],
) -> Verdict {
    let mut verdict = Verdict::default();
    let (mut passed, mut total) = (0_usize, 0_usize);
    for version in versions {
        for name in &version.scenarios {
            let key = (version.name.clone(), name.clone());
            let scored = version.scored.contains(name);
            let direct = lanes.get(&Lane::Direct).and_then(|results| results.get(&key));
            if scored && !direct.is_some_and(passes) {
                let why = direct.map_or_else(|| "no result".to_owned(), complaints);
                verdict
                    .problems
                    .push(format!("{} {name}: scored, but fails directly: {why}", version.name));
            }
            for (lane, results) in lanes {
                let found = results.get(&key);
                total += 1;
                passed += usize::from(found.is_some_and(passes));
                let exception = exceptions.iter().find(|exception| {
                    !scored
                        && exception.lane == *lane
                        && exception.version == version.name
                        && exception.scenario == name
                });
                let lost = direct.map(|direct| lost(direct, found)).unwrap_or_default();
                let label = format!("{} {name} through {lane:?}", version.name);
                verdict.add(&label, lost, exception);
            }
        }
    }
    let (lanes, problems) = (lanes.len(), verdict.problems.len());
    verdict.summary =
        format!("{passed} of {total} scenario runs pass in {lanes} lanes, {problems} problems");
    verdict
}

impl Verdict {
    fn add(&mut self, label: &str, lost: Vec<String>, exception: Option<&Exception>) {
        match exception {
            None => self.problems.extend(lost.into_iter().map(|lost| format!("{label}: {lost}"))),
            Some(_) if lost.is_empty() => {
                self.problems.push(format!("{label}: passes, so its exception has to go"));
            }
            Some(exception) => {
                let checks = lost.len();
                self.notes.push(format!("{label}: {checks} checks excepted: {}", exception.reason));
            }
        }
    }
}

/// One row per scenario, one cell per lane.
pub(crate) fn rows(version: &Version, lanes: &BTreeMap<Lane, Results>) -> Vec<Vec<String>> {
    let row = |name: &String| {
        let scored = if version.scored.contains(name) { "yes" } else { "no" };
        let key = (version.name.clone(), name.clone());
        let cells = [Lane::Direct, Lane::Stdio, Lane::Http].map(|lane| {
            lanes.get(&lane).map_or_else(|| "-".to_owned(), |results| cell(results.get(&key)))
        });
        [name.clone(), scored.to_owned()].into_iter().chain(cells).collect()
    };
    version.scenarios.iter().map(row).collect()
}

/// The suite's own rule: nothing failed, and something was checked.
fn passes(scenario: &Scenario) -> bool {
    let count = |status| scenario.values().filter(|check| check.status == status).count();
    count(Status::Failure) == 0 && count(Status::Success) > 0
}

fn cell(scenario: Option<&Scenario>) -> String {
    let Some(scenario) = scenario else { return "no result".to_owned() };
    let good = scenario.values().filter(|check| check.status == Status::Success).count();
    let bad = scenario.values().filter(|check| check.status == Status::Failure).count();
    let verdict = if passes(scenario) { "pass" } else { "FAIL" };
    format!("{verdict} {good}/{}", good + bad)
}

fn complaints(scenario: &Scenario) -> String {
    let failed = scenario.iter().filter(|(_, check)| check.status == Status::Failure);
    let texts: Vec<String> = failed.map(|(id, check)| format!("{id} ({})", short(check))).collect();
    if texts.is_empty() { "nothing was checked".to_owned() } else { texts.join("; ") }
}

/// The checks that succeed directly and do not on the way through, and those that fail only there.
fn lost(direct: &Scenario, through: Option<&Scenario>) -> Vec<String> {
    let Some(through) = through else { return vec!["no result".to_owned()] };
    let succeeded = direct.iter().filter(|(_, check)| check.status == Status::Success);
    let lost = succeeded.filter_map(|(id, _)| match through.get(id) {
        Some(check) if check.status == Status::Success => None,
        Some(check) => Some(format!("{id} is {:?} ({})", check.status, short(check))),
        None => Some(format!("{id} was not reached")),
    });
    let failed = through.iter().filter(|(_, check)| check.status == Status::Failure);
    let new = failed
        .filter(|(id, _)| {
            direct
                .get(*id)
                .is_none_or(|check| !matches!(check.status, Status::Success | Status::Failure))
        })
        .map(|(id, check)| format!("{id} fails only here ({})", short(check)));
    lost.chain(new).collect()
}

fn short(check: &Check) -> String {
    let line = check.message.lines().next().unwrap_or_default();
    line.chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{Exception, Lane, judge, rows};
    use crate::conformance::suite::{Check, Results, Scenario, Status, Version};

    fn scenario(checks: &[(&str, Status)]) -> Scenario {
        checks
            .iter()
            .map(|(id, status)| {
                ((*id).to_owned(), Check { status: *status, message: "why".to_owned() })
            })
            .collect()
    }

    /// Judges one scenario `s` of version `v`.
    fn check(scored: bool, direct: Option<Scenario>, stdio: Option<Scenario>) -> Vec<String> {
        let names = BTreeSet::from(["s".to_owned()]);
        let scored = if scored { names.clone() } else { BTreeSet::new() };
        let versions = [Version { name: "v".to_owned(), scenarios: names, scored }];
        let results = |found: Option<Scenario>| -> Results {
            found.into_iter().map(|found| (("v".to_owned(), "s".to_owned()), found)).collect()
        };
        let lanes =
            BTreeMap::from([(Lane::Direct, results(direct)), (Lane::Stdio, results(stdio))]);
        assert_eq!(rows(&versions[0], &lanes).len(), 1);
        judge(&versions, &lanes, &[]).problems
    }

    #[test]
    fn an_exception_turns_problems_into_a_note_and_must_be_needed() {
        let exception =
            || Exception { version: "v", scenario: "s", lane: Lane::Stdio, reason: "r" };
        let good = scenario(&[("a", Status::Success)]);
        let bad = scenario(&[("a", Status::Failure)]);
        let judge_one = |scored: bool, through: &Scenario| {
            let names = BTreeSet::from(["s".to_owned()]);
            let scored = if scored { names.clone() } else { BTreeSet::new() };
            let versions = [Version { name: "v".to_owned(), scenarios: names, scored }];
            let key = ("v".to_owned(), "s".to_owned());
            let lane = |found: &Scenario| Results::from([(key.clone(), found.clone())]);
            let lanes = BTreeMap::from([(Lane::Direct, lane(&good)), (Lane::Stdio, lane(through))]);
            let verdict = judge(&versions, &lanes, &[exception()]);
            (verdict.problems.len(), verdict.notes.len())
        };
        assert_eq!(judge_one(false, &bad), (0, 1));
        assert_eq!(judge_one(false, &good), (1, 0), "the exception is stale");
        assert_eq!(judge_one(true, &bad), (1, 0), "what is scored has no exceptions");
    }

    #[test]
    fn equal_success_is_no_problem() {
        let good = scenario(&[("a", Status::Success), ("b", Status::Warning)]);
        assert!(check(true, Some(good.clone()), Some(good)).is_empty());
    }

    #[test]
    fn a_check_that_gets_lost_on_the_way_is_a_problem() {
        let good = scenario(&[("a", Status::Success), ("b", Status::Success)]);
        for worse in [Status::Failure, Status::Warning, Status::Skipped] {
            let through = scenario(&[("a", Status::Success), ("b", worse)]);
            assert_eq!(check(false, Some(good.clone()), Some(through)).len(), 1, "{worse:?}");
        }
        let unreached = scenario(&[("a", Status::Success)]);
        assert_eq!(check(false, Some(good.clone()), Some(unreached)).len(), 1);
        assert_eq!(check(false, Some(good), None).len(), 1);
    }

    #[test]
    fn a_check_that_fails_only_on_the_way_is_a_problem() {
        let direct = scenario(&[("a", Status::Success), ("b", Status::Warning)]);
        let through =
            scenario(&[("a", Status::Success), ("b", Status::Failure), ("c", Status::Failure)]);
        assert_eq!(check(false, Some(direct), Some(through)).len(), 2);
    }

    #[test]
    fn what_fails_directly_matters_only_when_scored() {
        let bad = scenario(&[("a", Status::Failure)]);
        assert!(check(false, Some(bad.clone()), Some(bad.clone())).is_empty());
        assert_eq!(check(true, Some(bad.clone()), Some(bad)).len(), 1);
        let unchecked = scenario(&[("a", Status::Skipped)]);
        assert_eq!(check(true, Some(unchecked.clone()), Some(unchecked)).len(), 1);
        assert_eq!(check(true, None, None).len(), 1);
    }
}
