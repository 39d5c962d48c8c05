//! The loopback bench works from end to end: every part starts, every answer is checked.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use tidegate_benches::{
    plan::{Behind, Peer},
    report::Report,
    streams,
};

/// Stands in for the program under test: takes its arguments, and is the floor.
fn stand_in(folder: &Path) -> std::path::PathBuf {
    let script = format!(
        r#"#!/bin/sh
[ "$1 $2 $4 $5 $6 $7" = "serve --listen --ops off --workers 1" ] || exit 2
listen=$3; shift 7
case $1 in
--upstream) upstream=${{2#http://}}; exec {floor} --listen "$listen" --upstream "${{upstream%/mcp}}" ;;
--) shift; exec {floor} --listen "$listen" --stdio -- "$@" ;;
--config)
    command=$(sed -n 's/.*command: \[\([^]]*\)\].*/\1/p' "$2" | tr -d '",')
    exec {floor} --listen "$listen" --stdio -- $command ;;
esac
"#,
        floor = env!("CARGO_BIN_EXE_floor_relay"),
    );
    let path = folder.join("tidegate");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn every_peer_answers_every_scenario_without_a_wrong_answer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_loopback"))
        .args(["--smoke", "--tidegate"])
        .arg(stand_in(folder.path()))
        .arg("--json")
        .arg(&file)
        .output()
        .unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");

    let report: Report = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    // Two eras, one connection and several: three peers over HTTP, three over stdio; three over HTTP
    // that stream; and three over stdio with one session for all connections.
    assert_eq!(report.samples.len(), 2 * 2 * 3 + 2 * 2 * 3 + 2 * 3 + 3, "{stdout}");
    assert_eq!(report.errors, 0, "{stdout}\n{stderr}");
    for sample in &report.samples {
        let outcome = &sample.outcome;
        assert!(outcome.calls > 0, "{sample:?}");
        assert!(outcome.p50_us > 0.0 && outcome.p50_us <= outcome.max_us, "{sample:?}");
        let behind_a_proxy = (sample.scenario.behind, sample.peer) != (Behind::Stdio, Peer::Direct);
        assert_eq!(outcome.proxy.own_s > 0.0, behind_a_proxy, "the process counts: {sample:?}");
        if sample.scenario.behind == Behind::Stdio && behind_a_proxy {
            assert!(outcome.asked.writes > 0 && outcome.asked.child_reads > 0, "{sample:?}");
        }
        // A child that nobody shares is started for the load, and the relay's was there before.
        let own_child = (sample.scenario.behind, sample.peer) == (Behind::Stdio, Peer::Direct);
        assert_eq!(sample.starts, u64::from(own_child), "{sample:?}");
    }
    for peer in [Peer::Floor, Peer::Tidegate] {
        assert_eq!(report.samples.iter().filter(|sample| sample.peer == peer).count(), 11);
    }
    let opened = report.opened.as_ref().unwrap();
    assert_eq!((opened.cold_ms.len(), opened.warm_ms.len(), opened.together_ms.len()), (2, 2, 4));
    // HTTP: processor time at one connection, at many and with streams, and latency at one; twice,
    // for the eras.
    // Stdio: the floor at one connection and at many in both eras, and writes at many. Starting: 2.
    assert_eq!(report.verdicts.len(), 8 + 4 + 2 + 2, "{stdout}");
    let cpu = report.verdicts.iter().filter(|verdict| verdict.what.contains("CPU"));
    assert!(cpu.clone().count() == 6 && cpu.clone().all(|v| v.measured.is_some()), "{stdout}");
}

#[test]
fn streams_are_held_and_flooded_through_every_peer_that_is_here() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_loopback"))
        .args(["--smoke", "--only", "streams", "--without", "tidegate", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let report: streams::report::Report =
        serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for peer in [Peer::Floor, Peer::FloorInline] {
        let samples: Vec<_> = report.samples.iter().filter(|s| s.peer == peer).collect();
        // Two eras by memory, one by events; the relay knows no HTTP/2.
        assert_eq!(samples.len(), 3, "{stdout}");
        for sample in samples {
            assert!(sample.held.first_event_p50_us > 0.0, "{sample:?}");
            let kib = sample.held.kib.is_some_and(|kib| kib.idle > 0.0);
            let flood = sample.held.flood.is_some_and(|flood| flood.per_second > 0.0);
            assert!(kib != flood, "{sample:?}");
        }
    }
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
