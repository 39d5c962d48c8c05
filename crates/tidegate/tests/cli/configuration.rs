//! `check` and `config show`.

use crate::program::Program;

const GOOD: &str = "version: 1
upstreams:
  a: { url: http://127.0.0.1:9/mcp, http: { headers: { x-token: \"${TOKEN}\" } } }
";

#[test]
fn a_good_file_passes() {
    let program = Program::with_file("good.yaml", GOOD);
    let ended = program.run(&["check", "--config", "good.yaml"], &[("TOKEN", "s3cret")]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout, "good.yaml: ok, 1 listener, 1 upstream, 1 route\n");
    assert_eq!(ended.stderr, "");
}

#[test]
fn a_bad_file_ends_with_3_and_all_of_its_problems() {
    let program = Program::with_file(
        "bad.yaml",
        "version: 1
limit: {}
upstreams:
  a: { url: ftp://x }
  b: { stdio: { command: [no-such-program] } }
routes: [{ match: { path: /a }, upstream: c }]
",
    );
    let ended = program.run(&["check", "--config", "bad.yaml"], &[]);
    assert_eq!(ended.code, Some(3));
    assert_eq!(ended.stdout, "");
    assert_eq!(
        ended.stderr,
        "error: the configuration has 4 problems

bad.yaml:2:1: limit: unknown key
    did you mean `limits`?

bad.yaml:4:13: upstreams.a.url: the scheme is neither http nor https; found `ftp://x`
    write http://HOST:PORT/PATH or https://HOST/PATH

bad.yaml:5:27: upstreams.b.stdio.command[0]: no program `no-such-program` in the 3 folders of \
         PATH; found `no-such-program`
    install it, write its full path, or set `env.PATH` for the child

bad.yaml:6:43: routes[0].upstream: there is no upstream of this name; found `c`
    did you mean `a`?
"
    );
}

#[test]
fn every_file_is_checked_and_the_worst_counts() {
    let program = Program::with_file("good.yaml", GOOD);
    let args = ["check", "-c", "gone.toml", "-c", "good.yaml"];
    let ended = program.run(&args, &[("TOKEN", "s3cret")]);
    assert_eq!(ended.code, Some(3));
    assert!(ended.stdout.starts_with("good.yaml: ok"), "{}", ended.stdout);
    assert!(ended.stderr.contains("gone.toml: cannot read this file"), "{}", ended.stderr);
}

#[test]
fn the_environment_alone_can_be_checked() {
    let program = Program::new();
    let vars = [("TIDEGATE__UPSTREAMS__A__URL", "http://127.0.0.1:9/")];
    let ended = program.run(&["check"], &vars);
    assert_eq!(ended.stdout, "the environment: ok, 1 listener, 1 upstream, 1 route\n");
    assert_eq!(program.run(&["check"], &[]).code, Some(3));
}

#[test]
fn show_prints_sources_and_no_secrets() {
    let program = Program::with_file("good.yaml", GOOD);
    let args = ["config", "show", "-c", "good.yaml", "--listen", "127.0.0.1:1", "--ops", "off"];
    let vars = [("TOKEN", "s3cret"), ("TIDEGATE__WORKERS", "2")];
    let ended = program.run(&args, &vars);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for (value, source) in [
        ("  - address: 127.0.0.1:1", "flag --listen"),
        ("ops: off", "flag --ops"),
        ("workers: 2", "env TIDEGATE__WORKERS"),
        ("    url: http://127.0.0.1:9/mcp", "good.yaml:3"),
        ("        x-token: \"<secret from TOKEN>\"", "good.yaml:3"),
        ("  max_body: 16MiB", "default"),
    ] {
        let line = ended.stdout.lines().find(|line| line.starts_with(value));
        let shown = line.and_then(|line| line.split_once("  # ")).map(|(_, source)| source);
        assert_eq!(shown, Some(source), "{value} in:\n{}", ended.stdout);
    }
    assert!(!ended.stdout.contains("s3cret"), "{}", ended.stdout);
}

#[test]
fn what_show_prints_can_be_checked() {
    let program = Program::new();
    let shown = program.run(&["config", "show", "--demo"], &[]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    std::fs::write(program.folder().join("shown.yaml"), &shown.stdout).unwrap_or_default();
    let ended = program.run(&["check", "-c", "shown.yaml"], &[]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn show_reports_problems_like_check() {
    let ended = Program::new().run(&["config", "show", "--upstream", "nowhere"], &[]);
    assert_eq!(ended.code, Some(3));
    assert_eq!(
        ended.stderr,
        "error: the configuration has 1 problem

flag --upstream: upstreams.default.url: the URL has no scheme; found `nowhere`
    write http://HOST:PORT/PATH or https://HOST/PATH, for example http://nowhere
"
    );
}
