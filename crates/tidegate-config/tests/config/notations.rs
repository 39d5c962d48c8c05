//! YAML, TOML and JSON: the same content, each with its own positions.

use crate::world::World;

#[track_caller]
fn check(name: &str, text: &str, expected: &[&str]) {
    let problems = World::with_file(name, text).problems();
    let first_lines: Vec<&str> =
        problems.lines().filter(|line| !line.is_empty() && !line.starts_with("    ")).collect();
    assert_eq!(first_lines, expected, "{problems}");
}

#[test]
fn the_same_content_gives_the_same_configuration() {
    let yaml = World::with_yaml(
        "workers: 2
limits: { max_body: 1MiB }
upstreams:
  a:
    stdio: { command: [server, -x] }
routes:
  - match: { path: /a }
    upstream: a
",
    );
    let toml = World::with_file(
        "t.toml",
        "version = 1
workers = 2
limits.max_body = '1MiB'
[upstreams.a.stdio]
command = ['server', '-x']
[[routes]]
match = { path = '/a' }
upstream = 'a'
",
    );
    let json = World::with_file(
        "t.json",
        r#"{ "version": 1, "workers": 2, "limits": { "max_body": "1MiB" },
  "upstreams": { "a": { "stdio": { "command": ["server", "-x"] } } },
  "routes": [{ "match": { "path": "/a" }, "upstream": "a" }] }"#,
    );
    let program = |world: &World| world.path("bin/server").display().to_string();
    let text = |world: &World| format!("{:?}", world.config()).replace(&program(world), "server");
    assert_eq!(text(&yaml), text(&toml));
    assert_eq!(text(&yaml), text(&json));
}

#[test]
fn yaml_positions_in_block_and_flow_style() {
    check(
        "t.yml",
        "# a comment: with a colon
version: 1
upstreams:
  a:
    url:   http://127.0.0.1:9/   # behind
  'b': {url: http://127.0.0.1:9/, http: {
    pool_idle: 5,
    max_connections: x}}
routes:
- match:
    path: /a
  upstream: a
-
  match: {path: '/b', pth: 1}
  upstream: >-
    c
limits:
    max_uri:
      5
    \"max_body\": &anchor 7
    max_header_value: *anchor
ä: 1
",
        &[
            "t.yml:7:16: upstreams.b.http.pool_idle: a duration needs a unit; found `5`",
            "t.yml:8:22: upstreams.b.http.max_connections: a whole number is needed; found `x`",
            "t.yml:14:23: routes[1].match.pth: unknown key",
            "t.yml:16:5: routes[1].upstream: there is no upstream of this name; found `c`",
            "t.yml:19:7: limits.max_uri: a size needs a unit; found `5`",
            "t.yml:20:17: limits.max_body: a size needs a unit; found `7`",
            "t.yml:21:23: limits.max_header_value: a size needs a unit; found `7`",
            "t.yml:22:1: \"ä\": unknown key",
        ],
    );
}

#[test]
fn what_stands_behind_an_alias_is_found_where_the_alias_stands() {
    check(
        "t.yaml",
        "version: 1
upstreams:
  a: &base { url: http://127.0.0.1:9/, http: { pool_idle: 0s } }
  b: *base
routes: [{ match: { path: / }, upstream: a }]
",
        &[
            "t.yaml:3:59: upstreams.a.http.pool_idle: it cannot be zero; found `0s`",
            "t.yaml:4:3: upstreams.b.http.pool_idle: it cannot be zero; found `0s`",
        ],
    );
}

#[test]
fn toml_positions() {
    check(
        "t.toml",
        "version = 1
limits.max_body = 5
listeners = [{ address = 'x' },
             { address = '127.0.0.1:1', tls = true }]
[upstreams.a]
url = 'ftp://x'
[upstreams.b.http]
url = 'http://127.0.0.1:9/'
headers = { x = 1 }
[[routes]]
upstream = 'a'
match.path = '/a'
[[routes]]
upstream = 'bb'
match.path = 'b'
[limit]
",
        &[
            "t.toml:2:19: limits.max_body: a size needs a unit; found `5`",
            "t.toml:3:26: listeners[0].address: not an IP address with a port; found `x`",
            "t.toml:4:41: listeners[1].tls: unknown key",
            "t.toml:6:7: upstreams.a.url: the scheme is neither http nor https; found `ftp://x`",
            "t.toml:9:17: upstreams.b.http.headers.x: text is needed, not a number; found `1`",
            "t.toml:14:12: routes[1].upstream: there is no upstream of this name; found `bb`",
            "t.toml:15:14: routes[1].match.path: the path does not begin with /; found `b`",
            "t.toml:16:2: limit: unknown key",
        ],
    );
}

#[test]
fn json_positions() {
    check(
        "t.json",
        r#"{
	"version": 1,
  "limits": {"max_body": 5 , "max_\u0075ri": 6},
  "upstreams": {
    "a": {"url": "http://127.0.0.1:9/", "url": "http://127.0.0.1:9/,\"}"}
  }, "x": [],
  "routes": [ {"match": {"path": "/a"}, "upstream": "a"},
    {"match": {"path": "b"}, "upstream":
      "b"}]
}"#,
        &[
            "t.json:3:26: limits.max_body: a size needs a unit; found `5`",
            "t.json:3:46: limits.max_uri: a size needs a unit; found `6`",
            "t.json:5:41: upstreams.a.url: the key stands twice; first in line 5",
            "t.json:5:48: upstreams.a.url: the URL has a character that URLs do not have; found `http://127.0.0.1:9/,\"}`",
            "t.json:6:6: x: unknown key",
            "t.json:8:24: routes[1].match.path: the path does not begin with /; found `b`",
            "t.json:9:7: routes[1].upstream: there is no upstream of this name; found `b`",
        ],
    );
}

#[test]
fn syntax_errors_have_positions() {
    check(
        "t.yaml",
        "version: 1\nupstreams: [a\n",
        &["t.yaml:3:1: not valid YAML: did not find expected ',' or ']'"],
    );
    check(
        "t.yaml",
        "version: 1\n\tworkers: 2\n",
        &["t.yaml:2:1: not valid YAML: found a tab character that violates indentation"],
    );
    check(
        "t.yaml",
        "- a\n",
        &["t.yaml:1:1: not valid YAML: invalid type: sequence, expected a map"],
    );
    check(
        "t.toml",
        "version = \n",
        &["t.toml:1:11: not valid TOML: string values must be quoted, expected literal string"],
    );
    check("t.toml", "a = 1\na = 2\n", &["t.toml:2:1: not valid TOML: duplicate key"]);
    check("t.json", "{\n  \"version\": 1,\n}", &["t.json:3:1: not valid JSON: trailing comma"]);
    check("t.json", "", &["t.json:1:1: not valid JSON: EOF while parsing a value"]);
}

#[test]
fn hostile_files_are_refused_without_harm() {
    for (name, text) in [
        ("t.yaml", "[".repeat(20_000)),
        ("t.yaml", "- ".repeat(20_000)),
        ("t.json", "[".repeat(20_000)),
        ("t.json", format!("{}1{}", "{\"a\":".repeat(5_000), "}".repeat(5_000))),
        ("t.toml", format!("a = {}", "[".repeat(20_000))),
        ("t.yaml", "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: &h [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n".to_owned()),
    ] {
        let report = World::with_file(name, &text).load().unwrap_err();
        assert!(!report.problems().is_empty());
        assert!(report.to_string().len() < 10_000, "{}", report.to_string().len());
    }
}
