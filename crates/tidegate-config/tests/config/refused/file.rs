//! What the file is as a whole: whether it can be read, its version and its keys.

use super::{GOOD, check, check_after_good, check_yaml};
use crate::world::World;

#[test]
fn files_that_cannot_be_read() {
    for (name, expected) in [
        (
            "gone.yaml",
            "gone.yaml: cannot read this file: it does not exist\n    check the path; relative \
             ones start at the working directory\n",
        ),
        (
            "data.txt",
            "data.txt: the name does not tell the notation\n    name it .yaml, .toml or .json\n",
        ),
        (
            "dir.yaml",
            "dir.yaml: cannot read this file: it is a directory\n    give the path of a readable \
             text file\n",
        ),
        (
            "large.yaml",
            "large.yaml: cannot read this file: it is larger than 1024 KiB\n    split what it \
             describes over several proxies\n",
        ),
        (
            "binary.yaml",
            "binary.yaml: cannot read this file: it is not UTF-8 text\n    give the path of a \
             readable text file\n",
        ),
    ] {
        let mut world = World::new();
        world.put("dir.yaml/x", "");
        world.put("large.yaml", &" ".repeat((1 << 20) + 1));
        std::fs::write(world.path("binary.yaml"), [b'a', 0xff]).unwrap();
        world.flags.config = Some(name.into());
        assert_eq!(world.problems(), expected, "{name}");
    }
}

#[test]
fn a_file_of_exactly_the_largest_size_is_read() {
    let mut text = format!("version: 1\n{GOOD}");
    text.push_str(&format!("#{}", "x".repeat((1 << 20) - text.len() - 1)));
    assert_eq!(text.len(), 1 << 20);
    World::with_file("t.yaml", &text).config();
}

#[test]
fn versions() {
    check(
        &World::with_file("t.yaml", GOOD),
        &["t.yaml:1:1: version: the key is missing", "begin the file with `version: 1`"],
    );
    check(
        &World::with_file("t.yaml", &format!("version: 2\n{GOOD}")),
        &[
            "t.yaml:1:10: version: this version is not known; found `2`",
            "this program reads version 1",
        ],
    );
    check(
        &World::with_file("t.yaml", &format!("version: one\n{GOOD}")),
        &[
            "t.yaml:1:10: version: a whole number is needed; found `one`",
            "write digits only, without quotes",
        ],
    );
    check(
        &World::with_file("t.yaml", ""),
        &[
            "t.yaml:1:1: upstreams: there is no upstream",
            "name one under `upstreams`, or start with --upstream URL or -- COMMAND",
            "t.yaml:1:1: version: the key is missing",
            "begin the file with `version: 1`",
        ],
    );
}

#[test]
fn unknown_keys() {
    check_after_good(
        "limit: {}
limits: { max_boddy: 1MiB, replicas: 3 }
max_depth: 3
timeouts:
  <<: {}
",
        &[
            "t.yaml:4:1: limit: unknown key",
            "did you mean `limits`?",
            "t.yaml:5:11: limits.max_boddy: unknown key",
            "did you mean `max_body`?",
            "t.yaml:5:28: limits.replicas: unknown key",
            "the keys here are max_body, max_header_bytes, max_header_value, max_headers, max_uri, \
             max_connections, body_budget, max_sessions, max_depth, max_batch, replay_budget, \
             slow_client_budget",
            "t.yaml:6:1: max_depth: unknown key",
            "did you mean `limits.max_depth`?",
            "t.yaml:8:3: timeouts.<<: unknown key",
            "merge keys are not supported; write the members out",
        ]
        .map(|line| line.replace("timeouts.<<", "timeouts.\"<<\""))
        .iter()
        .map(String::as_str)
        .collect::<Vec<&str>>(),
    );
}

#[test]
fn duplicate_keys() {
    check_yaml(
        "upstreams:
  a: { url: \"http://127.0.0.1:9/mcp\" }
  b:
    url: http://127.0.0.1:9/mcp
    url: http://127.0.0.1:8/mcp
  a: { url: \"http://127.0.0.1:7/mcp\" }
routes:
  - { match: { path: /a }, upstream: a, upstream: b }
",
        &[
            "t.yaml:6:5: upstreams.b.url: the key stands twice; first in line 5",
            "keep one of them",
            "t.yaml:7:3: upstreams.a: the key stands twice; first in line 3",
            "keep one of them",
            "t.yaml:9:41: routes[0].upstream: the key stands twice; first in line 9",
            "keep one of them",
        ],
    );
}

#[test]
fn wrong_types() {
    check_after_good(
        "listeners: 127.0.0.1:80
ops: { address: { port: 80 } }
workers: 2.5
limits: [1]
timeouts:
  drain:
  headers: [5s]
security: { allowed_hosts: mcp.example }
log: { level: 3, format: true }
",
        &[
            "t.yaml:4:12: listeners: a list is needed; found `127.0.0.1:80`",
            "write it as a list: [127.0.0.1:80]",
            "t.yaml:5:17: ops.address: a single value is needed; found a mapping",
            "write one value after the colon",
            "t.yaml:6:10: workers: a whole number is needed; found `2.5`",
            "write digits only, without quotes",
            "t.yaml:7:9: limits: a mapping is needed; found a list",
            "write `key: value` pairs below it; the keys are max_body, max_header_bytes, \
             max_header_value, max_headers, max_uri, max_connections, body_budget, max_sessions, \
             max_depth, max_batch, replay_budget, slow_client_budget",
            "t.yaml:9:8: timeouts.drain: a duration is needed; found nothing",
            "write a value after the colon, or leave the key out for its default",
            "t.yaml:10:12: timeouts.headers: a single value is needed; found a list",
            "write one value after the colon",
            "t.yaml:11:28: security.allowed_hosts: a list is needed; found `mcp.example`",
            "write it as a list: [mcp.example]",
            "t.yaml:12:15: log.level: text is needed, not a number; found `3`",
            "put it in quotes",
            "t.yaml:12:26: log.format: text is needed, not a truth value; found `true`",
            "put it in quotes",
        ],
    );
}
