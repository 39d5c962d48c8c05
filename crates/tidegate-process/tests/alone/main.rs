//! Cases that change their own process, count what it has open, or kill it: each runs in a process
//! of its own, which is this program again.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "../it/rig.rs"]
mod rig;

mod cases;
mod exhausted;
mod orphans;
mod recovery;

use std::{
    env,
    process::{Command, ExitCode},
};

use libtest_mimic::{Arguments, Failed, Trial};

/// What a case is called, and what it does.
type Case = (&'static str, fn());

/// Before the name of a case or role in the first argument.
const ALONE: &str = "alone:";

fn main() -> ExitCode {
    let cases: Vec<Case> =
        [cases::CASES, orphans::CASES, exhausted::CASES, recovery::CASES].concat();
    let wanted = env::args().nth(1).unwrap_or_default();
    if let Some(name) = wanted.strip_prefix(ALONE) {
        let all = cases.iter().chain(cases::ROLES).chain(orphans::ROLES).chain(recovery::ROLES);
        let (_, run) = all.copied().find(|(known, _)| *known == name).expect("a known case");
        run();
        return ExitCode::SUCCESS;
    }
    let trials = cases.into_iter().map(|(name, _)| {
        Trial::test(name.replace(' ', "_"), move || outcome(name).map_err(Failed::from))
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// This program in a case or a role.
fn alone(name: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.arg(format!("{ALONE}{name}"));
    command
}

/// Runs a case; an error is what it said.
fn outcome(name: &str) -> Result<(), String> {
    let output = alone(name).output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{}\n{}", output.status, String::from_utf8_lossy(&said)))
}
