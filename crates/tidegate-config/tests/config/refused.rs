//! Every way to be wrong, with the exact words, by the section that is.

mod file;
mod http;
mod limits;
mod listeners;
mod routes;
mod stdio;
mod timeouts;

use crate::world::World;

/// A valid upstream and nothing else, for files whose fault is elsewhere. Two lines.
const GOOD: &str = "upstreams:\n  a: { url: \"http://127.0.0.1:9/mcp\" }\n";

#[track_caller]
fn check(world: &World, expected: &[&str]) {
    // One problem is two lines; a blank line stands between two.
    let pairs = expected.iter().step_by(2).zip(expected.iter().skip(1).step_by(2));
    let expected: Vec<String> = pairs.map(|(what, help)| format!("{what}\n    {help}\n")).collect();
    assert_eq!(world.problems(), expected.join("\n"));
}

/// `text` stands from line 4 on.
#[track_caller]
fn check_after_good(text: &str, expected: &[&str]) {
    check(&World::with_yaml(&format!("{GOOD}{text}")), expected);
}

/// `text` stands from line 2 on.
#[track_caller]
fn check_yaml(text: &str, expected: &[&str]) {
    check(&World::with_yaml(text), expected);
}

#[test]
fn many_faults_are_reported_at_once_in_the_order_of_the_file() {
    let world = World::with_yaml(
        "listeners:
  - { address: localhost:80 }
limits:
  max_body: 16
  max_headers: many
limits: { max_depth: 0 }
upstreams:
  search: { url: \"ftp://x\" }
routes:
  - match: { path: mcp }
    upstream: serch
",
    )
    .var("TIDEGATE__LIMITS__MAX_BODDY", "1MiB");
    let mut world = world;
    world.flags.ops = Some("nowhere".to_owned());
    let report = world.load().unwrap_err();
    assert!(report.to_string().starts_with("the configuration has 8 problems\n\n"), "{report}");
    check(
        &world,
        &[
            "t.yaml:3:16: listeners[0].address: not an IP address with a port; found `localhost:80`",
            "write 127.0.0.1:80 or [::1]:80",
            "t.yaml:7:1: limits: the key stands twice; first in line 4",
            "keep one of them",
            "t.yaml:7:22: limits.max_depth: it is too small; found `0`",
            "write 1 to 128",
            "t.yaml:9:18: upstreams.search.url: the scheme is neither http nor https; found `ftp://x`",
            "write http://HOST:PORT/PATH or https://HOST/PATH",
            "t.yaml:11:20: routes[0].match.path: the path does not begin with /; found `mcp`",
            "write an absolute path such as /mcp",
            "t.yaml:12:15: routes[0].upstream: there is no upstream of this name; found `serch`",
            "did you mean `search`?",
            "env TIDEGATE__LIMITS__MAX_BODDY: limits.max_boddy: unknown key",
            "did you mean `max_body`?",
            "flag --ops: ops.address: not an IP address with a port; found `nowhere`",
            "write IP:PORT, for example 127.0.0.1:8080 or [::1]:8080",
        ],
    );
}

#[test]
fn variables_that_cannot_be_placed() {
    let world = World::with_yaml(GOOD)
        .var("TIDEGATE__LOG", "debug")
        .var("TIDEGATE__LOG__LEVEL", "debug")
        .var("TIDEGATE____X", "1")
        .var("TIDEGATE__LISTENERS__0__ADDRESS", "127.0.0.1:1")
        .var("TIDEGATE__WORKERS", "two")
        .var("TIDEGATE__LIMITS__MAX_BODY", "16");
    check(
        &world,
        &[
            "env TIDEGATE__LIMITS__MAX_BODY: limits.max_body: a size needs a unit; found `16`",
            "write a whole number and B, KB, MB, GB, KiB, MiB or GiB, for example 16MiB",
            "env TIDEGATE__LISTENERS__0__ADDRESS: listeners: a list is needed; found a mapping",
            "write a list, one `- item` a line or [item, item]",
            "env TIDEGATE__LOG: log: a mapping is needed; found `debug`",
            "write `key: value` pairs below it; the keys are level, format",
            "env TIDEGATE__LOG__LEVEL: another variable sets the same key, or one above or below it",
            "keep one of them",
            "env TIDEGATE__WORKERS: workers: a whole number is needed; found `two`",
            "write digits only, without quotes",
            "env TIDEGATE____X: a part of the name is empty",
            "write sections and key with two underscores between them, for example \
             TIDEGATE__LIMITS__MAX_BODY",
        ],
    );
}

#[test]
fn nothing_to_serve() {
    check(
        &World::new(),
        &[
            "upstreams: there is no upstream",
            "name one under `upstreams`, or start with --upstream URL or -- COMMAND",
        ],
    );
}
