//! What to start, and how it is turned into a command.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, io,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Resource, getrlimit};
use tidegate_preexec::{Setup, arrange};

use crate::cookie;

/// A process to start. Nothing is inherited but the working folder, if none is given.
#[derive(Clone, Default)]
pub struct Spec {
    /// The program: a path, or a name that is looked for in the `PATH` of `env`.
    pub program: OsString,
    /// Its arguments, which no shell sees.
    pub args: Vec<OsString>,
    /// The whole environment. One variable is added, by which strays are recognized.
    pub env: BTreeMap<OsString, OsString>,
    /// The working folder.
    pub cwd: Option<PathBuf>,
    /// The user that the process runs as, in no other groups than `gid`.
    pub uid: Option<u32>,
    /// The group that the process runs as.
    pub gid: Option<u32>,
    /// What the process may use.
    pub limits: Limits,
}

/// What each process of a tree may use; the system counts per process and inherits the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How many open files.
    pub open_files: Option<u64>,
    /// How many bytes of address space.
    pub address_space: Option<u64>,
    /// How much processor time, in whole seconds, rounded up. The process gets SIGXCPU then, and
    /// SIGKILL five seconds later.
    pub cpu: Option<Duration>,
}

impl Spec {
    /// A program without arguments, environment or limits.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), ..Self::default() }
    }

    /// The command, whose children carry this cookie.
    pub(crate) fn command(&self, cookie: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .envs(&self.env)
            .env(cookie::VARIABLE, cookie)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        arrange(&mut command, self.setup());
        command
    }

    fn setup(&self) -> Setup {
        Setup {
            die_with_parent: true,
            open_files: self.limits.open_files,
            address_space: self.limits.address_space,
            cpu_seconds: self.limits.cpu.map(whole_seconds),
            uid: self.uid,
            gid: self.gid,
        }
    }
}

impl Limits {
    /// Says which limit it was, if the system refused to set one.
    pub(crate) fn explain(&self, error: io::Error) -> io::Error {
        let asked = [
            ("open files", Resource::Nofile, self.open_files),
            ("address space", Resource::As, self.address_space),
            ("processor time", Resource::Cpu, self.cpu.map(whole_seconds)),
        ];
        let refused = asked.into_iter().find_map(|(name, resource, asked)| {
            let (asked, most) = (asked?, getrlimit(resource).maximum?);
            (asked > most).then(|| format!("{name}: {asked} is above the hard limit of {most}"))
        });
        match refused {
            Some(text) if error.kind() == io::ErrorKind::PermissionDenied => {
                io::Error::new(io::ErrorKind::InvalidInput, text)
            }
            Some(_) | None => error,
        }
    }
}

impl fmt::Debug for Spec {
    /// Arguments and values may be secrets; what they are called is not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec")
            .field("program", &self.program)
            .field("args", &self.args.len())
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("cwd", &self.cwd)
            .field("uid", &self.uid)
            .field("gid", &self.gid)
            .field("limits", &self.limits)
            .finish()
    }
}

/// At least one, since the system takes zero for one anyway.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).max(1)
}
