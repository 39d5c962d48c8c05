//! Proof that the check can fail: leaks that are planted where the proxy cannot help it.
//!
//! A client that does not go away holds a session, a stream and a call, and the child of that
//! session has offspring it does not reap. All of it has to be found, and to be gone when the
//! client goes. A program that loses memory has to be found by valgrind, and nothing is to be found
//! of what `valgrind.supp` says is no leak.

use std::fs;
use std::hint::black_box;
use std::process::Command;
use std::time::Duration;

use super::churn::Session;
use super::judge;
use super::memcheck::{LEAK_STATUS, read, wrapper};
use super::proxy::{Bench, Proxy};
use super::sight::{FILES, PROCESSES, ZOMBIES};
use crate::place::Place;
use crate::process::{Ended, run_logged};
use crate::tools;

/// What the planted leaks must be called.
const PLANTED: [&str; 10] = [
    "tidegate_requests_in_flight",
    "tidegate_sessions_open",
    "tidegate_streams_open",
    "health.upstreams.own.processes",
    "tidegate_stdio_requests_in_flight",
    "tidegate_downstream_connections_open",
    "health.sessions",
    FILES,
    PROCESSES,
    ZOMBIES,
];

const BLOCKS: usize = 16;
const BLOCK: usize = 4096;

/// What was not found although it is there, or found although it is not.
pub(super) fn run(place: &Place, bench: &Bench) -> anyhow::Result<Vec<String>> {
    let mut problems = held(place, bench)?;
    match tools::valgrind(place) {
        Ok(()) => problems.extend(lost(place)?),
        Err(error) => println!("leak-check: valgrind cannot be run here: {error:#}"),
    }
    Ok(problems)
}

fn held(place: &Place, bench: &Bench) -> anyhow::Result<Vec<String>> {
    let mut bench = bench.clone();
    // The shell becomes the server, and is the parent of a zombie then.
    let server = bench.child.join("' '");
    let script = format!("sleep 0.01 & exec '{server}'");
    bench.child = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
    // A spare would be such a parent from the start.
    bench.spares = 0;
    let proxy = Proxy::start(place, &bench, "self-test", &[])?;
    // What the first child needs beside itself stays: threads, for instance.
    Session::open(proxy.address, "/own")?.end()?;
    let start = proxy.settle()?;
    let session = Session::open(proxy.address, "/own")?;
    let (stream, call) = (session.listen()?, session.start_slow_call()?);
    std::thread::sleep(Duration::from_millis(300));
    let findings = judge::compare(&start, &proxy.look()?);
    let mut problems: Vec<String> = PLANTED
        .iter()
        .filter(|name| !findings.iter().any(|finding| finding.starts_with(**name)))
        .map(|name| format!("planted and not found: {name}"))
        .collect();
    println!(
        "leak-check: {} of {} planted leaks were found",
        PLANTED.len() - problems.len(),
        PLANTED.len()
    );
    stream.leave();
    call.leave();
    session.end()?;
    let (_, left) = proxy.rest(&start)?;
    problems.extend(left.iter().map(|finding| format!("found and not there: {finding}")));
    proxy.end()?;
    Ok(problems)
}

fn lost(place: &Place) -> anyhow::Result<Vec<String>> {
    let report = place.log("self-test-valgrind-report");
    let words = wrapper(place, &report);
    // By its name: a build since the start of this program has put another file in its place.
    let itself = place.target.join("debug").join("xtask");
    let mut words = words.iter();
    let mut command = Command::new(words.next().map_or("valgrind", String::as_str));
    command.args(words).arg(&itself).arg("lose-memory");
    let log = place.log("self-test-valgrind");
    let ended = run_logged(&mut command, "valgrind", &log, Duration::from_secs(120))?;
    let memory = read(&fs::read_to_string(&report)?);
    println!("leak-check: {} bytes of {} planted ones were found", memory.definite, BLOCKS * BLOCK);
    let is_told = matches!(ended, Ended::Exit(status) if status.code() == Some(LEAK_STATUS));
    let enough = memory.definite >= (BLOCKS * BLOCK / 2) as u64;
    let is_named = memory.records.iter().any(|record| record.contains("lose_memory"));
    let mut problems = Vec::new();
    if !(is_told && enough && is_named) {
        let end = ended.describe();
        problems.push(format!("valgrind did not find what was lost: {memory:?}, {end}"));
    }
    if memory.suppressed == 0 || memory.possible != 0 {
        problems.push(format!("valgrind.supp does not fit: {memory:?}"));
    }
    Ok(problems)
}

/// The program that loses memory. It also has the one thing that looks lost and is not, the handle of
/// its main thread.
pub(crate) fn lose_memory() {
    black_box(std::thread::current().id());
    for _ in 0..BLOCKS {
        let block: &'static mut [u8] = Box::leak(vec![1; BLOCK].into_boxed_slice());
        black_box(block.len());
    }
}
