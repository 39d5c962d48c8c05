//! The official SDK clients against the reference servers, directly and through the proxy.
//!
//! Each job is one client and one way to one server; its runner (`interop/python`,
//! `interop/typescript`) prints one JSON line per scenario. What passes directly has to pass through
//! and to give the same answers.

mod clients;
mod jobs;
mod resume;
mod verdict;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use clap::Args;

use crate::place::Place;
use crate::process::run_captured;
use crate::servers::{self, Demo, Upstream};
use crate::{conformance, table, tools};
use clients::Client;
use jobs::{Commands, Job, Kind, Way};
use verdict::Outcome;

/// Clients that run at once: each spends most of its time waiting for a tool that takes its time.
const WORKERS: usize = 3;
const JOB_LIMIT: Duration = Duration::from_secs(180);

#[derive(Args, Default)]
pub(crate) struct Options {
    /// Test the release build.
    #[arg(long)]
    release: bool,
    /// Test this binary, instead of building one.
    #[arg(long, conflicts_with = "release")]
    binary: Option<PathBuf>,
    /// Only these clients, for example `python-2.3.0`.
    #[arg(long, value_delimiter = ',')]
    client: Vec<String>,
    /// Only the direct ways: shows what the clients and servers do without the proxy.
    #[arg(long)]
    direct: bool,
}

/// What each job saw, by scenario.
pub(crate) type Outcomes = BTreeMap<Job, Vec<Outcome>>;

/// True when everything that passes directly passes through.
pub(crate) fn run(place: &Place, options: &Options) -> anyhow::Result<bool> {
    let start = Instant::now();
    let mut clients = clients::install(place)?;
    if !options.client.is_empty() {
        clients.retain(|client| options.client.contains(&client.name));
        ensure!(!clients.is_empty(), "there is no client {}", options.client.join(", "));
    }
    let ways: &[Way] = if options.direct { &Way::DIRECT } else { &Way::ALL };
    let names: Vec<String> = clients.iter().map(|client| client.name.clone()).collect();
    let mut lines = clients::lines(place)?;
    lines.retain(|line| names.contains(&line.name));
    let work = jobs::plan(&names, ways, !options.direct);
    let runner = Runner::prepare(place, options, clients)?;
    println!("   {} jobs, {WORKERS} at a time", work.len());
    let outcomes = runner.run_all(work)?;
    let mut verdict = verdict::judge(&outcomes);
    for (title, rows) in verdict::tables(&outcomes, &names) {
        println!("\n{title}");
        let head: Vec<&str> =
            ["scenario"].into_iter().chain(names.iter().map(String::as_str)).collect();
        print!("{}", table::render(&head, &rows));
    }
    if !lines.is_empty() {
        let binary = (!options.direct).then_some(runner.binary.as_path());
        let seen = resume::run(place, &tools::node(place)?, binary, &lines)?;
        println!("\ncut off and resumed");
        let head: Vec<&str> =
            ["scenario"].into_iter().chain(lines.iter().map(|line| line.name.as_str())).collect();
        print!("{}", table::render(&head, &seen.rows));
        verdict.problems.extend(seen.problems);
        verdict.notes.extend(seen.notes);
        verdict.summary = format!("{}, {}", verdict.summary, seen.summary);
    }
    println!();
    for note in &verdict.notes {
        println!("interop: note: {note}");
    }
    for problem in &verdict.problems {
        println!("interop: {problem}");
    }
    println!(
        "interop: {}, {} problems ({} s)",
        verdict.summary,
        verdict.problems.len(),
        start.elapsed().as_secs()
    );
    let passed = verdict.problems.is_empty();
    if !passed {
        println!("interop: logs are in {}", place.logs.display());
    }
    Ok(passed)
}

/// Everything the jobs share.
struct Runner<'a> {
    place: &'a Place,
    clients: BTreeMap<String, Client>,
    commands: Commands,
    binary: PathBuf,
    /// The servers over HTTP that take any number of sessions, by kind.
    http: BTreeMap<Kind, servers::Endpoint>,
    /// The one that speaks HTTP+SSE.
    sse: servers::Endpoint,
}

impl<'a> Runner<'a> {
    fn prepare(place: &'a Place, options: &Options, clients: Vec<Client>) -> anyhow::Result<Self> {
        let node = tools::node(place)?;
        let reference = tools::reference_servers(place)?;
        let mut http = BTreeMap::new();
        let script = reference.file("@modelcontextprotocol/server-everything", "dist/index.js");
        http.insert(Kind::Everything, servers::everything_http(place, &node, &script)?);
        let sse = servers::everything_sse(place, &node, &script)?;
        let mut binary = PathBuf::new();
        if !options.direct {
            binary = conformance::binary(place, options.release, options.binary.as_deref())?;
            http.insert(Kind::Demo, Demo::Paged.over_http(place, &binary)?);
        }
        let commands = Commands::new(&node, &reference, &binary);
        let clients = clients.into_iter().map(|client| (client.name.clone(), client)).collect();
        Ok(Self { place, clients, commands, binary, http, sse })
    }

    fn run_all(&self, work: Vec<Job>) -> anyhow::Result<Outcomes> {
        let queue = Mutex::new(work.into_iter());
        let outcomes = Mutex::new(Outcomes::new());
        thread::scope(|scope| -> anyhow::Result<()> {
            let workers: Vec<_> =
                (0..WORKERS).map(|_| scope.spawn(|| self.work(&queue, &outcomes))).collect();
            for worker in workers {
                worker.join().map_err(|_panic| anyhow!("a worker panicked"))??;
            }
            Ok(())
        })?;
        outcomes.into_inner().map_err(|_poisoned| anyhow!("a worker panicked"))
    }

    fn work(
        &self,
        queue: &Mutex<std::vec::IntoIter<Job>>,
        outcomes: &Mutex<Outcomes>,
    ) -> anyhow::Result<()> {
        loop {
            let next = queue.lock().map_err(|_poisoned| anyhow!("a worker panicked"))?.next();
            let Some(job) = next else { return Ok(()) };
            let start = Instant::now();
            // A job that cannot run is a failed job, not the end of the others.
            let found = self.run_job(&job).unwrap_or_else(|error| vec![Outcome::broken(&error)]);
            let bad = found.iter().filter(|outcome| !outcome.ok).count();
            let seconds = start.elapsed().as_secs_f32();
            println!("   {job}: {} scenarios, {bad} failed, {seconds:.1} s", found.len());
            outcomes.lock().map_err(|_poisoned| anyhow!("a worker panicked"))?.insert(job, found);
        }
    }

    fn run_job(&self, job: &Job) -> anyhow::Result<Vec<Outcome>> {
        let client = self.clients.get(&job.client).context("a job names an unknown client")?;
        let folder = tempfile::Builder::new().prefix("tidegate-interop-").tempdir()?;
        // Servers resolve links in their allowed folders, and the temp folder may be one.
        let workdir = folder.path().canonicalize()?;
        let command = self.commands.stdio(job.kind, &workdir);
        let http = self.http.get(&job.kind);
        let mut proxy = None;
        let direct_url = http.map(|endpoint| endpoint.url.clone());
        let url = match job.way {
            Way::DirectStdio => None,
            Way::DirectHttp => Some(direct_url.context("no HTTP server of this kind")?),
            Way::DirectSse => Some(self.sse.url.clone()),
            Way::ThroughStdio | Way::ThroughHttp | Way::ThroughSse | Way::ThroughSseToStdio => {
                let upstream = match (job.way, &direct_url) {
                    (Way::ThroughHttp, Some(url)) => Upstream::Http(url),
                    (Way::ThroughSse, _) => Upstream::Sse(&self.sse.url),
                    _ => Upstream::Stdio(&command),
                };
                let started =
                    servers::proxy(self.place, &self.binary, &job.to_string(), &upstream)?;
                let url = proxy.insert(started).url.clone();
                Some(if job.way.uses_sse() { format!("{url}/sse") } else { url })
            }
        };
        let mut runner = client.command(self.place, job.kind, &workdir);
        match &url {
            Some(url) => runner.args(["--url", url]),
            None => runner.arg("--").args(&command),
        };
        let log = self.place.log(&format!("interop-{job}"));
        let (ended, text) = run_captured(&mut runner, &job.to_string(), &log, JOB_LIMIT)?;
        let mut found = verdict::parse(&text);
        if !ended.success() {
            let why = format!("{}; {}", ended.describe(), crate::process::tail(&log, 3));
            found.push(Outcome::failed("runner", &why));
        }
        if let Some(proxy) = proxy {
            found.push(match proxy.stop() {
                Ok(()) => Outcome::passed("proxy stops"),
                Err(error) => Outcome::failed("proxy stops", &format!("{error:#}")),
            });
        }
        Ok(found)
    }
}
