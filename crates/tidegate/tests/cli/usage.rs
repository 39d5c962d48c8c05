//! Help, versions, and arguments that make no sense.

use crate::program::Program;

#[test]
fn help_goes_to_stdout_and_says_what_there_is() {
    let ended = Program::new().run(&["--help"], &[]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    for part in [
        "serve        Serve clients until a signal comes",
        "check        Report everything that is wrong with a configuration",
        "status       Show the proxies that run on this machine, and how their upstreams are",
        "config       Look at the configuration",
        "completions  Print a completion script for a shell",
        "tidegate serve --demo",
        "3  invalid configuration",
    ] {
        assert!(ended.stdout.contains(part), "{part} is not in:\n{}", ended.stdout);
    }
    assert!(!ended.stdout.contains("demo-server"), "{}", ended.stdout);
    assert!(ended.stdout.lines().all(|line| line.chars().count() <= 100), "{}", ended.stdout);
}

#[test]
fn help_of_serve_shows_defaults_and_groups() {
    let ended = Program::new().run(&["serve", "--help"], &[]);
    assert_eq!(ended.code, Some(0));
    let words = ended.stdout.split_whitespace().collect::<Vec<&str>>().join(" ");
    for part in [
        "What to serve (one of them): -c, --config <FILE>",
        "-u, --upstream <URL>",
        "--demo A small built-in MCP server",
        "Settings: -l, --listen <ADDRESS>",
        "[default: 127.0.0.1:8080]",
        "[default: 127.0.0.1:9464]",
        "[default: the number of CPUs]",
        "[default: info]",
        "[possible values: text, json]",
        "The first SIGTERM or SIGINT lets calls in flight finish",
    ] {
        assert!(words.contains(part), "{part} is not in:\n{}", ended.stdout);
    }
}

#[test]
fn the_version_is_printed() {
    let ended = Program::new().run(&["--version"], &[]);
    let expected = format!("tidegate {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((ended.code, ended.stdout), (Some(0), expected));
}

#[test]
fn usage_errors_end_with_2() {
    for args in [
        &[][..],
        &["serv"],
        &["serve", "--no-such-flag"],
        &["serve", "--demo", "--upstream", "http://127.0.0.1:9/"],
        &["serve", "--demo", "--config", "x.yaml"],
        &["serve", "--upstream", "http://127.0.0.1:9/", "--", "cat"],
        &["serve", "--config", "x.yaml", "--", "cat"],
        &["serve", "--demo", "--workers", "0"],
        &["serve", "--demo", "--workers", "many"],
        &["serve", "--demo", "--log-format", "xml"],
        &["serve", "cat"],
        &["config"],
        &["check", "x.yaml"],
        &["completions", "no-such-shell"],
        &["demo-server", "--http", "nowhere"],
    ] {
        let ended = Program::new().run(args, &[]);
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert_eq!(ended.stdout, "", "{args:?}");
        assert!(ended.stderr.contains("help"), "{args:?}: {}", ended.stderr);
    }
}

#[test]
fn a_typing_error_is_answered_with_what_was_meant() {
    let ended = Program::new().run(&["serve", "--listn", "127.0.0.1:0"], &[]);
    assert!(ended.stderr.contains("'--listen'"), "{}", ended.stderr);
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ended = Program::new().run(&["completions", shell], &[]);
        assert_eq!(ended.code, Some(0), "{shell}: {}", ended.stderr);
        assert!(ended.stdout.contains("log-level"), "{shell}");
    }
}
