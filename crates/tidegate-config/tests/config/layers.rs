//! Which layer wins, key by key.

use tidegate_config::{LogFormat, Upstream};

use crate::world::World;

const FILE: &str = "
listeners: [{ address: 127.0.0.1:1 }]
ops: { address: 127.0.0.1:2 }
workers: 3
log: { level: warn, format: json }
limits: { max_body: 1MiB, max_depth: 5 }
upstreams:
  Search-API: { url: http://127.0.0.1:9/file }
  child: { stdio: { command: [server], env: { A: file, B: file } } }
routes:
  - { match: { path: /a }, upstream: Search-API }
  - { match: { path: /b }, upstream: child }
";

#[test]
fn the_file_wins_over_defaults() {
    let config = World::with_yaml(FILE).config();
    assert_eq!(config.workers, 3);
    assert_eq!(config.limits.max_body, 1 << 20);
    // Its neighbours keep their defaults.
    assert_eq!(config.limits.max_batch, 32);
}

#[test]
fn variables_win_over_the_file() {
    let config = World::with_yaml(FILE)
        .var("TIDEGATE__WORKERS", "4")
        .var("TIDEGATE__LISTENERS", "[{address: '127.0.0.1:4'}, {address: '127.0.0.1:5'}]")
        .var("TIDEGATE__OPS", "off")
        .var("TIDEGATE__LOG__LEVEL", "debug")
        .var("TIDEGATE__LIMITS", "{max_body: 2MiB}")
        .var("TIDEGATE__LIMITS__MAX_BATCH", "6")
        .config();
    assert_eq!(config.workers, 4);
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.ops, None);
    assert_eq!((config.log.level.as_str(), config.log.format), ("debug", LogFormat::Json));
    assert_eq!(config.limits.max_body, 2 << 20);
    assert_eq!(config.limits.max_batch, 6);
    assert_eq!(config.limits.max_depth, 5);
}

#[test]
fn flags_win_over_variables() {
    let mut world = World::with_yaml(FILE)
        .var("TIDEGATE__WORKERS", "4")
        .var("TIDEGATE__LISTENERS", "[{address: '127.0.0.1:4'}]")
        .var("TIDEGATE__OPS", "off")
        .var("TIDEGATE__LOG__LEVEL", "debug")
        .var("TIDEGATE__LOG__FORMAT", "json");
    world.flags.workers = Some(5);
    world.flags.listen = vec!["127.0.0.1:6".to_owned(), "127.0.0.1:7".to_owned()];
    world.flags.ops = Some("127.0.0.1:8".to_owned());
    world.flags.log_level = Some("error".to_owned());
    world.flags.log_format = Some("text".to_owned());
    let config = world.config();
    assert_eq!(config.workers, 5);
    let ports: Vec<u16> = config.listeners.iter().map(|at| at.address.port()).collect();
    assert_eq!(ports, [6, 7]);
    assert_eq!(config.ops.unwrap().address.port(), 8);
    assert_eq!((config.log.level.as_str(), config.log.format), ("error", LogFormat::Text));
}

#[test]
fn a_bad_value_under_a_good_one_does_no_harm() {
    let text = FILE.replace("workers: 3", "workers: three");
    assert_eq!(World::with_yaml(&text).var("TIDEGATE__WORKERS", "4").config().workers, 4);
}

#[test]
fn variables_reach_upstreams_headers_and_children_by_name() {
    let config = World::with_yaml(FILE)
        .var("TIDEGATE__UPSTREAMS__SEARCH_API__URL", "http://127.0.0.1:9/env")
        .var("TIDEGATE__UPSTREAMS__SEARCH_API__HTTP__HEADERS__X_API_KEY", "007")
        .var("TIDEGATE__UPSTREAMS__CHILD__STDIO__ENV__A", "{\"json\": true}")
        .var("TIDEGATE__UPSTREAMS__CHILD__STDIO__ENV__Mixed__Case", "${HOME}")
        .var("TIDEGATE__UPSTREAMS__CHILD__STDIO__CLEAR_ENV", "false")
        .config();
    let Upstream::Http(http) = &config.upstreams["Search-API"] else { panic!("not http") };
    assert_eq!(http.url.path(), "/env");
    assert_eq!(http.headers["x-api-key"], "007");
    let Upstream::Stdio(child) = &config.upstreams["child"] else { panic!("not stdio") };
    let value = |name: &str| child.env[name].expose();
    assert_eq!(value("A"), "{\"json\": true}");
    assert_eq!(value("B"), "file");
    // Only a file is filled in.
    assert_eq!(value("Mixed__Case"), "${HOME}");
}

#[test]
fn variables_alone_make_a_configuration() {
    let config = World::new()
        .var("TIDEGATE__UPSTREAMS__SEARCH__URL", "http://127.0.0.1:9/mcp")
        .var("TIDEGATE__UPSTREAMS__LOCAL__STDIO__COMMAND", "[server, --flag]")
        .var(
            "TIDEGATE__ROUTES",
            "[{match: {path: /s}, upstream: search}, {match: {path: /l}, upstream: local}]",
        )
        .config();
    assert_eq!(config.upstreams.len(), 2);
    assert_eq!(config.routes[1].upstream, "local");
}

#[test]
fn variables_without_the_prefix_are_not_ours() {
    let config = World::with_yaml(FILE).var("TIDEGATE_WORKERS", "9").var("WORKERS", "9").config();
    assert_eq!(config.workers, 3);
}
