//! What a child does to itself between fork and exec.
//!
//! A few properties of a process can be given to it by nobody else, or only after its program has
//! begun to run: the signal for its parent's death, its limits, its file mode mask. They are set in
//! the copy of us that `fork` makes, before `exec` turns it into the program. Code that runs there
//! may do very little, since the other threads are gone and may have left any lock held, the
//! allocator's included. Rust calls it unsafe, and rightly; this crate holds the workspace's only
//! unsafe block, and nothing else. It knows nothing of ours.
//!
//! ```
//! use std::process::{Command, Stdio};
//! use tidegate_preexec::{Setup, arrange};
//!
//! # fn main() -> std::io::Result<()> {
//! let mut command = Command::new("/bin/sh");
//! command.args(["-c", "ulimit -n; umask"]).stdout(Stdio::piped());
//! arrange(&mut command, Setup { open_files: Some(32), ..Setup::default() });
//! let output = command.spawn()?.wait_with_output()?;
//! assert_eq!(String::from_utf8_lossy(&output.stdout), "32\n0077\n");
//! # Ok(()) }
//! ```
//!
//! The map: [`Setup`] says what, [`arrange`] attaches it to a command.

use std::{io, os::unix::process::CommandExt as _, process::Command};

use rustix::{
    fs::Mode,
    process::{Resource, Rlimit, setrlimit, umask},
};

/// From the first signal about too much processor time to the deadly one.
const CPU_GRACE: u64 = 5;

/// What a child shall be. Whoever asks for nothing still gets a mask of 077.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// The child dies as soon as the *thread* that started it does, and is not born if that
    /// thread's process has gone already. Linux only; elsewhere it has no effect.
    pub die_with_parent: bool,
    /// How many files it may have open.
    pub open_files: Option<u64>,
    /// How many bytes of address space it may have.
    pub address_space: Option<u64>,
    /// How many seconds of processor time it may use before it gets SIGXCPU, and five seconds later
    /// SIGKILL.
    pub cpu_seconds: Option<u64>,
    /// The user that it runs as. Other groups than `gid` are given up.
    pub uid: Option<u32>,
    /// The group that it runs as.
    pub gid: Option<u32>,
}

/// Has every child of the command set itself up. What fails is returned by the command's `spawn`.
pub fn arrange(command: &mut Command, setup: Setup) {
    #[cfg(not(target_os = "linux"))]
    fallback::credentials(command, setup);
    let parent = rustix::process::getpid();
    let prepare = move || -> io::Result<()> {
        setup.limit()?;
        // After the limits, which may need the privileges that go here.
        #[cfg(target_os = "linux")]
        setup.become_user()?;
        umask(Mode::RWXG | Mode::RWXO);
        // Last, since a change of user clears it.
        #[cfg(target_os = "linux")]
        setup.follow(parent)?;
        #[cfg(not(target_os = "linux"))]
        let _: rustix::process::Pid = parent;
        Ok(())
    };
    // SAFETY: `prepare` runs in the child of a `fork`, where only async-signal-safe calls are
    // allowed. It makes none but single system calls through `rustix` (setrlimit, setgroups, setgid,
    // setuid, umask, prctl, getppid). It takes no lock, allocates nothing and frees nothing: what it
    // captured is `Copy` and owned, and an error is a bare number of the system. It does not panic,
    // and touches no memory that another thread could have left half-written.
    #[expect(unsafe_code, reason = "there is no safe way to run code between fork and exec")]
    unsafe {
        command.pre_exec(prepare);
    }
}

impl Setup {
    fn limit(&self) -> io::Result<()> {
        let exactly = |most| Rlimit { current: Some(most), maximum: Some(most) };
        if let Some(files) = self.open_files {
            setrlimit(Resource::Nofile, exactly(files))?;
        }
        if let Some(bytes) = self.address_space {
            setrlimit(Resource::As, exactly(bytes))?;
        }
        if let Some(seconds) = self.cpu_seconds {
            let maximum = Some(seconds.saturating_add(CPU_GRACE));
            setrlimit(Resource::Cpu, Rlimit { current: Some(seconds), maximum })?;
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn become_user(&self) -> io::Result<()> {
        use rustix::{
            process::{Gid, Uid, geteuid},
            thread::{set_thread_gid, set_thread_groups, set_thread_uid},
        };
        // The calls are about one thread, and a child of `fork` has no other.
        if (self.uid.is_some() || self.gid.is_some()) && geteuid().is_root() {
            set_thread_groups(&[])?;
        }
        if let Some(gid) = self.gid {
            set_thread_gid(Gid::from_raw(gid))?;
        }
        if let Some(uid) = self.uid {
            set_thread_uid(Uid::from_raw(uid))?;
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn follow(&self, parent: rustix::process::Pid) -> io::Result<()> {
        use rustix::{
            io::Errno,
            process::{Signal, getppid, set_parent_process_death_signal},
        };
        if self.die_with_parent {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // A parent that was gone before the call above will send no signal.
            if getppid() != Some(parent) {
                return Err(Errno::SRCH.into());
            }
        }
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
mod fallback {
    //! Elsewhere the standard library changes the user, before the limits are set.

    use std::{os::unix::process::CommandExt as _, process::Command};

    use super::Setup;

    pub(super) fn credentials(command: &mut Command, setup: Setup) {
        if let Some(gid) = setup.gid {
            command.gid(gid);
        }
        if let Some(uid) = setup.uid {
            command.uid(uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        process::{Command, Stdio},
    };

    use super::{Setup, arrange};

    fn sh(script: &str, setup: Setup) -> io::Result<(String, std::process::ExitStatus)> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        arrange(&mut command, setup);
        let output = command.spawn()?.wait_with_output()?;
        Ok((String::from_utf8_lossy(&output.stdout).trim().to_owned(), output.status))
    }

    #[test]
    fn a_child_sees_its_limits() {
        let setup = Setup {
            open_files: Some(40),
            address_space: Some(512 << 20),
            cpu_seconds: Some(7),
            ..Setup::default()
        };
        let (said, _) = sh("ulimit -n; ulimit -v; ulimit -St; ulimit -Ht", setup).unwrap();
        assert_eq!(said.lines().collect::<Vec<_>>(), ["40", "524288", "7", "12"]);
    }

    #[test]
    fn files_of_a_child_are_its_own() {
        assert_eq!(sh("umask", Setup::default()).unwrap().0, "0077");
    }

    #[test]
    fn a_program_that_does_not_exist_is_an_error_of_spawn() {
        let mut command = Command::new("/nonexistent/program");
        arrange(&mut command, Setup { die_with_parent: true, ..Setup::default() });
        assert_eq!(command.spawn().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_user_that_may_not_be_is_an_error_of_spawn() {
        if !rustix::process::geteuid().is_root() {
            let setup = Setup { uid: Some(0), ..Setup::default() };
            assert_eq!(sh("id -u", setup).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            return;
        }
        // Root may be anybody, and gives up the other groups and the way back.
        let setup = Setup { uid: Some(65534), gid: Some(65533), ..Setup::default() };
        let (said, _) = sh("id -u; id -g; id -G; cat /proc/self/status", setup).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[..3], ["65534", "65533", "65533"]);
        assert!(said.contains("Uid:\t65534\t65534\t65534\t65534"), "{said}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_child_dies_with_the_thread_that_started_it() {
        use std::os::unix::process::ExitStatusExt as _;

        let setup = Setup { die_with_parent: true, ..Setup::default() };
        let started = std::thread::spawn(move || {
            let mut command = Command::new("/bin/sleep");
            command.arg("60");
            arrange(&mut command, setup);
            command.spawn().unwrap()
        });
        let mut child = started.join().unwrap();
        // Waits for the event itself; the child would need a minute to end otherwise.
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}
