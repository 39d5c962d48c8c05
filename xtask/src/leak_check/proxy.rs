//! The proxy under test: its configuration, its start, its end.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::churn::PATIENCE;
use super::judge;
use super::sight::{self, Sight};
use crate::place::Place;
use crate::process::Server;
use crate::servers::{accepts, free_address, says_ok};

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Sessions that nobody ends and connections that nobody uses go within this time.
const REST_LIMIT: Duration = Duration::from_secs(20);

/// What is started, and what stands behind it.
#[derive(Clone, Debug)]
pub(super) struct Bench {
    pub(super) binary: PathBuf,
    /// The command of the server that children run.
    pub(super) child: Vec<String>,
    /// How many of them wait for a session.
    pub(super) spares: u32,
    /// The URL of a server over HTTP.
    pub(super) web: String,
    /// The URL of a server over HTTP+SSE.
    pub(super) old: String,
}

/// A running proxy.
pub(super) struct Proxy {
    server: Server,
    pub(super) address: SocketAddr,
    ops: SocketAddr,
}

impl Proxy {
    /// Starts it, behind the words of `wrapper` where there are some.
    pub(super) fn start(
        place: &Place,
        bench: &Bench,
        name: &str,
        wrapper: &[String],
    ) -> anyhow::Result<Self> {
        let (address, ops) = (free_address()?, free_address()?);
        let file = place.logs.join(format!("{name}.yaml"));
        fs::write(&file, configuration(bench, address, ops))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let program = [bench.binary.display().to_string()];
        let mut words = wrapper.iter().chain(&program);
        let mut command = Command::new(words.next().context("no program")?);
        command.args(words).args(["serve", "--config"]).arg(&file);
        // One heap, so that the resident memory says what is in use and not which thread had it.
        command.env("MALLOC_ARENA_MAX", "1");
        let mut server = Server::start(name, &mut command, place.log(name))?;
        server.wait_until(START_LIMIT, || accepts(address) && says_ok(ops, "/health/ready"))?;
        Ok(Self { server, address, ops })
    }

    pub(super) fn look(&self) -> anyhow::Result<Sight> {
        sight::look(self.server.pid(), self.ops)
    }

    /// Waits until nothing is under way and two looks in a row see the same.
    pub(super) fn settle(&self) -> anyhow::Result<Sight> {
        let start = Instant::now();
        let mut before = self.look()?;
        loop {
            sleep(Duration::from_millis(300));
            let now = self.look()?;
            let busy = judge::compare(&now, &now);
            if busy.is_empty() && judge::compare(&before, &now).is_empty() {
                return Ok(now);
            }
            if start.elapsed() > REST_LIMIT {
                bail!("the proxy does not come to rest: {}", busy.join("; "));
            }
            before = now;
        }
    }

    /// Waits until it is as it was at `start`, and says what is different when it does not get there.
    pub(super) fn rest(&self, start: &Sight) -> anyhow::Result<(Sight, Vec<String>)> {
        let began = Instant::now();
        loop {
            let now = self.look()?;
            let findings = judge::compare(start, &now);
            if findings.is_empty() || began.elapsed() > REST_LIMIT {
                return Ok((now, findings));
            }
            sleep(Duration::from_millis(100));
        }
    }

    /// Ends it as an operator would; descendants that stay are an error.
    pub(super) fn end(self) -> anyhow::Result<ExitStatus> {
        self.server.end(STOP_LIMIT)
    }
}

fn configuration(bench: &Bench, address: SocketAddr, ops: SocketAddr) -> String {
    let Bench { child, spares, web, old, .. } = bench;
    format!(
        "version: 1\n\
         workers: 2\n\
         listeners: [{{ address: \"{address}\" }}]\n\
         ops: {{ address: \"{ops}\" }}\n\
         log: {{ level: error }}\n\
         timeouts: {{ session_idle: 1s, drain: 5s }}\n\
         upstreams:\n  \
           own: {{ stdio: {{ command: {child:?}, stop_grace: 300ms, min_idle: {spares} }}, timeouts: {{ request: {PATIENCE}s }} }}\n  \
           common: {{ stdio: {{ command: {child:?}, stop_grace: 300ms, sharing: shared }}, timeouts: {{ request: {PATIENCE}s }} }}\n  \
           web: {{ http: {{ url: \"{web}\", pool_idle: 500ms }} }}\n  \
           old: {{ http: {{ url: \"{old}\", pool_idle: 500ms }} }}\n\
         routes:\n  \
           - {{ match: {{ path: /own }}, upstream: own, sse: true }}\n  \
           - {{ match: {{ path: /common }}, upstream: common, sse: true }}\n  \
           - {{ match: {{ path: /web }}, upstream: web, sse: true }}\n  \
           - {{ match: {{ path: /old }}, upstream: old, sse: true }}\n"
    )
}

/// The scripted server that can misbehave, as a command.
pub(super) fn scripted(place: &Place, profile: &str) -> Vec<String> {
    let program: &Path = &place.target.join(profile).join("testkit-stdio");
    vec![program.display().to_string(), "--fork-setsid".to_owned()]
}
