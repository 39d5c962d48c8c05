//! Cases that change their own process, count what it has open, or kill it: each runs in a process
//! of its own, which is this program again.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

#[path = "../it/rig.rs"]
mod rig;

mod cases;
mod orphans;

use std::{
    env,
    io::{Write as _, stdout},
    process::{Command, ExitCode},
};

/// What a case is called, and what it does.
type Case = (&'static str, fn());

/// Before the name of a case or role in the first argument.
const ALONE: &str = "alone:";

fn main() -> ExitCode {
    let cases: Vec<Case> = [cases::CASES, orphans::CASES].concat();
    let mut arguments = env::args().skip(1);
    let wanted = arguments.next().unwrap_or_default();
    if let Some(name) = wanted.strip_prefix(ALONE) {
        let all = cases.iter().chain(cases::ROLES);
        let (_, run) = all.copied().find(|(known, _)| *known == name).expect("a known case");
        run();
        return ExitCode::SUCCESS;
    }
    let chosen = cases.iter().filter(|(name, _)| wanted.starts_with('-') || name.contains(&wanted));
    let failed = chosen.filter(|(name, _)| !passes(name)).count();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// This program in a case or a role.
fn alone(name: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.arg(format!("{ALONE}{name}"));
    command
}

fn passes(name: &str) -> bool {
    let output = alone(name).output().unwrap();
    let passed = output.status.success();
    let said = if passed { "ok" } else { "FAILED" };
    let mut out = stdout();
    writeln!(out, "test {name} ... {said}").unwrap();
    if !passed {
        out.write_all(&output.stdout).unwrap();
        out.write_all(&output.stderr).unwrap();
    }
    passed
}
