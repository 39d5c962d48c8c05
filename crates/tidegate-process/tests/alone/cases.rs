//! Counting what is left, and dying without a farewell.

use std::{
    io::{BufRead as _, BufReader, Write as _, stdout},
    path::Path,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use tidegate_process::{Recovered, Spawner};
use tidegate_testkit::procs;
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::{
    Case, alone,
    rig::{eventually, settled, sh, start},
};

pub(crate) const CASES: &[Case] = &[
    ("five hundred processes leave no zombie and no file", five_hundred),
    ("failed starts leave no zombie and no file", failed_starts),
    ("a process is dropped outside of every runtime", dropped_outside),
    ("a process outlives its runtime and is still owned", outlives_runtime),
    ("a process outlives the thread that asked for it", outlives_thread),
    ("the last drop does not leave strays to a program that exits", last_drop),
    ("whoever is killed takes its processes along", killed_owner),
    ("what an owner left that was killed is ended by the next one", next_owner),
];

/// What other cases start and kill.
pub(crate) const ROLES: &[Case] = &[("owner", owner), ("brief owner", brief_owner)];

/// A leader with a grandchild in a session of its own.
const FAMILY: &str = "echo $$; setsid sleep 621 & echo $!; wait";

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// How many files are open when nothing is; a runtime leaves some behind, once.
fn open_files() -> usize {
    drop(runtime());
    procs::open_files()
}

fn check_nothing_left(files: usize) {
    assert_eq!((procs::children().len(), procs::zombies().len()), (0, 0));
    assert_eq!(procs::open_files(), files);
}

fn five_hundred() {
    let files = open_files();
    let runtime = runtime();
    let spawner = Spawner::new();
    runtime.block_on(async {
        for round in 0..125 {
            // Each of the four ways for a process to end, at the same time.
            let (one, pids) = start(&spawner, FAMILY, 2).await;
            let (mut two, _pipes) = spawner.spawn(&sh("exit 1")).await.unwrap();
            let (mut three, _pipes) = spawner.spawn(&sh("exec sleep 622")).await.unwrap();
            let (four, _pipes) = spawner.spawn(&sh("exec sleep 622")).await.unwrap();
            three.kill();
            two.wait().await.unwrap();
            two.bury();
            three.wait().await.unwrap();
            drop((one, four));
            if round % 25 == 0 {
                drop((two, three));
                settled(&spawner).await;
                assert!(!pids.iter().any(|pid| procs::is_running(*pid)));
            }
        }
        settled(&spawner).await;
    });
    let stats = spawner.stats();
    assert_eq!((stats.spawned, stats.reaped, stats.strays_spared), (500, 500, 0));
    drop(spawner);
    drop(runtime);
    check_nothing_left(files);
}

fn failed_starts() {
    let files = open_files();
    let runtime = runtime();
    let spawner = Spawner::new();
    runtime.block_on(async {
        for _ in 0..200 {
            spawner.spawn(&tidegate_process::Spec::new("/nonexistent")).await.unwrap_err();
        }
    });
    assert_eq!(spawner.stats().spawn_failed, 200);
    drop(spawner);
    drop(runtime);
    check_nothing_left(files);
}

fn dropped_outside() {
    let spawner = Spawner::new();
    let runtime = runtime();
    let (process, pids) = runtime.block_on(start(&spawner, FAMILY, 2));
    thread::spawn(move || drop(process)).join().unwrap();
    runtime.block_on(settled(&spawner));
    assert!(!pids.iter().any(|pid| procs::is_running(*pid)));
    assert!(procs::children().is_empty() && procs::zombies().is_empty());
}

fn outlives_runtime() {
    let files = open_files();
    let spawner = Spawner::new();
    let first = runtime();
    let (mut process, pids) = first.block_on(start(&spawner, FAMILY, 2));
    drop(first);
    assert!(pids.iter().all(|pid| procs::is_running(*pid)));
    process.kill();
    // Any runtime can wait, and none has to be there for the reaping.
    runtime().block_on(process.wait()).unwrap();
    drop((process, spawner));
    assert!(!pids.iter().any(|pid| procs::is_running(*pid)));
    check_nothing_left(files);
}

fn outlives_thread() {
    let spawner = Spawner::new();
    let asking = spawner.clone();
    let one = thread::spawn(move || {
        Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async { start(&asking, FAMILY, 2).await })
    });
    let (mut process, pids) = one.join().unwrap();
    let waiting = runtime();
    let ended = waiting.block_on(async {
        // If the death of the thread killed it, that would be now.
        timeout(Duration::from_millis(100), process.wait()).await
    });
    assert!(ended.is_err(), "it lives");
    assert!(pids.iter().all(|pid| procs::is_running(*pid)));
    drop(process);
    waiting.block_on(settled(&spawner));
}

fn say(pids: &[u32]) {
    let mut out = stdout();
    writeln!(out, "{} {}", pids[0], pids[1]).unwrap();
}

/// Starts this program in a role, and reads the numbers it prints.
pub(crate) fn act(role: &str, folder: Option<&Path>) -> (Child, Vec<u32>) {
    let mut command = alone(role);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.args(folder);
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (child, line.split_whitespace().map(|pid| pid.parse().unwrap()).collect())
}

/// Starts a family, prints it, and waits for something to happen to it.
fn owner() {
    let spawner = match std::env::args_os().nth(2) {
        Some(folder) => Spawner::with_ledger(Path::new(&folder)).unwrap().0,
        None => Spawner::new(),
    };
    let (_process, pids) = runtime().block_on(start(&spawner, FAMILY, 2));
    say(&pids);
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// Starts a family, prints it, and leaves.
fn brief_owner() {
    let spawner = Spawner::new();
    let (_process, pids) = runtime().block_on(start(&spawner, FAMILY, 2));
    say(&pids);
}

fn last_drop() {
    let (mut child, pids) = act("brief owner", None);
    assert!(child.wait().unwrap().success());
    // The owner has waited, so nobody else has to.
    assert!(!pids.iter().any(|pid| procs::is_running(*pid)), "{pids:?}");
}

fn killed_owner() {
    let (mut child, pids) = act("owner", None);
    assert!(pids.iter().all(|pid| procs::is_running(*pid)));
    child.kill().unwrap();
    child.wait().unwrap();
    runtime().block_on(async {
        let gone = eventually("the end of the leader", || !procs::is_running(pids[0]));
        timeout(Duration::from_secs(1), gone).await.expect("it follows at once");
    });
    // Without a ledger nobody knows of the rest; this is what the ledger is for.
    assert!(procs::is_running(pids[1]));
    procs::kill(pids[1]);
}

fn next_owner() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("ledgers");
    let (mut child, pids) = act("owner", Some(&folder));
    let living = Spawner::with_ledger(&folder).unwrap();
    assert_eq!(living.1, Recovered::default(), "its owner lives");
    child.kill().unwrap();
    child.wait().unwrap();
    let (_next, recovered) = Spawner::with_ledger(&folder).unwrap();
    assert!(!pids.iter().any(|pid| procs::is_running(*pid)));
    assert_eq!((recovered.ledgers, recovered.left, recovered.skipped), (1, 0, 0));
    // The leader has died with its owner, or was about to.
    assert!((1..=2).contains(&recovered.killed), "{recovered:?}");
}
