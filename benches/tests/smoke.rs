//! The loopback bench works from end to end: every part starts, every answer is checked.

use std::process::Command;

use tidegate_benches::{plan::Peer, report::Report};

#[test]
fn every_peer_answers_every_scenario_without_a_wrong_answer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_loopback"))
        .args(["--smoke", "--without", "tidegate", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");

    let report: Report = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    // Two eras, one connection and several: direct and floor over HTTP; floor over stdio.
    assert_eq!(report.samples.len(), 2 * 2 * 2 + 2, "{stdout}");
    assert_eq!(report.errors, 0, "{stdout}\n{stderr}");
    for sample in &report.samples {
        let outcome = &sample.outcome;
        assert!(outcome.calls > 0, "{sample:?}");
        assert!(outcome.p50_us > 0.0 && outcome.p50_us <= outcome.max_us, "{sample:?}");
        assert!(outcome.proxy.own_s > 0.0, "the process is accounted for: {sample:?}");
    }
    let floor = report.samples.iter().filter(|sample| sample.peer == Peer::Floor).count();
    assert_eq!(floor, 6);
}

#[test]
fn a_program_that_does_not_start_is_reported_with_its_own_words() {
    let output = Command::new(env!("CARGO_BIN_EXE_loopback"))
        .args(["--smoke", "--only", "http", "--tidegate", "/bin/false"])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(stderr.contains("cannot start tidegate"), "{stderr}");
}

#[test]
fn wrong_answers_make_the_load_client_fail() {
    // A server that accepts and says nothing that is MCP.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).unwrap() > 0);
        let answer = b"{\"jsonrpc\":\"2.0\",\"id\":99,\"result\":{}}";
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len()).unwrap();
        stream.write_all(answer).unwrap();
    });
    let output = Command::new(env!("CARGO_BIN_EXE_load"))
        .args([&address.to_string(), "--era", "modern", "--connections", "1"])
        .args(["--warm-up-ms", "0", "--window-ms", "50"])
        .output()
        .unwrap();
    server.join().unwrap();
    assert!(!output.status.success());
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&outcome["calls"], &outcome["errors"]), (&0.into(), &1.into()), "{outcome}");
    assert!(outcome["first_error"].as_str().unwrap().contains("not the result of id 1"));
}
