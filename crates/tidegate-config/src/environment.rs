//! What the process around us offers: variables, the working directory, who we are.
//!
//! Taken once, so that a configuration is a function of its inputs and tests need not touch the
//! real environment.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Uid};

/// A snapshot of variables, working directory and identity.
#[derive(Clone)]
pub struct Environment {
    vars: BTreeMap<OsString, OsString>,
    directory: PathBuf,
    user: u32,
    group: u32,
}

impl Environment {
    /// That of this process. The directory is empty, hence relative, where it cannot be told.
    pub fn of_process() -> Self {
        Self {
            vars: std::env::vars_os().collect(),
            directory: std::env::current_dir().unwrap_or_default(),
            user: Uid::effective().as_raw(),
            group: Gid::effective().as_raw(),
        }
    }

    /// One made up of these variables and this working directory, with the user and group of this
    /// process.
    pub fn new<N, V>(vars: impl IntoIterator<Item = (N, V)>, directory: impl Into<PathBuf>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        Self {
            vars: vars.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            directory: directory.into(),
            user: Uid::effective().as_raw(),
            group: Gid::effective().as_raw(),
        }
    }

    /// The same for a process of this user and group.
    #[must_use]
    pub fn running_as(self, user: u32, group: u32) -> Self {
        Self { user, group, ..self }
    }

    pub(crate) fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        self.vars.get(name.as_ref()).map(OsString::as_os_str)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.vars.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where state is kept unless the configuration says otherwise: where the system wants what
    /// lives as long as a login, else beside other temporary files, apart for each user.
    pub(crate) fn state_directory(&self) -> PathBuf {
        let folder = |name| self.get(name).map(Path::new).filter(|path| path.is_absolute());
        match folder("XDG_RUNTIME_DIR").filter(|path| path.is_dir()) {
            Some(runtime) => runtime.join("tidegate"),
            None => {
                let temporary = folder("TMPDIR").unwrap_or_else(|| Path::new("/tmp"));
                temporary.join(format!("tidegate-{}", self.user))
            }
        }
    }

    pub(crate) const fn user(&self) -> u32 {
        self.user
    }

    pub(crate) const fn group(&self) -> u32 {
        self.group
    }
}

impl Default for Environment {
    fn default() -> Self {
        Self::new::<OsString, OsString>([], PathBuf::new())
    }
}

/// Names nothing but the directory: variables hold secrets.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment")
            .field("vars", &self.vars.len())
            .field("directory", &self.directory)
            .finish()
    }
}
