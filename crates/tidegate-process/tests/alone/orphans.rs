//! Processes that lose their parents become ours.

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use rustix::process::{Pid, getpgrp, setpgid};
use tidegate_process::Spawner;
use tidegate_testkit::procs;
use tokio::{runtime::Builder, task::JoinHandle};

use crate::{
    Case, alone,
    rig::{eventually, lines, settled, sh, start},
};

pub(crate) const CASES: &[Case] = &[
    ("an adopted daemon is ended with its tree", daemon),
    ("an adopted daemon that hides is ended with its tree", hiding),
    ("an adopted process that ends by itself is reaped", reaped),
    ("an adopted process in our own group is ended with its tree", joined),
    ("children of other code are let be", foreign),
    ("children from before an exec and what they leave are let be", inherited),
];

/// What other cases start.
pub(crate) const ROLES: &[Case] = &[("joiner", joiner), ("heir", heir)];

/// A daemon: a session of its own, and parents that are gone.
const DAEMON: &str = "echo $$; (setsid sleep 631 & echo $!) & wait; exec sleep 632";

/// A daemon that has also cleared its environment.
const HIDING: &str = "echo $$; (env -i setsid sleep 631 & echo $!) & wait; exec sleep 632";

/// A spawner that adopts, in a runtime whose first thread is the program's.
fn adopting(case: impl AsyncFnOnce(Spawner)) {
    let files = {
        drop(Builder::new_current_thread().enable_all().build().unwrap());
        procs::open_files()
    };
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let spawner = Spawner::new();
        // A test owns its tasks itself.
        #[expect(clippy::disallowed_methods, reason = "there is no Tasks here")]
        let reaper: JoinHandle<()> = tokio::spawn(spawner.adopt_orphans().unwrap());
        case(spawner.clone()).await;
        settled(&spawner).await;
        eventually("the last one reaped", || procs::zombies().is_empty()).await;
        assert!(procs::children().is_empty(), "{:?}", procs::children());
        reaper.abort();
        assert!(reaper.await.unwrap_err().is_cancelled());
    });
    drop(runtime);
    assert_eq!(procs::open_files(), files);
}

async fn adopted(pid: u32) {
    eventually("a new parent", || procs::children().contains(&pid)).await;
    // Until then it is in the group of its tree, and no stray.
    eventually("a group of its own", || procs::in_group(pid).contains(&pid)).await;
}

fn daemon() {
    adopting(async |spawner| {
        let (process, pids) = start(&spawner, DAEMON, 2).await;
        adopted(pids[1]).await;
        drop(process);
        eventually("its end", || !procs::is_running(pids[1])).await;
    });
}

fn hiding() {
    adopting(async |spawner| {
        let (mut process, pids) = start(&spawner, HIDING, 2).await;
        adopted(pids[1]).await;
        process.kill();
        process.wait().await.unwrap();
        process.bury();
        eventually("its end", || !procs::is_running(pids[1])).await;
        eventually("the count", || spawner.stats().strays_ended == 1).await;
    });
}

fn reaped() {
    adopting(async |spawner| {
        let script = "echo $$; for i in 1 2 3 4 5; do (sh -c 'exit 1' &) & done; wait; sleep 633";
        let (process, _) = start(&spawner, script, 1).await;
        eventually("all reaped", || spawner.stats().strays_reaped == 5).await;
        assert!(procs::zombies().is_empty());
        eventually("only the living", || process.usage().unwrap().processes == 2).await;
    });
}

fn foreign() {
    let quiet = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    adopting(async |spawner| {
        let mut first = quiet(Command::new("sleep").arg("634"));
        let mut second = quiet(&mut Command::new("false"));
        let (process, pids) = start(&spawner, DAEMON, 2).await;
        drop(process);
        eventually("its end", || !procs::is_running(pids[1])).await;
        settled(&spawner).await;
        assert!(procs::is_running(first.id()));
        first.kill().unwrap();
        first.wait().expect("nobody has reaped it");
        assert_eq!(second.wait().expect("nor this one").code(), Some(1));
    });
}

/// Joins the group in the second argument, says so, and stays.
fn joiner() {
    let group = env::args().nth(2).unwrap().parse().unwrap();
    setpgid(None, Pid::from_raw(group)).unwrap();
    let error = Command::new("/bin/sh").args(["-c", "echo $$; exec sleep 635"]).exec();
    panic!("{error}");
}

fn joined() {
    adopting(async |spawner| {
        let mut spec = sh("echo $$; (\"$0\" \"$@\" &); exec sleep 632");
        spec.args.push(env::current_exe().unwrap().into());
        let role = alone("joiner");
        spec.args.extend(role.get_args().map(Into::into));
        spec.args.push(getpgrp().as_raw_nonzero().to_string().into());
        let (process, mut pipes) = spawner.spawn(&spec).await.unwrap();
        let said = lines(&mut pipes, 2).await;
        let joined: u32 = said[1].parse().unwrap();
        eventually("a new parent", || procs::children().contains(&joined)).await;
        drop((process, pipes));
        settled(&spawner).await;
        assert!(!procs::is_running(joined));
    });
}

/// Runs an heir in a process that has a child already. That one starts another, and leaves it to the
/// heir, when it is told to.
fn inherited() {
    let folder = tempfile::tempdir().unwrap();
    let bell = folder.path().join("bell");
    assert!(Command::new("mkfifo").arg(&bell).status().unwrap().success());
    let script = "
        setsid sh -c 'read line < \"$0\"; (setsid sleep 637 &); exec sleep 636' \"$2\" &
        exec \"$0\" \"$1\" \"$2\"";
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", script]).arg(env::current_exe().unwrap());
    shell.args(alone("heir").get_args()).arg(&bell);
    shell.stdout(Stdio::null());
    assert!(shell.status().unwrap().success());
}

fn heir() {
    let bell = env::args_os().nth(2).unwrap();
    let before = procs::children();
    assert_eq!(before.len(), 1, "{before:?}");
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let spawner = Spawner::new();
        // A test owns its tasks itself.
        #[expect(clippy::disallowed_methods, reason = "there is no Tasks here")]
        let _reaper: JoinHandle<()> = tokio::spawn(spawner.adopt_orphans().unwrap());
        fs::write(&bell, "now\n").unwrap();
        eventually("another", || procs::children().len() == 2).await;
        let strangers = procs::children();
        // Twice, since who was there with the first may be nobody's with the second.
        for _ in 0..2 {
            let (process, pids) = start(&spawner, DAEMON, 2).await;
            adopted(pids[1]).await;
            drop(process);
            settled(&spawner).await;
            assert!(!procs::is_running(pids[1]));
        }
        assert_eq!(procs::children(), strangers, "all of them live");
        strangers.iter().for_each(|pid| procs::kill(*pid));
        // Nobody else would reap the one that was left to us; the other is not ours.
        eventually("one reaped", || procs::zombies() == before).await;
        assert_eq!(spawner.stats().strays_ended, 2);
    });
}
