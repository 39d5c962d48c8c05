//! The numbers of a server that runs as child processes.

use std::time::Duration;

use tidegate_pool::Times;
use tidegate_telemetry::{Counter, Gauge, Histogram, Label, Samples};
use tidegate_upstream_stdio::Stats;

use crate::processes::Processes;

pub(super) fn feed(name: &str, stats: &Stats, samples: &mut Samples) {
    life(name, stats, samples);
    places(name, stats, samples);
    messages(name, stats, samples);
}

/// What had left its tree, or its proxy.
pub(super) fn strays(processes: &Processes, samples: &mut Samples) {
    let stats = processes.stats();
    samples.counter(Counter::StraysEnded, &[], stats.strays_ended);
    samples.counter(Counter::StraysReaped, &[], stats.strays_reaped);
    samples.counter(Counter::OrphansEnded, &[], processes.orphans_ended());
}

/// How processes come, are and go.
fn life(name: &str, stats: &Stats, samples: &mut Samples) {
    let labels = [(Label::Upstream, name)];
    let states = &stats.states;
    for (state, count) in [
        ("starting", states.starting),
        ("spare", states.spare),
        ("serving", states.serving),
        ("stopping", states.stopping),
    ] {
        let labels = [(Label::Upstream, name), (Label::State, state)];
        samples.gauge(Gauge::StdioProcesses, &labels, count);
    }
    samples.gauge(Gauge::StdioResidentMemory, &labels, stats.resident_bytes);
    samples.counter(Counter::StdioCpu, &labels, stats.cpu);
    samples.gauge(Gauge::StdioDown, &labels, stats.down);
    samples.counter(Counter::StdioSpawns, &labels, stats.spawned);
    samples.counter(Counter::StdioSpawnFailures, &labels, stats.spawn_failed);
    samples.counter(Counter::StdioStartFailures, &labels, stats.start_failures);
    samples.counter(Counter::StdioSharingMoves, &labels, stats.moves);
    times(Histogram::StdioSpawnTime, &labels, &stats.starts, samples);
    for (reason, count) in [
        ("idle", stats.recycled.idle),
        ("age", stats.recycled.age),
        ("calls", stats.recycled.calls),
        ("memory", stats.recycled.memory),
        ("displaced", stats.recycled.displaced),
    ] {
        let labels = [(Label::Upstream, name), (Label::Reason, reason)];
        samples.counter(Counter::StdioRecycled, &labels, count);
    }
    for (cause, count) in [
        ("stopped", stats.exits.stopped),
        ("finished", stats.exits.finished),
        ("failed", stats.exits.failed),
        ("signaled", stats.exits.signaled),
        ("broken", stats.exits.broken),
    ] {
        let labels = [(Label::Upstream, name), (Label::Cause, cause)];
        samples.counter(Counter::StdioExits, &labels, count);
    }
}

/// The places for processes, and who waits for one.
fn places(name: &str, stats: &Stats, samples: &mut Samples) {
    let labels = [(Label::Upstream, name)];
    let places = &stats.places;
    samples.gauge(Gauge::StdioPoolMax, &labels, places.max);
    // A spare is had at once, and the place of any other can be.
    let available = places.available + stats.states.spare;
    samples.gauge(Gauge::StdioPoolAvailable, &labels, available);
    samples.gauge(Gauge::StdioPoolWaiting, &labels, places.waiting);
    times(Histogram::StdioAcquireTime, &labels, &places.acquire, samples);
    for (reason, count) in [("full", places.refused), ("timeout", places.timed_out)] {
        let labels = [(Label::Upstream, name), (Label::Reason, reason)];
        samples.counter(Counter::StdioPoolRefused, &labels, count);
    }
}

/// What passes through the pipes, and what is lost there.
fn messages(name: &str, stats: &Stats, samples: &mut Samples) {
    let labels = [(Label::Upstream, name)];
    samples.gauge(Gauge::StdioInFlight, &labels, stats.in_flight);
    samples.gauge(Gauge::StdioQueueMessages, &labels, stats.queued_messages);
    samples.gauge(Gauge::StdioQueueBytes, &labels, stats.queued_bytes);
    samples.counter(Counter::StdioResumedListens, &labels, stats.resumed_listens);
    samples.counter(Counter::StdioGarbageLines, &labels, stats.garbage_lines);
    samples.counter(Counter::ReadsPaused, &labels, stats.pauses);
    samples.counter(Counter::StdioAsksRefused, &labels, stats.asks_refused);
    samples.counter(Counter::StdioViolations, &labels, stats.violations);
    samples.counter(Counter::StdioStderrLines, &labels, stats.stderr_lines);
    samples.counter(Counter::StdioStderrLinesDropped, &labels, stats.stderr_dropped);
    for (cause, count) in [
        ("late_answer", stats.late_answers),
        ("unknown_answer", stats.unknown_answers),
        ("duplicate_answer", stats.duplicate_answers),
        ("stray_client_answer", stats.stray_client_answers),
        ("notification", stats.notifications_dropped),
    ] {
        let labels = [(Label::Upstream, name), (Label::Cause, cause)];
        samples.counter(Counter::StdioDroppedMessages, &labels, count);
    }
}

/// Durations that a part counted, as a histogram.
pub(super) fn times(
    histogram: Histogram,
    labels: &[(Label, &str)],
    counted: &Times,
    samples: &mut Samples,
) {
    let bounds: Vec<Duration> = Times::bounds().collect();
    let told =
        tidegate_telemetry::Times { bounds: &bounds, counts: &counted.counts, sum: counted.sum };
    samples.histogram(histogram, labels, &told);
}
