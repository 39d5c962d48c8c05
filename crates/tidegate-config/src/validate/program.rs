//! Finding the program of a command, the way a shell would.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::problem::Mismatch;

/// The absolute path of `program`: looked up in `search` (a `PATH`) if it is a bare name, else
/// resolved against `directory`.
pub(super) fn find(
    program: &str,
    search: Option<&OsStr>,
    directory: &Path,
) -> Result<PathBuf, Mismatch> {
    if program.is_empty() {
        return Err(Mismatch::new("the command is empty", "write the program first"));
    }
    if program.contains('/') {
        let path = directory.join(program);
        return match check(&path) {
            Ok(()) => Ok(path),
            Err(why) => Err(Mismatch::new(
                format!("cannot run {}: {why}", path.display()),
                "give the path of an executable file",
            )),
        };
    }
    let search = search.filter(|search| !search.is_empty());
    let folders: Vec<PathBuf> =
        search.map(|search| std::env::split_paths(search).collect()).unwrap_or_default();
    let mut candidates = folders.iter().map(|folder| directory.join(folder).join(program));
    candidates.find(|path| check(path).is_ok()).ok_or_else(|| {
        let what = format!("no program `{program}` in the {} folders of PATH", folders.len());
        Mismatch::new(what, "install it, write its full path, or set `env.PATH` for the child")
    })
}

fn check(path: &Path) -> Result<(), &'static str> {
    let metadata = fs::metadata(path).map_err(|_| "there is no such file")?;
    if !metadata.is_file() {
        return Err("it is not a file");
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err("it is not executable");
    }
    Ok(())
}
