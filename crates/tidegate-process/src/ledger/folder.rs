//! The folder of the ledgers, which only we may look into, and their locks.
//!
//! Everything goes through the open folder and follows no link, so that nobody can slip in a file of
//! their own, or have us write to one of theirs.

use std::{
    ffi::OsStr,
    fs::{DirBuilder, File},
    io::{self, Read as _},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, fs::DirBuilderExt as _},
    },
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, openat, statat,
        unlinkat,
    },
    io::Errno,
    process::geteuid,
};

use super::text::{LINE, MAX_LINES};
use crate::{clock, cookie::Instance};

const SUFFIX: &str = ".ledger";

/// How many names are looked at.
const MAX_NAMES: usize = 10_000;

/// How much of a file is read: all that a ledger can have, and a generous header.
const MAX_BYTES: u64 = (LINE * MAX_LINES + 4096) as u64;

/// How often a new file may be taken away before it is locked.
const ATTEMPTS: usize = 10;

/// How long a child that is being started may hold a lock of its parent, in milliseconds.
const FORK: u64 = 20;

/// The open folder.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

/// The file of an instance that is dead, locked by us.
#[derive(Debug)]
pub(super) struct Dead {
    pub(super) name: String,
    pub(super) instance: Instance,
    pub(super) bytes: Vec<u8>,
    /// Keeps the lock.
    file: File,
}

/// What is behind the name of a ledger.
enum Found {
    Dead(File, Vec<u8>),
    /// It is locked.
    Alive,
    /// Somebody else has cleaned it up.
    Gone,
}

impl Folder {
    /// Opens the folder, and makes it if it is missing.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())?;
        let stat = fstat(&folder)?;
        let wrong = |what| Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        if stat.st_uid != geteuid().as_raw() {
            return wrong("the folder of the ledgers belongs to somebody else");
        }
        if Mode::from_raw_mode(stat.st_mode).intersects(Mode::RWXG | Mode::RWXO) {
            return wrong("the folder of the ledgers is open to others; its mode has to be 700");
        }
        Ok(Self(folder))
    }

    /// Makes the file of a new instance, and locks it.
    pub(super) fn create(&self) -> io::Result<(Instance, String, File)> {
        for _ in 0..ATTEMPTS {
            let instance = Instance::new();
            let name = format!("{instance}{SUFFIX}");
            let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let flags = new | OFlags::RDWR | OFlags::CLOEXEC;
            let file = openat(&self.0, &name, flags, Mode::RUSR | Mode::WUSR)?;
            // Before it was locked, somebody who cleans up may have taken it for a dead one's.
            let locked = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
            if locked && self.is_named(&fstat(&file)?, &name) {
                return Ok((instance, name, File::from(file)));
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Every file whose instance is dead, and how many could not be trusted. None of them can be
    /// claimed by anybody else until it is dropped.
    pub(super) fn claim(&self) -> io::Result<(Vec<Dead>, usize)> {
        let (mut dead, mut refused, mut alive) = (Vec::new(), 0, self.names()?);
        for attempt in 0..2 {
            if attempt > 0 && !alive.is_empty() {
                // A child of a dead one holds the lock as well until it runs its program, or dies
                // since it has lost its parent. That takes no longer than this.
                clock::pause(FORK);
            }
            for (name, instance) in std::mem::take(&mut alive) {
                match self.open_dead(&name) {
                    Ok(Found::Dead(file, bytes)) => dead.push(Dead { name, instance, bytes, file }),
                    Ok(Found::Alive) => alive.push((name, instance)),
                    Ok(Found::Gone) => (),
                    Err(_) => refused += 1,
                }
            }
        }
        Ok((dead, refused))
    }

    /// What is called like a ledger.
    fn names(&self) -> io::Result<Vec<(String, Instance)>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0)?.take(MAX_NAMES) {
            names.extend(parse(OsStr::from_bytes(entry?.file_name().to_bytes())));
        }
        Ok(names)
    }

    fn open_dead(&self, name: &str) -> io::Result<Found> {
        // Opening something that is no file must not wait for its other end.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::RDWR | OFlags::CLOEXEC;
        let file = match openat(&self.0, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(Found::Gone),
            Err(error) => return Err(error.into()),
        };
        let stat = fstat(&file)?;
        let ours = stat.st_uid == geteuid().as_raw() && stat.st_nlink <= 1;
        if !ours || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => (),
            Err(Errno::WOULDBLOCK) => return Ok(Found::Alive),
            Err(error) => return Err(error.into()),
        }
        // Its instance may have removed it, or another one cleaned it up, just before.
        if !self.is_named(&stat, name) {
            return Ok(Found::Gone);
        }
        let mut file = File::from(file);
        let mut bytes = Vec::new();
        io::Read::by_ref(&mut file).take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(Found::Dead(file, bytes))
    }

    fn is_named(&self, stat: &Stat, name: &str) -> bool {
        statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|named| (named.st_dev, named.st_ino) == (stat.st_dev, stat.st_ino))
    }
}

impl Drop for Dead {
    /// Closing would do, but for children that are being started and hold a copy.
    fn drop(&mut self) {
        flock(&self.file, FlockOperation::NonBlockingUnlock).ok();
    }
}

fn parse(name: &OsStr) -> Option<(String, Instance)> {
    let name = name.to_str()?;
    let instance = Instance::parse(name.strip_suffix(SUFFIX)?)?;
    Some((name.to_owned(), instance))
}
