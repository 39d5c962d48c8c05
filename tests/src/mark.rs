//! Processes that are recognized wherever they go: by a variable in their environment, which they
//! hand down to all that they start, in a session of their own too.

use std::{
    collections::BTreeSet,
    fs,
    hash::{BuildHasher as _, RandomState},
    process::Stdio,
    time::Duration,
};

use tokio::{
    process::Command,
    time::{sleep, timeout},
};

const NAME: &str = "TIDEGATE_TESTS_MARK";

/// A mark that no other test has.
#[derive(Clone, Debug)]
pub struct Mark(String);

impl Mark {
    /// A new one.
    pub fn new() -> Self {
        Self(format!("{:016x}", RandomState::new().hash_one(0)))
    }

    /// The setting of a stdio upstream that marks its processes.
    pub fn setting(&self) -> String {
        format!("env: {{ {NAME}: \"{}\" }}", self.0)
    }

    /// The processes that have it and have not ended.
    pub fn pids(&self) -> BTreeSet<u32> {
        let wanted = format!("{NAME}={}", self.0);
        let has_it = |pid: &u32| {
            // What has ended has no environment any more.
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|each| each == wanted.as_bytes())
        };
        all().filter(has_it).collect()
    }

    /// Those of them that run this program.
    pub fn pids_of(&self, program: &str) -> BTreeSet<u32> {
        let runs_it = |pid: &u32| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let first = command.split(|byte| *byte == 0).next().unwrap_or_default();
            first.ends_with(program.as_bytes())
        };
        self.pids().into_iter().filter(runs_it).collect()
    }

    /// Waits until there are so many.
    pub async fn until(&self, count: usize, what: &str) {
        let reached = timeout(Duration::from_secs(20), async {
            while self.pids().len() != count {
                sleep(Duration::from_millis(10)).await;
            }
        });
        if reached.await.is_err() {
            let left: Vec<String> = self.pids().into_iter().map(describe).collect();
            panic!("{what}: {} processes instead of {count}: {left:#?}", left.len());
        }
    }
}

impl Default for Mark {
    fn default() -> Self {
        Self::new()
    }
}

/// What `/proc` says of a process: its name, state, parent, group and session, and its command.
pub fn describe(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let fields: Vec<&str> = stat.split(' ').take(6).collect();
    format!("{} | {}", fields.join(" "), String::from_utf8_lossy(&command).replace('\0', " "))
}

/// The children of a process that have ended and were not reaped.
pub fn zombies_of(parent: u32) -> BTreeSet<u32> {
    let is_zombie = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name, which may hold anything, ends with the last parenthesis.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.next() == Some("Z") && fields.next() == Some(&parent.to_string())
    };
    all().filter(is_zombie).collect()
}

/// Sends SIGKILL to a process, and says whether it was there.
pub async fn kill(pid: u32) -> bool {
    let mut command = Command::new("kill");
    command.args(["-9", &pid.to_string()]).stderr(Stdio::null());
    command.status().await.unwrap().success()
}

/// The number of file descriptors that a process has open.
pub fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
