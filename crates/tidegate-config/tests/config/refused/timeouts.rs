//! How long calls may take.

use super::check_yaml;

#[test]
fn what_is_no_limit_is_refused_with_its_place() {
    check_yaml(
        "upstreams:
  a:
    stdio: { command: [server] }
    timeouts: { connect: 1s, request: 0s }
  b:
    url: http://b/
    timeouts: { connect: off, total: 2y }
routes:
  - match: { path: /b }
    upstream: b
    timeouts: { idle: soon }
    progress: allways
    tools:
      x: { timeouts: { request: -1s }, retries: 2 }
",
        &[
            "t.yaml:5:26: upstreams.a.timeouts.connect: a server over stdio is started, not \
             connected to; found `1s`",
            "leave it out; `start_timeout` and `acquire_timeout` under `stdio` are what it has",
            "t.yaml:5:39: upstreams.a.timeouts.request: it cannot be zero; found `0s`",
            "write a duration above zero, at most 365d; or off",
            "t.yaml:8:26: upstreams.b.timeouts.connect: not a duration; found `off`",
            "write a whole number and ms, s, m, h or d, for example 30s",
            "t.yaml:8:38: upstreams.b.timeouts.total: not a duration; found `2y`",
            "write a whole number and ms, s, m, h or d, for example 30s; or off",
            "t.yaml:12:23: routes[0].timeouts.idle: not a duration; found `soon`",
            "write a whole number and ms, s, m, h or d, for example 30s; or off",
            "t.yaml:13:15: routes[0].progress: not who asks for it; found `allways`",
            "did you mean always? write client or always",
            "t.yaml:15:33: routes[0].tools.x.timeouts.request: not a duration; found `-1s`",
            "write a whole number and ms, s, m, h or d, for example 30s; or off",
            "t.yaml:15:40: routes[0].tools.x.retries: unknown key",
            "the keys here are timeouts",
        ],
    );
}

#[test]
fn over_stdio_a_route_has_nothing_to_connect_to() {
    check_yaml(
        "upstreams: { a: { stdio: { command: [server] } } }
routes:
  - match: { path: /a }
    upstream: a
    tools: { x: { timeouts: { connect: 1s } } }
",
        &[
            "t.yaml:6:40: routes[0].tools.x.timeouts.connect: a server over stdio is started, \
             not connected to; found `1s`",
            "leave it out; `start_timeout` and `acquire_timeout` under `stdio` are what it has",
        ],
    );
}
