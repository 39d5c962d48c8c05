//! One tree: its leader, what may be done to it, and until when.
//!
//! A number of a process belongs to it until it is reaped, and so does the number of its group. The
//! leader is therefore reaped last, when the rest of the tree is gone, and signals go out under the
//! lock that reaping takes: none can reach a stranger.

use std::{
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    process::ExitStatus,
};

use parking_lot::Mutex;
use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};

use crate::{
    proc::Reader,
    target::{Target, to_pid},
};

/// How many processes a kill follows before it leaves the rest to the sweep. It holds a file
/// descriptor for each.
const MAX_WALK: usize = 256;

/// A leader and everything below it.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) number: u64,
    pub(crate) leader: Leader,
    pid: Pid,
    /// Becomes readable when the leader ends. None where the system has no such thing, or no file
    /// descriptor is left.
    handle: Option<OwnedFd>,
    phase: Mutex<Phase>,
}

/// What names the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) pid: u32,
    /// Zero if it could not be read.
    pub(crate) start: u64,
}

/// What is left of the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// It has ended, and keeps its number.
    Ended,
    /// Its number is somebody else's business.
    Reaped,
}

/// How the leader ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Exit {
    Status(ExitStatus),
    /// It cannot be known: somebody else has reaped it.
    Unknown(Errno),
}

impl Tree {
    /// The tree of a child that was just born. `None` if its number is no number.
    pub(crate) fn new(number: u64, pid: u32) -> Option<Self> {
        let stat = Reader::default().stat(pid).ok().flatten();
        let start = stat.map_or(0, |stat| stat.start);
        let leader = Leader { pid, start };
        let pid = to_pid(pid)?;
        Some(Self { number, leader, pid, handle: open(pid), phase: Mutex::new(Phase::Running) })
    }

    /// Asks every member of the group to end.
    pub(crate) fn terminate(&self) {
        self.signal_group(Signal::TERM, *self.phase.lock());
    }

    /// Kills the group, and everything that descends from the leader.
    ///
    /// What descends is found first, since nothing does any more once the leader is dead, and is
    /// stopped while looking, so that it cannot fork meanwhile.
    pub(crate) fn kill(&self) {
        let phase = self.phase.lock();
        let below = match *phase {
            Phase::Running => freeze(self.leader.pid),
            Phase::Ended | Phase::Reaped => Vec::new(),
        };
        self.signal_group(Signal::KILL, *phase);
        for target in below {
            target.signal(Signal::KILL);
        }
    }

    /// What becomes readable when the leader ends, if there is such a thing.
    pub(crate) fn handle(&self) -> Option<BorrowedFd<'_>> {
        self.handle.as_ref().map(OwnedFd::as_fd)
    }

    /// How the leader ended, if it has. It keeps its number.
    pub(crate) fn look(&self) -> Option<Exit> {
        let mut phase = self.phase.lock();
        if *phase != Phase::Running {
            return None;
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(self.pid), options) {
            Ok(Some(status)) => {
                *phase = Phase::Ended;
                Some(Exit::Status(to_exit_status(&status)))
            }
            Ok(None) | Err(Errno::INTR) => None,
            Err(error) => {
                *phase = Phase::Reaped;
                Some(Exit::Unknown(error))
            }
        }
    }

    /// Gives the leader's number back, if it has ended.
    pub(crate) fn reap(&self) {
        let mut phase = self.phase.lock();
        if *phase == Phase::Ended {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            // An error means that somebody else did it, which is as good.
            waitid(WaitId::Pid(self.pid), options).ok();
            *phase = Phase::Reaped;
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        *self.phase.lock() != Phase::Running
    }

    fn signal_group(&self, signal: Signal, phase: Phase) {
        match phase {
            // The one error that can happen is that nobody is left who may be signaled.
            Phase::Running | Phase::Ended => drop(kill_process_group(self.pid, signal)),
            Phase::Reaped => (),
        }
    }
}

impl Exit {
    pub(crate) fn into_result(self) -> io::Result<ExitStatus> {
        match self {
            Self::Status(status) => Ok(status),
            Self::Unknown(error) => Err(error.into()),
        }
    }
}

/// Stops a process and everything below it, and returns what is below. What it cannot look at, or
/// hold, is left to the sweep.
fn freeze(root: u32) -> Vec<Target> {
    let mut reader = Reader::default();
    let mut below = Vec::new();
    let mut parents = vec![root];
    if let Ok(Some(target)) = Target::open(root) {
        target.signal(Signal::STOP);
    }
    while let Some(parent) = parents.pop() {
        for child in reader.children(parent).unwrap_or_default() {
            if below.len() >= MAX_WALK {
                return below;
            }
            let Ok(Some(target)) = Target::open(child) else { continue };
            // Looked at after it was opened: this is still the one that was listed.
            let stat = reader.stat(child).ok().flatten();
            if stat.is_some_and(|stat| stat.parent == parent) {
                target.signal(Signal::STOP);
                below.push(target);
                parents.push(child);
            }
        }
    }
    below
}

#[cfg(target_os = "linux")]
fn open(pid: Pid) -> Option<OwnedFd> {
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
const fn open(_: Pid) -> Option<OwnedFd> {
    None
}

fn to_exit_status(status: &rustix::process::WaitIdStatus) -> ExitStatus {
    /// Set in a status when the system wrote a core file.
    const DUMPED: i32 = 0x80;
    let raw = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (code & 0xff) << 8,
        (None, Some(signal)) if status.dumped() => signal | DUMPED,
        (None, Some(signal)) => signal,
        (None, None) => 0,
    };
    ExitStatus::from_raw(raw)
}
