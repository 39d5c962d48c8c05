//! The steps themselves.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::Outcome;
use crate::place::Place;
use crate::process::{Ended, run_logged, tail};
use crate::{arch, conformance, interop, leak_check, soak, tools};

/// One check of the run.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// A step without whose success this one makes no sense.
    pub(crate) needs: Option<&'static str>,
    pub(crate) run: fn(&Place) -> anyhow::Result<Outcome>,
}

pub(crate) const STEPS: [Step; 14] = [
    Step { name: "fmt", about: "cargo fmt --check", needs: None, run: fmt },
    Step { name: "arch", about: "rules of ARCHITECTURE.md", needs: None, run: architecture },
    Step { name: "clippy", about: "clippy on all targets, no warnings", needs: None, run: clippy },
    Step { name: "build", about: "debug build of everything", needs: None, run: build },
    Step {
        name: "unit",
        about: "unit, property and end-to-end tests",
        needs: Some("build"),
        run: unit,
    },
    Step {
        name: "doctests",
        about: "examples in the documentation",
        needs: Some("build"),
        run: doctests,
    },
    Step { name: "docs", about: "rustdoc without warnings", needs: Some("build"), run: docs },
    Step {
        name: "deny",
        about: "licenses, bans and sources of dependencies",
        needs: None,
        run: deny,
    },
    Step {
        name: "advisories",
        about: "known vulnerabilities of dependencies",
        needs: None,
        run: advisories,
    },
    Step {
        name: "conformance",
        about: "official MCP suite",
        needs: Some("build"),
        run: run_conformance,
    },
    Step { name: "interop", about: "official SDK clients", needs: Some("build"), run: run_interop },
    Step {
        name: "leak-check",
        about: "what is left of traffic of every kind, valgrind included",
        needs: Some("build"),
        run: run_leak_check,
    },
    Step {
        name: "soak",
        about: "streams with breaks on both sides, and what they lose",
        needs: Some("build"),
        run: run_soak,
    },
    Step {
        name: "bench",
        about: "each benchmark once, unmeasured",
        needs: Some("build"),
        run: bench,
    },
];

const MINUTE: Duration = Duration::from_secs(60);

fn fmt(place: &Place) -> anyhow::Result<Outcome> {
    cargo(place, "fmt", &["fmt", "--all", "--check", "--", "--color=never"], MINUTE)
}

fn architecture(place: &Place) -> anyhow::Result<Outcome> {
    Ok(told(arch::run(place)?, "no violation", "the violations are above"))
}

fn clippy(place: &Place) -> anyhow::Result<Outcome> {
    let arguments = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
    cargo(place, "clippy", &arguments, 40 * MINUTE)
}

fn build(place: &Place) -> anyhow::Result<Outcome> {
    // Everything that tests start is built here, so that no test waits for a compiler.
    cargo(place, "build", &["build", "--locked", "--workspace", "--all-targets"], 40 * MINUTE)
}

fn unit(place: &Place) -> anyhow::Result<Outcome> {
    if tools::has_nextest() {
        let outcome =
            cargo(place, "unit", &["nextest", "run", "--locked", "--workspace"], 30 * MINUTE)?;
        return Ok(with_line(place, "unit", outcome, "tests run:"));
    }
    println!("   cargo-nextest is not installed, so cargo test runs the tests");
    let arguments =
        ["test", "--locked", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"];
    cargo(place, "unit", &arguments, 30 * MINUTE)
}

fn doctests(place: &Place) -> anyhow::Result<Outcome> {
    cargo(place, "doctests", &["test", "--locked", "--workspace", "--doc"], 20 * MINUTE)
}

fn docs(place: &Place) -> anyhow::Result<Outcome> {
    let mut command = place.cargo();
    command
        .args(["doc", "--locked", "--workspace", "--no-deps"])
        .env("RUSTDOCFLAGS", "-D warnings");
    logged(place, "docs", command, 20 * MINUTE)
}

fn deny(place: &Place) -> anyhow::Result<Outcome> {
    let deny = tools::cargo_deny(place)?;
    // The check is offline, so what it reads has to be here: all platforms, not just this one.
    let mut fetch = place.cargo();
    fetch.args(["fetch", "--locked"]);
    if let failed @ Outcome::Failed(_) = logged(place, "fetch", fetch, 10 * MINUTE)? {
        return Ok(failed);
    }
    let mut command = Command::new(deny);
    command.current_dir(&place.root).args(["--offline", "check", "licenses", "bans", "sources"]);
    let outcome = logged(place, "deny", command, 5 * MINUTE)?;
    Ok(with_line(place, "deny", outcome, "bans ok"))
}

/// The database of advisories is fetched from its own host, which not every machine reaches.
fn advisories(place: &Place) -> anyhow::Result<Outcome> {
    let mut command = Command::new(tools::cargo_deny(place)?);
    command.current_dir(&place.root).args(["check", "advisories"]);
    let outcome = logged(place, "advisories", command, 5 * MINUTE)?;
    let log = fs::read_to_string(place.log("advisories")).unwrap_or_default();
    if matches!(outcome, Outcome::Failed(_)) && log.contains("failed to fetch advisory database") {
        let reason = "the advisory database cannot be fetched from here";
        return Ok(Outcome::Skipped(reason.to_owned()));
    }
    Ok(outcome)
}

fn run_conformance(place: &Place) -> anyhow::Result<Outcome> {
    let passed = conformance::run(place, &conformance::Options::default())?;
    Ok(told(passed, "everything that passes directly passes through", "the differences are above"))
}

fn run_interop(place: &Place) -> anyhow::Result<Outcome> {
    let passed = interop::run(place, &interop::Options::default())?;
    Ok(told(passed, "everything that passes directly passes through", "the differences are above"))
}

/// First whether it can fail, then whether it does.
fn run_leak_check(place: &Place) -> anyhow::Result<Outcome> {
    if !leak_check::run(place, &leak_check::Options::self_test())? {
        return Ok(Outcome::Failed("planted leaks were not found, see above".to_owned()));
    }
    let is_clean = leak_check::run(place, &leak_check::Options::quick())?;
    Ok(told(is_clean, "nothing is left", "the leaks are above"))
}

/// First whether it can fail, then whether it does.
fn run_soak(place: &Place) -> anyhow::Result<Outcome> {
    if !soak::run(place, &soak::Options::self_test())? {
        return Ok(Outcome::Failed("planted mistakes were not found, see above".to_owned()));
    }
    let is_whole = soak::run(place, &soak::Options::quick())?;
    Ok(told(is_whole, "no stream lost anything", "what was lost is above"))
}

fn bench(place: &Place) -> anyhow::Result<Outcome> {
    // In the debug profile: this asks whether the benchmarks work, not how fast anything is.
    let arguments =
        ["test", "--locked", "--package", "tidegate-benches", "--benches", "--", "--test"];
    cargo(place, "bench", &arguments, 10 * MINUTE)
}

fn told(passed: bool, good: &str, bad: &str) -> Outcome {
    if passed { Outcome::Passed(good.to_owned()) } else { Outcome::Failed(bad.to_owned()) }
}

fn cargo(
    place: &Place,
    name: &str,
    arguments: &[&str],
    limit: Duration,
) -> anyhow::Result<Outcome> {
    let mut command = place.cargo();
    command.args(arguments);
    logged(place, name, command, limit)
}

/// Runs a command; on failure the end of its log is part of the outcome.
fn logged(
    place: &Place,
    name: &str,
    mut command: Command,
    limit: Duration,
) -> anyhow::Result<Outcome> {
    let log = place.log(name);
    match run_logged(&mut command, name, &log, limit)? {
        Ended::Exit(status) if status.success() => Ok(Outcome::Passed(String::new())),
        ended => {
            let (how, path) = (ended.describe(), log.display());
            Ok(Outcome::Failed(format!("{how}, log {path}\n{}", tail(&log, 80))))
        }
    }
}

/// Adds the line of the log that sums the step up.
fn with_line(place: &Place, name: &str, outcome: Outcome, holding: &str) -> Outcome {
    let log = fs::read_to_string(place.log(name)).unwrap_or_default();
    match (outcome, log.lines().rev().find(|line| line.contains(holding))) {
        (Outcome::Passed(_), Some(line)) => Outcome::Passed(line.trim().to_owned()),
        (outcome, _) => outcome,
    }
}
