//! The load client as a program: runs once and prints the outcome as one line of JSON.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use rustix::process::{Signal, set_parent_process_death_signal};
use tidegate_benches::{
    client::Target,
    load::{self, Load},
    wire::Era,
};

/// Closed-loop load of echo calls over keep-alive connections, every answer checked.
#[derive(Parser)]
struct Arguments {
    /// Where the server or proxy listens.
    address: SocketAddr,
    /// The path of the MCP endpoint.
    #[arg(long, default_value = "/mcp")]
    path: String,
    /// Legacy sessions, one a connection, or modern stateless requests.
    #[arg(long, value_enum, default_value = "legacy")]
    era: Era,
    /// Connections, each with one call in flight.
    #[arg(long, short, default_value_t = 64)]
    connections: usize,
    /// All connections share one legacy session.
    #[arg(long)]
    one_session: bool,
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
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.die_with_parent {
        set_parent_process_death_signal(Some(Signal::TERM))?;
    }
    let outcome = load::run(&Load {
        target: Target { address: arguments.address, path: arguments.path },
        era: arguments.era,
        connections: arguments.connections,
        one_session: arguments.one_session,
        warm_up: Duration::from_millis(arguments.warm_up_ms),
        window: Duration::from_millis(arguments.window_ms),
        account: arguments.account,
    })?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&outcome)?)?;
    Ok(if outcome.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
