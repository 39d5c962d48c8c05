//! Processes whose parents are gone and that the system has given to us.
//!
//! With the subreaper flag set, a process that loses its parent becomes our child, not init's. So
//! nothing that we have started can leave our sight, and all of it is ours to reap. The kernel gives
//! such children to the main thread, while those that we start are children of the thread that
//! forks; what is in our own process group was started by other code of this program. Neither is
//! touched here.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use rustix::process::{WaitId, WaitIdOptions, getpgid, getpgrp, waitid};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use crate::{proc::Reader, registry, shared::Shared, spawner::Handle, target::to_pid};

/// How often strays are looked for when nothing happens.
const PERIOD: Duration = Duration::from_secs(5);

/// How often the walk begins anew while there are new orphans; the next look finds the rest.
const MAX_ROUNDS: usize = 4;

/// How many processes the walk visits.
const MAX_FOUND: usize = 1 << 16;

/// Becomes the parent of orphans; see [`crate::Spawner::adopt_orphans`].
pub(crate) fn adopt(handle: &Arc<Handle>) -> io::Result<impl Future<Output = ()> + use<>> {
    let mut deaths = signal(SignalKind::child())?;
    become_subreaper()?;
    let shared = Arc::clone(handle.shared());
    shared.adopting();
    let handle: Weak<Handle> = Arc::downgrade(handle);
    Ok(async move {
        let mut period = interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = deaths.recv() => (),
                _ = period.tick() => (),
            }
            if reap(&shared) > 0 {
                // Somebody lives on without a parent; perhaps also without an owner.
                if let Some(handle) = handle.upgrade() {
                    handle.look();
                }
            }
        }
    })
}

#[cfg(target_os = "linux")]
fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

#[cfg(not(target_os = "linux"))]
fn become_subreaper() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Reaps the adopted that have ended, and returns how many live.
fn reap(shared: &Shared) -> usize {
    // What cannot be looked at now is looked at again after the period.
    adopted().unwrap_or_default().into_iter().filter(|pid| lives(*pid, shared)).count()
}

/// Every child that was neither started by a spawner nor by other code of this program.
pub(crate) fn adopted() -> io::Result<Vec<u32>> {
    let me = std::process::id();
    let own = getpgrp();
    let mut children = Reader::default().children_of(me, me)?;
    children.retain(|pid| {
        let group = to_pid(*pid).and_then(|pid| getpgid(Some(pid)).ok());
        !registry::contains(*pid) && group.is_some_and(|group| group != own)
    });
    Ok(children)
}

/// What we have adopted, these processes, and everything below. A process can only leave this by
/// losing its parents, and is adopted then.
pub(crate) fn below(roots: &[u32]) -> io::Result<BTreeSet<u32>> {
    let mut reader = Reader::default();
    let mut found = BTreeSet::new();
    for _ in 0..MAX_ROUNDS {
        let mut next: Vec<u32> = adopted()?;
        next.extend(roots);
        let before = found.len();
        while let Some(pid) = next.pop() {
            if found.len() < MAX_FOUND && found.insert(pid) {
                next.extend(reader.children(pid)?);
            }
        }
        // Who was adopted during the walk may have been missed by it.
        if found.len() == before {
            break;
        }
    }
    Ok(found)
}

fn lives(pid: u32, shared: &Shared) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match to_pid(pid).map(|pid| waitid(WaitId::Pid(pid), options)) {
        Some(Ok(Some(_))) => {
            shared.counters.strays_reaped.increment();
            false
        }
        Some(Ok(None)) => true,
        Some(Err(_)) | None => false,
    }
}
