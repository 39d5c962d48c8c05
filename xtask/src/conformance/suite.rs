//! Driving the suite's command line and reading what it writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::place::Place;
use crate::process::{run_captured, run_logged, tail};
use crate::tools;

/// Per scenario; the suite's own default is 30 s.
const SCENARIO_MS: &str = "20000";
const RUN_LIMIT: Duration = Duration::from_secs(10 * 60);
/// The pseudo-version of scenarios that belong to a protocol extension.
const EXTENSION: &str = "extension";

/// How a check ended; the order is that of severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    Success,
    Info,
    Skipped,
    Warning,
    Failure,
}

/// One check: its worst occurrence, since ids repeat within a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) status: Status,
    pub(crate) message: String,
}

/// The checks of a scenario by id.
pub(crate) type Scenario = BTreeMap<String, Check>;

/// Scenarios by (version, name).
pub(crate) type Results = BTreeMap<(String, String), Scenario>;

/// A spec version of the suite.
pub(crate) struct Version {
    pub(crate) name: String,
    /// Server scenarios that apply to it.
    pub(crate) scenarios: BTreeSet<String>,
    /// Those that an implementation is required to pass.
    pub(crate) scored: BTreeSet<String>,
}

/// The installed suite.
pub(crate) struct Suite {
    node: PathBuf,
    script: PathBuf,
}

impl Suite {
    pub(crate) fn install(place: &Place) -> anyhow::Result<Self> {
        let folder = tools::conformance_suite(place)?;
        let script = folder.file("@modelcontextprotocol/conformance", "dist/index.js");
        Ok(Self { node: tools::node(place)?, script })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.node);
        command.arg(&self.script).args(arguments);
        command
    }

    fn list(
        &self,
        place: &Place,
        name: &str,
        arguments: &[&str],
    ) -> anyhow::Result<Option<String>> {
        let log = place.log(name);
        let mut command = self.command(&["list"]);
        let (ended, text) =
            run_captured(command.args(arguments), name, &log, Duration::from_secs(60))?;
        Ok(ended.success().then_some(text))
    }

    /// Every spec version that a server scenario names, oldest first, and the extensions.
    pub(crate) fn versions(&self, place: &Place) -> anyhow::Result<Vec<Version>> {
        let text = self
            .list(place, "conformance-list", &["--server"])?
            .context("the suite cannot list")?;
        let mut by_version = parse_scenarios(&text);
        ensure!(!by_version.is_empty(), "the suite lists no server scenarios");
        let extension = by_version.remove(EXTENSION);
        let mut versions = Vec::new();
        // Newest first: a version without its own set of requirements is held to the next one's.
        let mut required = BTreeSet::new();
        for (name, scenarios) in by_version.into_iter().rev() {
            let list =
                self.list(place, &format!("requirements-{name}"), &["--requirements", &name])?;
            if let Some(text) = list {
                required = parse_required(&text);
                ensure!(!required.is_empty(), "the suite requires nothing for {name}");
            }
            let scored = scenarios.intersection(&required).cloned().collect();
            versions.push(Version { name, scenarios, scored });
        }
        versions.reverse();
        let extra = extension.map(|scenarios| Version {
            name: EXTENSION.to_owned(),
            scenarios,
            scored: BTreeSet::new(),
        });
        versions.extend(extra);
        Ok(versions)
    }

    /// Runs every scenario of a version; a scenario without results is absent from the answer.
    pub(crate) fn run(
        &self,
        place: &Place,
        version: &Version,
        url: &str,
        label: &str,
    ) -> anyhow::Result<BTreeMap<String, Scenario>> {
        let folder = place.logs.join(format!("conformance-{label}"));
        let name = format!("conformance-{label}");
        let log = place.log(&name);
        let mut command = self.command(&["server", "--url", url, "--suite", "all"]);
        command.args(["--timeout", SCENARIO_MS, "--output-dir"]).arg(&folder);
        // Extensions belong to no version: they run only when none is named.
        if version.name != EXTENSION {
            command.args(["--spec-version", &version.name]);
        }
        // The exit code repeats what the results say, so the results decide.
        run_logged(&mut command, &name, &log, RUN_LIMIT)?;
        let found = read_results(&folder, &version.scenarios)?;
        ensure!(!found.is_empty(), "the suite wrote no results\n{}", tail(&log, 20));
        Ok(found)
    }
}

/// `  - name [v1,v2]` lines, turned around: version to scenarios.
fn parse_scenarios(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut by_version: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines() {
        let Some((name, versions)) =
            line.trim().strip_prefix("- ").and_then(|rest| rest.split_once(" ["))
        else {
            continue;
        };
        for version in versions.trim_end_matches(']').split(',') {
            by_version.entry(version.to_owned()).or_default().insert(name.to_owned());
        }
    }
    by_version
}

/// The names under `Server scenarios` of `list --requirements`.
fn parse_required(text: &str) -> BTreeSet<String> {
    text.lines()
        .skip_while(|line| !line.starts_with("Server scenarios"))
        .skip(1)
        .map_while(|line| line.trim().strip_prefix("- ").map(str::to_owned))
        .collect()
}

/// Folders are named `server-SCENARIO-TIMESTAMP`.
fn read_results(
    folder: &Path,
    scenarios: &BTreeSet<String>,
) -> anyhow::Result<BTreeMap<String, Scenario>> {
    let mut found = BTreeMap::new();
    let entries = fs::read_dir(folder).into_iter().flatten();
    for entry in entries {
        let path = entry?.path();
        let name =
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let scenario = scenarios.iter().find(|scenario| {
            let timestamp = name.strip_prefix(&format!("server-{scenario}-"));
            timestamp.is_some_and(|timestamp| timestamp.starts_with("20"))
        });
        let checks = path.join("checks.json");
        if let (Some(scenario), true) = (scenario, checks.exists()) {
            let value: Value = serde_json::from_str(&fs::read_to_string(&checks)?)
                .with_context(|| format!("cannot read {}", checks.display()))?;
            found.insert(scenario.clone(), parse_checks(&value));
        }
    }
    Ok(found)
}

fn parse_checks(value: &Value) -> Scenario {
    let mut scenario = Scenario::new();
    for check in value.as_array().into_iter().flatten() {
        let status = match check.get("status").and_then(Value::as_str) {
            Some("SUCCESS") => Status::Success,
            Some("INFO") => Status::Info,
            Some("SKIPPED") => Status::Skipped,
            Some("WARNING") => Status::Warning,
            // An unknown word is not a success.
            _ => Status::Failure,
        };
        let id = check.get("id").and_then(Value::as_str).unwrap_or("unnamed").to_owned();
        let message =
            check.get("errorMessage").and_then(Value::as_str).unwrap_or_default().to_owned();
        let worst =
            scenario.entry(id).or_insert_with(|| Check { status, message: message.clone() });
        if status > worst.status {
            *worst = Check { status, message };
        }
    }
    scenario
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Status, parse_checks, parse_required, parse_scenarios};

    #[test]
    fn the_list_is_turned_around() {
        let text = "Server scenarios (test against a server):\n  - ping [2025-06-18,2025-11-25]\n  - tasks [extension]\n";
        let versions = parse_scenarios(text);
        assert_eq!(versions.keys().collect::<Vec<_>>(), ["2025-06-18", "2025-11-25", "extension"]);
        assert!(versions["2025-11-25"].contains("ping"));
    }

    #[test]
    fn only_server_scenarios_are_required() {
        let text = "Required for X:\n\nServer scenarios (a):\n  - ping\n  - caching\n\nClient scenarios (b):\n  - auth\n";
        assert_eq!(parse_required(text).into_iter().collect::<Vec<_>>(), ["caching", "ping"]);
    }

    #[test]
    fn the_worst_occurrence_of_a_check_counts() {
        let value = json!([
            {"id": "a", "status": "SUCCESS"},
            {"id": "a", "status": "FAILURE", "errorMessage": "no"},
            {"id": "a", "status": "SUCCESS"},
            {"id": "b", "status": "NEW_WORD"},
        ]);
        let scenario = parse_checks(&value);
        assert_eq!(scenario["a"].status, Status::Failure);
        assert_eq!(scenario["a"].message, "no");
        assert_eq!(scenario["b"].status, Status::Failure);
    }
}
