//! What the runners saw, compared: pure, tested as data.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Outcomes;
use super::jobs::{Job, Kind, Way};

/// One scenario of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) scenario: String,
    pub(crate) ok: bool,
    pub(crate) detail: String,
    /// Digests of whole answers, which have to be the same on both ways.
    digests: BTreeMap<String, String>,
}

impl Outcome {
    pub(crate) fn passed(scenario: &str) -> Self {
        Self {
            scenario: scenario.to_owned(),
            ok: true,
            detail: String::new(),
            digests: BTreeMap::new(),
        }
    }

    pub(crate) fn failed(scenario: &str, detail: &str) -> Self {
        Self { ok: false, detail: detail.to_owned(), ..Self::passed(scenario) }
    }

    /// The job could not run at all.
    pub(crate) fn broken(error: &anyhow::Error) -> Self {
        Self::failed("job", &format!("{error:#}"))
    }
}

/// The JSON lines of a runner; other lines are the SDK's own chatter.
pub(crate) fn parse(text: &str) -> Vec<Outcome> {
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter_map(|value| {
            let digests = value.get("digests").and_then(Value::as_object).into_iter().flatten();
            Some(Outcome {
                scenario: value.get("scenario").and_then(Value::as_str)?.to_owned(),
                ok: value.get("ok").and_then(Value::as_bool)?,
                detail: value.get("detail").and_then(Value::as_str).unwrap_or_default().to_owned(),
                digests: digests.map(|(name, value)| (name.clone(), value.to_string())).collect(),
            })
        })
        .collect()
}

/// Problems fail the run; notes are what fails without the proxy too.
pub(crate) struct Verdict {
    pub(crate) problems: Vec<String>,
    pub(crate) notes: Vec<String>,
    pub(crate) summary: String,
}

pub(crate) fn judge(outcomes: &Outcomes) -> Verdict {
    let (mut problems, mut notes) = (Vec::new(), Vec::new());
    let (mut passed, mut total) = (0_usize, 0_usize);
    for (job, found) in outcomes {
        total += found.len();
        passed += found.iter().filter(|outcome| outcome.ok).count();
        if job.way == job.way.direct() {
            notes.extend(found.iter().filter(|outcome| !outcome.ok).map(|bad| describe(job, bad)));
            // A way that does not even begin directly proves nothing about the proxy.
            if !found.iter().any(|outcome| outcome.scenario == "initialize" && outcome.ok) {
                problems.push(format!("{job}: the direct run did not begin"));
            }
            continue;
        }
        let direct = outcomes.get(&direct_of(job)).map_or(&[][..], Vec::as_slice);
        problems.extend(losses(job, direct, found));
    }
    let summary = format!("{passed} of {total} scenario runs pass in {} jobs", outcomes.len());
    Verdict { problems, notes, summary }
}

fn direct_of(job: &Job) -> Job {
    Job { way: job.way.direct(), ..job.clone() }
}

fn describe(job: &Job, outcome: &Outcome) -> String {
    format!("{job}: {}: {}", outcome.scenario, outcome.detail)
}

/// What passes directly and is missing, failing or different on the way through.
fn losses(job: &Job, direct: &[Outcome], through: &[Outcome]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut missing = Vec::new();
    for expected in direct.iter().filter(|outcome| outcome.ok) {
        match through.iter().find(|outcome| outcome.scenario == expected.scenario) {
            None => missing.push(expected.scenario.as_str()),
            Some(found) if !found.ok => problems.push(describe(job, found)),
            Some(found) if found.digests != expected.digests => {
                let differing = differing(&expected.digests, &found.digests).join(", ");
                problems.push(format!(
                    "{job}: {}: other answers than directly: {differing}",
                    found.scenario
                ));
            }
            Some(_) => {}
        }
    }
    if !missing.is_empty() {
        problems.push(format!("{job}: not reached: {}", missing.join(", ")));
    }
    // Failures of scenarios that the direct run does not have: the proxy's own stop, a dead runner.
    let only_here = through
        .iter()
        .filter(|outcome| !direct.iter().any(|other| other.scenario == outcome.scenario));
    problems.extend(only_here.filter(|outcome| !outcome.ok).map(|outcome| describe(job, outcome)));
    problems
}

fn differing(left: &BTreeMap<String, String>, right: &BTreeMap<String, String>) -> Vec<String> {
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    names.into_iter().filter(|name| left.get(*name) != right.get(*name)).cloned().collect()
}

/// One table per server and transport: scenarios down, clients across, `direct / through` in a cell.
pub(crate) fn tables(outcomes: &Outcomes, clients: &[String]) -> Vec<(String, Vec<Vec<String>>)> {
    let groups: BTreeSet<(Kind, Way)> =
        outcomes.keys().map(|job| (job.kind, job.way.direct())).collect();
    groups
        .into_iter()
        .map(|(kind, way)| {
            let transport = if way == Way::DirectHttp { "HTTP" } else { "stdio" };
            let title = format!("{} over {transport}: directly / through Tidegate", kind.name());
            (title, rows(outcomes, clients, kind, way))
        })
        .collect()
}

fn rows(outcomes: &Outcomes, clients: &[String], kind: Kind, direct: Way) -> Vec<Vec<String>> {
    let through = if direct == Way::DirectHttp { Way::ThroughHttp } else { Way::ThroughStdio };
    let job = |way: Way, client: &String| Job { kind, way, client: client.clone() };
    let mut scenarios: Vec<&str> = Vec::new();
    for found in clients
        .iter()
        .flat_map(|client| [job(direct, client), job(through, client)])
        .filter_map(|job| outcomes.get(&job))
    {
        for outcome in found {
            if !scenarios.contains(&outcome.scenario.as_str()) {
                scenarios.push(&outcome.scenario);
            }
        }
    }
    let mark = |way: Way, client: &String, scenario: &str| {
        let found = outcomes.get(&job(way, client));
        match found.and_then(|found| found.iter().find(|outcome| outcome.scenario == scenario)) {
            Some(outcome) if outcome.ok => "ok",
            Some(_) => "FAIL",
            None => "-",
        }
    };
    let row = |scenario: &str| {
        let cells = clients.iter().map(|client| {
            format!("{} / {}", mark(direct, client, scenario), mark(through, client, scenario))
        });
        [scenario.to_owned()].into_iter().chain(cells).collect()
    };
    scenarios.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::{Job, Kind, Outcome, Outcomes, Way, judge, parse, tables};

    fn outcome(scenario: &str, ok: bool, digest: &str) -> Outcome {
        let line = format!(
            r#"{{"scenario":"{scenario}","ok":{ok},"detail":"d","digests":{{"x":"{digest}"}}}}"#
        );
        parse(&format!("chatter\n{line}\n")).remove(0)
    }

    fn problems(direct: Vec<Outcome>, through: Vec<Outcome>) -> Vec<String> {
        let job = |way| Job { kind: Kind::Memory, way, client: "c".to_owned() };
        let outcomes =
            Outcomes::from([(job(Way::DirectStdio), direct), (job(Way::ThroughStdio), through)]);
        assert_eq!(tables(&outcomes, &["c".to_owned()]).len(), 1);
        judge(&outcomes).problems
    }

    #[test]
    fn the_same_on_both_ways_is_no_problem() {
        let both = vec![outcome("initialize", true, "1"), outcome("call", true, "2")];
        assert!(problems(both.clone(), both).is_empty());
    }

    #[test]
    fn a_failure_a_gap_and_a_different_answer_are_problems() {
        let direct = vec![outcome("initialize", true, "1"), outcome("call", true, "2")];
        let start = outcome("initialize", true, "1");
        assert_eq!(
            problems(direct.clone(), vec![start.clone(), outcome("call", false, "2")]).len(),
            1
        );
        assert_eq!(problems(direct.clone(), vec![start.clone()]).len(), 1);
        assert_eq!(
            problems(direct.clone(), vec![start.clone(), outcome("call", true, "3")]).len(),
            1
        );
        assert_eq!(problems(direct.clone(), vec![]).len(), 1);
        let extra = vec![start, outcome("call", true, "2"), Outcome::failed("proxy stops", "no")];
        assert_eq!(problems(direct, extra).len(), 1);
    }

    #[test]
    fn what_fails_directly_is_only_noted_unless_nothing_began() {
        let direct = vec![outcome("initialize", true, "1"), outcome("call", false, "2")];
        assert!(problems(direct.clone(), direct).is_empty());
        let dead = vec![Outcome::failed("initialize", "no server")];
        assert_eq!(problems(dead.clone(), dead).len(), 1);
    }
}
