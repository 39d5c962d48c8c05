//! How the program ends.

use std::process::ExitCode;

/// The exit codes, as `--help` documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; for `serve`, drained and everything released.
    Ok = 0,
    /// Could not start, or calls had to be cut, or something was left.
    Failure = 1,
    /// Arguments that make no sense.
    Usage = 2,
    /// The configuration has problems; they were printed.
    Config = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Prints an error with its causes.
#[expect(clippy::print_stderr, reason = "errors go to the person at the terminal")]
pub(crate) fn complain(error: &anyhow::Error) -> Exit {
    eprintln!("error: {error:#}");
    Exit::Failure
}

/// Prints what is wrong with the configuration.
#[expect(clippy::print_stderr, reason = "errors go to the person at the terminal")]
pub(crate) fn refuse(report: &tidegate_config::Report) -> Exit {
    eprint!("error: {report}");
    Exit::Config
}
