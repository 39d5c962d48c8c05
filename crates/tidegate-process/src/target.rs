//! One process to send a signal to, held so that its number cannot pass to another.

use std::io;

use rustix::process::{Pid, Signal, kill_process};

/// A process. Where the system has handles for processes this is one; elsewhere the number has to
/// do.
#[derive(Debug)]
pub(crate) struct Target {
    pid: Pid,
    #[cfg(target_os = "linux")]
    handle: Option<std::os::fd::OwnedFd>,
}

impl Target {
    /// Whoever has this number now, if anybody. To be sure who that is, look after this call.
    ///
    /// # Errors
    ///
    /// When the system has handles, but none for us now.
    pub(crate) fn open(pid: u32) -> io::Result<Option<Self>> {
        let Some(pid) = to_pid(pid) else { return Ok(None) };
        #[cfg(target_os = "linux")]
        {
            use rustix::{io::Errno, process::PidfdFlags};
            match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
                Ok(handle) => Ok(Some(Self { pid, handle: Some(handle) })),
                Err(Errno::SRCH | Errno::INVAL) => Ok(None),
                // An old system, or one that forbids it.
                Err(Errno::NOSYS | Errno::PERM) => Ok(Some(Self { pid, handle: None })),
                Err(error) => Err(error.into()),
            }
        }
        #[cfg(not(target_os = "linux"))]
        Ok(Some(Self { pid }))
    }

    /// Sends the signal, unless the process is gone. False if we may not.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        use rustix::io::Errno;
        !matches!(self.send(signal), Err(Errno::PERM))
    }

    #[cfg(target_os = "linux")]
    fn send(&self, signal: Signal) -> rustix::io::Result<()> {
        match &self.handle {
            Some(handle) => rustix::process::pidfd_send_signal(handle, signal),
            None => kill_process(self.pid, signal),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn send(&self, signal: Signal) -> rustix::io::Result<()> {
        kill_process(self.pid, signal)
    }
}

/// The number as the system calls take it; `None` for one that means something else to them.
pub(crate) fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}
