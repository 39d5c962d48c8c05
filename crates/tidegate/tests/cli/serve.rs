//! `serve`: starts, says where, serves, stops.

use std::{net::TcpStream, process::Command};

use rustix::process::Signal;

use crate::program::{Program, Running};

const ANYWHERE: [&str; 4] = ["--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0"];

fn serve(args: &[&str]) -> Running {
    Program::new().start(&[&["serve"], &ANYWHERE[..], args].concat(), &[])
}

#[test]
fn nothing_to_serve_is_an_invalid_configuration() {
    let ended = Program::new().run(&["serve"], &[]);
    assert_eq!(ended.code, Some(3));
    assert_eq!(
        ended.stderr,
        "error: the configuration has 1 problem

upstreams: there is no upstream
    name one under `upstreams`, or start with --upstream URL or -- COMMAND
"
    );
}

#[test]
fn the_demo_prints_a_call_that_works_when_pasted() {
    for workers in ["1", "2"] {
        let mut running = serve(&["--demo", "--workers", workers]);
        let lines = running.lines_until(|line| line.contains("mcp-remote"));
        assert_eq!(lines[0], format!("Tidegate {} is serving", env!("CARGO_PKG_VERSION")));

        let curl = lines.iter().find(|line| line.starts_with("curl ")).unwrap();
        let output = Command::new("sh").args(["-c", curl]).output().unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{answer} {:?}", output.stderr);
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["result"]["content"][0]["text"], "hello", "{answer}");

        let url = curl.split(' ').nth(2).unwrap();
        let snippets: Vec<serde_json::Value> =
            lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!(snippets.len(), 3, "{lines:?}");
        assert_eq!(snippets[0]["mcpServers"]["tidegate"]["url"], url);
        assert_eq!(snippets[1]["servers"]["tidegate"]["url"], url);
        assert_eq!(snippets[2]["mcpServers"]["tidegate"]["args"][2], url);

        running.signal(Signal::TERM);
        assert_eq!(running.end(), (Some(0), String::new()));
    }
}

#[test]
fn each_route_and_the_ops_listener_have_a_url() {
    let program = Program::with_file(
        "t.yaml",
        "version: 1
listeners: [{ address: 127.0.0.1:0 }, { address: 0.0.0.0:0 }]
ops: { address: 127.0.0.1:0 }
upstreams:
  a: { url: http://127.0.0.1:9/mcp }
  b: { stdio: { command: [cat] } }
routes:
  - { match: { path: /a }, upstream: a }
  - { match: { path: /b }, upstream: b }
",
    );
    let mut running = program.start(&["serve", "-c", "t.yaml"], &[]);
    let lines = running.lines_until(|line| line.contains("health"));
    let ends: Vec<&str> =
        lines.iter().filter_map(|line| line.split_once("  -> ")).map(|(_, to)| to).collect();
    assert_eq!(ends, ["a", "b", "a", "b"], "{lines:?}");
    for line in &lines[1..] {
        let address = line.trim_start().strip_prefix("http://").unwrap();
        TcpStream::connect(address.split('/').next().unwrap()).unwrap();
    }
    running.signal(Signal::INT);
    assert_eq!(running.end(), (Some(0), String::new()));
}

#[test]
fn an_address_in_use_is_a_failure() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let args = ["serve", "--listen", &address, "--ops", "off", "--", "cat"];
    let ended = Program::new().run(&args, &[]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains(&format!("cannot listen on {address}")), "{}", ended.stderr);
}
