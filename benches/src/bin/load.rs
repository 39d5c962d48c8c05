//! The load client as a program: runs once and prints the outcome as one line of JSON.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use rustix::process::{Signal, set_parent_process_death_signal};
use tidegate_benches::{
    client::Target,
    load::{
        self, Load,
        pipe::{self, PipeLoad},
    },
    wire::Era,
};

/// Closed-loop load of echo calls over keep-alive connections or a pipe, every answer checked.
#[derive(Parser)]
struct Arguments {
    /// Where the server or proxy listens.
    #[arg(required_unless_present = "command")]
    address: Option<SocketAddr>,
    /// The path of the MCP endpoint.
    #[arg(long, default_value = "/mcp")]
    path: String,
    /// Legacy sessions, one a connection, or modern stateless requests.
    #[arg(long, value_enum, default_value = "legacy")]
    era: Era,
    /// Connections, each with one call in flight; with COMMAND the calls in flight.
    #[arg(long, short, default_value_t = 64)]
    connections: usize,
    /// All connections share one legacy session.
    #[arg(long)]
    one_session: bool,
    /// Each call streams so many events, as fast as they come, instead of echoing.
    #[arg(long, default_value_t = 0)]
    events: u32,
    /// Milliseconds that are sent but not counted.
    #[arg(long, default_value_t = 300)]
    warm_up_ms: u64,
    /// Milliseconds that are counted.
    #[arg(long, default_value_t = 2000)]
    window_ms: u64,
    /// Account for the processor time of this process and of its descendants.
    #[arg(long)]
    account: Option<u32>,
    /// End when the process that started this one ends.
    #[arg(long)]
    die_with_parent: bool,
    /// Load the pipe of this stdio server instead.
    #[arg(last = true, conflicts_with_all = ["address", "one_session", "events", "account"])]
    command: Vec<OsString>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.die_with_parent {
        set_parent_process_death_signal(Some(Signal::TERM))?;
    }
    let warm_up = Duration::from_millis(arguments.warm_up_ms);
    let window = Duration::from_millis(arguments.window_ms);
    let outcome = match arguments.address {
        Some(address) => load::run(&Load {
            target: Target { address, path: arguments.path },
            era: arguments.era,
            connections: arguments.connections,
            one_session: arguments.one_session,
            events: arguments.events,
            warm_up,
            window,
            account: arguments.account,
        })?,
        None => pipe::run(&PipeLoad {
            command: arguments.command,
            era: arguments.era,
            in_flight: arguments.connections,
            warm_up,
            window,
        })?,
    };
    writeln!(io::stdout(), "{}", serde_json::to_string(&outcome)?)?;
    Ok(if outcome.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
