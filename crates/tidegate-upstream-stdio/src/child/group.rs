//! A process group that dies with its owner.

use rustix::process::{Pid, Signal, kill_process_group};

/// The group of one child. Dropping it while armed kills every member.
#[derive(Debug)]
pub(crate) struct Group {
    leader: Option<Pid>,
}

impl Group {
    /// The group that the process with this id leads.
    pub(crate) fn led_by(pid: u32) -> Self {
        Self { leader: i32::try_from(pid).ok().and_then(Pid::from_raw) }
    }

    /// Asks every member to end.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends every member.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Ends the members that outlived their leader, and gives the group up: its number may belong
    /// to somebody else soon.
    pub(crate) fn bury(&mut self) {
        self.kill();
        self.leader = None;
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            // The one error that can happen is that nobody is left.
            kill_process_group(leader, signal).ok();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
