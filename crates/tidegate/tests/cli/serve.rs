//! `serve`: starts, says where, serves, stops.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::Command,
};

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

/// A call of `slow` that has reported progress, hence is in flight.
pub(crate) fn slow_call(running: &mut Running, seconds: u32, steps: u32) -> BufReader<TcpStream> {
    let lines = running.lines_until(|line| line.contains("mcp-remote"));
    let (url, _) = lines[1].trim_start().split_once(' ').unwrap();
    let address = url.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap();
    let body = serde_json::json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {
            "name": "slow",
            "arguments": { "seconds": seconds, "steps": steps },
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
                "progressToken": "p",
            },
        },
    })
    .to_string();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\nmcp-protocol-version: 2026-07-28\r\n\
         mcp-method: tools/call\r\nmcp-name: slow\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    while !line.contains("notifications/progress") {
        line.clear();
        assert!(answer.read_line(&mut line).unwrap() > 0, "the answer ended without progress");
    }
    answer
}

#[test]
fn a_signal_lets_calls_in_flight_finish() {
    let mut running = serve(&["--demo"]);
    let mut answer = slow_call(&mut running, 1, 4);
    running.signal(Signal::TERM);
    let mut rest = String::new();
    answer.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("Done: 4 steps"), "{rest}");
    assert_eq!(running.end(), (Some(0), String::new()));
}

#[test]
fn a_second_signal_cuts_calls_and_the_exit_code_tells() {
    let mut running = serve(&["--demo"]);
    let mut answer = slow_call(&mut running, 60, 600);
    running.signal(Signal::TERM);
    running.signal(Signal::INT);
    let mut rest = String::new();
    // However the connection is cut, the call did not finish.
    answer.read_to_string(&mut rest).unwrap_or_default();
    assert!(!rest.contains("Done"), "{rest}");
    assert_eq!(running.end(), (Some(1), String::new()));
}

#[test]
fn logs_are_filtered_and_formatted_as_configured() {
    let log = |format: &str, level: &str| {
        let args = ["serve", "--listen", "127.0.0.1:0", "--ops", "off", "--demo"];
        let args = [&args[..], &["--log-format", format, "--log-level", level]].concat();
        let mut running = Program::new().start_logged(&args, &[]);
        running.lines_until(|line| line.contains("mcp-remote"));
        running.signal(Signal::TERM);
        running.end_logged()
    };
    let json = log("json", "info");
    let stopping = json.lines().next().unwrap();
    let stopping: serde_json::Value = serde_json::from_str(stopping).unwrap();
    assert_eq!((&stopping["level"], &stopping["signal"]), (&"INFO".into(), &"SIGTERM".into()));
    assert!(log("text", "info").contains("signal=\"SIGTERM\""));
    assert_eq!(log("text", "warn"), "");
}
