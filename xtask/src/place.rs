//! Where things are: the repository, the build output, the tools cache, the logs of this run.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// The folders of one run.
pub(crate) struct Place {
    /// The repository.
    pub(crate) root: PathBuf,
    /// Cargo's target folder.
    pub(crate) target: PathBuf,
    /// Installed tools, kept between runs: `$TIDEGATE_TOOLS` or `~/.cache/tidegate-tools`.
    pub(crate) tools: PathBuf,
    /// Output of this run's commands; it stays after a failure.
    pub(crate) logs: PathBuf,
    /// What `cargo metadata --no-deps` says.
    pub(crate) metadata: Value,
}

impl Place {
    pub(crate) fn find() -> anyhow::Result<Self> {
        // `cargo run` sets it for the tree at hand; the compiled-in path may be another clone's.
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().context("xtask has no parent folder")?.to_path_buf();
        let metadata = metadata(&root)?;
        let target = metadata
            .get("target_directory")
            .and_then(Value::as_str)
            .context("no target_directory")?;
        let target = PathBuf::from(target);
        let tools = match env::var_os("TIDEGATE_TOOLS") {
            Some(tools) => PathBuf::from(tools),
            None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?)
                .join(".cache/tidegate-tools"),
        };
        std::fs::create_dir_all(&tools)
            .with_context(|| format!("cannot create {}", tools.display()))?;
        let logs = tempfile::Builder::new().prefix("tidegate-xtask-").tempdir()?.keep();
        Ok(Self { root, target, tools, logs, metadata })
    }

    /// A cargo command in the repository, without the variables that `cargo run` gave to us.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = Command::new("cargo");
        // A failed test says what it expected; a backtrace in an async runtime says no more.
        cargo.current_dir(&self.root).env("RUST_BACKTRACE", "0");
        for (name, _) in env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") {
                cargo.env_remove(&name);
            }
        }
        cargo
    }

    /// The proxy's binary of a profile.
    pub(crate) fn binary(&self, release: bool) -> PathBuf {
        self.target.join(if release { "release" } else { "debug" }).join("tidegate")
    }

    /// A log file of this run.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
            .collect();
        self.logs.join(format!("{name}.log"))
    }
}

fn metadata(root: &Path) -> anyhow::Result<Value> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}
