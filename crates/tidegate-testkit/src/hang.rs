//! A start of a process that hangs, as one does whose program is on a disk that does not answer.
//!
//! A child looks for its program in every folder of its `PATH` before it runs it. Here these are so
//! many, and so far away, that there is time to stop it meanwhile. Then it hangs for as long as the
//! test likes.

use std::{ffi::OsString, fs, io, os::unix::fs::symlink, path::Path, process::Command};

use crate::procs;

/// How many folders the child looks into in vain. One takes a few milliseconds.
const FOLDERS: usize = 2000;

/// How many links there are on the way to each; the system follows no more than forty.
const LINKS: usize = 39;

/// Where a child whose working folder this is has to look for its program: in the usual places
/// last, after some seconds.
///
/// # Errors
///
/// When nothing can be made in the folder.
pub fn path(folder: &Path) -> io::Result<OsString> {
    for n in 0..LINKS {
        let next = if n + 1 < LINKS { format!("{}", n + 1) } else { String::new() };
        // As far away as a path can lead.
        symlink("./".repeat(2000) + &next, folder.join(n.to_string()))?;
    }
    Ok(("0:".repeat(FOLDERS) + "/usr/local/bin:/usr/bin:/bin").into())
}

/// Stops the child of this process that is in this folder and does not run its program yet, once
/// there is one. A test gives each such child a folder of its own.
#[must_use]
pub fn catch(folder: &Path) -> Option<u32> {
    let us = fs::read_link("/proc/self/exe").ok();
    let is_it = |pid: &u32| {
        let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).ok();
        link("cwd").is_some_and(|of| of == folder) && link("exe") == us
    };
    let pid = procs::children().into_iter().find(is_it)?;
    signal("-STOP", pid);
    Some(pid)
}

/// Lets a child go on that was caught.
pub fn release(pid: u32) {
    signal("-CONT", pid);
}

fn signal(name: &str, pid: u32) {
    Command::new("kill").arg(name).arg(pid.to_string()).status().ok();
}
