//! How long calls may take: who inherits what from whom.

use std::time::Duration;

use tidegate_config::CallTimeouts;

use crate::world::World;

fn seconds(limit: &CallTimeouts) -> [Option<u64>; 4] {
    [limit.connect, limit.request, limit.idle, limit.total].map(|each| each.map(|d| d.as_secs()))
}

#[test]
fn a_tool_inherits_from_its_route_and_that_from_its_upstream() {
    let world = World::with_yaml(
        "upstreams:
  a: { url: \"http://a/\", timeouts: { connect: 1s, request: 2s, idle: 3s, total: off } }
routes:
  - match: { path: /plain }
    upstream: a
  - match: { path: /changed }
    upstream: a
    timeouts: { request: 20s, total: 40s }
    tools:
      long: { timeouts: { total: off, connect: 100s } }
      same: { timeouts: {} }
",
    );
    let config = world.config();
    assert_eq!(seconds(config.upstreams["a"].timeouts()), [Some(1), Some(2), Some(3), None]);
    let [plain, changed] = config.routes.as_slice() else { panic!("{:?}", config.routes) };
    assert_eq!(seconds(&plain.timeouts), [Some(1), Some(2), Some(3), None]);
    assert_eq!(seconds(&changed.timeouts), [Some(1), Some(20), Some(3), Some(40)]);
    assert_eq!(seconds(&changed.tools["long"]), [Some(100), Some(20), Some(3), None]);
    assert_eq!(changed.tools["same"], changed.timeouts);
}

#[test]
fn a_variable_can_set_them() {
    let world = World::with_yaml("upstreams: { a: { url: \"http://a/\" } }\n")
        .var("TIDEGATE__UPSTREAMS__A__TIMEOUTS__TOTAL", "off")
        .var("TIDEGATE__UPSTREAMS__A__TIMEOUTS__IDLE", "90s");
    let config = world.config();
    let timeouts = config.upstreams["a"].timeouts();
    assert_eq!((timeouts.idle, timeouts.total), (Some(Duration::from_secs(90)), None));
}

#[test]
fn old_names_say_where_they_are_now() {
    let world = World::with_yaml(
        "upstreams:
  a: { url: \"http://a/\", http: { request_timeout: 5s, connect_timeout: 1s } }
  b: { stdio: { command: [server], request_timeout: 5s } }
",
    );
    let report = world.load().unwrap_err().to_string();
    assert_eq!(report.matches("upstreams.NAME.timeouts.request").count(), 2, "{report}");
    assert_eq!(report.matches("upstreams.NAME.timeouts.connect").count(), 1, "{report}");
}
