//! Repository chores: `cargo xtask test` runs every check that a change must pass.
//!
//! - `arch`: the rules of the architecture that no compiler or linter checks.
//! - `conformance`: the official suite against the demo server, directly and through the proxy.
//! - `interop`: the official SDK clients against the reference servers, the same two ways.
//! - `leak-check`: traffic of every kind, and what is left of it afterwards.
//! - `soak`: many streams for long, with breaks on both sides, and what they lose.
//! - `checks`: all of the above in one run, with the usual cargo commands.
//!
//! It is a blocking tool for a person or a CI machine, so it prints, sleeps and reads the
//! environment, which nothing in the product does.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a blocking command-line tool: its output is stdout, its time is wall time"
)]

mod arch;
mod checks;
mod conformance;
mod dice;
mod interop;
mod leak_check;
mod place;
mod process;
mod servers;
mod soak;
mod table;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::place::Place;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Repository chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run every check; the last line is `N passed, N failed`.
    Test(checks::Options),
    /// Check the rules of the architecture.
    Arch,
    /// Run the official conformance suite directly and through the proxy.
    Conformance(conformance::Options),
    /// Run the official SDK clients directly and through the proxy.
    Interop(interop::Options),
    /// Drive the program through everything and see what is left.
    LeakCheck(leak_check::Options),
    /// Disturb many streams for long and see that none loses anything.
    Soak(soak::Options),
    /// The server of a soak, as a child process.
    #[command(hide = true)]
    SoakServer,
    /// Lose memory, so that the leak check can be tested.
    #[command(hide = true)]
    LoseMemory,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.chore) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True when the chore found nothing wrong; an error is the chore's own failure.
fn run(chore: Chore) -> anyhow::Result<bool> {
    match chore {
        Chore::LoseMemory => {
            leak_check::lose_memory();
            return Ok(true);
        }
        Chore::SoakServer => return soak::serve().map(|()| true),
        _ => (),
    }
    let place = Place::find()?;
    let passed = match chore {
        Chore::Test(options) => checks::run(&place, &options),
        Chore::Arch => arch::run(&place),
        Chore::Conformance(options) => conformance::run(&place, &options),
        Chore::Interop(options) => interop::run(&place, &options),
        Chore::LeakCheck(options) => leak_check::run(&place, &options),
        Chore::Soak(options) => soak::run(&place, &options),
        Chore::LoseMemory | Chore::SoakServer => Ok(true),
    };
    // Logs are for finding out what went wrong.
    if matches!(passed, Ok(true)) {
        std::fs::remove_dir_all(&place.logs)?;
    }
    passed
}
