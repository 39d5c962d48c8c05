//! Nothing can be seen while no file descriptor is left, and that does not mean that nothing is
//! there.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate_process::Spawner;
use tidegate_testkit::procs;
use tokio::runtime::{Builder, Runtime};

use crate::{
    Case,
    rig::{eventually, settled, start},
};

pub(crate) const CASES: &[Case] = &[
    ("a tree is not taken for gone while no file can be opened", tree),
    ("nor while there are few files left", few),
    ("nor where orphans are adopted", adopted),
    ("a recovery that sees nothing fails and keeps the ledger", recovery),
];

/// A leader, and one that has left its group and lost its parents.
const FAMILY: &str = "echo $$; (setsid sleep 671 & echo $!) & wait; exec sleep 672";

/// Lets so many more files be opened, and returns what was allowed before. The limit is about the
/// highest number, and there are gaps below.
fn leave(files: usize) -> Rlimit {
    let before = getrlimit(Resource::Nofile);
    let open = procs::files(std::process::id());
    // The listing itself was open while it was made.
    let listing = format!("/proc/{}/fd", std::process::id());
    let free = |fd: &u32| open.get(fd).is_none_or(|file| *file == *listing);
    let current = (0..).filter(free).nth(files).map(u64::from);
    setrlimit(Resource::Nofile, Rlimit { current, ..before }).unwrap();
    before
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Drops a process while only so many files can be opened.
fn check(files: usize, adopts: bool) {
    runtime().block_on(async {
        let spawner = Spawner::new();
        let reaping = adopts.then(|| spawner.adopt_orphans().unwrap());
        let (process, pids) = start(&spawner, FAMILY, 2).await;
        eventually("a group of its own", || procs::in_group(pids[1]).contains(&pids[1])).await;
        let before = leave(files);
        drop(process);
        let looked = || spawner.stats().scans_failed >= 3 || spawner.stats().reaped > 0;
        eventually("some looks", looked).await;
        assert_eq!(spawner.stats().reaped, 0, "one may be left");
        setrlimit(Resource::Nofile, before).unwrap();
        settled(&spawner).await;
        assert!(!pids.iter().any(|pid| procs::is_running(*pid)));
        let stats = spawner.stats();
        assert_eq!((stats.reaped, stats.strays_ended, stats.strays_spared), (1, 1, 0));
        drop(reaping);
    });
}

fn tree() {
    check(0, false);
}

fn few() {
    // Enough to see the one that is left, and not enough to hold it while looking again.
    check(1, false);
}

fn adopted() {
    check(0, true);
}

fn recovery() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("ledgers");
    let (mut owner, pids) = crate::cases::act("owner", Some(&folder));
    owner.kill().unwrap();
    owner.wait().unwrap();
    // Room for the folder, the ledger and the name of the boot, until that is closed; and none for a
    // process that is held and looked at.
    let before = leave(3);
    let refused = Spawner::with_ledger(&folder).unwrap_err();
    setrlimit(Resource::Nofile, before).unwrap();
    assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()), "{refused}");
    let (_next, recovered) = Spawner::with_ledger(&folder).unwrap();
    assert!(!pids.iter().any(|pid| procs::is_running(*pid)));
    assert_eq!((recovered.ledgers, recovered.left), (1, 0), "{recovered:?}");
}
