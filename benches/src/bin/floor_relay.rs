//! The bare relay as a program: HTTP to HTTP, or with `--stdio` HTTP to one shared child.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    net::SocketAddr,
};

use clap::Parser;
use rustix::process::{Signal, set_parent_process_death_signal};
use tidegate_benches::relay::{self, http::Driving};

/// The least that a proxy built on hyper can do; prints the bound address as one line.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The server to relay to.
    #[arg(long, required_unless_present = "stdio")]
    upstream: Option<SocketAddr>,
    /// Threads, each with a runtime and connections of its own (HTTP only).
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Poll upstream connections where they are used, not in tasks of their own (HTTP only).
    #[arg(long)]
    inline: bool,
    /// End when the process that started this one ends.
    #[arg(long)]
    die_with_parent: bool,
    /// Relay to the stdin and stdout of COMMAND instead.
    #[arg(long, requires = "command", conflicts_with = "upstream")]
    stdio: bool,
    /// The stdio server to start.
    #[arg(last = true)]
    command: Vec<OsString>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.die_with_parent {
        set_parent_process_death_signal(Some(Signal::TERM))?;
    }
    let ready = |address: SocketAddr| {
        // Whoever started us reads the line; if nobody does, relaying still makes sense.
        writeln!(io::stdout(), "{address}").ok();
    };
    match arguments.upstream {
        Some(upstream) => {
            let driving = if arguments.inline { Driving::Inline } else { Driving::Task };
            relay::http::run(arguments.listen, upstream, arguments.workers, driving, ready)?;
        }
        None => relay::pipe::run(arguments.listen, arguments.command, ready)?,
    }
    Ok(())
}
