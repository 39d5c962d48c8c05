//! What the checks need and a machine may lack, installed once into the tools cache.
//!
//! Versions are pinned here and nowhere else; a new one is a new folder, so two work trees with
//! different pins share the cache. A folder is complete when it holds the marker file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::place::Place;
use crate::process::{Ended, run_logged, tail};

/// The conformance suite needs `fs.globSync`, which came with this major.
const NODE_MAJOR: u32 = 22;
const NODE_VERSION: &str = "22.23.3";
/// The newest suite that has the 2026-07-28 scenarios.
pub(crate) const CONFORMANCE: &str = "@modelcontextprotocol/conformance@0.2.0-alpha.12";
const SERVERS_VERSION: &str = "2026.8.31";
const CARGO_DENY_VERSION: &str = "0.20.2";

const MARKER: &str = ".tidegate-complete";
const INSTALL_LIMIT: Duration = Duration::from_secs(10 * 60);

/// An npm package installed with its dependencies.
pub(crate) struct NpmFolder(PathBuf);

impl NpmFolder {
    /// The folder with `node_modules` in it.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A file of a package.
    pub(crate) fn file(&self, package: &str, file: &str) -> PathBuf {
        self.0.join("node_modules").join(package).join(file)
    }
}

/// A node that is new enough: the machine's, or one from npm.
pub(crate) fn node(place: &Place) -> anyhow::Result<PathBuf> {
    if let Ok(output) = Command::new("node").arg("--version").output() {
        let version = String::from_utf8_lossy(&output.stdout).into_owned();
        let major = version.trim().trim_start_matches('v').split('.').next().map(str::parse::<u32>);
        if matches!(major, Some(Ok(major)) if major >= NODE_MAJOR) {
            return Ok(PathBuf::from("node"));
        }
    }
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => bail!("no node for {other} on npm; install node {NODE_MAJOR} or newer"),
    };
    let package = format!("node-linux-{arch}");
    let folder =
        npm(place, &format!("node-{NODE_VERSION}"), &[&format!("{package}@{NODE_VERSION}")])?;
    Ok(folder.file(&package, "bin/node"))
}

/// The official conformance suite.
pub(crate) fn conformance_suite(place: &Place) -> anyhow::Result<NpmFolder> {
    let version = CONFORMANCE.rsplit('@').next().unwrap_or_default();
    npm(place, &format!("mcp-conformance-{version}"), &[CONFORMANCE])
}

/// The reference servers: everything, filesystem, memory.
pub(crate) fn reference_servers(place: &Place) -> anyhow::Result<NpmFolder> {
    let packages = ["everything", "filesystem", "memory"]
        .map(|name| format!("@modelcontextprotocol/server-{name}@{SERVERS_VERSION}"));
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    npm(place, &format!("mcp-servers-{SERVERS_VERSION}"), &packages)
}

/// npm packages at exact versions in one cache folder.
pub(crate) fn npm(place: &Place, name: &str, packages: &[&str]) -> anyhow::Result<NpmFolder> {
    let folder = place.tools.join(name);
    install_once(place, &folder, &format!("{} from npm", packages.join(", ")), || {
        ensure_command(place, "npm", &["nodejs", "npm"])?;
        fs::write(folder.join("package.json"), "{\"private\": true}\n")?;
        let mut npm = Command::new("npm");
        npm.args([
            "install",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
            "--save-exact",
            "--prefix",
        ]);
        npm.arg(&folder).args(packages).current_dir(&folder);
        finish(place, &mut npm, &format!("npm-{name}"), INSTALL_LIMIT)
    })?;
    Ok(NpmFolder(folder))
}

/// The python of a virtual environment that holds one package at one version.
pub(crate) fn python(place: &Place, package: &str, version: &str) -> anyhow::Result<PathBuf> {
    let name = format!("{package}-python-{version}");
    let folder = place.tools.join(&name);
    let python = folder.join("bin/python");
    install_once(place, &folder, &format!("{package} {version} from PyPI"), || {
        ensure_command(place, "python3", &["python3"])?;
        if !Command::new("python3").args(["-c", "import ensurepip"]).output()?.status.success() {
            apt(place, &["python3-venv"])?;
        }
        let mut venv = Command::new("python3");
        finish(
            place,
            venv.args(["-m", "venv"]).arg(&folder),
            &format!("venv-{name}"),
            INSTALL_LIMIT,
        )?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        finish(
            place,
            pip.arg(format!("{package}=={version}")),
            &format!("pip-{name}"),
            INSTALL_LIMIT,
        )
    })?;
    Ok(python)
}

/// The path of cargo-deny, compiled once.
pub(crate) fn cargo_deny(place: &Place) -> anyhow::Result<PathBuf> {
    let root = place.tools.join(format!("cargo-deny-{CARGO_DENY_VERSION}"));
    let binary = root.join("bin/cargo-deny");
    let what = format!("cargo-deny {CARGO_DENY_VERSION} (compiles for 5 to 15 minutes, once)");
    install_once(place, &root, &what, || {
        let mut cargo = place.cargo();
        cargo.args([
            "install",
            "--locked",
            "--version",
            CARGO_DENY_VERSION,
            "cargo-deny",
            "--root",
        ]);
        // Its own target folder: it must not share build output with the workspace.
        cargo.arg(&root).env("CARGO_TARGET_DIR", root.join("target"));
        finish(place, &mut cargo, "install-cargo-deny", Duration::from_secs(40 * 60))?;
        fs::remove_dir_all(root.join("target"))
            .context("cannot remove the build folder of cargo-deny")
    })?;
    Ok(binary)
}

/// Sees to it that valgrind can be run.
pub(crate) fn valgrind(place: &Place) -> anyhow::Result<()> {
    ensure_command(place, "valgrind", &["valgrind"])
}

/// True when `cargo nextest` is on this machine; it is not worth compiling for a run.
pub(crate) fn has_nextest() -> bool {
    let version = Command::new("cargo").args(["nextest", "--version"]).output();
    version.is_ok_and(|output| output.status.success())
}

/// Installs into `folder` unless that was done before; other runs wait for it.
fn install_once(
    place: &Place,
    folder: &Path,
    what: &str,
    install: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let marker = folder.join(MARKER);
    if marker.exists() {
        return Ok(());
    }
    let lock = File::create(place.tools.join(".lock")).context("cannot lock the tools cache")?;
    lock.lock().context("cannot lock the tools cache")?;
    if marker.exists() {
        return Ok(());
    }
    println!("   installing {what} into {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    install().with_context(|| format!("cannot install {what}"))?;
    File::create(&marker)?;
    Ok(())
}

fn ensure_command(place: &Place, command: &str, packages: &[&str]) -> anyhow::Result<()> {
    let found = Command::new(command).arg("--version").output();
    if found.is_ok_and(|output| output.status.success()) { Ok(()) } else { apt(place, packages) }
}

fn apt(place: &Place, packages: &[&str]) -> anyhow::Result<()> {
    println!("   installing Debian packages: {}", packages.join(", "));
    let mut update = Command::new("apt-get");
    finish(place, update.args(["update", "-qq"]), "apt-update", INSTALL_LIMIT)?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages);
    finish(place, &mut install, "apt-install", INSTALL_LIMIT)
}

fn finish(place: &Place, command: &mut Command, name: &str, limit: Duration) -> anyhow::Result<()> {
    let log = place.log(name);
    match run_logged(command, name, &log, limit)? {
        Ended::Exit(status) if status.success() => Ok(()),
        ended => bail!("{name}: {}\n{}", ended.describe(), tail(&log, 30)),
    }
}
