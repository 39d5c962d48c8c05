//! Child processes of a run: bounded in time, logged to a file, ended by their id.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

const POLL: Duration = Duration::from_millis(20);
const HEARTBEAT: Duration = Duration::from_secs(30);

/// How a bounded command ended.
pub(crate) enum Ended {
    /// It exited by itself.
    Exit(ExitStatus),
    /// Its time was up, and it was killed with its descendants.
    TimedOut,
}

impl Ended {
    pub(crate) fn success(&self) -> bool {
        matches!(self, Self::Exit(status) if status.success())
    }

    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Exit(status) => status.to_string(),
            Self::TimedOut => "timed out".to_owned(),
        }
    }
}

/// Runs a command with both outputs in `log`; says every 30 s that it still runs.
pub(crate) fn run_logged(
    command: &mut Command,
    name: &str,
    log: &Path,
    limit: Duration,
) -> anyhow::Result<Ended> {
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let ended = wait_bounded(child, name, limit)?;
    Ok(ended)
}

/// Runs a command and returns its stdout; stderr goes to `log`.
pub(crate) fn run_captured(
    command: &mut Command,
    name: &str,
    log: &Path,
    limit: Duration,
) -> anyhow::Result<(Ended, String)> {
    let out = log.with_extension("stdout");
    command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(log)?);
    let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let ended = wait_bounded(child, name, limit)?;
    Ok((ended, fs::read_to_string(&out)?))
}

fn wait_bounded(mut child: Child, name: &str, limit: Duration) -> anyhow::Result<Ended> {
    let start = Instant::now();
    let mut next_beat = HEARTBEAT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ended::Exit(status));
        }
        let elapsed = start.elapsed();
        if elapsed > limit {
            kill_tree(child.id());
            child.wait()?;
            return Ok(Ended::TimedOut);
        }
        if elapsed > next_beat {
            println!("   … {name} still runs after {} s", elapsed.as_secs());
            next_beat += HEARTBEAT;
        }
        sleep(POLL);
    }
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path, lines: usize) -> String {
    let Ok(bytes) = fs::read(log) else { return String::new() };
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

/// A server of this run. Dropping it kills it; [`Server::stop`] ends it politely.
pub(crate) struct Server {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts a server with both outputs in `log`. Its stdin stays open and silent.
    pub(crate) fn start(name: &str, command: &mut Command, log: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Waits until `ready` says so; fails when the server exits or `limit` passes before.
    pub(crate) fn wait_until(
        &mut self,
        limit: Duration,
        ready: impl Fn() -> bool,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{} ended before it was ready ({status})\n{}",
                    self.name,
                    tail(&self.log, 20)
                );
            }
            if start.elapsed() > limit {
                let seconds = limit.as_secs();
                bail!("{} was not ready within {seconds} s\n{}", self.name, tail(&self.log, 20));
            }
            sleep(POLL);
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, then at most `grace`; complains about a bad exit or about descendants that stay.
    pub(crate) fn stop(self, grace: Duration) -> anyhow::Result<()> {
        let (name, log) = (self.name.clone(), self.log.clone());
        let status = self.end(grace)?;
        if !status.success() {
            bail!("{name} stopped with {status}\n{}", tail(&log, 20));
        }
        Ok(())
    }

    /// SIGTERM, then at most `grace`; complains about descendants that stay.
    pub(crate) fn end(mut self, grace: Duration) -> anyhow::Result<ExitStatus> {
        let family = descendants(self.child.id());
        signal(self.child.id(), Signal::TERM);
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if start.elapsed() > grace {
                let seconds = grace.as_secs();
                bail!(
                    "{} did not stop within {seconds} s of SIGTERM\n{}",
                    self.name,
                    tail(&self.log, 20)
                );
            }
            sleep(POLL);
        };
        let orphans: Vec<u32> = family.into_iter().filter(|pid| lives(*pid)).collect();
        for pid in &orphans {
            signal(*pid, Signal::KILL);
        }
        if !orphans.is_empty() {
            bail!("{} left {} child processes behind", self.name, orphans.len());
        }
        Ok(status)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            kill_tree(self.child.id());
            // It was just killed, so this ends; its status says nothing new.
            self.child.wait().ok();
        }
    }
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // The process may be gone already, which is what was wanted.
        kill_process(pid, signal).ok();
    }
}

/// True while a process is there and not a zombie.
fn lives(pid: u32) -> bool {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    test_kill_process(raw).is_ok() && stat(pid).is_some_and(|(state, _)| state != "Z")
}

/// True when the process has ended and was not reaped.
pub(crate) fn is_zombie(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state == "Z")
}

fn kill_tree(pid: u32) {
    for descendant in descendants(pid) {
        signal(descendant, Signal::KILL);
    }
    signal(pid, Signal::KILL);
}

/// Every process that descends from `pid` now.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for candidate in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        if let Some((_, parent)) = stat(candidate) {
            children.entry(parent).or_default().push(candidate);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![pid];
    while let Some(parent) = open.pop() {
        let next = children.get(&parent).cloned().unwrap_or_default();
        found.extend(&next);
        open.extend(next);
    }
    found
}

/// State letter and parent from `/proc/PID/stat`; the name before them may hold anything.
fn stat(pid: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut rest = text.rsplit_once(')')?.1.split_whitespace();
    let state = rest.next()?.to_owned();
    Some((state, rest.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::{Ended, Server, descendants, run_logged};

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_command_over_its_time_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let ended = run_logged(&mut shell("sleep 600"), "sleeper", &log, Duration::from_millis(50));
        assert!(matches!(ended.unwrap(), Ended::TimedOut));
    }

    #[test]
    fn a_dropped_server_takes_its_children_along() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = shell("sleep 600 & echo $!; wait");
        let mut server = Server::start("parent", &mut command, log.clone()).unwrap();
        let child = || super::tail(&log, 1).parse::<u32>();
        server.wait_until(Duration::from_secs(20), || child().is_ok()).unwrap();
        drop(server);
        let start = Instant::now();
        while super::lives(child().unwrap()) {
            assert!(start.elapsed() < Duration::from_secs(20), "the child lives on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_failing_command_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let ended =
            run_logged(&mut shell("echo no; exit 3"), "x", &log, Duration::from_secs(20)).unwrap();
        assert!(!ended.success());
        assert_eq!(super::tail(&log, 1), "no");
    }

    #[test]
    fn a_server_that_leaves_children_behind_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command =
            shell("sleep 60 & trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done");
        let mut server = Server::start("leaky", &mut command, log.clone()).unwrap();
        let pid = server.child.id();
        server
            .wait_until(Duration::from_secs(10), || {
                super::tail(&log, 1) == "ready" && !descendants(pid).is_empty()
            })
            .unwrap();
        let complaint = server.stop(Duration::from_secs(10)).unwrap_err().to_string();
        assert!(complaint.contains("behind"), "{complaint}");
    }
}
