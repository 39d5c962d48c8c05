//! Every way to be wrong, with the exact words.

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
             max_connections, body_budget, max_sessions, max_depth, max_batch",
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
             max_depth, max_batch",
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

#[test]
fn sizes_durations_and_counts() {
    check_after_good(
        "limits:
  max_body: 16
  max_uri: 4KB2
  max_header_bytes: 1KiB
  max_batch: -1
  max_depth: 1000
  max_sessions: 99999999999999999999
  body_budget: true
timeouts: { drain: 10, headers: 10 sec, body_idle: 0s, keep_alive: 366d, first_byte: 0.5 }
",
        &[
            "t.yaml:5:13: limits.max_body: a size needs a unit; found `16`",
            "write a whole number and B, KB, MB, GB, KiB, MiB or GiB, for example 16MiB",
            "t.yaml:6:12: limits.max_uri: not a size; found `4KB2`",
            "write a whole number and B, KB, MB, GB, KiB, MiB or GiB, for example 16MiB",
            "t.yaml:7:21: limits.max_header_bytes: it is too small; found `1KiB`",
            "write 8KiB to 1MiB",
            "t.yaml:8:14: limits.max_batch: a whole number is needed; found `-1`",
            "write digits only, without quotes",
            "t.yaml:9:14: limits.max_depth: it is too large; found `1000`",
            "write 1 to 128",
            "t.yaml:10:17: limits.max_sessions: this number is too large; found \
             `99999999999999999999`",
            "write a smaller whole number",
            "t.yaml:11:16: limits.body_budget: not a size; found `true`",
            "write a whole number and B, KB, MB, GB, KiB, MiB or GiB, for example 16MiB",
            "t.yaml:12:20: timeouts.drain: a duration needs a unit; found `10`",
            "write a whole number and ms, s, m, h or d, for example 30s",
            "t.yaml:12:33: timeouts.headers: not a duration; found `10 sec`",
            "write a whole number and ms, s, m, h or d, for example 30s",
            "t.yaml:12:52: timeouts.body_idle: it cannot be zero; found `0s`",
            "write a duration above zero, at most 365d; it cannot be off",
            "t.yaml:12:68: timeouts.keep_alive: the duration is too long; found `366d`",
            "write at most 365d",
            "t.yaml:12:86: timeouts.first_byte: not a duration; found `0.5`",
            "write a whole number and ms, s, m, h or d, for example 30s",
        ],
    );
}

#[test]
fn limits_that_contradict_each_other() {
    check_after_good(
        "limits: { max_body: 300MiB, max_header_value: 64KiB, max_uri: 60KiB }\n",
        &[
            "t.yaml:4:21: limits.max_body: it is larger than body_budget, which is 256MiB; found \
             `300MiB`",
            "lower max_body or raise body_budget",
            "t.yaml:4:47: limits.max_header_value: it is larger than max_header_bytes, which is \
             32KiB; found `64KiB`",
            "lower max_header_value or raise max_header_bytes",
            "t.yaml:4:63: limits.max_uri: it is larger than max_header_bytes, which is 32KiB; \
             found `60KiB`",
            "lower max_uri or raise max_header_bytes",
        ],
    );
}

#[test]
fn addresses() {
    check_after_good(
        "listeners:
  - address: 127.0.0.1:8080
  - { address: \":9000\" }
  - address: 127.0.0.1
  - {}
  - address: 127.0.0.1:8080
  - address: 0.0.0.0:8080
ops: { address: 127.0.0.1:8081, path: /x }
",
        &[
            "t.yaml:6:16: listeners[1].address: not an IP address with a port; found `:9000`",
            "write 127.0.0.1:9000, or 0.0.0.0:9000 for all",
            "t.yaml:7:14: listeners[2].address: not an IP address with a port; found `127.0.0.1`",
            "write a port behind it, IP:PORT",
            "t.yaml:8:5: listeners[3].address: the key is missing",
            "write IP:PORT, for example 127.0.0.1:8080 or [::1]:8080",
            "t.yaml:9:14: listeners[4].address: the address is taken by listeners[0].address; \
             found `127.0.0.1:8080`",
            "give each its own port, or remove one",
            "t.yaml:10:14: listeners[5].address: the address is taken by listeners[0].address; \
             found `0.0.0.0:8080`",
            "give each its own port, or remove one",
            "t.yaml:11:33: ops.path: unknown key",
            "the keys here are address",
        ],
    );
    check_after_good(
        "ops: { address: 127.0.0.1:8080 }\n",
        &[
            "t.yaml:4:17: ops.address: the address is taken by listeners[0].address; found \
             `127.0.0.1:8080`",
            "give each its own port, or remove one",
        ],
    );
    check_after_good(
        "listeners: []\n",
        &[
            "t.yaml:4:12: listeners: there is no listener; found a list",
            "write at least one address",
        ],
    );
}

#[test]
fn hosts_and_origins() {
    check_after_good(
        "security:
  allowed_hosts: [\"*\", mcp.example, \"http://x\"]
  allowed_origins: [\"https://ok.example\", app.example]
",
        &[
            "t.yaml:5:19: security.allowed_hosts[0]: not a host name; found `*`",
            "write the name alone or with a port, for example mcp.example or mcp.example:8443",
            "t.yaml:5:37: security.allowed_hosts[2]: not a host name; found `http://x`",
            "write the name alone or with a port, for example mcp.example or mcp.example:8443",
            "t.yaml:6:43: security.allowed_origins[1]: not an origin; found `app.example`",
            "write scheme and host as browsers do, for example https://app.example, without a \
             path and a slash at the end",
        ],
    );
}

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
fn commands() {
    check_yaml(
        "upstreams:
  text: { stdio: { command: npx -y server } }
  empty: { stdio: { command: [] } }
  blank: { stdio: { command: [\"\"] } }
  missing: { stdio: {} }
  gone: { stdio: { command: [no-such-program, -x] } }
  path: { stdio: { command: [./nowhere] } }
  plain: { stdio: { command: [./data.txt] } }
  folder: { stdio: { command: [./bin] } }
  number: { stdio: { command: [server, 5] } }
  cwd: { stdio: { command: [server], cwd: nowhere } }
  file: { stdio: { command: [server], cwd: data.txt } }
routes: [{ match: { path: / }, upstream: text }]
",
        &[
            "t.yaml:3:29: upstreams.text.stdio.command: a list is needed; found `npx -y server`",
            "write it as a list: [npx, -y, server]",
            "t.yaml:4:30: upstreams.empty.stdio.command: the command is empty; found a list",
            "write the program and its arguments, for example [npx, -y, some-server]",
            "t.yaml:5:31: upstreams.blank.stdio.command[0]: the command is empty; found ``",
            "write the program first",
            "t.yaml:6:14: upstreams.missing.stdio.command: the key is missing",
            "write the program and its arguments, for example [npx, -y, some-server]",
            "t.yaml:7:30: upstreams.gone.stdio.command[0]: no program `no-such-program` in the 1 \
             folders of PATH; found `no-such-program`",
            "install it, write its full path, or set `env.PATH` for the child",
            "t.yaml:8:30: upstreams.path.stdio.command[0]: cannot run ~/./nowhere: there is no such \
             file; found `./nowhere`",
            "give the path of an executable file",
            "t.yaml:9:31: upstreams.plain.stdio.command[0]: cannot run ~/./data.txt: it is not \
             executable; found `./data.txt`",
            "give the path of an executable file",
            "t.yaml:10:32: upstreams.folder.stdio.command[0]: cannot run ~/./bin: it is not a file; \
             found `./bin`",
            "give the path of an executable file",
            "t.yaml:11:40: upstreams.number.stdio.command[1]: text is needed, not a number; found \
             `5`",
            "put it in quotes",
            "t.yaml:12:43: upstreams.cwd.stdio.cwd: there is no such directory; found `nowhere`",
            "create ~/nowhere, or correct it",
            "t.yaml:13:44: upstreams.file.stdio.cwd: it is not a directory; found `data.txt`",
            "create ~/data.txt, or correct it",
        ],
    );
}

#[test]
fn environments_of_children() {
    check_yaml(
        "upstreams:
  a:
    stdio:
      command: [server]
      env: { PORT: 8080, TOKEN: \"${NOBODY}\", \"A=B\": x }
      clear_env: no
      inherit_env: [\"A=B\", HOME]
      stop_grace: -1s
      max_line: 1B
      max_in_flight: 0
",
        &[
            "t.yaml:6:20: upstreams.a.stdio.env.PORT: text is needed, not a number; found `8080`",
            "put it in quotes",
            "t.yaml:6:33: upstreams.a.stdio.env.TOKEN: the variable NOBODY is not set; found \
             <hidden>",
            "set NOBODY, or write $${NOBODY} if the text itself is meant",
            "t.yaml:6:46: upstreams.a.stdio.env.\"A=B\": not a name for a variable",
            "a name is not empty and has no = in it",
            "t.yaml:7:18: upstreams.a.stdio.clear_env: a truth value is needed; found `no`",
            "write true or false",
            "t.yaml:8:21: upstreams.a.stdio.inherit_env[0]: not a name for a variable; found `A=B`",
            "a name is not empty and has no = in it",
            "t.yaml:9:19: upstreams.a.stdio.stop_grace: not a duration; found `-1s`",
            "write a whole number and ms, s, m, h or d, for example 30s",
            "t.yaml:10:17: upstreams.a.stdio.max_line: it is too small; found `1B`",
            "write 1KiB to 1GiB",
            "t.yaml:11:22: upstreams.a.stdio.max_in_flight: it is too small; found `0`",
            "write 1 to 1000000",
        ],
    );
}

#[test]
fn processes_of_a_command() {
    check_yaml(
        "upstreams:
  a:
    stdio:
      command: [server]
      sharing: share
      max_processes: 0
      max_waiting: -1
      acquire_timeout: 0s
      min_idle: some
      idle_timeout: never
      max_age: 0s
      max_calls: 0
      max_rss: 100
      start_attempts: 1001
      down_for: off
      user: nobody-of-this-name
      group: 4294967295
      rlimits: { nofile: 15, as: 1MiB, cpu: 1500ms, core: 0 }
",
        &[
            "t.yaml:6:16: upstreams.a.stdio.sharing: not a way of sharing; found `share`",
            "did you mean shared? write session, shared or auto",
            "t.yaml:7:22: upstreams.a.stdio.max_processes: it is too small; found `0`",
            "write 1 to 100000",
            "t.yaml:8:20: upstreams.a.stdio.max_waiting: a whole number is needed; found `-1`",
            "write digits only, without quotes",
            "t.yaml:9:24: upstreams.a.stdio.acquire_timeout: it cannot be zero; found `0s`",
            "write a duration above zero, at most 365d; it cannot be off",
            "t.yaml:10:17: upstreams.a.stdio.min_idle: a whole number is needed; found `some`",
            "write digits only, without quotes",
            "t.yaml:11:21: upstreams.a.stdio.idle_timeout: not a duration; found `never`",
            "write a whole number and ms, s, m, h or d, for example 30s; or off",
            "t.yaml:12:16: upstreams.a.stdio.max_age: it cannot be zero; found `0s`",
            "write a duration above zero, at most 365d; or off",
            "t.yaml:13:18: upstreams.a.stdio.max_calls: it is too small; found `0`",
            "write 1 to 1000000000000; or off",
            "t.yaml:14:16: upstreams.a.stdio.max_rss: a size needs a unit; found `100`",
            "write a whole number and B, KB, MB, GB, KiB, MiB or GiB, for example 16MiB; or off",
            "t.yaml:15:23: upstreams.a.stdio.start_attempts: it is too large; found `1001`",
            "write 1 to 1000",
            "t.yaml:16:17: upstreams.a.stdio.down_for: not a duration; found `off`",
            "write a whole number and ms, s, m, h or d, for example 30s",
            "t.yaml:17:13: upstreams.a.stdio.user: there is no user of this name; found \
             `nobody-of-this-name`",
            "create it, or write the name or number of another user",
            "t.yaml:18:14: upstreams.a.stdio.group: this number is too large; found `4294967295`",
            "write 0 to 4294967294",
            "t.yaml:19:26: upstreams.a.stdio.rlimits.nofile: it is too small; found `15`",
            "write 16 to 1073741824; or off",
            "t.yaml:19:34: upstreams.a.stdio.rlimits.as: it is too small; found `1MiB`",
            "write 16MiB to 65536GiB; or off",
            "t.yaml:19:45: upstreams.a.stdio.rlimits.cpu: the system counts whole seconds; found \
             `1500ms`",
            "write whole seconds, for example 60s; or off",
            "t.yaml:19:53: upstreams.a.stdio.rlimits.core: unknown key",
            "the keys here are nofile, as, cpu",
        ],
    );
}

#[test]
fn processes_of_a_command_in_the_wrong_notation() {
    check_yaml(
        "upstreams:
  b:
    stdio:
      command: [server]
      sharing: yes
      max_age: false
      max_calls: [1]
      max_rss:
      user: 1.5
      group: none-of-this-name
      rlimits: off
",
        &[
            "t.yaml:6:16: upstreams.b.stdio.sharing: not a way of sharing; found `yes`",
            "write session, shared or auto",
            "t.yaml:7:16: upstreams.b.stdio.max_age: not a duration; found `false`",
            "write a whole number and ms, s, m, h or d, for example 30s; or off",
            "t.yaml:8:18: upstreams.b.stdio.max_calls: a single value is needed; found a list",
            "write one value after the colon; or off",
            "t.yaml:9:14: upstreams.b.stdio.max_rss: a size is needed; found nothing",
            "write a value after the colon, or leave the key out for its default; or off",
            "t.yaml:10:13: upstreams.b.stdio.user: not a name or number; found `1.5`",
            "write the name or the number of one",
            "t.yaml:11:14: upstreams.b.stdio.group: there is no group of this name; found \
             `none-of-this-name`",
            "create it, or write the name or number of another group",
            "t.yaml:12:16: upstreams.b.stdio.rlimits: a mapping is needed; found `off`",
            "write `key: value` pairs below it; the keys are nofile, as, cpu",
        ],
    );
}

#[test]
fn processes_that_contradict_each_other() {
    check_yaml(
        "upstreams:
  few: { stdio: { command: [server], max_processes: 4, min_idle: 5 } }
  shared: { stdio: { command: [server], sharing: shared, min_idle: 1 } }
  nobody: { stdio: { command: [server], user: 4294967 } }
routes: [{ match: { path: / }, upstream: few }]
",
        &[
            "t.yaml:3:66: upstreams.few.stdio.min_idle: it is larger than max_processes, which is 4; \
             found `5`",
            "lower min_idle or raise max_processes",
            "t.yaml:4:68: upstreams.shared.stdio.min_idle: spare processes serve sessions that have \
             a process each, and with `sharing: shared` none has; found `1`",
            "write 0, or `sharing: session`, or `sharing: auto`",
            "t.yaml:5:47: upstreams.nobody.stdio.user: the user is 4294967, and only root can start \
             a child as another than 1000; found `4294967`",
            "leave `user` and `group` out, or run the proxy as root; it is user 1000",
        ],
    );
    check(
        &World::with_yaml("upstreams: { a: { stdio: { command: [server], user: 4294967 } } }\n")
            .running_as(0, 0),
        &[
            "t.yaml:2:53: upstreams.a.stdio.user: no user has this number, so its group is not \
             known; found `4294967`",
            "set `group` too",
        ],
    );
}

#[test]
fn limits_that_the_system_would_not_take() {
    // One more than any Linux can be told to allow for open files.
    let yaml =
        "upstreams: { a: { stdio: { command: [server], rlimits: { nofile: 1073741824 } } } }\n";
    for (user, whose) in [(1000, ""), (0, "the system allows; found")] {
        let problems = World::with_yaml(yaml).running_as(user, user).problems();
        let place = "t.yaml:2:66: upstreams.a.stdio.rlimits.nofile: it is more than ";
        assert!(problems.starts_with(place) && problems.contains(whose), "{problems}");
        let help = "\n    lower it, or raise the limit before the proxy starts\n";
        assert!(problems.ends_with(help), "{problems}");
    }
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
        ],
    );
}

#[test]
fn bounds_of_reconnecting() {
    check_yaml(
        "upstreams:
  a:
    url: http://127.0.0.1:9/
    http:
      reconnect: maybe
      reconnect_attempts: 0
      reconnect_base: 11s
      reconnect_for: 0s
      reconnect_at_once: off
      reconnect_rate: 0
",
        &[
            "t.yaml:6:18: upstreams.a.http.reconnect: neither on nor off; found `maybe`",
            "write on or off",
            "t.yaml:7:27: upstreams.a.http.reconnect_attempts: it is too small; found `0`",
            "write 1 to 1000000",
            "t.yaml:8:23: upstreams.a.http.reconnect_base: it is longer than reconnect_max, which \
             is 10s; found `11s`",
            "lower reconnect_base or raise reconnect_max",
            "t.yaml:9:22: upstreams.a.http.reconnect_for: it cannot be zero; found `0s`",
            "write a duration above zero, at most 365d; it cannot be off",
            "t.yaml:10:26: upstreams.a.http.reconnect_at_once: a whole number is needed; found `off`",
            "write digits only, without quotes",
            "t.yaml:11:23: upstreams.a.http.reconnect_rate: it is too small; found `0`",
            "write 1 to 1000000",
        ],
    );
}

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
fn logs() {
    check_after_good(
        "log: { level: verbos, format: xml }\n",
        &[
            "t.yaml:4:15: log.level: not a log level; found `verbos`",
            "write off, error, warn, info, debug or trace, or several parts such as \
             info,tidegate_gateway=debug",
            "t.yaml:4:31: log.format: not a format; found `xml`",
            "write text or json",
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

#[test]
fn secrets_do_not_reach_the_report() {
    let world = World::with_yaml(
        "upstreams:
  a:
    http:
      url: \"${ADDRESS}\"
      headers: { x-token: \"${TOKEN}\", authorization: \"Basic literal\\n\" }
      request_timeout: \"${TOKEN}\"
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
