//! What the process table says, read from `/proc`. The oracle for leaked processes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
};

/// Whether the process exists and has not ended; a zombie has ended.
#[must_use]
pub fn is_running(pid: u32) -> bool {
    matches!(stat(pid), Some(stat) if stat.state != 'Z' && stat.state != 'X')
}

/// Kills a process that the test has started, or had started. For those that are no child of it.
pub fn kill(pid: u32) {
    Command::new("kill").arg("-9").arg(pid.to_string()).status().ok();
}

/// All processes that have not ended and belong to the process group.
#[must_use]
pub fn in_group(group: u32) -> BTreeSet<u32> {
    all().filter(|(_, stat)| stat.group == group && stat.state != 'Z').map(|(pid, _)| pid).collect()
}

/// The children of this process that have ended and were not reaped.
#[must_use]
pub fn zombies() -> BTreeSet<u32> {
    let me = std::process::id();
    all().filter(|(_, stat)| stat.parent == me && stat.state == 'Z').map(|(pid, _)| pid).collect()
}

/// The direct children of this process that have not ended.
#[must_use]
pub fn children() -> BTreeSet<u32> {
    let me = std::process::id();
    all().filter(|(_, stat)| stat.parent == me && stat.state != 'Z').map(|(pid, _)| pid).collect()
}

/// The number of file descriptors that this process has open.
#[must_use]
pub fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// What a process has open, by descriptor; a pipe has the same name at both ends.
#[must_use]
pub fn files(pid: u32) -> BTreeMap<u32, PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let entries = entries.filter_map(|entry| {
        Some((entry.file_name().to_str()?.parse().ok()?, fs::read_link(entry.path()).ok()?))
    });
    entries.collect()
}

/// The resident memory of this process in KiB.
#[must_use]
pub fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// The processor time that this process has used, without its children, in hundredths of a second.
#[must_use]
pub fn cpu_centiseconds() -> u64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    // User and system time are the 14th and 15th field; the name, which is cut off, is the 2nd.
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

struct Stat {
    state: char,
    parent: u32,
    group: u32,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses that may hold anything.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_whitespace();
    Some(Stat {
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
    })
}

fn all() -> impl Iterator<Item = (u32, Stat)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, stat(pid)?))
    })
}
