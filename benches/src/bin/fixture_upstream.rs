//! The fixture MCP server as a program: `fixture_upstream http` or `fixture_upstream stdio`.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use clap::{Parser, Subcommand};
use rustix::process::{Signal, set_parent_process_death_signal};
use tidegate_benches::fixture;

/// A fast MCP server to put behind a proxy that is to be measured.
#[derive(Parser)]
struct Arguments {
    /// End when the process that started this one ends.
    #[arg(long)]
    die_with_parent: bool,
    #[command(subcommand)]
    carrier: Carrier,
}

#[derive(Subcommand)]
enum Carrier {
    /// Streamable HTTP on every path; prints the bound address as one line.
    Http {
        /// Where to listen; port 0 takes a free one.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Threads, each with a runtime and a listening socket of its own.
        #[arg(long, default_value_t = 1)]
        workers: usize,
    },
    /// Streams that go on, on every path; prints the bound address and that of the commands.
    Streams {
        /// Where to listen; port 0 takes a free one.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// HTTP/2 with prior knowledge instead of HTTP/1.1.
        #[arg(long)]
        http2: bool,
    },
    /// One JSON message a line on stdin and stdout, until stdin ends.
    Stdio {
        /// Append one byte to this file at every start.
        #[arg(long)]
        starts: Option<PathBuf>,
        /// Milliseconds that starting takes.
        #[arg(long, default_value_t = 0)]
        start_ms: u64,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.die_with_parent {
        set_parent_process_death_signal(Some(Signal::TERM))?;
    }
    match arguments.carrier {
        Carrier::Http { listen, workers } => fixture::http::run(listen, workers, |address| {
            // Whoever started us reads the line; if nobody does, serving still makes sense.
            writeln!(io::stdout(), "{address}").ok();
        })?,
        Carrier::Streams { listen, http2 } => {
            fixture::streams::run(listen, http2, |address, commands| {
                writeln!(io::stdout(), "{address} {commands}").ok();
            })?;
        }
        Carrier::Stdio { starts, start_ms } => {
            fixture::pipe::run(starts.as_deref(), Duration::from_millis(start_ms))?;
        }
    }
    Ok(())
}
