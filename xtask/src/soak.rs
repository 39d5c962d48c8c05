//! Whether streams lose anything: many at once, for long, with cuts on both sides of the real
//! program, restarts of the server and slow readers.
//!
//! `server`, `script` and `stream` are the far end, in this process, and `child` the one that speaks
//! on stdio; `run`, `follow` and `modern` are the clients. Events are numbered, so each transcript
//! can be compared with what was sent (`judge`). All of it is one thread of tasks, which shares
//! nothing with the proxy but sockets.

mod books;
mod child;
mod follow;
mod judge;
mod modern;
mod proxy;
mod reader;
mod report;
mod run;
mod script;
mod self_test;
mod server;
mod stream;
mod wire;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio::time::{interval, sleep, timeout};

use crate::dice::{self, Dice};
use crate::leak_check;
use crate::place::Place;
use crate::process::{run_logged, tail};
use books::Books;
pub(crate) use child::serve;
use proxy::{Behind, Proxy};
use report::Outcome;
use run::{Run, visits};
use server::{Door, Web};

/// Between two looks at the memory of the proxy.
const LOOK: Duration = Duration::from_secs(5);
/// Between two lines that say how it goes.
const BEAT: Duration = Duration::from_secs(30);
/// How long streams may take to their end when all is sent.
const END: Duration = Duration::from_secs(240);
/// How long the proxy may take to come to rest.
const REST: Duration = Duration::from_secs(60);
/// Sessions that begin in a second.
const ARRIVALS: u32 = 50;

#[derive(Args)]
pub(crate) struct Options {
    /// How long streams are disturbed, for example `90s`, `10m` or `1h`.
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = duration)]
    time: Duration,
    /// How many streams there are at once.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(20..=5_000))]
    streams: u32,
    /// Test the release build.
    #[arg(long)]
    release: bool,
    /// Test this binary, instead of building one.
    #[arg(long, conflicts_with = "release")]
    binary: Option<PathBuf>,
    /// Repeat the random choices of a run. When they take effect is up to the machine.
    #[arg(long)]
    seed: Option<u64>,
    /// Write everything that was seen to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Plant mistakes and see that they are found, instead.
    #[arg(long)]
    self_test: bool,
}

impl Options {
    /// The short form: few enough streams for a debug build on a busy machine.
    pub(crate) const fn quick() -> Self {
        Self {
            time: Duration::from_secs(100),
            streams: 200,
            release: false,
            binary: None,
            seed: None,
            json: None,
            self_test: false,
        }
    }

    /// The check of the check.
    pub(crate) fn self_test() -> Self {
        Self { self_test: true, ..Self::quick() }
    }
}

/// True when no stream has lost anything.
pub(crate) fn run(place: &Place, options: &Options) -> anyhow::Result<bool> {
    let start = Instant::now();
    let binary = prepare(place, options)?;
    raise_open_files(options.streams)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    if options.self_test {
        let problems = tasks.block_on(&runtime, check_itself(place, &binary))?;
        for problem in &problems {
            println!("soak: {problem}");
        }
        let verdict = if problems.is_empty() { "can fail" } else { "CANNOT BE TRUSTED" };
        println!("soak: the check {verdict} ({} s)", start.elapsed().as_secs());
        return Ok(problems.is_empty());
    }
    let seed = options.seed.unwrap_or_else(dice::any_seed);
    println!(
        "soak: --for {} s --streams {} --seed {seed}",
        options.time.as_secs(),
        options.streams
    );
    let outcome = tasks.block_on(&runtime, soak(place, options, &binary, seed))?;
    report::print(&outcome);
    if let Some(file) = &options.json {
        let text = serde_json::to_vec_pretty(&report::as_json(&outcome))?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let verdict = if outcome.findings.is_empty() { "no stream lost anything" } else { "FAILED" };
    println!("soak: {verdict} ({} s, --seed {seed})", start.elapsed().as_secs());
    Ok(outcome.findings.is_empty())
}

fn prepare(place: &Place, options: &Options) -> anyhow::Result<PathBuf> {
    let Some(binary) = &options.binary else {
        let mut cargo = place.cargo();
        cargo.args(["build", "--package", "tidegate"]);
        if options.release {
            cargo.arg("--release");
        }
        let log = place.log("build-soak");
        let ended = run_logged(&mut cargo, "cargo build", &log, Duration::from_secs(40 * 60))?;
        ensure!(ended.success(), "cannot build\n{}", tail(&log, 40));
        return Ok(place.binary(options.release));
    };
    Ok(binary.clone())
}

/// A stream is up to four files here and in the proxy, which inherits the limit.
fn raise_open_files(streams: u32) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = u64::from(streams) * 8 + 512;
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let most = limit.maximum.unwrap_or(u64::MAX);
    ensure!(most >= wanted, "{streams} streams need {wanted} open files, and {most} are allowed");
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit })?;
    Ok(())
}

/// The server's two doors, and the proxy before them.
fn open_all(
    place: &Place,
    binary: &Path,
    web: &Web,
    streams: u32,
) -> anyhow::Result<(Proxy, String)> {
    // By its name: a build since the start of this program has put another file in its place.
    let itself = place.target.join("debug").join("xtask").display().to_string();
    let child = vec![itself, "soak-server".to_owned()];
    let budget = (streams / 8).max(64);
    let behind = Behind { web: web.open(Door::Web)?, bare: web.open(Door::Bare)?, child, budget };
    Ok((Proxy::start(place, binary, &behind)?, proxy::settings(&behind)))
}

async fn check_itself(place: &Place, binary: &Path) -> anyhow::Result<Vec<String>> {
    let books = Books::quiet();
    let web = Web::new(1, &books, false, true);
    let (proxy, _) = open_all(place, binary, &web, 0)?;
    // Everything is said at once.
    web.stop();
    let (address, stopping, live) = (proxy.address, Cell::new(false), Cell::new(0));
    let run = Rc::new(Run { seed: 1, address, web, books, has_cuts: false, stopping, live });
    let problems = self_test::run(&run).await?;
    proxy.end()?;
    Ok(problems)
}

async fn soak(
    place: &Place,
    options: &Options,
    binary: &Path,
    seed: u64,
) -> anyhow::Result<Outcome> {
    let books = Books::default();
    let web = Web::new(seed, &books, true, false);
    let (proxy, settings) = open_all(place, binary, &web, options.streams)?;
    println!("soak: settings of the proxy, the others are the default ones:\n{settings}");
    let run = Rc::new(Run {
        seed,
        address: proxy.address,
        web,
        books: books.clone(),
        has_cuts: true,
        stopping: Cell::new(false),
        live: Cell::new(0),
    });
    let mut clients = JoinSet::new();
    let arrivals = spawn_clients(&run, options.streams as usize, &mut clients);
    let restarts = spawn_local(restart_now_and_then(Rc::clone(&run)));
    let memory = watch(&run, &proxy, options.time, arrivals).await;
    run.stopping.set(true);
    restarts.await?;
    run.web.stop();
    let ended = timeout(END, async { while clients.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        books.finding(format!("{} clients did not come to their end", clients.len()));
        clients.abort_all();
    }
    let totals = proxy.totals()?;
    if let Some(left) = rest(&proxy).await? {
        books.finding(format!("the proxy does not come to rest: {left}"));
    }
    if let Err(error) = proxy.end() {
        books.finding(format!("{error:#}"));
    }
    let told = |name: &str| totals.iter().any(|(total, value)| *total == name && *value > 0.0);
    for name in ["tidegate_replay_gaps_total", "tidegate_http_stream_gaps_total"] {
        if told(name) {
            books.finding(format!("the proxy counts gaps: {name}"));
        }
    }
    Ok(Outcome::new(seed, options, settings, &books, totals, memory))
}

/// Sessions begin one after the other, as they would.
fn spawn_clients(run: &Rc<Run>, streams: usize, clients: &mut JoinSet<()>) -> Duration {
    let pause = Duration::from_secs(1) / ARRIVALS;
    let visits = visits(streams);
    let last = pause * u32::try_from(visits.len()).unwrap_or(u32::MAX);
    for (number, visit) in visits.into_iter().enumerate() {
        let run = Rc::clone(run);
        let wait = pause * u32::try_from(number).unwrap_or(u32::MAX);
        clients.spawn_local(async move {
            sleep(wait).await;
            run.visit(number, visit).await;
        });
    }
    last
}

async fn restart_now_and_then(run: Rc<Run>) {
    let mut dice = Dice::of(run.seed, "restarts");
    loop {
        let next = Instant::now() + Duration::from_millis(20_000 + dice.below(25_000) as u64);
        while Instant::now() < next {
            if run.is_stopping() {
                return;
            }
            sleep(Duration::from_millis(250)).await;
        }
        run.web.restart(Duration::from_millis(200 + dice.below(2_800) as u64)).await;
    }
}

/// Lets it run, and looks at the memory of the proxy.
async fn watch(
    run: &Run,
    proxy: &Proxy,
    time: Duration,
    arrivals: Duration,
) -> Vec<(Duration, usize)> {
    let began = Instant::now();
    let (mut memory, mut beat) = (Vec::new(), BEAT);
    let mut looks = interval(LOOK);
    while began.elapsed() < time + arrivals {
        looks.tick().await;
        let elapsed = began.elapsed();
        let Some(resident) = proxy.resident_kib() else {
            run.books.finding("the proxy is gone".to_owned());
            break;
        };
        memory.push((elapsed, resident));
        if elapsed >= beat {
            beat += BEAT;
            println!("soak: {}", report::beat(&run.books, elapsed, run.live.get(), resident));
        }
    }
    memory
}

/// What is still under way at the proxy when it should be at rest.
async fn rest(proxy: &Proxy) -> anyhow::Result<Option<String>> {
    let began = Instant::now();
    loop {
        let now = proxy.look()?;
        let busy = leak_check::compare(&now, &now);
        if busy.is_empty() {
            return Ok(None);
        }
        if began.elapsed() > REST {
            return Ok(Some(busy.join("; ")));
        }
        sleep(Duration::from_millis(500)).await;
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        _ => return Err("say it as 90s, 10m or 1h".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "say it as 90s, 10m or 1h".to_owned())?;
    let seconds = number.checked_mul(unit).filter(|seconds| *seconds >= 10);
    seconds.map(Duration::from_secs).ok_or_else(|| "at least 10s".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::duration;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("10s", 10), ("3m", 180), ("1h", 3_600)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "10", "h", "3 m", "1d", "9s", "99999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
