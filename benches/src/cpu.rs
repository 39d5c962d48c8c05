//! Processor time of a process and of everything it started, from `/proc`.
//!
//! The scheduler's per-thread account (`schedstat`) is in nanoseconds but forgets threads that
//! ended; the account of the whole process (`stat`) remembers them but counts in ticks of 10 ms.
//! Both are read, and the second wins only where it is larger by more than its own grain.

use std::{collections::BTreeMap, fs, time::Duration};

use serde::{Deserialize, Serialize};

/// User and system time of the threads of one process.
#[derive(Debug, Clone, Copy, Default)]
struct Time {
    threads: Duration,
    ticks: Duration,
}

impl Time {
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command name may hold spaces and parentheses; the fields begin after the last one.
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split(' ').skip(11).map(str::parse::<u64>);
        let ticks = fields.next()?.ok()? + fields.next()?.ok()?;
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        let ticks = Duration::from_millis(ticks.saturating_mul(1000) / per_second);
        let threads = fs::read_dir(format!("/proc/{pid}/task"))
            .ok()?
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
            .filter_map(|account| account.split(' ').next()?.parse().ok())
            .map(Duration::from_nanos)
            .sum();
        Some(Self { threads, ticks })
    }

    fn since(self, earlier: Self) -> Duration {
        let grain = Duration::from_millis(20);
        let threads = self.threads.saturating_sub(earlier.threads);
        let ticks = self.ticks.saturating_sub(earlier.ticks);
        if ticks > threads + grain { ticks } else { threads }
    }
}

/// Processor time that was spent between two snapshots, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// By the process itself.
    pub own_s: f64,
    /// By its children, their children and so on.
    pub descendants_s: f64,
}

/// The account of one process tree at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    root: u32,
    processes: BTreeMap<u32, Time>,
}

impl Snapshot {
    /// Reads the account of `root` and its descendants; a process that has gone counts nothing.
    #[must_use]
    pub fn take(root: u32) -> Self {
        let pids = [root].into_iter().chain(descendants(root));
        let processes = pids.filter_map(|pid| Some((pid, Time::read(pid)?))).collect();
        Self { root, processes }
    }

    /// What was spent since `earlier`. A process that is new is counted from its beginning.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Spent {
        let mut spent = Spent::default();
        for (pid, time) in &self.processes {
            let before = earlier.processes.get(pid).copied().unwrap_or_default();
            let seconds = time.since(before).as_secs_f64();
            if *pid == self.root {
                spent.own_s += seconds;
            } else {
                spent.descendants_s += seconds;
            }
        }
        spent
    }

    /// How many processes besides the root were there.
    #[must_use]
    pub fn descendants(&self) -> usize {
        self.processes.len().saturating_sub(1)
    }
}

/// Every process that descends from `root` now.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut left = vec![root];
    while let Some(pid) = left.pop() {
        let children = children(pid);
        found.extend_from_slice(&children);
        left.extend(children);
    }
    found
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn busy_work_is_counted_and_a_child_is_seen() {
        let mut child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let before = Snapshot::take(std::process::id());
        let mut number = 1_u64;
        for step in 0..20_000_000_u64 {
            number = std::hint::black_box(number.wrapping_mul(31).wrapping_add(step));
        }
        let spent = Snapshot::take(std::process::id()).since(&before);
        assert!(before.descendants() >= 1, "cat is running");
        assert!(spent.own_s > 0.001, "{spent:?}");
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_is_not_there_costs_nothing() {
        let snapshot = Snapshot::take(u32::MAX);
        assert_eq!(snapshot.since(&snapshot), Spent::default());
    }
}
