//! `config show`: every value with its source, no secrets, and it reads back.

use tidegate_config::Flags;

use crate::world::World;

const EXPECTED: &str = r#"version: 1  # t.yaml:1
listeners:
  - address: 127.0.0.1:1  # flag --listen
ops: off  # flag --ops
workers: 2  # flag --workers
state_dir: /tmp/tidegate-1000  # default
upstreams:
  child:
    stdio:
      command: [server, -c, "echo $${HOME} <secret from data.txt>"]  # t.yaml:12
      env:
        ZONE: "<secret from TIDEGATE__UPSTREAMS__CHILD__STDIO__ENV__ZONE>"  # env TIDEGATE__UPSTREAMS__CHILD__STDIO__ENV__ZONE
      clear_env: false  # default
      inherit_env: []  # default
      user: 1000  # t.yaml:13
      group: 1000  # t.yaml:14
      rlimits:
        nofile: 1024  # t.yaml:15
        as: off  # default
        cpu: off  # default
      sharing: session  # default
      max_processes: 128  # default
      start_timeout: 30s  # default
      start_attempts: 5  # default
      down_for: 30s  # default
      stop_grace: 5s  # default
      idle_timeout: off  # env TIDEGATE__UPSTREAMS__CHILD__STDIO__IDLE_TIMEOUT
      max_waiting: 1024  # default
      acquire_timeout: 10s  # default
      min_idle: 0  # default
      max_age: off  # default
      max_calls: 9  # env TIDEGATE__UPSTREAMS__CHILD__STDIO__MAX_CALLS
      max_rss: off  # default
      max_line: 16MiB  # default
      max_in_flight: 1024  # default
    timeouts:
      request: 5m  # default
      idle: 5m  # default
      total: 1h  # default
  search:
    url: http://127.0.0.1:9/mcp  # t.yaml:4
    http:
      transport: auto  # default
      pool_idle: 60s  # default
      max_connection_age: off  # default
      max_connection_requests: off  # default
      min_idle_connections: 0  # default
      http2: auto  # default
      reconnect: on  # default
      reconnect_stall: 2m  # default
      reconnect_attempts: 10  # default
      reconnect_base: 500ms  # default
      reconnect_max: 10s  # default
      reconnect_for: 5m  # default
      reconnect_at_once: 16  # default
      reconnect_rate: 100  # default
      max_connections: 1024  # default
      max_waiting: 1024  # default
      acquire_timeout: 5s  # default
      max_response: 16MiB  # default
      headers:
        authorization: "Bearer <secret from TOKEN>"  # t.yaml:7
        x-api-key: "<hidden>"  # t.yaml:8
        x-tenant: blue  # t.yaml:9
    timeouts:
      connect: 2s  # default
      request: 5m  # default
      idle: 5m  # default
      total: 1h  # default
routes:
  - match:
      path: /s  # t.yaml:17
    upstream: search  # t.yaml:18
    sse: off  # default
    forward:
      authorization: false  # default
      cookies: false  # default
    progress: client  # default
    replay: auto  # default
    replay_window: 5m  # default
    replay_max_events: 1000  # default
    replay_max_bytes: 4MiB  # default
    replay_prime_after: 1s  # default
    replay_poll_after: off  # default
    slow_client: pause  # default
    slow_client_buffer: 8MiB  # default
    slow_client_after: 10s  # default
  - match:
      path: /c  # t.yaml:19
    upstream: child  # t.yaml:20
    sse:
      path: /c/sse  # default
      messages: /in  # t.yaml:21
    forward:
      authorization: false  # default
      cookies: true  # t.yaml:22
    progress: client  # default
    replay: auto  # default
    replay_window: 20s  # t.yaml:23
    replay_max_events: 1000  # default
    replay_max_bytes: 4MiB  # default
    replay_prime_after: 1s  # default
    replay_poll_after: off  # default
    slow_client: pause  # default
    slow_client_buffer: 8MiB  # default
    slow_client_after: 10s  # default
limits:
  max_connections: 10000  # default
  max_body: 1MiB  # env TIDEGATE__LIMITS__MAX_BODY
  body_budget: 256MiB  # default
  max_header_bytes: 32KiB  # default
  max_header_value: 8KiB  # default
  max_headers: 64  # default
  max_uri: 4KiB  # default
  max_sessions: 10000  # default
  max_depth: 9  # env TIDEGATE__LIMITS__MAX_DEPTH
  max_batch: 32  # default
  replay_budget: 64MiB  # default
  slow_client_budget: 128MiB  # default
timeouts:
  first_byte: 5s  # default
  headers: 10s  # default
  body_idle: 15s  # default
  keep_alive: 75s  # default
  write_stall: 60s  # default
  heartbeat: 15s  # default
  session_idle: 30m  # default
  drain: 10s  # default
security:
  allowed_hosts: [mcp.example]  # env TIDEGATE__SECURITY__ALLOWED_HOSTS
  allowed_origins: []  # default
log:
  level: debug  # flag --log-level
  format: text  # default
"#;

#[test]
fn every_value_has_its_source() {
    let mut world = World::with_yaml(
        "upstreams:
  search:
    url: http://127.0.0.1:9/mcp
    http:
      headers:
        authorization: Bearer ${TOKEN}
        x-api-key: literal
        x-tenant: blue
  child:
    stdio:
      command: [server, -c, \"echo $${HOME} ${file:data.txt}\"]
      user: 1000
      group: 1000
      rlimits: { nofile: 1024 }
routes:
  - match: { path: /s }
    upstream: search
  - match: { path: /c }
    upstream: child
    sse: { messages: /in }
    forward: { cookies: true }
    replay_window: 20s
",
    )
    .var("TOKEN", "s3cret")
    .var("TIDEGATE__LIMITS__MAX_BODY", "1MiB")
    .var("TIDEGATE__LIMITS__MAX_DEPTH", "9")
    .var("TIDEGATE__SECURITY__ALLOWED_HOSTS", "[mcp.example]")
    .var("TIDEGATE__UPSTREAMS__CHILD__STDIO__ENV__ZONE", "s3cret")
    .var("TIDEGATE__UPSTREAMS__CHILD__STDIO__IDLE_TIMEOUT", "off")
    .var("TIDEGATE__UPSTREAMS__CHILD__STDIO__MAX_CALLS", "9");
    world.flags = Flags {
        listen: vec!["127.0.0.1:1".to_owned()],
        ops: Some("off".to_owned()),
        workers: Some(2),
        log_level: Some("debug".to_owned()),
        ..world.flags
    };
    // The comments stand in one column; that is not what this is about.
    let shown: String = world
        .show()
        .lines()
        .map(|line| match line.split_once("  # ") {
            Some((value, source)) => format!("{}  # {source}\n", value.trim_end()),
            None => format!("{line}\n"),
        })
        .collect();
    assert_eq!(shown, EXPECTED);
}

#[test]
fn the_flag_only_ways_show_their_flags() {
    let mut world = World::new();
    world.flags.upstream = Some("http://127.0.0.1:9/mcp".to_owned());
    assert!(world.show().contains("# flag --upstream\n"), "{}", world.show());

    let mut world = World::new();
    world.flags.command = vec!["server".to_owned()];
    assert!(world.show().contains("# flag -- COMMAND\n"), "{}", world.show());
    let empty = world.show().lines().any(|line| {
        line.split_once("  # ")
            .is_some_and(|(value, source)| (value.trim(), source) == ("env: {}", "default"))
    });
    assert!(empty, "{}", world.show());
    world.flags.demo = true;
    assert!(world.show().contains("# flag --demo\n"), "{}", world.show());
}

#[test]
fn what_is_shown_reads_back_as_the_same_configuration() {
    for command in [
        vec!["server"],
        vec!["server", "", " ", "a b", "a, b", "it's", "\"", "#x", "- x", "{}", "[", "*a", "&b"],
        vec!["server", "yes", "true", "null", "~", "007", "1e3", "0x10", ".5", "5s", "a: b", "a:"],
        vec!["server", "${HOME}", "$${HOME}", "$", "ä", "a\nb", "a\tb", "\\n", "\u{7f}", "!x", "%"],
    ] {
        let mut world = World::new();
        world.flags.command = command.iter().map(|part| (*part).to_owned()).collect();
        world.flags.ops = Some("off".to_owned());
        world.put("again.yaml", &world.show());
        let config = world.config();
        world.flags = Flags { config: Some("again.yaml".into()), ..Flags::default() };
        assert_eq!(world.config(), config, "{}", world.show());
    }
}
