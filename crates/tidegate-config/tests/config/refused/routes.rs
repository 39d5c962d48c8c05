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
