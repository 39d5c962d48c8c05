//! The loopback bench: fixture, floor and Tidegate side by side, ratios within a round.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use rustix::process::nice;
use tidegate_benches::{
    cold,
    npm::Package,
    peers::{Programs, Stage},
    plan::{Behind, Peer, Plan},
    report::{self, Report},
    rounds,
    streams::{
        self,
        plan::{Look, Shape},
    },
};

const RAISE: i32 = -15;

/// Measures what a hop through Tidegate costs, as ratios to a bare relay in the same run.
#[derive(Parser)]
struct Arguments {
    /// Three short rounds, about 100 s.
    #[arg(long, conflicts_with = "smoke")]
    quick: bool,
    /// One round of a blink, to see that everything works; leaves out what is not installed.
    #[arg(long)]
    smoke: bool,
    /// Rounds instead of those of the mode.
    #[arg(long)]
    rounds: Option<usize>,
    /// Counted milliseconds per load instead of those of the mode.
    #[arg(long)]
    window_ms: Option<u64>,
    /// Only these scenarios; those of streams run only when they are named here.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Streams: only memory, or only events a second.
    #[arg(long, value_enum)]
    look: Option<Look>,
    /// Streams: only this shape; may be repeated.
    #[arg(long, value_enum)]
    shape: Vec<Shape>,
    /// Leave this peer out; may be repeated.
    #[arg(long, value_enum)]
    without: Vec<Peer>,
    /// The program under test [default: the `tidegate` beside this program]
    #[arg(long, env = "TIDEGATE_BIN")]
    tidegate: Option<PathBuf>,
    /// Where npm packages are kept [default: ~/.cache/tidegate-tools]
    #[arg(long, env = "TIDEGATE_TOOLS")]
    tools: Option<PathBuf>,
    /// Write everything that was seen to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Run everything at a raised priority, so that a busy machine disturbs less (needs privilege).
    #[arg(long)]
    raise_priority: bool,
    /// End with status 1 when a target is missed, too.
    #[arg(long)]
    gate: bool,
}

/// What is behind the proxy, or that streams are looked at.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Http,
    Stdio,
    Streams,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.raise_priority {
        // Whatever is started from here on inherits it.
        nice(RAISE).context("the priority cannot be raised")?;
    }
    let own = std::env::current_exe()?.parent().context("no folder")?.to_owned();
    let tidegate = arguments.tidegate.clone().unwrap_or_else(|| own.join("tidegate"));
    let tools = match &arguments.tools {
        Some(tools) => tools.clone(),
        None => std::env::home_dir().context("no home folder")?.join(".cache/tidegate-tools"),
    };
    let programs = Programs::find(own, tidegate, tools);

    if arguments.only == Some(Part::Streams) {
        return streams(&arguments, &programs);
    }
    let mut plan = plan(&arguments);
    if !programs.tidegate.exists() && !plan.without.contains(&Peer::Tidegate) {
        ensure!(
            arguments.smoke && arguments.tidegate.is_none(),
            "{} is missing: build it (cargo build --release -p tidegate), name another with \
             --tidegate, or leave it out with --without tidegate",
            programs.tidegate.display()
        );
        say("tidegate is not built: left out");
        plan.without.push(Peer::Tidegate);
    }
    let stdio = plan.has(Behind::Stdio);
    for package in plan.peers(Behind::Stdio).filter_map(Package::of).filter(|_| stdio) {
        let Package { name, .. } = package;
        package.install(&programs.tools, &mut say).with_context(|| {
            format!("npm {name} cannot be installed (--without {name} leaves it out)")
        })?;
    }

    let mut machine = report::machine(programs.pinned);
    if arguments.raise_priority {
        machine.push("priority raised for all peers and the client".to_owned());
    }
    let stage = Stage::set(&plan, &programs)?;
    let samples = rounds::run(&plan, &programs, &stage, &mut say)?;
    drop(stage);
    let tidegate = plan.peers(Behind::Stdio).any(|peer| peer == Peer::Tidegate);
    let opened = match stdio && tidegate {
        true => Some(cold::run(plan.cold, &programs, &mut say).context("starting")?),
        false => None,
    };
    machine.push(format!("load average after: {}", report::load_average()));

    let report = Report::new(machine, plan, samples, opened);
    write!(io::stdout(), "{}", report.render())?;
    if let Some(file) = &arguments.json {
        fs::write(file, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let missed = report.verdicts.iter().any(|verdict| !verdict.pass);
    let failed = report.errors > 0 || (arguments.gate && missed);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn plan(arguments: &Arguments) -> Plan {
    let mut plan = match (arguments.quick, arguments.smoke) {
        (_, true) => Plan::smoke(),
        (true, _) => Plan::quick(),
        _ => Plan::full(),
    };
    if let Some(rounds) = arguments.rounds {
        plan.rounds = rounds;
    }
    if let Some(window) = arguments.window_ms {
        plan.window = Duration::from_millis(window);
    }
    let only = arguments.only.and_then(|only| match only {
        Part::Http => Some(Behind::Http),
        Part::Stdio => Some(Behind::Stdio),
        Part::Streams => None,
    });
    if let Some(only) = only {
        plan.scenarios.retain(|scenario| scenario.behind == only);
    }
    plan.without.extend(&arguments.without);
    plan
}

fn streams(arguments: &Arguments, programs: &Programs) -> anyhow::Result<ExitCode> {
    let mut plan = stream_plan(arguments);
    ensure!(
        programs.tidegate.exists() || plan.without.contains(&Peer::Tidegate),
        "{} is missing",
        programs.tidegate.display()
    );
    for peer in [Peer::Nginx, Peer::Haproxy] {
        if plan.without.contains(&peer) {
            continue;
        }
        match streams::peers::installed(peer) {
            Err(missing) if arguments.smoke => {
                say(&format!("{missing}; left out"));
                plan.without.push(peer);
            }
            Err(missing) => bail!(missing),
            Ok(()) => (),
        }
    }
    let mut machine = report::machine(programs.pinned);
    machine.extend(streams::peers::versions(&plan));
    let stage = streams::peers::Stage::set(programs)?;
    let samples = streams::report::run(&plan, &stage, &mut say)?;
    drop(stage);
    machine.push(format!("load average after: {}", report::load_average()));
    let report = streams::report::Report::new(machine, plan, samples);
    write!(io::stdout(), "{}", report.render())?;
    if let Some(file) = &arguments.json {
        fs::write(file, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let missed = report.verdicts.iter().any(|verdict| !verdict.pass);
    Ok(if arguments.gate && missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn stream_plan(arguments: &Arguments) -> streams::plan::Plan {
    let mut plan = match (arguments.quick, arguments.smoke) {
        (_, true) => streams::plan::Plan::smoke(),
        (true, _) => streams::plan::Plan::quick(),
        _ => streams::plan::Plan::full(),
    };
    plan.rounds = arguments.rounds.unwrap_or(plan.rounds);
    plan.window = arguments.window_ms.map_or(plan.window, Duration::from_millis);
    if let Some(look) = arguments.look {
        plan.looks = vec![look];
    }
    if !arguments.shape.is_empty() {
        plan.shapes.clone_from(&arguments.shape);
    }
    plan.without.extend(&arguments.without);
    plan
}

fn say(line: &str) {
    // Progress is for whoever watches; nobody need be there.
    writeln!(io::stderr(), "{line}").ok();
}
