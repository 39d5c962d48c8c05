//! A scripted MCP server on stdin and stdout that can misbehave in every way we defend against.
//!
//! It speaks both eras. Without options it is well-behaved, and what goes wrong is asked for per
//! call, by the tool and its arguments (see `tools`). What goes wrong with the process itself is
//! asked for by options:
//!
//! | option | effect |
//! |---|---|
//! | `--era both\|legacy\|modern` | which handshake is known; the other one gets an error |
//! | `--discover answer\|unknown\|silent\|exit\|unsupported` | what `server/discover` gets |
//! | `--initialize answer\|silent\|exit\|error\|log` | what `initialize` gets |
//! | `--mute` | reads everything, answers nothing |
//! | `--never-read` | never reads stdin |
//! | `--ignore-eof` | lives on after the end of stdin |
//! | `--ignore-term` | ignores SIGTERM |
//! | `--fork`, `--fork-setsid` | starts a long-lived grandchild at once |
//! | `--exit-at-start CODE` | ends at once, after a line on stderr |
//! | `--exit-while FILE` | the same, as long as the file exists |
//! | `--no-ack-while FILE` | acknowledges no subscription, as long as the file exists |
//! | `--tools-as FILE` | what `tools/list` gets is in the file: `silent`, `unknown` or an array of tools |
//! | `--stall-while FILE` | does not read anything, as long as the file exists |
//! | `--start-delay MS` | takes its time before it reads anything |
//! | `--garbage-at-start` | prints lines that are no JSON first |
//! | `--stderr-flood` | writes to stderr without end |
//!
//! Other arguments are kept for the tool `args`.

#![expect(clippy::indexing_slicing, reason = "indexing a JSON value does not panic when reading")]

mod options;
mod pipe;
mod server;
mod tools;

use std::process::ExitCode;

use crate::{options::Options, pipe::Pipe, server::Server};

fn main() -> ExitCode {
    let options = Options::read();
    options.reexec_ignoring_term();
    let pipe = Pipe::start();
    if let Some(code) = options.misbehave_at_start(&pipe) {
        return code;
    }
    if options.never_read {
        rest();
    }
    let ignore_eof = options.ignore_eof;
    Server::new(options, pipe).run();
    if ignore_eof {
        rest();
    }
    ExitCode::SUCCESS
}

/// Waits for a signal that ends the process.
fn rest() -> ! {
    loop {
        std::thread::park();
    }
}
