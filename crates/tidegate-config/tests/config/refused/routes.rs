//! `routes`.

use super::{check_after_good, check_yaml};

#[test]
fn routes() {
    check_yaml(
        "upstreams:
  a: { url: \"http://127.0.0.1:9/\" }
  b: { url: \"http://127.0.0.1:9/\" }
",
        &[
            "t.yaml:1:1: routes: there are 2 upstreams and no route",
            "write one for each, for example `- { match: { path: /a }, upstream: a }`",
        ],
    );
    check_after_good(
        "routes:
  - match: { path: /x }
    upstream: a
  - { match: { path: /x/ }, upstream: aa }
  - { match: { path: /x }, upstream: elsewhere }
  - upstream: a
  - match: {}
  - { match: { path: /y }, upstream: a, forward: { cookie: true, authorization: 1 } }
",
        &[
            "t.yaml:7:22: routes[1].match.path: the path ends with /; found `/x/`",
            "write an absolute path such as /mcp",
            "t.yaml:7:39: routes[1].upstream: there is no upstream of this name; found `aa`",
            "did you mean `a`?",
            "t.yaml:8:22: routes[2].match.path: the path is taken by routes[0].match.path; found \
             `/x`",
            "paths match exactly, so each leads to one upstream; change or remove one",
            "t.yaml:8:38: routes[2].upstream: there is no upstream of this name; found `elsewhere`",
            "the upstreams are a",
            "t.yaml:9:5: routes[3].match: the key is missing",
            "write `match: { path: /mcp }`",
            "t.yaml:10:5: routes[4].match.path: the key is missing",
            "write an absolute path such as /mcp",
            "t.yaml:10:5: routes[4].upstream: the key is missing",
            "write the name of an upstream",
            "t.yaml:11:52: routes[5].forward.cookie: unknown key",
            "did you mean `cookies`?",
            "t.yaml:11:81: routes[5].forward.authorization: a truth value is needed; found `1`",
            "write true or false",
        ],
    );
}

#[test]
fn what_is_kept_of_streams() {
    check_after_good(
        "limits: { replay_budget: 2MiB }
replay_window: 5m
routes:
  - { match: { path: /a }, upstream: a, replay: always, replay_window: 0s, replay_max_events: 0 }
  - { match: { path: /b }, upstream: a, replay_max_bytes: 512B, replay_prime_after: off }
  - { match: { path: /c }, upstream: a, replay_windows: 1s }
",
        &[
            "t.yaml:5:1: replay_window: unknown key",
            "did you mean `routes[0].replay_window`?",
            "t.yaml:7:49: routes[0].replay: not a way to replay; found `always`",
            "write auto, on or off",
            "t.yaml:7:72: routes[0].replay_window: it cannot be zero; found `0s`",
            "write a duration above zero, at most 365d; it cannot be off",
            "t.yaml:7:95: routes[0].replay_max_events: it is too small; found `0`",
            "write 1 to 1000000",
            "t.yaml:8:59: routes[1].replay_max_bytes: it is too small; found `512B`",
            "write 1KiB to 1GiB",
            "t.yaml:8:85: routes[1].replay_prime_after: not a duration; found `off`",
            "write a whole number and ms, s, m, h or d, for example 30s",
            "t.yaml:9:41: routes[2].replay_windows: unknown key",
            "did you mean `replay_window`?",
        ],
    );
    check_after_good(
        "limits: { replay_budget: 2MiB }
routes:
  - { match: { path: /a }, upstream: a, replay_max_bytes: 3MiB }
  - { match: { path: /b }, upstream: a, replay_max_bytes: 2MiB }
",
        &[
            "t.yaml:6:59: routes[0].replay_max_bytes: it is larger than limits.replay_budget, \
             which is 2MiB; found `3MiB`",
            "lower replay_max_bytes or raise limits.replay_budget",
        ],
    );
}

#[test]
fn what_is_done_about_clients_that_do_not_read() {
    check_after_good(
        "slow_client: end
routes:
  - { match: { path: /a }, upstream: a, slow_client: drop, slow_client_buffer: 63KiB }
  - { match: { path: /b }, upstream: a, slow_client_after: 0s }
  - { match: { path: /c }, upstream: a, slow_clients: end }
",
        &[
            "t.yaml:4:1: slow_client: unknown key",
            "did you mean `routes[0].slow_client`?",
            "t.yaml:6:54: routes[0].slow_client: not a way to treat a client that does not read; \
             found `drop`",
            "write pause or end",
            "t.yaml:6:80: routes[0].slow_client_buffer: it is too small; found `63KiB`",
            "write 64KiB to 1GiB",
            "t.yaml:7:60: routes[1].slow_client_after: it cannot be zero; found `0s`",
            "write a duration above zero, at most 365d; it cannot be off",
            "t.yaml:8:41: routes[2].slow_clients: unknown key",
            "did you mean `slow_client`?",
        ],
    );
    check_after_good(
        "limits: { slow_client_budget: 10MiB }
timeouts: { write_stall: 20s }
routes:
  - { match: { path: /a }, upstream: a, slow_client_buffer: 6MiB, slow_client_after: 21s }
  - { match: { path: /b }, upstream: a, slow_client_buffer: 5MiB, slow_client: end, slow_client_after: 21s }
",
        &[
            "t.yaml:7:61: routes[0].slow_client_buffer: it is more than half of \
             limits.slow_client_budget, which is 10MiB; found `6MiB`",
            "lower slow_client_buffer or raise limits.slow_client_budget",
            "t.yaml:8:104: routes[1].slow_client_after: it is longer than timeouts.write_stall, \
             which is 20s; found `21s`",
            "lower slow_client_after or raise timeouts.write_stall",
        ],
    );
}
