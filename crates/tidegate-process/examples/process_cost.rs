//! What a start, an end and a look cost. Run with `--release`; the arguments are how many processes
//! run meanwhile, how many megabytes this program holds, and 1 if it adopts orphans. Processor time is that of this program
//! and of its copies until they run theirs, and depends less on what else the machine does.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot run has no result")]

use std::{
    io::{Write as _, stdout},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tidegate_process::{Spawner, Spec};
use tokio::time::Instant;

const ROUNDS: usize = 300;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().unwrap());
    let running: usize = arguments.next().unwrap_or(0);
    let ballast = vec![1_u8; arguments.next().unwrap_or(0) << 20];
    let spawner = Spawner::new();
    let adopts = arguments.next() == Some(1);
    // Not polled: nobody loses a parent here, so there is nothing to reap.
    let _reaper = adopts.then(|| spawner.adopt_orphans().unwrap());
    let mut spec = Spec::new("/bin/sleep");
    spec.args.push("600".into());
    let mut company = Vec::new();
    for _ in 0..running {
        company.push(spawner.spawn(&spec).await.unwrap());
    }

    let mut starts = Vec::new();
    let mut ends = Vec::new();
    for _ in 0..ROUNDS {
        let began = Cost::begin();
        let (process, pipes) = spawner.spawn(&spec).await.unwrap();
        starts.push(began.so_far());
        let before = spawner.stats().reaped;
        let began = Cost::begin();
        drop((process, pipes));
        while spawner.stats().reaped == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        ends.push(began.so_far());
    }
    let mut looks = Vec::new();
    if let Some((process, _)) = company.first() {
        for _ in 0..20 {
            // Longer than a look stays fresh.
            tokio::time::sleep(Duration::from_millis(250)).await;
            let began = Cost::begin();
            process.usage().unwrap();
            looks.push(began.so_far());
        }
    }
    report("spawn", starts);
    report("std's spawn, which sets nothing up", plain());
    report("drop to reaped", ends);
    report("usage", looks);
    let began = Instant::now();
    let count = company.len();
    drop(company);
    spawner.settled().await;
    let line = format!("{count} dropped at once and reaped: {:?}", began.elapsed());
    writeln!(stdout().lock(), "{line}; holding {} MiB", ballast.len() >> 20).unwrap();
}

/// Time on the clock, and of processors.
struct Cost {
    began: Instant,
    worked: Duration,
}

impl Cost {
    fn begin() -> Self {
        Self { began: Instant::now(), worked: worked() }
    }

    fn so_far(&self) -> (Duration, Duration) {
        (self.began.elapsed(), worked() - self.worked)
    }
}

fn worked() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
}

fn plain() -> Vec<(Duration, Duration)> {
    let once = |_| {
        let mut command = Command::new("/bin/sleep");
        command.arg("600").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let began = Cost::begin();
        let mut child = command.spawn().unwrap();
        let cost = began.so_far();
        child.kill().unwrap();
        child.wait().unwrap();
        cost
    };
    (0..ROUNDS).map(once).collect()
}

fn report(what: &str, costs: Vec<(Duration, Duration)>) {
    let (mut clock, mut work): (Vec<_>, Vec<_>) = costs.into_iter().unzip();
    clock.sort_unstable();
    work.sort_unstable();
    let at = |times: &[Duration], part: usize| times.get(times.len() * part / 100).copied();
    if let (Some(half), Some(most), Some(work)) = (at(&clock, 50), at(&clock, 99), at(&work, 50)) {
        let line = format!("{what}: median {half:?}, 99 % {most:?}; processor {work:?}");
        writeln!(stdout().lock(), "{line}").unwrap();
    }
}
