//! The families there are, what feeds them, and what may become a label.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::{FutureExt as _, stream};
use tidegate_service::{Body, Call, Error, EventStream, Frame, Reply};
use tidegate_telemetry::{CONTENT_TYPE, Counter, Gauge, Label, Telemetry};
use tower::{Layer as _, service_fn};

use crate::{RESULT, call, message, openmetrics::Labels, request, scrape};

/// Name, type and unit of everything. Dashboards are written against these, so a change here is a
/// change for users.
const FAMILIES: [(&str, &str, &str); 45] = [
    ("process_cpu_seconds", "counter", "seconds"),
    ("process_max_fds", "gauge", ""),
    ("process_open_fds", "gauge", ""),
    ("process_resident_memory_bytes", "gauge", "bytes"),
    ("process_start_time_seconds", "gauge", "seconds"),
    ("process_threads", "gauge", ""),
    ("process_virtual_memory_bytes", "gauge", "bytes"),
    ("tidegate_build_info", "gauge", ""),
    ("tidegate_downstream_connections_accepted", "counter", ""),
    ("tidegate_downstream_connections_open", "gauge", ""),
    ("tidegate_downstream_connections_refused", "counter", ""),
    ("tidegate_downstream_request_bodies_bytes", "gauge", "bytes"),
    ("tidegate_downstream_streams_open", "gauge", ""),
    ("tidegate_http_pool_connections_available", "gauge", ""),
    ("tidegate_http_pool_connections_closed", "counter", ""),
    ("tidegate_http_pool_connections_idle", "gauge", ""),
    ("tidegate_http_pool_connections_in_use", "gauge", ""),
    ("tidegate_http_pool_connections_max", "gauge", ""),
    ("tidegate_http_pool_connections_opened", "counter", ""),
    ("tidegate_http_pool_connections_reused", "counter", ""),
    ("tidegate_http_pool_requests_refused", "counter", ""),
    ("tidegate_http_pool_requests_waiting", "gauge", ""),
    ("tidegate_http_requests_refused", "counter", ""),
    ("tidegate_request_duration_seconds", "histogram", "seconds"),
    ("tidegate_request_time_to_first_item_seconds", "histogram", "seconds"),
    ("tidegate_requests", "counter", ""),
    ("tidegate_requests_in_flight", "gauge", ""),
    ("tidegate_sessions_ended", "counter", ""),
    ("tidegate_sessions_open", "gauge", ""),
    ("tidegate_sessions_refused", "counter", ""),
    ("tidegate_sessions_started", "counter", ""),
    ("tidegate_stdio_asks_refused", "counter", ""),
    ("tidegate_stdio_children", "gauge", ""),
    ("tidegate_stdio_dropped_messages", "counter", ""),
    ("tidegate_stdio_exits", "counter", ""),
    ("tidegate_stdio_garbage_lines", "counter", ""),
    ("tidegate_stdio_requests_in_flight", "gauge", ""),
    ("tidegate_stdio_spawn_failures", "counter", ""),
    ("tidegate_stdio_spawns", "counter", ""),
    ("tidegate_stdio_stderr_lines", "counter", ""),
    ("tidegate_stdio_stderr_lines_dropped", "counter", ""),
    ("tidegate_stdio_violations", "counter", ""),
    ("tidegate_streams_open", "gauge", ""),
    ("tidegate_upstream_attempts", "counter", ""),
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
