//! What a run says at its end, and on the way there.

use std::time::Duration;

use serde_json::{Value, json};

use super::Options;
use super::books::{Books, quantile};
use super::judge::Faults;
use crate::leak_check::slope;
use crate::table;

/// Memory is judged over the second half of a run, if that is as long as this: before, the logs of
/// streams that are over fill their window.
const SETTLED: Duration = Duration::from_secs(4 * 60);
/// How much may come to it in that half, as a share of what there was: a heap settles in steps, and
/// the longer a run, the less a minute may add.
const GROWTH: f64 = 0.05;

/// Everything that was seen.
pub(super) struct Outcome {
    seed: u64,
    streams: u32,
    seconds: u64,
    settings: String,
    counts: Vec<(&'static str, u64)>,
    latencies: Vec<(&'static str, Vec<Duration>)>,
    totals: Vec<(&'static str, f64)>,
    faults: Faults,
    gaps: u64,
    memory: Vec<(Duration, usize)>,
    /// KiB a minute, over the second half.
    slope: f64,
    pub(super) findings: Vec<String>,
}

impl Outcome {
    pub(super) fn new(
        seed: u64,
        options: &Options,
        settings: String,
        books: &Books,
        totals: Vec<(&'static str, f64)>,
        memory: Vec<(Duration, usize)>,
    ) -> Self {
        let (slope, finding) = trend(&memory);
        let mut latencies = books.latencies();
        latencies.push(together(&latencies));
        let mut findings = books.findings();
        findings.extend(finding);
        Self {
            seed,
            streams: options.streams,
            seconds: options.time.as_secs(),
            settings,
            counts: books.counts(),
            latencies,
            totals,
            faults: books.faults(),
            gaps: books.get("gaps told (-31010)"),
            memory,
            slope,
            findings,
        }
    }
}

/// All breaks between the proxy and the server.
fn together(latencies: &[(&'static str, Vec<Duration>)]) -> (&'static str, Vec<Duration>) {
    let by_server = latencies.iter().filter(|(what, _)| what.contains("server"));
    let mut all: Vec<Duration> = by_server.flat_map(|(_, times)| times).copied().collect();
    all.sort_unstable();
    ("all of the server", all)
}

/// How much memory a minute adds, and whether that is too much.
fn trend(memory: &[(Duration, usize)]) -> (f64, Option<String>) {
    let half = memory.last().map(|(last, _)| *last / 2).unwrap_or_default();
    let late: Vec<f64> =
        memory.iter().filter(|(at, _)| *at >= half).map(|(_, kib)| *kib as f64).collect();
    let slope = slope(&late);
    let (grown, first) =
        (slope * late.len().saturating_sub(1) as f64, late.first().copied().unwrap_or_default());
    let is_too_much = half >= SETTLED && grown > first * GROWTH;
    let finding = is_too_much.then(|| {
        format!("resident memory grows by {grown:.0} KiB in the second half, which began with {first:.0}")
    });
    (slope * 60.0 / super::LOOK.as_secs_f64(), finding)
}

/// One line in the middle of a run.
pub(super) fn beat(books: &Books, elapsed: Duration, live: usize, resident: usize) -> String {
    let get = |what| books.get(what);
    let cuts: u64 =
        books.counts().iter().filter(|(what, _)| is_cut(what)).map(|(_, count)| count).sum();
    format!(
        "{} s: {live} streams, {} events, {} calls answered, {cuts} cuts, {} restarts, {} clients \
         came back, {} findings, {} MiB",
        elapsed.as_secs(),
        get("events read"),
        get("calls answered") + get("modern calls answered"),
        get("restarts"),
        get("clients that came back"),
        books.findings().len(),
        resident / 1024
    )
}

/// What the last lines repeat: how long a reader waits for what its own return or the proxy's brings.
fn is_told(what: &str) -> bool {
    ["client comes back", "all of the server"].contains(&what)
}

fn is_cut(what: &str) -> bool {
    let kinds = ["client closes", "client resets", "client vanishes", "server "];
    kinds.iter().any(|kind| what.starts_with(kind))
}

pub(super) fn print(outcome: &Outcome) {
    let rows = |pairs: Vec<(String, String)>| -> Vec<Vec<String>> {
        pairs.into_iter().map(|(name, value)| vec![name, value]).collect()
    };
    let counts = outcome.counts.iter().map(|(what, count)| ((*what).to_owned(), count.to_string()));
    print!("\n{}", table::render(&["what happened", "times"], &rows(counts.collect())));
    let head = ["from the break to the next event", "times", "p50", "p99", "most"];
    let latencies = outcome.latencies.iter().map(|(what, times)| {
        let milliseconds =
            |share| format!("{:.0} ms", quantile(times, share).as_secs_f64() * 1_000.0);
        let quantiles = [0.5, 0.99, 1.0].map(milliseconds);
        [(*what).to_owned(), times.len().to_string()].into_iter().chain(quantiles).collect()
    });
    print!("\n{}", table::render(&head, &latencies.collect::<Vec<_>>()));
    let totals = outcome.totals.iter().map(|(what, count)| ((*what).to_owned(), count.to_string()));
    print!("\n{}", table::render(&["the proxy's own books", "total"], &rows(totals.collect())));
    println!();
    for finding in &outcome.findings {
        println!("soak: {finding}");
    }
    let kib = |at: Option<&(Duration, usize)>| at.map_or(0, |(_, kib)| *kib);
    let most = outcome.memory.iter().map(|(_, kib)| *kib).max().unwrap_or_default();
    println!(
        "soak: resident memory {} KiB at first, {} at last, {most} at most, {:+.0} KiB a minute over \
         the second half",
        kib(outcome.memory.first()),
        kib(outcome.memory.last()),
        outcome.slope
    );
    for (what, times) in outcome.latencies.iter().filter(|(what, _)| is_told(what)) {
        println!(
            "soak: reconnect latency, {what}: p50 {:.0} ms, p99 {:.0} ms ({} times)",
            quantile(times, 0.5).as_secs_f64() * 1_000.0,
            quantile(times, 0.99).as_secs_f64() * 1_000.0,
            times.len()
        );
    }
    let Faults { lost, doubled, reordered, foreign } = outcome.faults;
    println!(
        "soak: lost = {lost}, doubled = {doubled}, out of order = {reordered}, foreign = {foreign}, \
         gaps told = {}",
        outcome.gaps
    );
}

pub(super) fn as_json(outcome: &Outcome) -> Value {
    let latencies = outcome.latencies.iter().map(|(what, times)| {
        let ms = |share| quantile(times, share).as_secs_f64() * 1_000.0;
        let row =
            json!({"times": times.len(), "p50_ms": ms(0.5), "p99_ms": ms(0.99), "max_ms": ms(1.0)});
        ((*what).to_owned(), row)
    });
    let counts = outcome.counts.iter().map(|(what, count)| ((*what).to_owned(), json!(count)));
    let totals = outcome.totals.iter().map(|(what, total)| ((*what).to_owned(), json!(total)));
    let memory: Vec<Value> =
        outcome.memory.iter().map(|(at, kib)| json!([at.as_secs(), kib])).collect();
    let Faults { lost, doubled, reordered, foreign } = outcome.faults;
    json!({"seed": outcome.seed.to_string(), "streams": outcome.streams,
        "seconds": outcome.seconds, "settings": outcome.settings, "lost": lost,
        "doubled": doubled, "out_of_order": reordered, "foreign": foreign,
        "gaps_told": outcome.gaps, "counts": counts.collect::<serde_json::Map<_, _>>(),
        "latencies": latencies.collect::<serde_json::Map<_, _>>(),
        "proxy": totals.collect::<serde_json::Map<_, _>>(),
        "resident_kib": memory, "resident_kib_per_minute": outcome.slope,
        "findings": outcome.findings})
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::trend;

    #[test]
    fn memory_that_climbs_in_the_second_half_of_a_long_run_is_a_finding() {
        let looks = |minutes: u64, kib: fn(usize) -> usize| -> Vec<(Duration, usize)> {
            let count = usize::try_from(minutes * 12).unwrap();
            (0..count).map(|at| (Duration::from_secs(5 * at as u64), kib(at))).collect()
        };
        let climbs = |at| 20_000 + at * 50;
        let hardly = |at| 200_000 + at * 50;
        let (slope, finding) = trend(&looks(10, climbs));
        assert!((slope - 600.0).abs() < 1.0 && finding.is_some(), "{slope} {finding:?}");
        assert!(trend(&looks(3, climbs)).1.is_none(), "too short to tell");
        assert!(trend(&looks(10, hardly)).1.is_none(), "a heap that settles");
        assert!(trend(&looks(60, hardly)).1.is_some(), "it does not");
        assert!(trend(&looks(10, |at| 20_000 + at.min(40) * 500)).1.is_none(), "it has settled");
    }
}
