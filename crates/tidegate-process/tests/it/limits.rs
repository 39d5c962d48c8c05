//! What a process may use, and as whom it runs.

use std::{io::ErrorKind, os::unix::process::ExitStatusExt as _, time::Duration};

use tidegate_process::{Limits, Spawner, Spec};
use tidegate_testkit::procs;
use tokio::time::timeout;

use crate::rig::{eventually, lines, settled, sh, start};

fn limited(script: &str, limits: Limits) -> Spec {
    Spec { limits, ..sh(script) }
}

#[tokio::test]
async fn limits_are_there_before_the_program_is() {
    let spawner = Spawner::new();
    let limits = Limits {
        open_files: Some(64),
        address_space: Some(256 << 20),
        cpu: Some(Duration::from_millis(1500)),
    };
    let script = "ulimit -Sn; ulimit -Hn; ulimit -v; ulimit -St; umask";
    let (process, mut pipes) = spawner.spawn(&limited(script, limits)).await.unwrap();
    assert_eq!(lines(&mut pipes, 5).await, ["64", "64", "262144", "2", "0077"]);
    drop(process);
    let (process, mut pipes) = spawner.spawn(&sh("ulimit -Sn")).await.unwrap();
    assert_ne!(lines(&mut pipes, 1).await, ["64"], "they are that process's only");
    drop(process);
    settled(&spawner).await;
}

#[tokio::test]
async fn too_much_processor_time_is_told_by_a_signal() {
    let spawner = Spawner::new();
    let limits = Limits { cpu: Some(Duration::from_secs(1)), ..Limits::default() };
    let (mut process, _pipes) =
        spawner.spawn(&limited("while :; do :; done", limits)).await.unwrap();
    let status = timeout(Duration::from_secs(60), process.wait()).await.unwrap().unwrap();
    // SIGXCPU, and not the SIGKILL that would follow.
    assert_eq!(status.signal(), Some(24));
    drop(process);
    settled(&spawner).await;
}

#[tokio::test]
async fn too_much_memory_is_refused_to_the_process() {
    let spawner = Spawner::new();
    let limits = Limits { address_space: Some(64 << 20), ..Limits::default() };
    // One line of a hundred megabytes, which has to be held whole.
    let script = "head -c 100000000 /dev/zero | tr '\\0' x | sort > /dev/null; exit $?";
    let (mut process, _pipes) = spawner.spawn(&limited(script, limits)).await.unwrap();
    assert_eq!(process.wait().await.unwrap().code(), Some(2), "sort: memory exhausted");
    drop(process);
    settled(&spawner).await;
}

#[tokio::test]
async fn a_limit_that_may_not_be_set_is_told_with_its_name() {
    let spawner = Spawner::new();
    // Nobody may have so many, not even root: the kernel has a limit of its own.
    let limits = Limits { open_files: Some(u64::MAX - 1), ..Limits::default() };
    let error = spawner.spawn(&limited(":", limits)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("open files"), "{error}");
    settled(&spawner).await;
}

#[tokio::test]
async fn root_starts_processes_as_somebody_else_and_still_owns_them() {
    let spawner = Spawner::new();
    let script = "id -u; id -g; id -G; setsid sleep 641 & echo $!; wait";
    let spec = Spec { uid: Some(65534), gid: Some(65533), ..sh(script) };
    if !rustix::process::geteuid().is_root() {
        assert_eq!(spawner.spawn(&spec).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        return;
    }
    let (process, mut pipes) = spawner.spawn(&spec).await.unwrap();
    let said = lines(&mut pipes, 4).await;
    assert_eq!(said[..3], ["65534", "65533", "65533"]);
    let grandchild = said[3].parse().unwrap();
    assert!(procs::is_running(grandchild));
    drop(process);
    eventually("the end of the tree", || !procs::is_running(grandchild)).await;
    settled(&spawner).await;
}

#[tokio::test]
async fn usage_is_that_of_the_whole_tree() {
    let spawner = Spawner::new();
    // A child that holds memory, one of its own, a session of its own that burns time, the leader.
    let script = "
        sh -c 'x=$(head -c 20000000 /dev/zero | tr \"\\0\" x); echo $$; sleep 643; :' &
        setsid sh -c 'echo $$; while :; do :; done' &
        wait";
    let (process, _) = start(&spawner, script, 2).await;
    let used = || process.usage().unwrap();
    eventually("time and memory", || {
        let used = used();
        used.cpu > Duration::from_millis(300) && used.resident > 20_000_000 && used.processes == 4
    })
    .await;
    assert!(used().resident < 200_000_000, "{:?}", used());

    let (other, _) = start(&spawner, "echo $$; exec sleep 643", 1).await;
    let idle = other.usage().unwrap();
    assert!(idle.cpu < Duration::from_millis(300) && idle.resident < 20_000_000, "{idle:?}");
    drop(process);
    drop(other);
    settled(&spawner).await;
}

#[tokio::test]
async fn what_has_ended_uses_nothing() {
    let spawner = Spawner::new();
    let (mut process, _pipes) = spawner.spawn(&sh(":")).await.unwrap();
    process.wait().await.unwrap();
    assert_eq!(process.usage(), None);
    drop(process);
    settled(&spawner).await;
}

#[tokio::test]
async fn many_are_asked_about_for_the_price_of_one_look() {
    let spawner = Spawner::new();
    let mut processes = Vec::new();
    for _ in 0..8 {
        processes.push(start(&spawner, "echo $$; exec sleep 642", 1).await.0);
    }
    let before = spawner.stats().scans;
    assert!(processes.iter().all(|process| process.usage().is_some()));
    // Two if the first is too old by the end.
    assert!((1..=2).contains(&(spawner.stats().scans - before)));
    drop(processes);
    settled(&spawner).await;
}
