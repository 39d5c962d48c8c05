//! `upstreams` as such, and those with a URL.

use super::check_yaml;
use crate::world::World;

#[test]
fn upstreams_of_no_kind_or_two() {
    check_yaml(
        "upstreams:
  none: {}
  both:
    url: http://127.0.0.1:9/
    stdio: { command: [server] }
  twice: { url: \"http://127.0.0.1:9/\", http: { url: \"http://127.0.0.1:8/\" } }
  no url: { http: {} }
  typo: { urll: http://127.0.0.1:9/ }
routes: [{ match: { path: / }, upstream: none }]
",
        &[
            "t.yaml:3:3: upstreams.none: it has neither a command nor a URL",
            "write `stdio: { command: [PROGRAM, …] }` or `url: http://…`",
            "t.yaml:4:3: upstreams.both: it has both a command and a URL",
            "keep `stdio` or the URL; give the other a name of its own",
            "t.yaml:7:17: upstreams.twice.url: `http.url` is set too; found `http://127.0.0.1:9/`",
            "keep one of `url` and `http.url`",
            "t.yaml:8:3: upstreams.\"no url\": not a name for an upstream",
            "use 1 to 63 letters, digits, _ and -",
            "t.yaml:8:13: upstreams.\"no url\".http.url: the key is missing",
            "write `url: http://HOST:PORT/PATH`",
            "t.yaml:9:3: upstreams.typo: it has neither a command nor a URL",
            "write `stdio: { command: [PROGRAM, …] }` or `url: http://…`",
            "t.yaml:9:11: upstreams.typo.urll: unknown key",
            "did you mean `url`?",
        ],
    );
}

#[test]
fn urls() {
    check_yaml(
        "upstreams:
  a: { url: 127.0.0.1:9/mcp }
  b: { http: { url: \"http://user:password@mcp.example/\" } }
  c: { url: \"http://mcp.example/#x\" }
  d: { url: \"http://mcp.example:0/\" }
routes: [{ match: { path: / }, upstream: a }]
",
        &[
            "t.yaml:3:13: upstreams.a.url: the URL has no scheme; found `127.0.0.1:9/mcp`",
            "write http://HOST:PORT/PATH or https://HOST/PATH, for example http://127.0.0.1:9/mcp",
            "t.yaml:4:21: upstreams.b.http.url: the URL has credentials in it; found \
             `http://<hidden>@mcp.example/`",
            "leave them out and set `http.headers.authorization` from ${ENV} or ${file:…}",
            "t.yaml:5:13: upstreams.c.url: the URL has a fragment; found `http://mcp.example/#x`",
            "leave the # and what follows out",
            "t.yaml:6:13: upstreams.d.url: the port is not a number from 1 to 65535; found \
             `http://mcp.example:0/`",
            "write http://HOST:PORT/PATH or https://HOST/PATH",
        ],
    );
}

#[test]
fn http_details() {
    check_yaml(
        "upstreams:
  a:
    http:
      url: http://127.0.0.1:9/mcp
      ca_file: data.txt
      headers:
        bad header: x
        Host: y
        Mcp-Session-Id: z
        x-number: 7
        x-line: \"a\\nb\"
        X-Twice: a
        x-twice: b
  b: { url: \"http://127.0.0.1:9/\", http: { ca_file: gone.pem } }
routes: [{ match: { path: / }, upstream: a }]
",
        &[
            "t.yaml:6:16: upstreams.a.http.ca_file: there is no certificate in it; found `data.txt`",
            "give a PEM file with at least one `-----BEGIN CERTIFICATE-----`",
            "t.yaml:8:9: upstreams.a.http.headers.\"bad header\": not a header name",
            "use letters, digits and -, for example x-api-key",
            "t.yaml:9:9: upstreams.a.http.headers.Host: this header is set by the proxy itself",
            "leave it out",
            "t.yaml:10:9: upstreams.a.http.headers.Mcp-Session-Id: this header is set by the proxy \
             itself",
            "leave it out",
            "t.yaml:11:19: upstreams.a.http.headers.x-number: text is needed, not a number; found \
             `7`",
            "put it in quotes",
            "t.yaml:12:17: upstreams.a.http.headers.x-line: not a header value; found `a\nb`",
            "it cannot contain line breaks, control characters and letters outside ASCII",
            "t.yaml:14:9: upstreams.a.http.headers.x-twice: the header is set twice",
            "upper and lower case are the same in header names; keep one",
            "t.yaml:15:53: upstreams.b.http.ca_file: cannot read ~/gone.pem: it does not exist; \
             found `gone.pem`",
            "give a PEM file with at least one `-----BEGIN CERTIFICATE-----`",
        ],
    );
}

#[test]
fn bounds_of_a_url() {
    check_yaml(
        "upstreams:
  a:
    url: http://127.0.0.1:9/
    http:
      max_waiting: 1000001
      acquire_timeout: off
      max_connections: 2
      min_idle_connections: 3
      max_connection_age: 1
      max_connection_requests: 0
      http2: alway
      transport: ssl
",
        &[
            "t.yaml:6:20: upstreams.a.http.max_waiting: it is too large; found `1000001`",
            "write 0 to 1000000",
            "t.yaml:7:24: upstreams.a.http.acquire_timeout: not a duration; found `off`",
            "write a whole number and ms, s, m, h or d, for example 30s",
            "t.yaml:9:29: upstreams.a.http.min_idle_connections: it is larger than \
             max_connections, which is 2; found `3`",
            "lower min_idle_connections or raise max_connections",
            "t.yaml:10:27: upstreams.a.http.max_connection_age: a duration needs a unit; found `1`",
            "write a whole number and ms, s, m, h or d, for example 30s; or off",
            "t.yaml:11:32: upstreams.a.http.max_connection_requests: it is too small; found `0`",
            "write 1 to 1000000000000; or off",
            "t.yaml:12:14: upstreams.a.http.http2: not a use of HTTP/2; found `alway`",
            "did you mean always? write off, auto or always",
            "t.yaml:13:18: upstreams.a.http.transport: not a transport; found `ssl`",
            "did you mean sse? write http or sse",
        ],
    );
}

#[test]
fn secrets_do_not_reach_the_report() {
    let world = World::with_yaml(
        "upstreams:
  a:
    http:
      url: \"${ADDRESS}\"
      headers: { x-token: \"${TOKEN}\", authorization: \"Basic literal\\n\" }
      pool_idle: \"${TOKEN}\"
",
    )
    .var("ADDRESS", "ftp://secret.example")
    .var("TOKEN", "s3cret\n")
    .var("TIDEGATE__UPSTREAMS__A__HTTP__HEADERS__X_KEY", "s3cret\n");
    let report = world.load().unwrap_err();
    assert_eq!(report.problems().len(), 5, "{report}");
    let text = format!("{report} {report:?}");
    for secret in ["s3cret", "secret.example", "literal"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn bounds_of_reconnecting() {
    check_yaml(
        "upstreams:
  a:
    url: http://127.0.0.1:9/
    http:
      reconnect: maybe
      reconnect_stall: 0s
      reconnect_attempts: 0
      reconnect_base: 11s
      reconnect_for: 0s
      reconnect_at_once: off
      reconnect_rate: 0
",
        &[
            "t.yaml:6:18: upstreams.a.http.reconnect: neither on nor off; found `maybe`",
            "write on or off",
            "t.yaml:7:24: upstreams.a.http.reconnect_stall: it cannot be zero; found `0s`",
            "write a duration above zero, at most 365d; it cannot be off",
            "t.yaml:8:27: upstreams.a.http.reconnect_attempts: it is too small; found `0`",
            "write 1 to 1000000",
            "t.yaml:9:23: upstreams.a.http.reconnect_base: it is longer than reconnect_max, which \
             is 10s; found `11s`",
            "lower reconnect_base or raise reconnect_max",
            "t.yaml:10:22: upstreams.a.http.reconnect_for: it cannot be zero; found `0s`",
            "write a duration above zero, at most 365d; it cannot be off",
            "t.yaml:11:26: upstreams.a.http.reconnect_at_once: a whole number is needed; found `off`",
            "write digits only, without quotes",
            "t.yaml:12:23: upstreams.a.http.reconnect_rate: it is too small; found `0`",
            "write 1 to 1000000",
        ],
    );
}

#[test]
fn reconnecting_where_it_cannot_be() {
    check_yaml(
        "upstreams:
  a:
    url: http://127.0.0.1:9/
    http: { transport: sse, reconnect: on, reconnect_for: 1m }
  b: { url: \"http://127.0.0.1:9/\", http: { transport: sse, reconnect: off } }
  c: { url: \"http://127.0.0.1:9/\", http: { transport: sse } }
routes: [{ match: { path: / }, upstream: a }]
",
        &[
            "t.yaml:5:40: upstreams.a.http.reconnect: an HTTP+SSE server cannot be reconnected to: \
             its stream is its session; found `on`",
            "leave it out, or set `transport: http`",
            "t.yaml:5:59: upstreams.a.http.reconnect_for: an HTTP+SSE server cannot be reconnected \
             to: its stream is its session; found `1m`",
            "leave it out, or set `transport: http`",
        ],
    );
}
