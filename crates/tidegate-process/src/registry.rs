//! The children of this process that are ours to reap, whichever spawner started them.
//!
//! Whoever reaps strays asks here first, since a number reaped twice may be a stranger's the second
//! time.

use std::collections::BTreeSet;

use parking_lot::Mutex;

static OWN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

pub(crate) fn add(pid: u32) {
    OWN.lock().insert(pid);
}

pub(crate) fn contains(pid: u32) -> bool {
    OWN.lock().contains(&pid)
}

/// Forgets a child while `reap` gives its number back, so that the next child with that number is
/// not forgotten in its place.
pub(crate) fn remove(pid: u32, reap: impl FnOnce()) {
    let mut own = OWN.lock();
    reap();
    own.remove(&pid);
}
