//! Processes whose parents are gone and that the system has given to us.
//!
//! With the subreaper flag set, a process that loses its parent becomes our child, not init's. So
//! nothing that we have started can leave our sight, and all of it is ours to reap. The kernel gives
//! such children to the main thread, while those that we start are children of the thread that
//! forks. [`Strangers`] are children of ours that nobody here has started or that other code of this
//! program has; neither is touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use crate::{
    proc::{Mark, Reader},
    registry,
    shared::Shared,
    spawner::Handle,
    target::to_pid,
};

/// How often strays are looked for when nothing happens.
const PERIOD: Duration = Duration::from_secs(5);

/// How often the walk begins anew while there are new orphans; the next look finds the rest.
const MAX_ROUNDS: usize = 4;

/// How many processes the walk visits.
const MAX_FOUND: usize = 1 << 16;

/// Children of this program that were not adopted.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    /// Those from before the adopting began, by number and start. An `exec` keeps children.
    before: OnceLock<BTreeMap<u32, u64>>,
    /// Those in our own group, by number, with their start and whether they carry a cookie of ours:
    /// a process of a tree may join us. It is kept since it cannot be read any more after their end.
    kin: Mutex<BTreeMap<u32, (u64, bool)>>,
}

/// Becomes the parent of orphans; see [`crate::Spawner::adopt_orphans`].
pub(crate) fn adopt(handle: &Arc<Handle>) -> io::Result<impl Future<Output = ()> + use<>> {
    let mut deaths = signal(SignalKind::child())?;
    let shared = Arc::clone(handle.shared());
    shared.strangers.note(&shared)?;
    become_subreaper()?;
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
    adopted(shared).unwrap_or_default().into_iter().filter(|pid| lives(*pid, shared)).count()
}

/// Every child that was neither started by a spawner nor is a stranger.
pub(crate) fn adopted(shared: &Shared) -> io::Result<Vec<u32>> {
    let me = std::process::id();
    let mut children = Reader::default().children_of(me, me)?;
    children.retain(|pid| !registry::contains(*pid));
    shared.strangers.exclude(children, shared)
}

impl Strangers {
    /// Takes note of the children that are there before any is adopted.
    fn note(&self, shared: &Shared) -> io::Result<()> {
        let mut reader = Reader::default();
        let mut before = BTreeMap::new();
        for pid in reader.children(std::process::id())? {
            let Some(stat) = reader.stat(pid)? else { continue };
            if !registry::contains(pid) && !is_marked(reader.mark(pid)?, shared) {
                before.insert(pid, stat.start);
            }
        }
        // Who adopts again knows all strangers already.
        self.before.set(before).ok();
        Ok(())
    }

    /// Whether an orphan can come from somebody whom we have not started.
    pub(crate) fn may_leave_orphans(&self) -> bool {
        // The first process of a container also gets those that came into it from outside.
        let first = std::process::id() == 1;
        first || self.before.get().is_some_and(|before| !before.is_empty())
    }

    fn exclude(&self, children: Vec<u32>, shared: &Shared) -> io::Result<Vec<u32>> {
        let mut reader = Reader::default();
        // Not `getpgid`: a group of another pid namespace has no number here, and reads as zero.
        let own = reader.stat(std::process::id())?.map(|stat| stat.group);
        let mut adopted = Vec::new();
        let mut kin = self.kin.lock();
        let mut still = BTreeMap::new();
        for pid in children {
            let Some(stat) = reader.stat(pid)? else { continue };
            if self.before.get().and_then(|before| before.get(&pid)) == Some(&stat.start) {
                continue;
            }
            if Some(stat.group) != own {
                adopted.push(pid);
                continue;
            }
            let ours = match kin.get(&pid).filter(|(start, _)| *start == stat.start) {
                Some((_, ours)) => *ours,
                None => match reader.mark(pid)? {
                    // Nothing yet, or nothing any more.
                    Mark::Empty => continue,
                    mark => is_marked(mark, shared),
                },
            };
            still.insert(pid, (stat.start, ours));
            if ours {
                adopted.push(pid);
            }
        }
        *kin = still;
        Ok(adopted)
    }
}

fn is_marked(mark: Mark<'_>, shared: &Shared) -> bool {
    matches!(mark, Mark::Cookie(cookie) if shared.instance.number(cookie).is_some())
}

/// What we have adopted, these processes, and everything below. A process can only leave this by
/// losing its parents, and is adopted then.
pub(crate) fn below(shared: &Shared, roots: &[u32]) -> io::Result<BTreeSet<u32>> {
    let mut reader = Reader::default();
    let mut found = BTreeSet::new();
    for _ in 0..MAX_ROUNDS {
        let mut next: Vec<u32> = adopted(shared)?;
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
