//! The list of our processes that survives us, so that the next start can end what we could not.
//!
//! A ledger is a file of one instance in a folder that several may share. It is locked for as long
//! as the instance lives; whoever gets the lock knows that it is dead. Each process has a line while
//! it lives, in a slot that is used again, so the file is as long as the most processes at once and
//! needs no compaction. It is not synced: it is about processes, and none survives what a missing
//! sync could lose.
//!
//! [`text`] says what is in a file, [`recover`] ends what dead instances have left.

mod folder;
mod recover;
mod text;

use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt as _};

use parking_lot::Mutex;

pub use self::recover::Recovered;
use self::text::{BLANK, Header, LINE, MAX_LINES};
pub(crate) use self::{folder::Folder, recover::recover};
use crate::{cookie::Instance, proc, tree::Leader};

/// The ledger of a living instance.
#[derive(Debug)]
pub(crate) struct Ledger {
    folder: Folder,
    name: String,
    /// Open means locked.
    file: File,
    first: usize,
    slots: Mutex<Slots>,
}

/// Which line is whose.
#[derive(Debug, Default)]
struct Slots {
    used: BTreeMap<u64, usize>,
    free: Vec<usize>,
}

impl Ledger {
    /// Begins the ledger of a new instance.
    pub(crate) fn create(folder: Folder) -> io::Result<(Instance, Self)> {
        let (instance, name, file) = folder.create()?;
        let header = Header {
            boot: proc::boot().unwrap_or_else(|| "none".to_owned()),
            namespace: proc::namespace().unwrap_or_else(|| "none".to_owned()),
            instance: instance.clone(),
        };
        let header = header.write();
        file.write_all_at(header.as_bytes(), 0)?;
        let first = header.len();
        Ok((instance, Self { folder, name, file, first, slots: Mutex::default() }))
    }

    /// Writes a process down.
    pub(crate) fn record(&self, number: u64, leader: Leader) -> io::Result<()> {
        let slot = self.slots.lock().take(number).ok_or(io::ErrorKind::StorageFull)?;
        self.write(slot, &text::line(number, leader))
    }

    /// Strikes a process out.
    pub(crate) fn strike(&self, number: u64) {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.used.remove(&number) {
            // A line that stays names a process that is gone, and is not believed.
            self.write(slot, BLANK).ok();
            slots.free.push(slot);
        }
    }

    fn write(&self, slot: usize, line: &str) -> io::Result<()> {
        let at = self.first + slot * LINE;
        self.file.write_all_at(line.as_bytes(), u64::try_from(at).unwrap_or(u64::MAX))
    }
}

impl Slots {
    fn take(&mut self, number: u64) -> Option<usize> {
        let slot = self.free.pop().unwrap_or(self.used.len());
        if slot >= MAX_LINES {
            return None;
        }
        self.used.insert(number, slot);
        Some(slot)
    }
}

impl Drop for Ledger {
    /// Removes the file, unless it names something that could not be ended.
    fn drop(&mut self) {
        if self.slots.get_mut().used.is_empty() {
            self.folder.remove(&self.name).ok();
        }
    }
}
