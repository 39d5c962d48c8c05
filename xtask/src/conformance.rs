//! The official conformance suite against the demo server: directly, through the proxy with the
//! demo as a child process, and through the proxy with the demo over HTTP.
//!
//! What passes directly has to pass through, check by check, and the demo itself has to pass every
//! scenario that the suite scores. Rows come from the suite's own `checks.json` files.

mod suite;
mod verdict;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use clap::Args;

use crate::place::Place;
use crate::process::run_logged;
use crate::servers::{self, Demo, Endpoint, MCP_PATH, Upstream};
use crate::table;
use suite::{Results, Suite, Version};

#[derive(Args, Default)]
pub(crate) struct Options {
    /// Test the release build.
    #[arg(long)]
    release: bool,
    /// Test this binary, instead of building one.
    #[arg(long, conflicts_with = "release")]
    binary: Option<PathBuf>,
    /// Only these spec versions, as the suite names them.
    #[arg(long, value_delimiter = ',')]
    version: Vec<String>,
    /// Only the direct column, against this running server.
    #[arg(long)]
    url: Option<String>,
}

/// A way from the suite to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Direct,
    Stdio,
    Http,
}

/// True when nothing got lost on the way and the demo passed what is scored.
pub(crate) fn run(place: &Place, options: &Options) -> anyhow::Result<bool> {
    let start = Instant::now();
    let suite = Suite::install(place)?;
    let mut versions = suite.versions(place)?;
    if !options.version.is_empty() {
        versions.retain(|version| options.version.contains(&version.name));
        ensure!(!versions.is_empty(), "the suite has none of {}", options.version.join(", "));
    }
    let lanes = match &options.url {
        Some(url) => BTreeMap::from([(
            Lane::Direct,
            run_versions(place, &suite, &versions, Lane::Direct, url)?,
        )]),
        None => run_lanes(
            place,
            &suite,
            &versions,
            &binary(place, options.release, options.binary.as_deref())?,
        )?,
    };
    let verdict = verdict::judge(&versions, &lanes, &verdict::EXCEPTIONS);
    for version in &versions {
        println!("\n{}", verdict::headline(version));
        print!("{}", table::render(&verdict::HEAD, &verdict::rows(version, &lanes)));
    }
    println!();
    for note in &verdict.notes {
        println!("conformance: note: {note}");
    }
    for problem in &verdict.problems {
        println!("conformance: {problem}");
    }
    println!("conformance: {} ({} s)", verdict.summary, start.elapsed().as_secs());
    let passed = verdict.problems.is_empty();
    if !passed {
        println!("conformance: logs are in {}", place.logs.display());
    }
    Ok(passed)
}

/// The proxy to test: the given one, or one built now.
pub(crate) fn binary(
    place: &Place,
    release: bool,
    given: Option<&Path>,
) -> anyhow::Result<PathBuf> {
    given.map_or_else(|| build(place, release), |path| Ok(path.to_path_buf()))
}

fn build(place: &Place, release: bool) -> anyhow::Result<PathBuf> {
    let mut cargo = place.cargo();
    cargo.args(["build", "--package", "tidegate"]);
    if release {
        cargo.arg("--release");
    }
    let log = place.log("build-tidegate");
    let ended = run_logged(&mut cargo, "cargo build", &log, Duration::from_secs(30 * 60))?;
    ensure!(ended.success(), "cannot build tidegate\n{}", crate::process::tail(&log, 40));
    Ok(place.binary(release))
}

/// All three lanes at once: each is mostly waiting for its servers.
fn run_lanes(
    place: &Place,
    suite: &Suite,
    versions: &[Version],
    binary: &Path,
) -> anyhow::Result<BTreeMap<Lane, Results>> {
    let demo_for_direct = Demo::Whole.over_http(place, binary)?;
    let demo_for_proxy = Demo::Whole.over_http(place, binary)?;
    let command = Demo::Whole.command(binary);
    let stdio = Upstream::Stdio(&command);
    let stdio = servers::proxy_with(place, binary, "conformance-stdio", &stdio, &polled("auto"))?;
    let http = Upstream::Http(&demo_for_proxy.url);
    let http = servers::proxy_with(place, binary, "conformance-http", &http, &polled("on"))?;
    let urls =
        [(Lane::Direct, &demo_for_direct.url), (Lane::Stdio, &stdio.url), (Lane::Http, &http.url)];
    let lanes = thread::scope(|scope| -> anyhow::Result<BTreeMap<Lane, Results>> {
        let running = urls.map(|(lane, url)| {
            (lane, scope.spawn(move || run_versions(place, suite, versions, lane, url)))
        });
        let mut lanes = BTreeMap::new();
        for (lane, thread) in running {
            let results = thread.join().map_err(|_panic| anyhow!("the {lane:?} lane panicked"))?;
            lanes.insert(lane, results.with_context(|| format!("lane {lane:?}"))?);
        }
        Ok(lanes)
    })?;
    [stdio, http].into_iter().try_for_each(Endpoint::stop)?;
    Ok(lanes)
}

/// A server on stdio has no stream to close, and the proxy goes on with one that a server closes; so
/// it is the proxy that has clients poll here: once during the two seconds that the demo's tool
/// takes, since the suite comes back only once.
fn polled(replay: &str) -> String {
    format!(
        "[{{ match: {{ path: {MCP_PATH} }}, upstream: default, replay: {replay}, \
         replay_prime_after: 100ms, replay_poll_after: 1400ms }}]"
    )
}

fn run_versions(
    place: &Place,
    suite: &Suite,
    versions: &[Version],
    lane: Lane,
    url: &str,
) -> anyhow::Result<Results> {
    let mut results = Results::new();
    for version in versions {
        let start = Instant::now();
        let label = format!("{}-{}", version.name, format!("{lane:?}").to_lowercase());
        let found = suite.run(place, version, url, &label)?;
        println!("   {label}: {} scenarios in {} s", found.len(), start.elapsed().as_secs());
        results.extend(
            found.into_iter().map(|(name, scenario)| ((version.name.clone(), name), scenario)),
        );
    }
    Ok(results)
}
