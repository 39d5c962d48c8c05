//! The command line: parse arguments, call the parts, print what comes back. It decides nothing.
//!
//! [`run`] is all that the binary calls. It must not know the protocol, nor how anything is served.
//!
//! ```
//! use std::process::ExitCode;
//!
//! // Usage errors end with 2, as for most programs.
//! let code = tidegate_cli::run(["tidegate", "serve", "--no-such-flag"]);
//! assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(2)));
//! ```
//!
//! Map: `args` is what can be typed; one module for each thing it can ask for: `serve`, `check`,
//! `status`, `demo` (the demo server itself); `welcome` is what `serve` prints, `logging` and `runtime` are
//! set up before it, `exit` says how it ended.

mod args;
mod check;
mod demo;
mod exit;
mod logging;
mod runtime;
mod serve;
mod status;
mod welcome;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory as _, Parser as _};

use crate::{
    args::{Cli, Command, ConfigCommand},
    exit::Exit,
};

/// Does what `args`, beginning with the name of the program, ask for.
///
/// Blocks until it is done; for `serve` that is until a signal ends it.
pub fn run<A>(args: impl IntoIterator<Item = A>) -> ExitCode
where
    A: Into<OsString> + Clone,
{
    match Cli::try_parse_from(args) {
        Ok(cli) => obey(cli.command).into(),
        Err(message) => {
            // A closed terminal is no reason to fail in another way.
            message.print().unwrap_or_default();
            // Help and version are asked for; everything else here is a usage error.
            if message.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() }
        }
    }
}

fn obey(command: Command) -> Exit {
    match command {
        Command::Serve(args) => serve::serve(&args),
        Command::Check(args) => check::check(&args),
        Command::Status(args) => status::status(&args),
        Command::Config { command: ConfigCommand::Show(args) } => check::show(&args),
        Command::DemoServer(args) => demo::serve(&args),
        Command::Completions { shell } => {
            // Into memory first: the generator panics when its writer fails.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut script);
            check::print(&String::from_utf8_lossy(&script))
        }
    }
}
