//! `demo-server`: the other end of `serve --demo`.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use rustix::process::Signal;

use crate::program::Program;

const ECHO: &str = r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"echo","arguments":{"text":"hi there"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;

#[test]
fn it_answers_over_stdio_and_ends_with_its_input() {
    let ended = Program::new().run_with_stdin(&["demo-server"], &[], &format!("{ECHO}\n"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let answer: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(answer["id"], "a");
    assert_eq!(answer["result"]["content"][0]["text"], "hi there");
}

#[test]
fn conformance_adds_tools() {
    let list = ECHO.replace("tools/call", "tools/list");
    let tools = |args: &[&str]| {
        let ended = Program::new().run_with_stdin(args, &[], &format!("{list}\n"));
        let answer: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        answer["result"]["tools"].as_array().unwrap().len()
    };
    assert!(tools(&["demo-server", "--conformance"]) > tools(&["demo-server"]));
}

#[test]
fn it_serves_over_http_until_a_signal() {
    let mut running = Program::new().start(&["demo-server", "--http", "127.0.0.1:0"], &[]);
    let url = running.line().unwrap();
    let address = url.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "POST /mcp HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\nmcp-protocol-version: 2026-07-28\r\n\
         mcp-method: tools/call\r\nmcp-name: echo\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{ECHO}",
        ECHO.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("hi there"), "{answer}");

    running.signal(Signal::TERM);
    assert_eq!(running.end(), (Some(0), String::new()));
}

#[test]
fn an_address_in_use_is_a_failure() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = Program::new().run(&["demo-server", "--http", &address], &[]);
    assert_eq!(ended.code, Some(1));
    let expected = format!("error: cannot listen on {address}: ");
    assert!(ended.stderr.starts_with(&expected), "{}", ended.stderr);
}
