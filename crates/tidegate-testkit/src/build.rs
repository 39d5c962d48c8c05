//! Finds the binaries of this package, building them when they are missing or old.
//!
//! Cargo builds a package's binaries for that package's own tests only. Tests of other packages
//! call [`stdio_bin`], which looks into the profile folder that the test itself was built into.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::SystemTime,
};

/// The path of the scripted stdio server.
///
/// Set `TIDEGATE_TESTKIT_STDIO` to use a binary that was built elsewhere.
///
/// # Panics
///
/// When the binary is missing and cannot be built; the message says how to build it by hand.
#[must_use]
pub fn stdio_bin() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match env::var_os("TIDEGATE_TESTKIT_STDIO") {
        Some(path) => PathBuf::from(path),
        None => locate("testkit-stdio"),
    })
    .clone()
}

#[expect(clippy::panic, reason = "a test cannot go on without its server")]
fn locate(name: &str) -> PathBuf {
    let Some(folder) = profile_folder() else {
        panic!("cannot tell the target folder from the path of this test");
    };
    let path = folder.join(name);
    if is_fresh(&path) {
        return path;
    }
    if let Err(reason) = build(name, &folder) {
        panic!(
            "{reason}; build it with `cargo build -p tidegate-testkit --bin {name}`, \
             or set TIDEGATE_TESTKIT_STDIO to its path"
        );
    }
    path
}

/// `target/debug` for a test at `target/debug/deps/name-hash`, and for a doctest, which runs from
/// a folder of its own, the one that its build names.
fn profile_folder() -> Option<PathBuf> {
    let exe = env::current_exe().ok()?;
    let folder = exe.parent()?;
    if folder.ends_with("deps") || folder.ends_with("examples") {
        return folder.parent().map(Path::to_path_buf);
    }
    if folder.join("deps").is_dir() {
        return Some(folder.to_path_buf());
    }
    let target = match env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?.join("target"),
    };
    Some(target.join("debug"))
}

fn build(name: &str, folder: &Path) -> Result<(), String> {
    let target = folder.parent().ok_or("the profile folder has no parent")?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--package", "tidegate-testkit", "--bin", name])
        .args(["--profile", profile])
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .output()
        .map_err(|error| format!("cannot run cargo to build {name}: {error}"))?;
    if output.status.success() && folder.join(name).is_file() {
        return Ok(());
    }
    Err(format!("building {name} failed: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Whether the binary is newer than every source of this package.
fn is_fresh(binary: &Path) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    match (modified(binary), newest(&root.join("src")), modified(&root.join("Cargo.toml"))) {
        (Some(built), Some(source), Some(manifest)) => built > source && built > manifest,
        _ => false,
    }
}

/// When the newest file below a folder was changed, the folder itself included.
#[must_use]
pub fn newest(folder: &Path) -> Option<SystemTime> {
    let mut newest = modified(folder)?;
    for entry in folder.read_dir().ok()? {
        let path = entry.ok()?.path();
        newest = newest.max(if path.is_dir() { self::newest(&path)? } else { modified(&path)? });
    }
    Some(newest)
}

/// When a file or folder was changed.
#[must_use]
pub fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().ok()?.modified().ok()
}
