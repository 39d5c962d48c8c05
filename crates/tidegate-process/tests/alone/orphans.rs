//! Processes that lose their parents become ours.

use std::process::{Command, Stdio};

use tidegate_process::Spawner;
use tidegate_testkit::procs;
use tokio::{runtime::Builder, task::JoinHandle};

use crate::{
    Case,
    rig::{eventually, settled, start},
};

pub(crate) const CASES: &[Case] = &[
    ("an adopted daemon is ended with its tree", daemon),
    ("an adopted daemon that hides is ended with its tree", hiding),
    ("an adopted process that ends by itself is reaped", reaped),
    ("children of other code are let be", foreign),
];

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
