//! Whether the real program leaks: traffic of every kind in rounds, a look after each, then the same
//! under valgrind.
//!
//! At rest the books of the proxy (gauges, health) and those of the kernel (files, threads,
//! processes, zombies) have to say what they said after a first round, and its memory may not
//! climb. Each of it is one leak that no other one shows: a table that keeps an entry holds no
//! memory worth seeing, and a lost buffer is in no table.

mod churn;
mod http;
mod judge;
mod memcheck;
mod old;
mod proxy;
mod self_test;
mod sight;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::json;

use crate::dice::{self, Dice};
use crate::place::Place;
use crate::process::{run_logged, tail};
use crate::servers::{self, Demo, Endpoint, Upstream};
use crate::table;
use churn::Churn;
pub(crate) use http::get as page;
use judge::Rule;
pub(crate) use judge::{compare, slope};
use memcheck::Run;
use proxy::{Bench, Proxy};
pub(crate) use self_test::lose_memory;
pub(crate) use sight::{Sight, look, resident_kib};

/// How much is done.
struct Amount {
    rounds: usize,
    visits: usize,
    /// Visits of the first round, which fills the heap and does not count.
    warm_up: usize,
    /// KiB of resident memory that a round may add, by the line through all rounds.
    trend: f64,
    /// Visits of the shorter run under valgrind; the longer one has ten times as many.
    checked: usize,
}

impl Amount {
    fn of(options: &Options) -> Self {
        let rounds = usize::from(options.rounds);
        match options.quick {
            // Less than a KiB for each visit of a quick round, and 66 bytes for one of a full round:
            // a short run is not yet as even as a long one.
            true => Self { rounds: 5, visits: 150, warm_up: 400, trend: 128.0, checked: 8 },
            false => Self { rounds, visits: 1_000, warm_up: 1_000, trend: 64.0, checked: 40 },
        }
    }
}

#[derive(Args, Default)]
pub(crate) struct Options {
    /// Test the release build.
    #[arg(long)]
    release: bool,
    /// Test this binary, instead of building one.
    #[arg(long, conflicts_with = "release")]
    binary: Option<PathBuf>,
    /// Shorter rounds, and few visits under valgrind; under 90 s.
    #[arg(long)]
    quick: bool,
    /// Rounds after the first, which does not count.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u8).range(5..))]
    rounds: u8,
    /// Leave valgrind out.
    #[arg(long)]
    without_valgrind: bool,
    /// Repeat the random choices of a run.
    #[arg(long)]
    seed: Option<u64>,
    /// Write everything that was seen to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Plant leaks and see that they are found, instead.
    #[arg(long)]
    self_test: bool,
}

impl Options {
    /// The shorter form.
    pub(crate) fn quick() -> Self {
        Self { quick: true, ..Self::default() }
    }

    /// The check of the check.
    pub(crate) fn self_test() -> Self {
        Self { self_test: true, ..Self::default() }
    }
}

/// What a run saw, and what is wrong with it.
#[derive(Default)]
struct Outcome {
    /// The start, then each round.
    looks: Vec<Sight>,
    slope: f64,
    slope_limit: f64,
    memory: Option<[Run; 2]>,
    findings: Vec<String>,
    notes: Vec<String>,
}

/// True when nothing leaks.
pub(crate) fn run(place: &Place, options: &Options) -> anyhow::Result<bool> {
    let start = Instant::now();
    let (bench, [web, old]) = prepare(place, options)?;
    let findings = if options.self_test {
        let problems = self_test::run(place, &bench)?;
        for problem in &problems {
            println!("leak-check: {problem}");
        }
        let verdict = if problems.is_empty() { "can fail" } else { "CANNOT BE TRUSTED" };
        println!("leak-check: the check {verdict} ({} s)", start.elapsed().as_secs());
        problems
    } else {
        let seed = options.seed.unwrap_or_else(dice::any_seed);
        println!("leak-check: --seed {seed}");
        let outcome = check(place, options, &bench, &mut Dice(seed))?;
        report(&outcome);
        if let Some(file) = &options.json {
            let text = serde_json::to_vec_pretty(&as_json(&outcome, seed))?;
            fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        let verdict = if outcome.findings.is_empty() { "nothing leaks" } else { "LEAKS" };
        println!("leak-check: {verdict} ({} s)", start.elapsed().as_secs());
        outcome.findings
    };
    // It is a client of the other one.
    old.stop()?;
    web.stop()?;
    Ok(findings.is_empty())
}

/// Builds what is missing and starts the servers that stand behind the proxy: over HTTP, and over
/// HTTP+SSE, which is the same one behind a proxy of its own.
fn prepare(place: &Place, options: &Options) -> anyhow::Result<(Bench, [Endpoint; 2])> {
    let profile = if options.release { "release" } else { "debug" };
    let mut cargo = place.cargo();
    cargo.args(["build", "--package", "tidegate-testkit", "--bins"]);
    if options.binary.is_none() {
        cargo.args(["--package", "tidegate"]);
    }
    if options.release {
        cargo.arg("--release");
    }
    let log = place.log("build-leak-check");
    let ended = run_logged(&mut cargo, "cargo build", &log, Duration::from_secs(40 * 60))?;
    ensure!(ended.success(), "cannot build\n{}", tail(&log, 40));
    let binary = options.binary.clone().unwrap_or_else(|| place.binary(options.release));
    let web = Demo::Whole.over_http(place, &binary)?;
    let front = servers::proxy(place, &binary, "old", &Upstream::Http(&web.url))?;
    let child = proxy::scripted(place, profile);
    let (at, old) = (web.url.clone(), format!("{}/sse", front.url));
    Ok((Bench { binary, child, spares: 1, web: at, old }, [web, front]))
}

fn check(
    place: &Place,
    options: &Options,
    bench: &Bench,
    dice: &mut Dice,
) -> anyhow::Result<Outcome> {
    let Amount { rounds, visits, warm_up, trend, checked } = Amount::of(options);
    let mut outcome = Outcome { slope_limit: trend, ..Outcome::default() };
    let proxy = Proxy::start(place, bench, "leak-check", &[])?;
    let churn = Churn { address: proxy.address, clients: 8, visits };
    println!("leak-check: first round, {warm_up} visits");
    Churn { visits: warm_up, ..churn }.run(dice)?;
    let start = proxy.settle()?;
    outcome.looks.push(start.clone());
    for round in 1..=rounds {
        println!("leak-check: round {round} of {rounds}, {visits} visits");
        churn.run(dice)?;
        let (look, findings) = proxy.rest(&start)?;
        outcome.looks.push(look);
        outcome.findings.extend(findings.iter().map(|each| format!("round {round}: {each}")));
    }
    let (slope, finding) = judge::trend(&outcome.looks, trend);
    outcome.slope = slope;
    outcome.findings.extend(finding);
    let status = proxy.end()?;
    ensure!(status.success(), "the proxy ended with {status}");
    if options.without_valgrind {
        outcome.notes.push("valgrind was left out".to_owned());
    } else {
        memory(place, bench, checked, dice, &mut outcome)?;
    }
    Ok(outcome)
}

fn memory(
    place: &Place,
    bench: &Bench,
    visits: usize,
    dice: &mut Dice,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    println!("leak-check: {visits} and {} visits under valgrind", visits * 10);
    match memcheck::run(place, bench, visits, dice)? {
        Ok(runs) => {
            let [short, long] = &runs;
            outcome.findings.extend(memcheck::judge(&short.memory, &long.memory));
            outcome.memory = Some(runs);
        }
        Err(reason) => outcome.notes.push(reason),
    }
    Ok(())
}

fn report(outcome: &Outcome) {
    let Some(start) = outcome.looks.first() else { return };
    let mut head = vec!["at rest".to_owned(), "start".to_owned()];
    head.extend((1..outcome.looks.len()).map(|round| format!("round {round}")));
    head.push("rule".to_owned());
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let mut rows = Vec::new();
    for name in start.keys().filter(|name| Rule::of(name) != Rule::Free) {
        let mut row = vec![name.clone()];
        row.extend(outcome.looks.iter().map(|look| {
            look.get(name).map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"))
        }));
        row.push(match Rule::of(name) {
            Rule::Trend => format!("{:+.0} a round, <= {:+.0}", outcome.slope, outcome.slope_limit),
            rule => rule.describe().to_owned(),
        });
        rows.push(row);
    }
    print!("\n{}", table::render(&head, &rows));
    if let Some(runs) = &outcome.memory {
        let head = [
            "valgrind",
            "definite",
            "indirect",
            "possible",
            "reachable",
            "suppressed",
            "open files",
            "s",
        ];
        let rows = runs.iter().map(|run| {
            let memory = &run.memory;
            let numbers = [
                memory.definite,
                memory.indirect,
                memory.possible,
                memory.reachable,
                memory.suppressed,
                memory.files,
            ];
            let mut row = vec![format!("{} visits", run.visits)];
            row.extend(numbers.iter().map(ToString::to_string));
            row.push(run.seconds.to_string());
            row
        });
        print!("\n{}", table::render(&head, &rows.collect::<Vec<_>>()));
    }
    println!();
    for line in outcome.notes.iter().chain(&outcome.findings) {
        println!("leak-check: {line}");
    }
}

fn as_json(outcome: &Outcome, seed: u64) -> serde_json::Value {
    let memory = outcome.memory.as_ref().map(|runs| {
        let run = |run: &Run| {
            let memory = &run.memory;
            json!({"visits": run.visits, "definite": memory.definite, "indirect": memory.indirect,
                "possible": memory.possible, "reachable": memory.reachable,
                "suppressed": memory.suppressed, "records": memory.records,
                "open_files": memory.files, "status": memory.status, "seconds": run.seconds})
        };
        runs.iter().map(run).collect::<Vec<_>>()
    });
    json!({"seed": seed.to_string(), "looks": outcome.looks, "slope_kib_per_round": outcome.slope,
        "slope_limit_kib_per_round": outcome.slope_limit, "valgrind": memory,
        "findings": outcome.findings, "notes": outcome.notes})
}
