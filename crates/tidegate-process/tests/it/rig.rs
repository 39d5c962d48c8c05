//! Scripts to run, and patience for what they do.

use std::time::Duration;

use tidegate_process::{Pipes, Process, Spawner, Spec};
use tidegate_testkit::procs;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    time::{sleep, timeout},
};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A shell that runs the script, with the usual programs.
pub(crate) fn sh(script: &str) -> Spec {
    let mut spec = Spec::new("/bin/sh");
    spec.args = vec!["-c".into(), script.into()];
    spec.env.insert("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into());
    spec
}

/// Waits for something that polling shows.
#[track_caller]
pub(crate) fn eventually(what: &str, mut check: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let poll = async {
            while !check() {
                sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(timeout(PATIENCE, poll).await.is_ok(), "{caller}: never saw {what}");
    }
}

/// Reads so many lines of stdout, each a process id.
pub(crate) async fn pids(pipes: &mut Pipes, count: usize) -> Vec<u32> {
    lines(pipes, count).await.iter().map(|line| line.trim().parse().unwrap()).collect()
}

/// Reads so many lines of stdout.
pub(crate) async fn lines(pipes: &mut Pipes, count: usize) -> Vec<String> {
    let mut lines = BufReader::new(&mut pipes.stdout).lines();
    let mut read = Vec::new();
    while read.len() < count {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("a line in time").unwrap();
        read.push(line.expect("more lines"));
    }
    read
}

/// Starts a script that prints so many process ids.
pub(crate) async fn start(spawner: &Spawner, script: &str, count: usize) -> (Process, Vec<u32>) {
    let (process, mut pipes) = spawner.spawn(&sh(script)).await.unwrap();
    let pids = pids(&mut pipes, count).await;
    assert!(pids.iter().all(|pid| procs::is_running(*pid)), "{pids:?}");
    (process, pids)
}

/// Waits until the spawner has nothing left, and checks that the system agrees.
pub(crate) async fn settled(spawner: &Spawner) {
    timeout(PATIENCE, spawner.settled()).await.expect("an end");
    assert_eq!(spawner.stats().running, 0);
}
