//! What the process around us offers: variables and the working directory.
//!
//! Taken once, so that a configuration is a function of its inputs and tests need not touch the
//! real environment.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

/// A snapshot of variables and working directory.
#[derive(Clone, Default)]
pub struct Environment {
    vars: BTreeMap<OsString, OsString>,
    directory: PathBuf,
}

impl Environment {
    /// That of this process. The directory is empty, hence relative, where it cannot be told.
    pub fn of_process() -> Self {
        Self {
            vars: std::env::vars_os().collect(),
            directory: std::env::current_dir().unwrap_or_default(),
        }
    }

    /// One made up of these variables and this working directory.
    pub fn new<N, V>(vars: impl IntoIterator<Item = (N, V)>, directory: impl Into<PathBuf>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        Self {
            vars: vars.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            directory: directory.into(),
        }
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
