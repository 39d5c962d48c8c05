//! Opens streams and holds them, measures, and prints what was seen as one line of JSON.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    time::Duration,
};

use clap::{Parser, Subcommand};
use rustix::process::{Signal, set_parent_process_death_signal};
use tidegate_benches::{
    client::Target,
    fixture::streams::Course,
    streams::hold::{self, Hold, Measure},
    wire::Era,
};

/// Holds streams that go on (`fixture_upstream streams`) and sees that no event is lost.
#[derive(Parser)]
struct Arguments {
    /// Where the proxy listens.
    address: SocketAddr,
    /// The path of the MCP endpoint.
    #[arg(long, default_value = "/mcp")]
    path: String,
    /// Where the fixture takes commands.
    #[arg(long)]
    commands: SocketAddr,
    /// The process to account for.
    #[arg(long)]
    account: u32,
    /// Legacy GET streams, each of a session, or modern listens.
    #[arg(long, value_enum, default_value = "modern")]
    era: Era,
    /// Streams share HTTP/2 connections (with prior knowledge).
    #[arg(long)]
    http2: bool,
    /// How many streams.
    #[arg(long, default_value_t = 1000)]
    streams: usize,
    /// Events in a burst.
    #[arg(long, default_value_t = 200)]
    burst: u32,
    /// End when the process that started this one ends.
    #[arg(long)]
    die_with_parent: bool,
    #[command(subcommand)]
    measure: Asked,
}

#[derive(Subcommand)]
enum Asked {
    /// Memory for each stream: idle, with a burst now and then, idle again.
    Memory {
        /// Milliseconds from one burst of a stream to its next.
        #[arg(long, default_value_t = 1000)]
        interval_ms: u64,
        /// Milliseconds with bursts.
        #[arg(long, default_value_t = 3000)]
        busy_ms: u64,
        /// Milliseconds before each look at idle streams.
        #[arg(long, default_value_t = 1000)]
        rest_ms: u64,
    },
    /// Events a second, as many as it takes.
    Events {
        /// Milliseconds that are not counted.
        #[arg(long, default_value_t = 300)]
        warm_up_ms: u64,
        /// Milliseconds that are counted.
        #[arg(long, default_value_t = 2000)]
        window_ms: u64,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.die_with_parent {
        set_parent_process_death_signal(Some(Signal::TERM))?;
    }
    let events = arguments.burst;
    let measure = match arguments.measure {
        Asked::Memory { interval_ms, busy_ms, rest_ms } => Measure::Memory {
            pulse: Course::Pulse { events, interval_ms },
            busy: Duration::from_millis(busy_ms),
            rest: Duration::from_millis(rest_ms),
        },
        Asked::Events { warm_up_ms, window_ms } => Measure::Events {
            flood: Course::Flood { events },
            warm_up: Duration::from_millis(warm_up_ms),
            window: Duration::from_millis(window_ms),
        },
    };
    let held = hold::run(&Hold {
        target: Target { address: arguments.address, path: arguments.path },
        commands: arguments.commands,
        era: arguments.era,
        is_http2: arguments.http2,
        streams: arguments.streams,
        account: arguments.account,
        measure,
    })?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&held)?)?;
    Ok(())
}
