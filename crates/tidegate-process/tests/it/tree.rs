//! A tree ends as a whole, whatever its members do and whoever lets go of it.

use std::os::unix::process::ExitStatusExt as _;

use tidegate_process::Spawner;
use tidegate_testkit::procs;

use crate::rig::{eventually, settled, start};

/// A leader with a child, a grandchild in a session of its own, and one whose parents are gone.
const FAMILY: &str = "
    sleep 601 & echo $!
    setsid sleep 602 & echo $!
    (setsid sleep 603 & echo $!) &
    wait";

async fn all_gone(pids: &[u32]) {
    eventually("the end of the tree", || !pids.iter().any(|pid| procs::is_running(*pid))).await;
}

#[tokio::test]
async fn kill_reaches_children_sessions_and_orphans() {
    let spawner = Spawner::new();
    let (mut process, pids) = start(&spawner, FAMILY, 3).await;
    process.kill();
    assert_eq!(process.wait().await.unwrap().signal(), Some(9));
    all_gone(&pids).await;
    drop(process);
    settled(&spawner).await;
}

#[tokio::test]
async fn drop_reaches_children_sessions_and_orphans() {
    let spawner = Spawner::new();
    let (process, pids) = start(&spawner, FAMILY, 3).await;
    let leader = process.pid();
    drop(process);
    settled(&spawner).await;
    // Settled means gone, with no more waiting.
    assert!(!pids.iter().chain([&leader]).any(|pid| procs::is_running(*pid)));
    assert!(!procs::zombies().contains(&leader));
}

#[tokio::test]
async fn burial_reaches_what_outlives_a_crashed_leader() {
    let spawner = Spawner::new();
    let (mut process, pids) = start(&spawner, FAMILY, 3).await;
    let leader = process.pid();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(leader.cast_signed()).unwrap(),
        rustix::process::Signal::SEGV,
    )
    .unwrap();
    assert_eq!(process.wait().await.unwrap().signal(), Some(11));
    assert!(pids.iter().all(|pid| procs::is_running(*pid)), "they outlive it");
    process.bury();
    all_gone(&pids).await;
    settled(&spawner).await;
    assert!(!procs::zombies().contains(&leader));
}

#[tokio::test]
async fn one_tree_is_killed_and_its_neighbor_lives() {
    let spawner = Spawner::new();
    let (one, ones) = start(&spawner, FAMILY, 3).await;
    let (two, twos) = start(&spawner, FAMILY, 3).await;
    drop(one);
    all_gone(&ones).await;
    assert!(twos.iter().chain([&two.pid()]).all(|pid| procs::is_running(*pid)));
    drop(two);
    settled(&spawner).await;
    assert!(!twos.iter().any(|pid| procs::is_running(*pid)));
}

#[tokio::test]
async fn terminate_asks_the_group() {
    let spawner = Spawner::new();
    let script = "trap 'exit 7' TERM; sh -c 'echo $$; exec sleep 604' & wait";
    let (mut process, pids) = start(&spawner, script, 1).await;
    process.terminate();
    assert_eq!(process.wait().await.unwrap().code(), Some(7));
    all_gone(&pids).await;
    drop(process);
    settled(&spawner).await;
}
