//! Every key reaches the configuration.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf, time::Duration};

use http::{HeaderMap, HeaderValue};
use tidegate_config::{
    CallTimeouts, Config, Forward, Http2, HttpUpstream, Limits, Listener, Log, LogFormat, Ops,
    Processes, Progress, Reconnect, Replay, ReplayMode, Rlimits, Route, Secret, Security, Sharing,
    SlowClient, SlowPolicy, SsePaths, StdioUpstream, Timeouts, Transport, Upstream,
};

use crate::world::{PEM, World};

/// Every key there is, none with its default.
const ALL: &str = r#"
listeners: [{ address: 127.0.0.1:1 }, { address: "[::1]:2" }]
ops: { address: 127.0.0.1:3 }
workers: 7
state_dir: state
limits:
  max_body: 11MiB
  max_header_bytes: 12KiB
  max_header_value: 13B
  max_headers: 14
  max_uri: 15B
  max_connections: 16
  body_budget: 17GB
  max_sessions: 18
  max_depth: 19
  max_batch: 20
  replay_budget: 22MiB
  slow_client_budget: 54MiB
timeouts:
  first_byte: 21ms
  headers: 22s
  body_idle: 23m
  keep_alive: 24h
  write_stall: 25d
  heartbeat: 27s
  session_idle: 26s
  drain: 0s
security:
  allowed_hosts: [MCP.example]
  allowed_origins: ["https://App.example:443"]
upstreams:
  child:
    stdio:
      command: [server, "--token=${TOKEN}", "$${x}"]
      env: { KEY: "<${file:data.txt}>" }
      clear_env: true
      inherit_env: [LANGUAGE, ABSENT, PATH]
      cwd: bin
      user: 4001
      group: 4002
      rlimits: { nofile: 53, as: 54GiB, cpu: 55s }
      sharing: auto
      max_processes: 56
      max_waiting: 57
      acquire_timeout: 58s
      min_idle: 5
      idle_timeout: 60s
      max_age: 61s
      max_calls: 62
      max_rss: 63MiB
      start_timeout: 31s
      start_attempts: 64
      down_for: 65s
      stop_grace: 32s
      max_line: 33KiB
      max_in_flight: 34
    timeouts: { request: 35s, idle: 36s, total: 37s }
  remote:
    http:
      url: https://mcp.example/mcp?tenant=a
      transport: http
      max_connections: 44
      max_waiting: 47
      acquire_timeout: 48s
      min_idle_connections: 3
      http2: always
      reconnect_stall: 77s
      reconnect_attempts: 71
      reconnect_base: 72ms
      reconnect_max: 73s
      reconnect_for: 74s
      reconnect_at_once: 75
      reconnect_rate: 76
      max_connection_age: 49s
      max_connection_requests: 50
      pool_idle: 45s
      max_response: 46KiB
      ca_file: ca.pem
      headers: { X-Token: "Bearer ${TOKEN}" }
    timeouts: { connect: 41s, request: 42s, idle: off, total: off }
routes:
  - match: { path: /child }
    upstream: child
    sse: true
    forward: { authorization: true }
    timeouts: { idle: 81s }
    progress: always
    tools:
      report: { timeouts: { total: 82s, request: off } }
      "odd name": {}
    replay: on
    replay_window: 51s
    replay_max_events: 52
    replay_max_bytes: 53KiB
    replay_prime_after: 0s
    replay_poll_after: 57s
    slow_client: end
    slow_client_buffer: 65KiB
    slow_client_after: 56s
  - match: { path: /remote }
    upstream: remote
    sse: { path: /remote, messages: /inbox }
    forward: { cookies: true }
    timeouts: { connect: 83s }
    replay: off
log: { level: "warn,hyper=off", format: json }
"#;

fn nonzero(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn expected_child(world: &World) -> StdioUpstream {
    let seconds = Duration::from_secs;
    let secret = |text: &str| Secret::new(text.to_owned());
    StdioUpstream {
        program: world.path("bin/server"),
        args: vec!["--token=s3cret".to_owned(), "${x}".to_owned()],
        env: BTreeMap::from([
            ("KEY".to_owned(), secret("<plain>")),
            ("LANGUAGE".to_owned(), secret("fr")),
            // Inherited by name: `clear_env` alone would leave no way to find `server`.
            ("PATH".to_owned(), secret(&world.path("bin").display().to_string())),
        ]),
        cwd: Some(world.path("bin")),
        user: Some(4001),
        group: Some(4002),
        rlimits: Rlimits {
            open_files: Some(53),
            address_space: Some(54 << 30),
            cpu: Some(seconds(55)),
        },
        processes: Processes {
            sharing: Sharing::Auto,
            max_processes: nonzero(56),
            max_waiting: 57,
            acquire_timeout: seconds(58),
            min_idle: 5,
            idle_timeout: Some(seconds(60)),
            max_age: Some(seconds(61)),
            max_calls: Some(62),
            max_rss: Some(63 << 20),
        },
        start_timeout: seconds(31),
        start_attempts: nonzero(64),
        down_for: seconds(65),
        stop_grace: seconds(32),
        max_line: 33 << 10,
        max_in_flight: 34,
        timeouts: timeouts(None, Some(35), Some(36), Some(37)),
    }
}

fn expected_remote() -> HttpUpstream {
    let seconds = Duration::from_secs;
    let mut headers = HeaderMap::new();
    headers.insert("x-token", HeaderValue::from_static("Bearer s3cret"));
    HttpUpstream {
        url: "https://mcp.example/mcp?tenant=a".parse().unwrap(),
        transport: Transport::Http,
        timeouts: timeouts(Some(41), Some(42), None, None),
        max_connections: 44,
        max_waiting: 47,
        acquire_timeout: seconds(48),
        min_idle_connections: 3,
        http2: Http2::Always,
        reconnect: Some(Reconnect {
            stall: seconds(77),
            attempts: NonZeroU32::new(71).unwrap(),
            base: Duration::from_millis(72),
            max: seconds(73),
            window: seconds(74),
            at_once: 75,
            per_second: NonZeroU32::new(76).unwrap(),
        }),
        pool_idle: seconds(45),
        max_connection_age: Some(seconds(49)),
        max_connection_requests: Some(50),
        max_response: 46 << 10,
        ca_pem: Some(PEM.into()),
        headers,
    }
}

/// In seconds.
fn timeouts(
    connect: Option<u64>,
    request: Option<u64>,
    idle: Option<u64>,
    total: Option<u64>,
) -> CallTimeouts {
    let [connect, request, idle, total] =
        [connect, request, idle, total].map(|limit| limit.map(Duration::from_secs));
    CallTimeouts { connect, request, idle, total }
}

/// What a route says about this that says nothing.
const SLOW_CLIENT: SlowClient =
    SlowClient { policy: SlowPolicy::Pause, buffer: 8 << 20, after: Duration::from_secs(10) };

/// What a route says that says nothing.
const REPLAY: Replay = Replay {
    mode: ReplayMode::Auto,
    window: Duration::from_secs(300),
    max_events: 1000,
    max_bytes: 4 << 20,
    prime_after: Duration::from_secs(1),
    poll_after: None,
};

fn expected_routes() -> Vec<Route> {
    let seconds = Duration::from_secs;
    let sse = |path: &str, messages: &str| {
        Some(SsePaths { path: path.to_owned(), messages: messages.to_owned() })
    };
    let route =
        |name: &str, sse, forward, timeouts, tools, progress, (replay, slow_client)| Route {
            path: format!("/{name}"),
            upstream: name.to_owned(),
            sse,
            forward,
            timeouts,
            tools,
            progress,
            replay,
            slow_client,
        };
    let child = timeouts(None, Some(35), Some(81), Some(37));
    let tools = BTreeMap::from([
        ("report".to_owned(), CallTimeouts { request: None, total: Some(seconds(82)), ..child }),
        ("odd name".to_owned(), child),
    ]);
    let replay = Replay {
        mode: ReplayMode::On,
        window: seconds(51),
        max_events: 52,
        max_bytes: 53 << 10,
        prime_after: Duration::ZERO,
        poll_after: Some(seconds(57)),
    };
    let slow_client = SlowClient { policy: SlowPolicy::End, buffer: 65 << 10, after: seconds(56) };
    let off = Replay { mode: ReplayMode::Off, ..REPLAY };
    vec![
        route(
            "child",
            sse("/child/sse", "/child/messages"),
            Forward { authorization: true, cookies: false },
            child,
            tools,
            Progress::Always,
            (replay, slow_client),
        ),
        route(
            "remote",
            sse("/remote", "/inbox"),
            Forward { authorization: false, cookies: true },
            timeouts(Some(83), Some(42), None, None),
            BTreeMap::new(),
            Progress::Client,
            (off, SLOW_CLIENT),
        ),
    ]
}

fn expected(world: &World) -> Config {
    let seconds = Duration::from_secs;
    let address = |text: &str| text.parse().unwrap();
    Config {
        listeners: ["127.0.0.1:1", "[::1]:2"]
            .map(|text| Listener { address: address(text) })
            .to_vec(),
        ops: Some(Ops { address: address("127.0.0.1:3") }),
        workers: 7,
        state_dir: Some(world.path("state")),
        limits: Limits {
            max_body: 11 << 20,
            max_header_bytes: 12 << 10,
            max_header_value: 13,
            max_headers: 14,
            max_uri: 15,
            max_connections: 16,
            body_budget: 17_000_000_000,
            max_sessions: 18,
            max_depth: 19,
            max_batch: 20,
            replay_budget: 22 << 20,
            slow_client_budget: 54 << 20,
        },
        timeouts: Timeouts {
            first_byte: Duration::from_millis(21),
            headers: seconds(22),
            body_idle: seconds(23 * 60),
            keep_alive: seconds(24 * 3600),
            write_stall: seconds(25 * 86_400),
            heartbeat: seconds(27),
            session_idle: seconds(26),
            drain: Duration::ZERO,
        },
        security: Security {
            allowed_hosts: vec!["mcp.example".to_owned()],
            allowed_origins: vec!["https://app.example".to_owned()],
        },
        upstreams: BTreeMap::from([
            ("child".to_owned(), Upstream::Stdio(expected_child(world))),
            ("remote".to_owned(), Upstream::Http(expected_remote())),
        ]),
        routes: expected_routes(),
        log: Log { level: "warn,hyper=off".to_owned(), format: LogFormat::Json },
    }
}

#[test]
fn every_key_reaches_the_configuration() {
    let world = World::with_yaml(ALL)
        .var("TOKEN", "s3cret")
        .var("LANGUAGE", "fr")
        .var("HOME", "/not/inherited")
        .running_as(0, 0);
    assert_eq!(world.config(), expected(&world));
}

#[test]
fn an_older_transport_has_no_streams_to_take_up_again() {
    // Not in the file above, since other keys of it have no meaning there.
    let world = World::with_yaml(
        "upstreams: { old: { url: \"http://a/\", http: { transport: sse } } }
routes: [{ match: { path: / }, upstream: old }]
",
    );
    let config = world.config();
    let Some(Upstream::Http(old)) = config.upstreams.get("old") else { panic!("{config:?}") };
    assert_eq!((old.transport, old.reconnect), (Transport::Sse, None));
}

#[test]
fn credentials_are_not_printed_with_the_configuration() {
    let world = World::with_yaml(ALL).var("TOKEN", "s3cret").var("LANGUAGE", "fr").running_as(0, 0);
    let mut config = world.config();
    // Arguments are visible to everyone on the machine anyway.
    if let Some(Upstream::Stdio(child)) = config.upstreams.get_mut("child") {
        child.args.clear();
    }
    let debug = format!("{config:?}");
    assert!(!debug.contains("s3cret") && !debug.contains("plain"), "{debug}");
}

#[test]
fn default_timeouts() {
    let mut world = World::new();
    world.flags.upstream = Some("http://127.0.0.1:9/mcp".to_owned());
    let config = world.config();
    let seconds = Duration::from_secs;
    assert_eq!(
        config.timeouts,
        Timeouts {
            first_byte: seconds(5),
            headers: seconds(10),
            body_idle: seconds(15),
            keep_alive: seconds(75),
            write_stall: seconds(60),
            heartbeat: seconds(15),
            session_idle: seconds(1800),
            drain: seconds(10),
        }
    );
}

#[test]
fn defaults() {
    let mut world = World::new();
    world.flags.upstream = Some("http://127.0.0.1:9/mcp".to_owned());
    let config = world.config();
    let seconds = Duration::from_secs;
    assert_eq!(config.listeners, [Listener { address: "127.0.0.1:8080".parse().unwrap() }]);
    assert_eq!(config.ops, Some(Ops { address: "127.0.0.1:9464".parse().unwrap() }));
    assert_eq!(config.state_dir, Some(PathBuf::from("/tmp/tidegate-1000")));
    assert_eq!(config.workers, std::thread::available_parallelism().unwrap().get());
    assert_eq!(
        config.limits,
        Limits {
            max_body: 16 << 20,
            max_header_bytes: 32 << 10,
            max_header_value: 8 << 10,
            max_headers: 64,
            max_uri: 4 << 10,
            max_connections: 10_000,
            body_budget: 256 << 20,
            max_sessions: 10_000,
            max_depth: 64,
            max_batch: 32,
            replay_budget: 64 << 20,
            slow_client_budget: 128 << 20,
        }
    );
    assert_eq!(config.security, Security::default());
    assert_eq!(config.log, Log { level: "info".to_owned(), format: LogFormat::Text });
    assert_eq!(
        config.routes,
        [Route {
            path: "/mcp".to_owned(),
            upstream: "default".to_owned(),
            sse: None,
            forward: Forward::default(),
            timeouts: timeouts(Some(2), Some(300), Some(300), Some(3600)),
            tools: BTreeMap::new(),
            progress: Progress::Client,
            replay: REPLAY,
            slow_client: SLOW_CLIENT
        }]
    );
    assert_eq!(
        config.upstreams["default"],
        Upstream::Http(HttpUpstream {
            url: "http://127.0.0.1:9/mcp".parse().unwrap(),
            transport: Transport::Auto,
            timeouts: timeouts(Some(2), Some(300), Some(300), Some(3600)),
            max_connections: 1024,
            max_waiting: 1024,
            acquire_timeout: seconds(5),
            min_idle_connections: 0,
            http2: Http2::Auto,
            reconnect: Some(Reconnect {
                stall: seconds(120),
                attempts: NonZeroU32::new(10).unwrap(),
                base: Duration::from_millis(500),
                max: seconds(10),
                window: seconds(300),
                at_once: 16,
                per_second: NonZeroU32::new(100).unwrap(),
            }),
            pool_idle: seconds(60),
            max_connection_age: None,
            max_connection_requests: None,
            max_response: 16 << 20,
            ca_pem: None,
            headers: HeaderMap::new(),
        })
    );
}

#[test]
fn a_command_on_the_command_line_is_taken_as_it_is() {
    let mut world = World::new().var("HOME", "/home/x").var("API_KEY", "s3cret").var("LC_ALL", "C");
    world.flags.command = ["server", "-c", "echo ${HOME}"].map(str::to_owned).to_vec();
    let bin = world.path("bin").display().to_string();
    let secret = |text: &str| Secret::new(text.to_owned());
    assert_eq!(
        world.config().upstreams["default"],
        Upstream::Stdio(StdioUpstream {
            program: world.path("bin/server"),
            args: vec!["-c".to_owned(), "echo ${HOME}".to_owned()],
            // Nothing that is not asked for, above all no keys.
            env: BTreeMap::from([
                ("HOME".to_owned(), secret("/home/x")),
                ("LC_ALL".to_owned(), secret("C")),
                ("PATH".to_owned(), secret(&bin)),
            ]),
            cwd: None,
            user: None,
            group: None,
            rlimits: Rlimits::default(),
            processes: Processes {
                sharing: Sharing::Session,
                max_processes: nonzero(128),
                max_waiting: 1024,
                acquire_timeout: Duration::from_secs(10),
                min_idle: 0,
                idle_timeout: Some(Duration::from_secs(600)),
                max_age: None,
                max_calls: None,
                max_rss: None,
            },
            start_timeout: Duration::from_secs(30),
            start_attempts: nonzero(5),
            down_for: Duration::from_secs(30),
            stop_grace: Duration::from_secs(5),
            max_line: 16 << 20,
            max_in_flight: 1024,
            timeouts: timeouts(None, Some(300), Some(300), Some(3600)),
        })
    );
}

#[test]
fn the_short_form_of_a_url_is_the_long_one() {
    let short =
        World::with_yaml("upstreams: { a: { url: http://127.0.0.1:9/, http: { pool_idle: 1s } } }");
    let long =
        World::with_yaml("upstreams: { a: { http: { url: http://127.0.0.1:9/, pool_idle: 1s } } }");
    assert_eq!(short.config(), long.config());
}

#[test]
fn ops_can_be_off() {
    let text = "upstreams: { a: { url: http://127.0.0.1:9/ } }\nops: off\n";
    assert_eq!(World::with_yaml(text).config().ops, None);
}

#[test]
fn programs_are_found_as_a_shell_finds_them() {
    for (command, cwd) in [("server", ""), ("./bin/server", ""), ("./server", "cwd: bin")] {
        let world = World::with_yaml(&format!(
            "upstreams:\n  a:\n    stdio:\n      command: [{command}]\n      {cwd}\n"
        ));
        let Upstream::Stdio(child) = world.config().upstreams["a"].clone() else {
            panic!("not stdio");
        };
        let found = child.program.canonicalize().unwrap();
        assert_eq!(found, world.path("bin/server").canonicalize().unwrap(), "{command}");
        assert!(child.program.is_absolute() && child.program.starts_with(world.folder()));
    }
}

#[test]
fn paths_in_a_file_start_at_the_file() {
    let world = World::with_file(
        "conf/t.yaml",
        "version: 1\nupstreams: { a: { url: http://127.0.0.1:9/, http: { ca_file: own.pem, headers: { x: \"${file:own.txt}\" } } } }",
    );
    world.put("conf/own.pem", PEM);
    world.put("conf/own.txt", "here\n");
    let Upstream::Http(http) = world.config().upstreams["a"].clone() else { panic!("not http") };
    assert_eq!(http.headers["x"], "here");
    assert!(http.ca_pem.is_some());
}

/// What is limited of this upstream, in the notation of this file.
fn limits(world: &World) -> (Processes, Rlimits) {
    let Upstream::Stdio(child) = world.config().upstreams["a"].clone() else { panic!("not stdio") };
    (child.processes, child.rlimits)
}

#[test]
fn off_is_no_limit_in_every_notation() {
    let files = [
        (
            "t.yaml",
            "version: 1
upstreams: { a: { stdio: { command: [server], idle_timeout: off, max_age: off, max_calls: off,
  max_rss: off, rlimits: { nofile: off, as: off, cpu: off } } } }
",
        ),
        (
            "t.toml",
            "version = 1
[upstreams.a.stdio]
command = [\"server\"]
idle_timeout = \"off\"
max_age = \"off\"
max_calls = \"off\"
max_rss = \"off\"
rlimits = { nofile = \"off\", as = \"off\", cpu = \"off\" }
",
        ),
        (
            "t.json",
            r#"{"version": 1, "upstreams": {"a": {"stdio": {"command": ["server"],
            "idle_timeout": "off", "max_age": "off", "max_calls": "off", "max_rss": "off",
            "rlimits": {"nofile": "off", "as": "off", "cpu": "off"}}}}}"#,
        ),
    ];
    for (name, text) in files {
        let (processes, rlimits) = limits(&World::with_file(name, text));
        let Processes { idle_timeout, max_age, max_calls, max_rss, .. } = processes;
        assert_eq!((idle_timeout, max_age, max_calls, max_rss), (None, None, None, None), "{name}");
        assert_eq!(rlimits, Rlimits::default(), "{name}");
    }
}

#[test]
fn a_variable_can_set_what_is_off_by_default() {
    let world = World::with_yaml("upstreams: { a: { stdio: { command: [server] } } }\n")
        .var("TIDEGATE__UPSTREAMS__A__STDIO__MAX_CALLS", "7")
        .var("TIDEGATE__UPSTREAMS__A__STDIO__MAX_AGE", "8h")
        .var("TIDEGATE__UPSTREAMS__A__STDIO__IDLE_TIMEOUT", "off")
        .var("TIDEGATE__UPSTREAMS__A__STDIO__RLIMITS__NOFILE", "64")
        .var("TIDEGATE__UPSTREAMS__A__STDIO__RLIMITS__AS", "1GiB");
    let (processes, rlimits) = limits(&world);
    assert_eq!((processes.max_calls, processes.idle_timeout), (Some(7), None));
    assert_eq!(processes.max_age, Some(Duration::from_secs(8 * 3600)));
    assert_eq!((rlimits.open_files, rlimits.address_space), (Some(64), Some(1 << 30)));
}
