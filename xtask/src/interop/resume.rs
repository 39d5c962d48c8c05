//! Official clients that lose their connection in the middle of a call, and official servers that
//! keep events for them, or do not (`interop/typescript/resume.mjs`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::anyhow;

use super::clients::Line;
use super::verdict::{self, Outcome};
use crate::place::Place;
use crate::process::{run_captured, tail};
use crate::servers::{self, Upstream, free_address, start_http};

const JOB_LIMIT: Duration = Duration::from_secs(180);

/// What stands behind the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    /// A server with an event store, and no proxy.
    Direct,
    /// The same behind the proxy, which passes the server's ids on.
    Store,
    /// A server without a store: the proxy keeps the events.
    Bare,
    /// A child process.
    Stdio,
}

impl Setting {
    const ALL: [Self; 4] = [Self::Direct, Self::Store, Self::Bare, Self::Stdio];

    const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Store => "store",
            Self::Bare => "bare",
            Self::Stdio => "stdio",
        }
    }

    const fn routes(self) -> &'static str {
        match self {
            Self::Bare => "[{ match: { path: /mcp }, upstream: default, replay: on }]",
            Self::Direct | Self::Store | Self::Stdio => {
                "[{ match: { path: /mcp }, upstream: default }]"
            }
        }
    }
}

/// What all of it saw.
pub(crate) struct Seen {
    /// A scenario of a setting, and how each SDK line fared.
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) problems: Vec<String>,
    pub(crate) notes: Vec<String>,
    pub(crate) summary: String,
}

/// Runs every setting with every line of the SDK; without a `binary`, only those without the proxy.
pub(crate) fn run(
    place: &Place,
    node: &Path,
    binary: Option<&Path>,
    lines: &[Line],
) -> anyhow::Result<Seen> {
    let mut seen = Seen { rows: vec![], problems: vec![], notes: vec![], summary: String::new() };
    let (mut passed, mut total) = (0, 0);
    for setting in Setting::ALL {
        if setting != Setting::Direct && binary.is_none() {
            continue;
        }
        let job = |line| Job { place, node, binary: binary.map(Path::to_path_buf), setting, line };
        let found = thread::scope(|scope| -> anyhow::Result<Vec<Vec<Outcome>>> {
            let jobs: Vec<_> =
                lines.iter().map(|line| scope.spawn(move || job(line).outcomes())).collect();
            jobs.into_iter()
                .map(|job| job.join().map_err(|_panic| anyhow!("a worker panicked")))
                .collect()
        })?;
        for (line, outcomes) in lines.iter().zip(&found) {
            total += outcomes.len();
            passed += outcomes.iter().filter(|outcome| outcome.ok).count();
            let bad = outcomes.iter().filter(|outcome| !outcome.ok);
            let bad = bad.map(|bad| {
                let Outcome { scenario, detail, .. } = bad;
                format!("resume {} {}: {scenario}: {detail}", setting.name(), line.name)
            });
            // What fails without the proxy says nothing about it.
            if setting == Setting::Direct { &mut seen.notes } else { &mut seen.problems }
                .extend(bad);
        }
        seen.rows.extend(rows(setting, &found));
    }
    seen.summary = format!("{passed} of {total} resumption scenarios pass");
    Ok(seen)
}

fn rows(setting: Setting, found: &[Vec<Outcome>]) -> Vec<Vec<String>> {
    let mut names: Vec<&str> = Vec::new();
    for outcome in found.iter().flatten() {
        if !names.contains(&outcome.scenario.as_str()) {
            names.push(&outcome.scenario);
        }
    }
    let row = |name: &str| {
        let cells = found.iter().map(|outcomes| {
            match outcomes.iter().find(|outcome| outcome.scenario == name) {
                Some(outcome) if outcome.ok => "ok".to_owned(),
                Some(_) => "FAIL".to_owned(),
                None => "-".to_owned(),
            }
        });
        [format!("{}: {name}", setting.name())].into_iter().chain(cells).collect()
    };
    names.into_iter().map(row).collect()
}

/// One setting with one line.
struct Job<'a> {
    place: &'a Place,
    node: &'a Path,
    binary: Option<PathBuf>,
    setting: Setting,
    line: &'a Line,
}

impl Job<'_> {
    /// A job that cannot run is a failed job.
    fn outcomes(&self) -> Vec<Outcome> {
        self.run().unwrap_or_else(|error| vec![Outcome::broken(&error)])
    }

    fn name(&self) -> String {
        format!("resume {} {}", self.setting.name(), self.line.name)
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.node);
        command.arg(self.place.root.join("interop/typescript").join(name));
        command.args(["--sdk", self.line.sdk, "--packages"]).arg(&self.line.packages);
        command
    }

    fn run(&self) -> anyhow::Result<Vec<Outcome>> {
        let (front, back) = (free_address()?, free_address()?);
        let mut runner = self.script("resume.mjs");
        runner.args(["--setting", self.setting.name()]);
        let mut server = None;
        if self.setting != Setting::Stdio {
            let address = free_address()?;
            let mut command = self.script("resume-server.mjs");
            command.args(["--listen", &address.to_string()]);
            if self.setting != Setting::Bare {
                command.arg("--store");
            }
            let label = format!("server of {}", self.name());
            server = Some((start_http(self.place, &label, &mut command, address)?, address));
        }
        let child = self.script("resume-server.mjs");
        let words = [child.get_program()].into_iter().chain(child.get_args());
        let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        let url = format!("http://{back}/mcp");
        let upstream = match self.setting {
            Setting::Stdio => Upstream::Stdio(&words),
            _ => Upstream::Http(&url),
        };
        let proxy = match &self.binary {
            Some(binary) if self.setting != Setting::Direct => Some(servers::proxy_with(
                self.place,
                binary,
                &self.name(),
                &upstream,
                self.setting.routes(),
            )?),
            _ => None,
        };
        let behind = match (&proxy, &server) {
            (Some(proxy), _) => proxy.address()?.to_string(),
            (None, Some((_, address))) => address.to_string(),
            (None, None) => return Err(anyhow!("nothing stands behind the client")),
        };
        runner.args(["--front", &format!("{front}={behind}")]);
        if let (Some(_), Some((_, address))) = (&proxy, &server) {
            runner.args(["--back", &format!("{back}={address}")]);
        }
        let log = self.place.log(&self.name());
        let (ended, text) = run_captured(&mut runner, &self.name(), &log, JOB_LIMIT)?;
        let mut found = verdict::parse(&text);
        if !ended.success() || found.is_empty() {
            let why = format!("{}; {}", ended.describe(), tail(&log, 3));
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
