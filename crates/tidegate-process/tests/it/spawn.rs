//! A process is born as it was asked for, or not at all.

use std::{
    io::ErrorKind,
    os::unix::process::ExitStatusExt as _,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tidegate_process::{Spawner, Spec};
use tidegate_testkit::procs;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rig::{lines, settled, sh};

#[tokio::test]
async fn a_process_gets_its_arguments_its_environment_and_its_folder() {
    let spawner = Spawner::new();
    let mut spec = sh("echo \"$1\"; pwd; env -u PWD -u _ -u SHLVL -u OLDPWD | sort");
    spec.args.extend(["sh".into(), "$(id) 'x'".into()]);
    spec.env.insert("GREETING".into(), "hello".into());
    spec.cwd = Some("/usr".into());
    let (mut process, mut pipes) = spawner.spawn(&spec).await.unwrap();
    let said = lines(&mut pipes, 5).await;
    assert_eq!(said[..3], ["$(id) 'x'", "/usr", "GREETING=hello"]);
    assert!(said[3].starts_with("PATH=") && said[4].starts_with("TIDEGATE_PROCESS="), "{said:?}");
    assert!(process.wait().await.unwrap().success());
    drop(process);
    settled(&spawner).await;
}

#[tokio::test]
async fn its_pipes_are_pipes() {
    let spawner = Spawner::new();
    let (mut process, mut pipes) = spawner.spawn(&sh("tee /dev/stderr; exit 3")).await.unwrap();
    pipes.stdin.write_all(b"to and fro").await.unwrap();
    drop(pipes.stdin);
    let (mut out, mut err) = (String::new(), String::new());
    pipes.stdout.read_to_string(&mut out).await.unwrap();
    pipes.stderr.read_to_string(&mut err).await.unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("to and fro", "to and fro"));
    assert_eq!(process.wait().await.unwrap().code(), Some(3));
    drop(process);
    settled(&spawner).await;
}

#[tokio::test]
async fn it_leads_a_group() {
    let spawner = Spawner::new();
    let (mut process, mut pipes) = spawner.spawn(&sh("ps -o pgid= -p $$")).await.unwrap();
    let said = lines(&mut pipes, 1).await;
    assert_eq!(said[0].trim(), process.pid().to_string());
    process.wait().await.unwrap();
    drop(process);
    settled(&spawner).await;
}

#[tokio::test]
async fn no_process_holds_the_pipes_of_another() {
    let spawner = Spawner::new();
    let (mut first, pipes) = spawner.spawn(&sh("exec cat")).await.unwrap();
    let (second, _others) = spawner.spawn(&sh("exec sleep 605")).await.unwrap();
    let (one, two) = (procs::files(first.pid()), procs::files(second.pid()));
    // The higher ones, if any, are what whoever started the test gave to it.
    assert!((0..3).all(|fd| two.values().all(|file| *file != one[&fd])), "{one:?} {two:?}");
    drop(pipes);
    assert!(first.wait().await.unwrap().success(), "it read the end of its input");
    drop((first, second));
    settled(&spawner).await;
}

#[tokio::test]
async fn what_cannot_start_is_told_at_once_and_leaves_nothing() {
    let spawner = Spawner::new();
    let folder = Spec { cwd: Some("/nonexistent".into()), ..sh(":") };
    for (spec, kind) in [
        (Spec::new("/nonexistent"), ErrorKind::NotFound),
        (Spec::new("nonexistent"), ErrorKind::NotFound),
        (Spec::new("/etc/passwd"), ErrorKind::PermissionDenied),
        (folder, ErrorKind::NotFound),
        (Spec::new("a\0b"), ErrorKind::InvalidInput),
    ] {
        assert_eq!(spawner.spawn(&spec).await.unwrap_err().kind(), kind, "{spec:?}");
    }
    assert_eq!(spawner.stats().spawn_failed, 5);
    settled(&spawner).await;
}

#[tokio::test]
async fn a_process_may_end_before_anybody_looks() {
    let spawner = Spawner::new();
    for script in ["exit 0", "kill -9 $$"] {
        let (mut process, pipes) = spawner.spawn(&sh(script)).await.unwrap();
        let pid = process.pid();
        crate::rig::eventually("its end", || !procs::is_running(pid)).await;
        let status = process.wait().await.unwrap();
        assert!(status.code() == Some(0) || status.signal() == Some(9), "{status:?}");
        assert_eq!(process.wait().await.unwrap(), status, "the answer stays");
        process.bury();
        drop((process, pipes));
    }
    settled(&spawner).await;
}

#[tokio::test]
async fn a_wait_may_be_given_up_and_begun_anew() {
    let spawner = Spawner::new();
    let (mut process, mut pipes) = spawner.spawn(&sh("read line; exit 4")).await.unwrap();
    for _ in 0..3 {
        let waited = tokio::time::timeout(Duration::from_millis(5), process.wait()).await;
        assert!(waited.is_err(), "it waits for a line");
    }
    pipes.stdin.write_all(b"now\n").await.unwrap();
    assert_eq!(process.wait().await.unwrap().code(), Some(4));
    drop(process);
    settled(&spawner).await;
}

#[test]
fn outside_of_a_runtime_nothing_starts_and_nothing_is_left() {
    let spawner = Spawner::new();
    let spec = sh("exec sleep 60");
    let mut start = pin!(spawner.spawn(&spec));
    let polled = start.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Err(_))), "{polled:?}");
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(spawner.settled());
    assert_eq!(spawner.stats().running, 0);
}
