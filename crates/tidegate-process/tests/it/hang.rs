//! A start that hangs holds up no thread but the one that forks, and nobody for longer than they
//! like.

use std::{
    path::Path,
    pin::pin,
    sync::mpsc::channel,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use tempfile::TempDir;
use tidegate_process::{Spawner, Spec};
use tidegate_testkit::{hang, procs};
use tokio::{runtime::Builder, time::timeout};

use crate::rig::{eventually, settled, sh};

/// How many starts wait for their turn.
const LINE: usize = 256;

/// What hangs once it is caught, and its folder.
fn hanging() -> (TempDir, Spec) {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = Spec::new("sleep");
    spec.args.push("661".into());
    spec.env.insert("PATH".into(), hang::path(folder.path()).unwrap());
    spec.cwd = Some(folder.path().to_owned());
    (folder, spec)
}

/// Stops the start that is under way.
async fn caught(folder: &Path) -> u32 {
    let mut child = None;
    eventually("a start", || {
        child = hang::catch(folder);
        child.is_some()
    })
    .await;
    child.unwrap()
}

/// Polls once.
fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

// All of these run on one thread: what waits for a start must leave it to the rest.

#[tokio::test]
async fn a_caller_leaves_its_thread_to_others_and_gets_the_process_in_the_end() {
    let spawner = Spawner::new();
    let (folder, spec) = hanging();
    let mut start = pin!(spawner.spawn(&spec));
    let child = tokio::select! {
        started = &mut start => panic!("{started:?}"),
        child = caught(folder.path()) => child,
    };
    assert!(timeout(Duration::from_millis(20), &mut start).await.is_err(), "it hangs");
    hang::release(child);
    let (process, _pipes) = start.await.unwrap();
    assert_eq!(process.pid(), child);
    drop(process);
    settled(&spawner).await;
}

#[tokio::test]
async fn what_is_given_up_is_ended_when_it_is_there_and_the_next_is_served() {
    let spawner = Spawner::new();
    let (folder, spec) = hanging();
    let mut first = Box::pin(spawner.spawn(&spec));
    let child = tokio::select! {
        started = &mut first => panic!("{started:?}"),
        child = caught(folder.path()) => child,
    };
    let spec = sh("exit 6");
    let mut second = pin!(spawner.spawn(&spec));
    let mut third = Box::pin(spawner.spawn(&spec));
    assert!(poll(&mut second).is_pending() && poll(&mut third).is_pending());
    drop((first, third));
    hang::release(child);
    let (mut process, _pipes) = second.await.unwrap();
    assert_eq!(process.wait().await.unwrap().code(), Some(6));
    drop(process);
    settled(&spawner).await;
    assert!(!procs::is_running(child) && !procs::zombies().contains(&child));
    let stats = spawner.stats();
    assert_eq!((stats.spawned, stats.reaped, stats.spawn_failed), (2, 2, 0), "no third");
}

#[tokio::test]
async fn a_start_fails_at_once_when_too_many_wait_for_theirs() {
    let spawner = Spawner::new();
    let (folder, spec) = hanging();
    let mut first = Box::pin(spawner.spawn(&spec));
    let child = tokio::select! {
        started = &mut first => panic!("{started:?}"),
        child = caught(folder.path()) => child,
    };
    let spec = sh("exit 0");
    let mut line: Vec<_> = (0..LINE).map(|_| Box::pin(spawner.spawn(&spec))).collect();
    assert!(line.iter_mut().all(|start| poll(start).is_pending()));

    // On a thread of its own, which can be watched: at once is before anybody makes room.
    let (told, answer) = channel();
    let asking = spawner.clone();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        told.send(runtime.block_on(asking.spawn(&sh("exit 0")))).ok();
    });
    let answer = answer.recv_timeout(Duration::from_secs(10));
    let refused = answer.expect("an answer while the line is full").unwrap_err();
    assert_eq!(refused.to_string(), "too many processes wait for their start");
    assert_eq!(spawner.stats().spawn_failed, 1);

    drop((first, line));
    procs::kill(child);
    settled(&spawner).await;
    assert_eq!(spawner.stats().spawned, 1, "only the first had its turn");
    spawner.spawn(&spec).await.expect("there is room again");
    settled(&spawner).await;
}
