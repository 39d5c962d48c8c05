//! How many reads and writes a process has asked the kernel for, from `/proc/PID/io`.
//!
//! `write` and `writev` count, whatever they write to; `send` and what goes through io_uring do
//! not. An HTTP server on hyper answers with `writev`, so a proxy that writes one answer for each
//! call has at least one write per call, and what is above that went into the pipe.

use std::{collections::BTreeMap, fs};

use serde::{Deserialize, Serialize};

use crate::cpu;

/// What a process and its descendants asked for between two moments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Writes of the process itself.
    pub writes: u64,
    /// Reads of its descendants: how often a child had to look for work.
    pub child_reads: u64,
}

/// The counters of one process tree at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    writes: u64,
    child_reads: BTreeMap<u32, u64>,
}

impl Snapshot {
    /// Reads the counters of `root` and its descendants; a process that has gone counts nothing.
    #[must_use]
    pub fn take(root: u32) -> Self {
        let child_reads = cpu::descendants(root)
            .into_iter()
            .filter_map(|pid| Some((pid, field(pid, "syscr: ")?)))
            .collect();
        Self { writes: field(root, "syscw: ").unwrap_or_default(), child_reads }
    }

    /// What was asked for since `earlier`. A process that is new is counted from its beginning.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Asked {
        let before = |pid| earlier.child_reads.get(pid).copied().unwrap_or_default();
        Asked {
            writes: self.writes.saturating_sub(earlier.writes),
            child_reads: self
                .child_reads
                .iter()
                .map(|(pid, reads)| reads.saturating_sub(before(pid)))
                .sum(),
        }
    }
}

fn field(pid: u32, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn writes_of_the_process_and_reads_of_its_child_are_counted() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cat is everywhere");
        let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut exchange = || {
            to.write_all(b"x").unwrap();
            from.read_exact(&mut [0]).unwrap();
        };
        exchange();
        let before = Snapshot::take(std::process::id());
        for _ in 0..10 {
            exchange();
        }
        let asked = Snapshot::take(std::process::id()).since(&before);
        drop(to);
        child.wait().unwrap();
        // Other tests of this process write too.
        assert!(asked.writes >= 10, "{asked:?}");
        assert!(asked.child_reads >= 9, "{asked:?}");
    }
}
