//! What can be typed.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, builder::PossibleValuesParser, value_parser};
use clap_complete::Shell;
use tidegate_config::Flags;

const EXAMPLES: &str = "\
Examples:
  tidegate serve --demo                                  try it, with nothing else installed
  tidegate serve -- npx -y @modelcontextprotocol/server-everything
                                                         serve a stdio server over HTTP
  tidegate serve --upstream https://mcp.example/mcp      stand in front of an HTTP server
  tidegate serve --config tidegate.yaml                  several servers, routes, limits
  tidegate check --config tidegate.yaml                  find all mistakes before serving
  tidegate status                                        how the running proxies are

Exit codes:
  0  done; after `serve`, every call finished and everything was released
  1  could not start, or calls had to be cut when stopping; no proxy to ask
  2  wrong usage
  3  invalid configuration";

const SERVE_EXAMPLES: &str = "\
What to serve comes from exactly one of --config, --upstream, --demo and -- COMMAND.
Other options win over TIDEGATE__… variables, those over the file, that over defaults.
See what came of it with `tidegate config show`, which takes the same arguments.

Examples:
  tidegate serve --demo
  tidegate serve --listen 127.0.0.1:9000 -- uvx mcp-server-time
  tidegate serve --config tidegate.yaml --log-level info,tidegate_gateway=debug
  TIDEGATE__LIMITS__MAX_BODY=4MiB tidegate serve --upstream http://127.0.0.1:3001/mcp

Signals:
  The first SIGTERM or SIGINT lets calls in flight finish (timeouts.drain), the second cuts them.";

const STATUS_EXAMPLES: &str = "\
Asks every proxy that keeps its state in the directory `state_dir` of the configuration. Without
one that is `tidegate` in $XDG_RUNTIME_DIR, or `tidegate-UID` in the directory for temporary
files, so it finds the proxies of the same user.

Examples:
  tidegate status
  tidegate status --config tidegate.yaml                 where that file sets state_dir
  tidegate status --json                                 a list of reports, for programs

Columns:
  STATE      down: starts kept failing, so the server is left alone for a while
  SHARING    as configured; with `auto` also what came of it
  HOLDS      child processes, or connections
  IN FLIGHT  requests that are not answered yet
  WAITING    callers that wait for a process or a connection
  RESTARTS   processes that ended without being told to";

/// A reverse proxy for the Model Context Protocol.
///
/// Stands in front of MCP servers, over HTTP and stdio, and serves every protocol version on one
/// endpoint.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve clients until a signal comes.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ServeArgs),
    /// Report everything that is wrong with a configuration.
    Check(CheckArgs),
    /// Show the proxies that run on this machine, and how their upstreams are.
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Be the demo server that `serve --demo` starts.
    #[command(hide = true)]
    DemoServer(DemoArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the effective configuration with the source of each value; secrets are left out.
    Show(ServeArgs),
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// A file to check; may be given several times. Without one, the environment alone is checked.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// The configuration of the proxy; only its `state_dir` is looked at.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print the reports as JSON: a list with one object for each proxy.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Serve Streamable HTTP on this address instead of stdio.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) http: Option<SocketAddr>,
    /// Also offer what the official conformance suite calls.
    #[arg(long)]
    pub(crate) conformance: bool,
    /// Entries per page of a list [default: all of them].
    #[arg(long, value_name = "N")]
    pub(crate) page_size: Option<usize>,
}

#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
}

#[derive(Args, Debug)]
#[group(multiple = false)]
#[command(next_help_heading = "What to serve (one of them)")]
pub(crate) struct SourceArgs {
    /// A configuration file: .yaml, .toml or .json.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One MCP server, over Streamable HTTP.
    #[arg(short, long, value_name = "URL")]
    upstream: Option<String>,
    /// A small built-in MCP server, as a child process.
    #[arg(long)]
    pub(crate) demo: bool,
    /// One MCP server, as a child process that speaks over stdin and stdout.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Settings")]
pub(crate) struct SettingArgs {
    /// Where to serve clients; may be given several times [default: 127.0.0.1:8080].
    #[arg(short, long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Where to serve /metrics and /health, or `off` [default: 127.0.0.1:9464].
    #[arg(long, value_name = "ADDRESS|off")]
    ops: Option<String>,
    /// Worker threads, 1 to 1024 [default: the number of CPUs].
    #[arg(short, long, value_name = "N", value_parser = value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// What to log: a level, or several as in `info,tidegate_gateway=debug` [default: info].
    #[arg(long, value_name = "FILTER")]
    log_level: Option<String>,
    /// How to log, to stderr [default: text].
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(["text", "json"]))]
    log_format: Option<String>,
}

impl ServeArgs {
    /// The flags for the configuration. For the demo, `program` is this program.
    pub(crate) fn flags(&self, program: impl FnOnce() -> String) -> Flags {
        let SourceArgs { config, upstream, demo, command } = &self.source;
        let SettingArgs { listen, ops, workers, log_level, log_format } = &self.settings;
        let command = match demo {
            true => vec![program(), "demo-server".to_owned()],
            false => command.clone(),
        };
        Flags {
            config: config.clone(),
            upstream: upstream.clone(),
            command,
            demo: *demo,
            listen: listen.clone(),
            ops: ops.clone(),
            workers: workers.map(usize::from),
            log_level: log_level.clone(),
            log_format: log_format.clone(),
        }
    }
}
