//! A folder with the files that configurations name, and an environment of its own.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tidegate_config::{Config, Environment, Flags, Loaded, Report, load_in};

/// Not a certificate that any TLS library would take; it only looks like PEM.
pub(crate) const PEM: &str = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";

pub(crate) struct World {
    folder: TempDir,
    vars: Vec<(String, String)>,
    user: u32,
    group: u32,
    pub(crate) flags: Flags,
}

impl World {
    /// One with `bin/server` in `PATH`.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bin").display().to_string();
        let vars = vec![("PATH".to_owned(), path)];
        let world = Self { folder, vars, user: 1000, group: 1000, flags: Flags::default() };
        world.put("bin/server", "#!/bin/sh\n");
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(world.path("bin/server"), executable).unwrap();
        world.put("data.txt", "plain\n");
        world.put("ca.pem", PEM);
        world
    }

    /// One with this file, named on the command line.
    pub(crate) fn with_file(name: &str, text: &str) -> Self {
        let mut world = Self::new();
        world.put(name, text);
        world.flags.config = Some(name.into());
        world
    }

    /// One with this file in YAML, after the line `version: 1`.
    pub(crate) fn with_yaml(text: &str) -> Self {
        Self::with_file("t.yaml", &format!("version: 1\n{text}"))
    }

    pub(crate) fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As if the proxy were run by this user and group; 1000 and 1000 otherwise.
    pub(crate) fn running_as(self, user: u32, group: u32) -> Self {
        Self { user, group, ..self }
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn around(&self) -> Environment {
        Environment::new(self.vars.iter().cloned(), self.folder.path())
            .running_as(self.user, self.group)
    }

    pub(crate) fn load(&self) -> Result<Loaded, Report> {
        load_in(&self.flags, &self.around())
    }

    #[track_caller]
    pub(crate) fn config(&self) -> Config {
        self.load().unwrap().config
    }

    #[track_caller]
    pub(crate) fn show(&self) -> String {
        self.load().unwrap().show()
    }

    /// The problems, without the line that counts them, with `~` for the folder.
    #[track_caller]
    pub(crate) fn problems(&self) -> String {
        let report = self.load().unwrap_err().to_string();
        let (_, problems) = report.split_once("\n\n").unwrap();
        problems.replace(&self.folder.path().display().to_string(), "~")
    }
}
