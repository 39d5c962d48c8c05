//! The families there are, what feeds them, and what may become a label.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, stream};
use tidegate_service::{Body, Call, Error, EventStream, Frame, Reply};
use tidegate_telemetry::{CONTENT_TYPE, Counter, Gauge, Histogram, Label, Telemetry, Times};
use tower::{Layer as _, service_fn};

use crate::{RESULT, call, message, openmetrics::Labels, request, scrape};

/// Name, type and unit of everything. Dashboards are written against these, so a change here is a
/// change for users.
const FAMILIES: [(&str, &str, &str); 93] = [
    ("process_cpu_seconds", "counter", "seconds"),
    ("process_max_fds", "gauge", ""),
    ("process_open_fds", "gauge", ""),
    ("process_resident_memory_bytes", "gauge", "bytes"),
    ("process_start_time_seconds", "gauge", "seconds"),
    ("process_threads", "gauge", ""),
    ("process_virtual_memory_bytes", "gauge", "bytes"),
    ("tidegate_buffers_dropped", "counter", ""),
    ("tidegate_buffers_held_bytes", "gauge", "bytes"),
    ("tidegate_buffers_hits", "counter", ""),
    ("tidegate_buffers_lent", "gauge", ""),
    ("tidegate_buffers_misses", "counter", ""),
    ("tidegate_build_info", "gauge", ""),
    ("tidegate_downstream_connections_accepted", "counter", ""),
    ("tidegate_downstream_connections_open", "gauge", ""),
    ("tidegate_downstream_connections_refused", "counter", ""),
    ("tidegate_downstream_request_bodies_bytes", "gauge", "bytes"),
    ("tidegate_downstream_streams_open", "gauge", ""),
    ("tidegate_http_event_ids_reused", "counter", ""),
    ("tidegate_http_events_replayed", "counter", ""),
    ("tidegate_http_pool_acquire_time_seconds", "histogram", "seconds"),
    ("tidegate_http_pool_connections_available", "gauge", ""),
    ("tidegate_http_pool_connections_closed", "counter", ""),
    ("tidegate_http_pool_connections_idle", "gauge", ""),
    ("tidegate_http_pool_connections_in_use", "gauge", ""),
    ("tidegate_http_pool_connections_max", "gauge", ""),
    ("tidegate_http_pool_connections_opened", "counter", ""),
    ("tidegate_http_pool_connections_reused", "counter", ""),
    ("tidegate_http_pool_requests_refused", "counter", ""),
    ("tidegate_http_pool_requests_waiting", "gauge", ""),
    ("tidegate_http_pool_upkeep_failures", "counter", ""),
    ("tidegate_http_reconnect_time_seconds", "histogram", "seconds"),
    ("tidegate_http_reconnects", "counter", ""),
    ("tidegate_http_requests_refused", "counter", ""),
    ("tidegate_http_stream_gaps", "counter", ""),
    ("tidegate_http_streams_given_up", "counter", ""),
    ("tidegate_http_streams_resumed", "counter", ""),
    ("tidegate_http_streams_waiting", "gauge", ""),
    ("tidegate_process_orphans_ended", "counter", ""),
    ("tidegate_process_strays_ended", "counter", ""),
    ("tidegate_process_strays_reaped", "counter", ""),
    ("tidegate_replay_events_evicted", "counter", ""),
    ("tidegate_replay_events_logged", "counter", ""),
    ("tidegate_replay_events_replayed", "counter", ""),
    ("tidegate_replay_gaps", "counter", ""),
    ("tidegate_replay_log_bytes", "gauge", "bytes"),
    ("tidegate_replay_logs", "gauge", ""),
    ("tidegate_replay_streams_draining", "gauge", ""),
    ("tidegate_replay_streams_resumed", "counter", ""),
    ("tidegate_request_duration_seconds", "histogram", "seconds"),
    ("tidegate_request_time_to_first_item_seconds", "histogram", "seconds"),
    ("tidegate_requests", "counter", ""),
    ("tidegate_requests_in_flight", "gauge", ""),
    ("tidegate_sessions_ended", "counter", ""),
    ("tidegate_sessions_open", "gauge", ""),
    ("tidegate_sessions_refused", "counter", ""),
    ("tidegate_sessions_started", "counter", ""),
    ("tidegate_slow_client_backlog_bytes", "gauge", "bytes"),
    ("tidegate_slow_client_streams_ended", "counter", ""),
    ("tidegate_sse_asks_refused", "counter", ""),
    ("tidegate_sse_dropped_messages", "counter", ""),
    ("tidegate_sse_requests_in_flight", "gauge", ""),
    ("tidegate_sse_streams_open", "gauge", ""),
    ("tidegate_stdio_asks_refused", "counter", ""),
    ("tidegate_stdio_cpu_seconds", "counter", "seconds"),
    ("tidegate_stdio_down", "gauge", ""),
    ("tidegate_stdio_dropped_messages", "counter", ""),
    ("tidegate_stdio_exits", "counter", ""),
    ("tidegate_stdio_garbage_lines", "counter", ""),
    ("tidegate_stdio_pool_acquire_time_seconds", "histogram", "seconds"),
    ("tidegate_stdio_pool_processes_available", "gauge", ""),
    ("tidegate_stdio_pool_processes_max", "gauge", ""),
    ("tidegate_stdio_pool_refused", "counter", ""),
    ("tidegate_stdio_pool_waiting", "gauge", ""),
    ("tidegate_stdio_processes", "gauge", ""),
    ("tidegate_stdio_queue_bytes", "gauge", "bytes"),
    ("tidegate_stdio_queue_messages", "gauge", ""),
    ("tidegate_stdio_recycled", "counter", ""),
    ("tidegate_stdio_requests_in_flight", "gauge", ""),
    ("tidegate_stdio_resident_memory_bytes", "gauge", "bytes"),
    ("tidegate_stdio_resumed_listens", "counter", ""),
    ("tidegate_stdio_sharing_moves", "counter", ""),
    ("tidegate_stdio_spawn_failures", "counter", ""),
    ("tidegate_stdio_spawn_time_seconds", "histogram", "seconds"),
    ("tidegate_stdio_spawns", "counter", ""),
    ("tidegate_stdio_start_failures", "counter", ""),
    ("tidegate_stdio_stderr_lines", "counter", ""),
    ("tidegate_stdio_stderr_lines_dropped", "counter", ""),
    ("tidegate_stdio_violations", "counter", ""),
    ("tidegate_streams_open", "gauge", ""),
    ("tidegate_upstream_attempts", "counter", ""),
    ("tidegate_upstream_reads_paused", "counter", ""),
    ("tidegate_upstream_time_to_head_seconds", "histogram", "seconds"),
];

/// Answers at once with a stream of one message.
fn answer(telemetry: &Telemetry, route: &str, upstream: &str) {
    let service = service_fn(async |_: Call| {
        let frames = stream::iter([Ok(Frame::Message(message(RESULT)))]);
        Ok::<_, Error>(Reply::stream(EventStream::new(frames)))
    });
    let attempt = telemetry.attempt_layer(upstream, "one").layer(service);
    let mut service = telemetry.route_layer(route, upstream).layer(attempt);
    let reply = call(&mut service, request("ping")).now_or_never().unwrap().unwrap();
    let Body::Stream(frames) = reply.body else { panic!("expected a stream") };
    let read = futures_util::StreamExt::count(frames).now_or_never();
    assert_eq!(read, Some(1));
}

#[test]
fn every_family_has_its_type_and_help_once_used() {
    let telemetry = Telemetry::new();
    answer(&telemetry, "r", "up");
    telemetry.register_source(|samples| {
        for &gauge in Gauge::ALL {
            samples.gauge(gauge, &[], 1_u64);
        }
        for &counter in Counter::ALL {
            samples.counter(counter, &[], 1_u64);
        }
        for &histogram in Histogram::ALL {
            samples.histogram(histogram, &[], &Times { counts: &[1], ..Times::default() });
        }
    });
    let seen = scrape(&telemetry);
    let found: Vec<_> =
        seen.families.iter().map(|(n, f)| (n.as_str(), f.kind.as_str(), f.unit.as_str())).collect();
    assert_eq!(found, FAMILIES);
    let helps: BTreeSet<_> = seen.families.values().map(|family| &family.help).collect();
    assert_eq!(helps.len(), FAMILIES.len(), "no two families say the same");
    for help in helps {
        assert!(help.len() > 10 && help.ends_with('.'), "{help:?}");
    }
    assert!(CONTENT_TYPE.starts_with("application/openmetrics-text; version=1.0.0"));
}

#[test]
fn a_fresh_start_shows_the_process_and_the_build() {
    let seen = scrape(&Telemetry::new());
    assert!(seen.families.keys().all(|n| n.starts_with("process_") || n == "tidegate_build_info"));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(seen.sum("tidegate_build_info", &[("version", version)]), 1.0);
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_is_described() {
    let telemetry = Telemetry::new();
    let value = |name: &str| scrape(&telemetry).sum(name, &[]);
    let resident = value("process_resident_memory_bytes");
    assert!(resident > 100_000.0, "{resident}");
    assert!(value("process_virtual_memory_bytes") >= resident);
    assert!(value("process_threads") >= 1.0);
    let open = value("process_open_fds");
    assert!(open >= 3.0 && open <= value("process_max_fds"), "{open}");
    // Any time since this project began, to tell seconds from ticks and from milliseconds.
    let start = value("process_start_time_seconds");
    assert!((1.7e9..1e10).contains(&start), "{start}");
    assert_eq!(start, value("process_start_time_seconds"));
    let before = value("process_cpu_seconds_total");
    assert!(before > 0.0);
    // Scraping is work, so the clock of our CPU time moves by itself.
    assert!(value("process_cpu_seconds_total") > before);
}

#[test]
fn sources_are_asked_at_every_scrape_and_added_up() {
    let telemetry = Telemetry::new();
    let known = Arc::new(());
    let source = Arc::clone(&known);
    telemetry.register_source(move |samples| {
        let alive = Arc::strong_count(&source);
        samples.gauge(Gauge::SessionsOpen, &[], alive);
        let labels = [(Label::Cause, "signal"), (Label::Upstream, "up")];
        samples.counter(Counter::StdioExits, &labels, 2_u32);
    });
    telemetry.register_source(|samples| {
        let labels = [(Label::Upstream, "up"), (Label::Cause, "signal")];
        samples.counter(Counter::StdioExits, &labels, 40_u64);
        samples.counter(Counter::StdioExits, &[(Label::Upstream, "up")], u64::MAX);
        samples.gauge(Gauge::HttpConnectionsInUse, &[(Label::Endpoint, "one")], 7_u64);
    });
    let seen = scrape(&telemetry);
    assert_eq!(seen.sum("tidegate_sessions_open", &[]), 2.0);
    let labels = [("cause", "signal"), ("upstream", "up")];
    assert_eq!(seen.sum("tidegate_stdio_exits_total", &labels), 42.0);
    let without = Labels::from([("upstream".into(), "up".into())]);
    assert!(seen.samples.contains_key(&("tidegate_stdio_exits_total".into(), without)));
    assert_eq!(seen.sum("tidegate_http_pool_connections_in_use", &[("endpoint", "one")]), 7.0);
    let held = Arc::clone(&known);
    assert_eq!(scrape(&telemetry).sum("tidegate_sessions_open", &[]), 3.0);
    drop((telemetry, held));
    assert_eq!(Arc::strong_count(&known), 1, "sources go with the last handle");
}

#[test]
fn histograms_counted_elsewhere_are_added_bucket_by_bucket() {
    const BOUNDS: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];
    let telemetry = Telemetry::new();
    telemetry.register_source(|samples| {
        let up = [(Label::Upstream, "up")];
        let sum = Duration::from_millis(2_510);
        let times = Times { bounds: &BOUNDS, counts: &[1, 2, 1], sum };
        samples.histogram(Histogram::StdioSpawnTime, &up, &times);
        samples.histogram(Histogram::StdioSpawnTime, &up, &times);
        let none = Times { counts: &[0, 0, 0], sum: Duration::ZERO, ..times };
        samples.histogram(Histogram::StdioAcquireTime, &up, &none);
        // Other bounds: no bucket is lost, and the whole is right.
        let other = Times { bounds: &BOUNDS[1..], counts: &[4, 0], sum: Duration::from_secs(4) };
        samples.histogram(Histogram::HttpAcquireTime, &up, &times);
        samples.histogram(Histogram::HttpAcquireTime, &up, &other);
    });
    let seen = scrape(&telemetry);
    let buckets = |name: &str| {
        let of = |bound| seen.sum(&format!("{name}_bucket"), &[("upstream", "up"), ("le", bound)]);
        ["0.01", "1.0", "+Inf"].map(of)
    };
    assert_eq!(buckets("tidegate_stdio_spawn_time_seconds"), [2.0, 6.0, 8.0]);
    assert_eq!(seen.sum("tidegate_stdio_spawn_time_seconds_sum", &[]), 5.02);
    assert_eq!(seen.sum("tidegate_stdio_spawn_time_seconds_count", &[]), 8.0);
    assert_eq!(buckets("tidegate_http_pool_acquire_time_seconds"), [1.0, 7.0, 8.0]);
    assert_eq!(seen.sum("tidegate_http_pool_acquire_time_seconds_sum", &[]), 6.51);
    assert!(!seen.families.contains_key("tidegate_stdio_pool_acquire_time_seconds"));
}

#[test]
fn times_are_told_in_seconds_and_yes_is_one() {
    let telemetry = Telemetry::new();
    telemetry.register_source(|samples| {
        for (upstream, down) in [("up", true), ("other", false)] {
            let labels = [(Label::Upstream, upstream)];
            samples.counter(Counter::StdioCpu, &labels, Duration::from_millis(1_250));
            samples.counter(Counter::StdioCpu, &labels, Duration::from_millis(250));
            samples.gauge(Gauge::StdioDown, &labels, down);
        }
        samples.counter(Counter::StdioCpu, &[(Label::Upstream, "idle")], Duration::ZERO);
    });
    let seen = scrape(&telemetry);
    let value = |name: &str, upstream| seen.sum(name, &[("upstream", upstream)]);
    assert_eq!(value("tidegate_stdio_cpu_seconds_total", "up"), 1.5);
    assert_eq!(value("tidegate_stdio_cpu_seconds_total", "idle"), 0.0);
    assert_eq!(value("tidegate_stdio_down", "up"), 1.0);
    let no = Labels::from([("upstream".into(), "other".into())]);
    assert_eq!(seen.samples.get(&("tidegate_stdio_down".into(), no)), Some(&0.0));
}

#[test]
#[should_panic(expected = "has no such label")]
fn a_label_of_another_family_is_a_mistake() {
    let telemetry = Telemetry::new();
    telemetry.register_source(|samples| {
        samples.gauge(Gauge::SessionsOpen, &[(Label::Cause, "x")], 1_u64);
    });
    telemetry.render();
}

#[test]
fn odd_names_in_the_configuration_stay_inside_their_quotes() {
    let telemetry = Telemetry::new();
    for odd in ["\"} 1\nforged{x=\"", "back\\slash", "héllo wörld", "{}", "a\r\nb", "a,b=\"c\""] {
        answer(&telemetry, odd, odd);
        let seen = scrape(&telemetry);
        let labels = [("route", odd), ("upstream", odd), ("outcome", "ok")];
        assert_eq!(seen.sum("tidegate_requests_total", &labels), 1.0, "{odd:?}");
        assert_eq!(seen.sum("tidegate_upstream_attempts_total", &[("upstream", odd)]), 1.0);
    }
}

#[test]
fn pairs_of_names_do_not_share_numbers() {
    let telemetry = Telemetry::new();
    answer(&telemetry, "a", "x");
    answer(&telemetry, "a", "y");
    answer(&telemetry, "b", "x");
    answer(&telemetry, "b", "x");
    let seen = scrape(&telemetry);
    let requests = |route, upstream| {
        seen.sum("tidegate_requests_total", &[("route", route), ("upstream", upstream)])
    };
    let counts = [requests("a", "x"), requests("a", "y"), requests("b", "x"), requests("b", "y")];
    assert_eq!(counts, [1.0, 1.0, 2.0, 0.0]);
    assert_eq!(seen.sum("tidegate_upstream_attempts_total", &[("upstream", "x")]), 3.0);
}
