//! What scrapers see: every part's counters as metrics, and health, which `status` tells.

mod processes;

use std::sync::Arc;

use tidegate_pool::Buffers;
use tidegate_server::{Refused, observe::Sources};
use tidegate_service::slow::Slowness;
use tidegate_telemetry::{CONTENT_TYPE, Counter, Gauge, Histogram, Label, Samples, Telemetry};

use self::processes::times;
use crate::{census::Counted, stack::Leaf, status::Reporter};

/// The sources of the ops listener.
pub(crate) fn sources(telemetry: &Telemetry, counted: &Counted, reporter: &Reporter) -> Sources {
    let fed = counted.clone();
    telemetry.register_source(move |samples| feed(&fed, samples));
    let (telemetry, reporter) = (telemetry.clone(), reporter.clone());
    Sources {
        health: Arc::new(move || reporter.health()),
        metrics: Arc::new(move || telemetry.render()),
        metrics_type: CONTENT_TYPE,
    }
}

fn feed(counted: &Counted, samples: &mut Samples) {
    server(counted, samples);
    sessions(counted, samples);
    logs(counted, samples);
    slow_clients(counted, samples);
    buffers(samples);
    processes::strays(&counted.processes, samples);
    for (name, leaf) in &*counted.leaves {
        match leaf {
            Leaf::Http(http, endpoint) => {
                connections(name, endpoint, &http.stats(), samples);
                resumption(name, endpoint, &http.resumption(), samples);
            }
            Leaf::Sse(sse, endpoint) => {
                let stats = sse.stats();
                connections(name, endpoint, &stats.http, samples);
                streams(name, endpoint, &stats, samples);
                samples.counter(Counter::ReadsPaused, &[(Label::Upstream, name)], stats.pauses);
            }
            Leaf::Either(either) => {
                // They share their connections.
                let endpoint = &*either.endpoint;
                connections(name, endpoint, &either.http.stats(), samples);
                resumption(name, endpoint, &either.http.resumption(), samples);
                streams(name, endpoint, &either.sse.stats(), samples);
            }
            Leaf::Stdio(stdio) => processes::feed(name, &stdio.stats(), samples),
        }
    }
}

/// The memory that all pipes and event streams read into.
fn buffers(samples: &mut Samples) {
    let stats = Buffers::shared().stats();
    samples.gauge(Gauge::BuffersHeld, &[], stats.bytes);
    samples.gauge(Gauge::BuffersLent, &[], stats.lent);
    samples.counter(Counter::BufferHits, &[], stats.hits);
    samples.counter(Counter::BufferMisses, &[], stats.misses);
    samples.counter(Counter::BuffersDropped, &[], stats.dropped);
}

fn server(counted: &Counted, samples: &mut Samples) {
    let stats = counted.front.stats();
    samples.gauge(Gauge::ConnectionsOpen, &[], stats.connections_open);
    samples.counter(Counter::ConnectionsAccepted, &[], stats.connections_accepted);
    samples.counter(Counter::ConnectionsRefused, &[], stats.connections_refused);
    samples.gauge(Gauge::DownstreamStreamsOpen, &[], stats.streams_open);
    samples.gauge(Gauge::RequestBodies, &[], stats.body_bytes);
    for (reason, count) in Refused::ALL.iter().zip(stats.refused) {
        samples.counter(Counter::RequestsRefused, &[(Label::Reason, reason.as_str())], count);
    }
}

fn sessions(counted: &Counted, samples: &mut Samples) {
    let stats = counted.store.stats();
    samples.gauge(Gauge::SessionsOpen, &[], stats.open);
    samples.counter(Counter::SessionsStarted, &[], stats.created);
    samples.counter(Counter::SessionsRefused, &[], stats.refused);
    for (cause, count) in [
        ("client", stats.ended_by_client),
        ("idle", stats.ended_idle),
        ("upstream", stats.ended_by_upstream),
        ("shutdown", stats.ended_by_shutdown),
    ] {
        samples.counter(Counter::SessionsEnded, &[(Label::Cause, cause)], count);
    }
}

fn logs(counted: &Counted, samples: &mut Samples) {
    let stats = counted.logs.stats();
    samples.gauge(Gauge::ReplayLogs, &[], stats.logs);
    samples.gauge(Gauge::ReplayLogBytes, &[], stats.bytes);
    samples.gauge(Gauge::ReplayDraining, &[], stats.draining);
    samples.counter(Counter::ReplayLogged, &[], stats.logged);
    samples.counter(Counter::ReplayReplayed, &[], stats.replayed);
    samples.counter(Counter::ReplayEvicted, &[], stats.evicted);
    samples.counter(Counter::ReplayResumed, &[], stats.resumed);
    samples.counter(Counter::ReplayGaps, &[], stats.gaps);
}

fn slow_clients(counted: &Counted, samples: &mut Samples) {
    samples.gauge(Gauge::SlowClientBacklog, &[], counted.backlog.bytes());
    for slow in &*counted.slow {
        for (why, count) in Slowness::ALL.iter().zip(slow.stats()) {
            let labels = [(Label::Route, slow.route()), (Label::Reason, why.as_str())];
            samples.counter(Counter::SlowClientStreamsEnded, &labels, count);
        }
    }
}

fn connections(
    name: &str,
    endpoint: &str,
    stats: &tidegate_upstream_http::Stats,
    samples: &mut Samples,
) {
    let labels = [(Label::Upstream, name), (Label::Endpoint, endpoint)];
    // Calls and long streams have a pool each, so that streams cannot starve calls; a series that
    // is given twice is the sum.
    for pool in [&stats.calls, &stats.streams] {
        samples.gauge(Gauge::HttpConnectionsMax, &labels, pool.max);
        samples.gauge(Gauge::HttpConnectionsAvailable, &labels, pool.available);
        samples.gauge(Gauge::HttpConnectionsIdle, &labels, pool.idle);
        samples.gauge(Gauge::HttpConnectionsInUse, &labels, pool.in_use);
        samples.gauge(Gauge::HttpWaiting, &labels, pool.waiting);
        samples.counter(Counter::HttpConnectionsOpened, &labels, pool.created);
        samples.counter(Counter::HttpConnectionsReused, &labels, pool.reused);
        samples.counter(Counter::HttpUpkeepFailures, &labels, pool.failed);
        times(Histogram::HttpAcquireTime, &labels, &pool.acquire, samples);
        for (cause, count) in [
            ("broken", pool.closed.broken),
            ("idle", pool.closed.idle),
            ("lifetime", pool.closed.lifetime),
            ("uses", pool.closed.uses),
            ("abandoned", pool.closed.abandoned),
            ("shutdown", pool.closed.shutdown),
        ] {
            let [upstream, endpoint] = labels;
            let labels = [upstream, endpoint, (Label::Cause, cause)];
            samples.counter(Counter::HttpConnectionsClosed, &labels, count);
        }
        for (reason, count) in [("full", pool.refused), ("timeout", pool.timed_out)] {
            let [upstream, endpoint] = labels;
            let labels = [upstream, endpoint, (Label::Reason, reason)];
            samples.counter(Counter::HttpRefused, &labels, count);
        }
    }
}

/// Streams that broke, and how they went on.
fn resumption(
    name: &str,
    endpoint: &str,
    stats: &tidegate_upstream_http::Resumption,
    samples: &mut Samples,
) {
    let labels = [(Label::Upstream, name), (Label::Endpoint, endpoint)];
    samples.gauge(Gauge::HttpStreamsWaiting, &labels, stats.waiting);
    samples.counter(Counter::HttpStreamsResumed, &labels, stats.resumed);
    samples.counter(Counter::HttpStreamGaps, &labels, stats.gaps);
    samples.counter(Counter::HttpStreamsGivenUp, &labels, stats.given_up);
    samples.counter(Counter::HttpEventsReplayed, &labels, stats.replayed);
    samples.counter(Counter::HttpEventIdsReused, &labels, stats.reused_ids);
    times(Histogram::HttpReconnectTime, &labels, &stats.times, samples);
    for (outcome, count) in
        [("opened", stats.opened), ("failed", stats.failed), ("refused", stats.refused)]
    {
        let [upstream, endpoint] = labels;
        let labels = [upstream, endpoint, (Label::Outcome, outcome)];
        samples.counter(Counter::HttpReconnects, &labels, count);
    }
}

/// The streams of an HTTP+SSE server, and what is lost there.
fn streams(
    name: &str,
    endpoint: &str,
    stats: &tidegate_upstream_sse::Stats,
    samples: &mut Samples,
) {
    let labels = [(Label::Upstream, name), (Label::Endpoint, endpoint)];
    samples.gauge(Gauge::SseStreamsOpen, &labels, stats.streams);
    samples.gauge(Gauge::SseInFlight, &labels, stats.in_flight);
    samples.counter(Counter::SseAsksRefused, &labels, stats.asks_refused);
    for (cause, count) in [
        ("stray_answer", stats.stray_answers),
        ("stray_client_answer", stats.stray_client_answers),
        ("notification", stats.notifications_dropped),
    ] {
        let [upstream, endpoint] = labels;
        let labels = [upstream, endpoint, (Label::Cause, cause)];
        samples.counter(Counter::SseDroppedMessages, &labels, count);
    }
}
