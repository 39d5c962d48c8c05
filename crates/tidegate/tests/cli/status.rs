//! `status`: what an operator is told about the proxies of this machine.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    program::{Ended, Program, Running},
    serve::slow_call,
};

const ANYWHERE: [&str; 5] = ["serve", "--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0"];

/// A proxy that serves, and what it printed.
fn serve(program: &Program, args: &[&str], vars: &[(&str, &str)]) -> (Running, Vec<String>) {
    let mut running = program.start(&[&ANYWHERE[..], args].concat(), vars);
    let lines = running.lines_until(|line| line.contains("health and metrics"));
    (running, lines)
}

fn stop(running: Running, signal: Signal) {
    running.signal(signal);
    running.end();
}

fn ask(program: &Program, args: &[&str], vars: &[(&str, &str)]) -> Ended {
    program.run(&[&["status"], args].concat(), vars)
}

/// The names in a folder of the program.
fn names(program: &Program, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(program.folder().join(folder)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_proxy_tells_how_its_upstreams_are() {
    let program = Program::new();
    let vars = [("TIDEGATE__STATE_DIR", "state")];
    let mut running = program.start(&[&ANYWHERE[..], &["--demo"]].concat(), &vars);
    let lines = running.lines_until(|line| line.contains("mcp-remote"));
    let curl = lines.iter().find(|line| line.starts_with("curl ")).unwrap();
    assert!(Command::new("sh").args(["-c", curl]).output().unwrap().status.success());

    let ended = ask(&program, &["--json"], &vars);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    let reports: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(reports.as_array().unwrap().len(), 1);
    let report = &reports[0];
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&report["pid"], &report["state"]), (&running.pid().into(), &"serving".into()));
    let address = lines[1].trim_start().strip_prefix("http://").unwrap();
    assert!(address.starts_with(report["listeners"][0].as_str().unwrap()), "{report}");
    assert!(lines[2].contains(report["ops"].as_str().unwrap()), "{report}");
    let upstream = &report["upstreams"]["default"];
    assert_eq!(upstream["kind"], "stdio");
    assert_eq!(upstream["sharing"]["configured"], "session");
    let processes = upstream["processes"].as_object().unwrap().values();
    assert_eq!(processes.map(|count| count.as_u64().unwrap()).sum::<u64>(), 1, "{upstream}");
    assert_eq!((&upstream["in_flight"], &upstream["restarts"]), (&0.into(), &0.into()));

    let page = ask(&program, &[], &vars).stdout;
    assert!(page.contains(&format!(", pid {}, serving for ", running.pid())), "{page}");
    let row = page.lines().find(|line| line.starts_with("  default ")).unwrap();
    assert!(row.contains("stdio") && row.contains("session"), "{page}");
    stop(running, Signal::TERM);
    assert!(names(&program, "state").iter().all(|name| !name.ends_with(".sock")));
}

#[test]
fn every_proxy_of_the_user_is_found_without_flags() {
    let program = Program::with_file(
        "t.yaml",
        "version: 1
upstreams: { a: { url: http://127.0.0.1:9/mcp, http: { max_connections: 7 } } }
",
    );
    let folder = program.folder().display().to_string();
    let vars = [("TMPDIR", folder.as_str())];
    let (first, _) = serve(&program, &["-c", "t.yaml"], &vars);
    let (second, _) = serve(&program, &["-c", "t.yaml"], &vars);
    let pids = |ended: &Ended| {
        let reports: Value = serde_json::from_str(&ended.stdout).unwrap();
        let pids = reports.as_array().unwrap().iter().map(|report| report["pid"].as_u64().unwrap());
        pids.collect::<Vec<u64>>()
    };
    let mut expected = [first.pid(), second.pid()].map(u64::from);
    expected.sort_by_key(u64::to_string);
    assert_eq!(pids(&ask(&program, &["--json"], &vars)), expected);
    let page = ask(&program, &[], &vars).stdout;
    assert_eq!(page.matches("UPSTREAM  KIND").count(), 2, "{page}");

    // One ends in order and one does not; neither is found any more.
    let killed = second.pid();
    stop(first, Signal::TERM);
    assert_eq!(pids(&ask(&program, &["--json"], &vars)), [u64::from(killed)]);
    stop(second, Signal::KILL);
    let uid = rustix::process::geteuid().as_raw();
    let state = format!("tidegate-{uid}");
    let left = format!("{killed}.sock");
    assert!(names(&program, &state).contains(&left));
    let ended = ask(&program, &["--json"], &vars);
    assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{ended:?}");

    // The next start tidies up.
    let (third, _) = serve(&program, &["-c", "t.yaml"], &vars);
    assert!(!names(&program, &state).contains(&left));
    assert_eq!(pids(&ask(&program, &["--json"], &vars)), [u64::from(third.pid())]);
    let mode = |name: &str| {
        let metadata = fs::metadata(program.folder().join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode(&state), 0o700);
    assert_eq!(mode(&format!("{state}/{}.sock", third.pid())), 0o600);
    stop(third, Signal::TERM);
}

#[test]
fn without_a_proxy_it_says_where_it_looked_and_what_to_do() {
    let program = Program::new();
    let state = program.folder().join("none");
    let vars = [("TIDEGATE__STATE_DIR", state.to_str().unwrap())];
    let ended = ask(&program, &[], &vars);
    assert_eq!((ended.code, &*ended.stdout), (Some(1), ""));
    assert_eq!(
        ended.stderr,
        format!(
            "error: no proxy is running here: none has a socket in {}. If one should be, run this \
             as its user and with its --config or TIDEGATE__STATE_DIR; else start one with \
             `tidegate serve`\n",
            state.display()
        )
    );
    assert!(!state.exists(), "asking makes nothing");
}

#[test]
fn the_file_of_the_proxy_tells_where_it_is_whatever_else_is_in_it() {
    let program = Program::with_file(
        "t.yaml",
        "version: 1
state_dir: here
upstreams:
  a: { url: http://127.0.0.1:9/mcp, http: { headers: { x-token: \"${TOKEN}\" } } }
",
    );
    let (running, _) = serve(&program, &["-c", "t.yaml"], &[("TOKEN", "s3cret")]);
    // The operator's shell need not know the secrets of the proxy.
    let ended = ask(&program, &["-c", "t.yaml"], &[]);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    assert!(ended.stdout.contains(&format!("pid {}", running.pid())), "{}", ended.stdout);
    assert!(!ended.stdout.contains("s3cret"));
    stop(running, Signal::TERM);
}

#[test]
fn without_a_state_dir_there_is_no_socket_and_it_says_so() {
    let program = Program::new();
    let vars = [("TIDEGATE__STATE_DIR", "off")];
    let (running, _) = serve(&program, &["--demo"], &vars);
    let ended = ask(&program, &[], &vars);
    assert_eq!((ended.code, &*ended.stdout), (Some(1), ""));
    assert!(ended.stderr.starts_with("error: state_dir is off, "), "{}", ended.stderr);
    stop(running, Signal::TERM);
}

#[test]
fn a_bad_state_dir_is_an_invalid_configuration() {
    let program = Program::with_file("file", "");
    let ended = ask(&program, &[], &[("TIDEGATE__STATE_DIR", "file")]);
    assert_eq!((ended.code, &*ended.stdout), (Some(3), ""));
    assert!(
        ended.stderr.contains("env TIDEGATE__STATE_DIR: state_dir: it is not a directory"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_proxy_that_cannot_make_its_socket_serves_and_warns() {
    let program = Program::new();
    let long = "x".repeat(120);
    let vars = [("TIDEGATE__STATE_DIR", long.as_str())];
    let mut running = program.start_logged(&[&ANYWHERE[..], &["--demo"]].concat(), &vars);
    let lines = running.lines_until(|line| line.contains("mcp-remote"));
    assert!(lines[0].ends_with("is serving"), "{lines:?}");
    running.signal(Signal::TERM);
    let log = running.end_logged();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("`tidegate status` will not find this proxy"), "{log}");
}

#[test]
fn a_proxy_that_does_not_answer_is_named_beside_the_others() {
    let program = Program::new();
    let vars = [("TIDEGATE__STATE_DIR", "state")];
    let (running, _) = serve(&program, &["--demo"], &vars);
    // Hangs up at once.
    let path = program.folder().join("state/1.sock");
    let mute = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let hung_up = std::thread::spawn(move || drop(mute.accept().unwrap()));
    let ended = ask(&program, &[], &vars);
    hung_up.join().unwrap();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stdout.contains(&format!("pid {}", running.pid())), "{}", ended.stdout);
    assert!(ended.stderr.starts_with("error: cannot ask the proxy at "), "{}", ended.stderr);
    assert!(ended.stderr.contains("state/1.sock: it hung up without a word"), "{}", ended.stderr);
    stop(running, Signal::TERM);
}

#[test]
fn it_tells_what_a_stop_is_waiting_for() {
    let program = Program::new();
    let vars = [("TIDEGATE__STATE_DIR", "state")];
    let mut running = program.start(&[&ANYWHERE[..], &["--demo"]].concat(), &vars);
    let answer = slow_call(&mut running, 60, 600);
    running.signal(Signal::TERM);
    // Until the signal has arrived; if the proxy ended meanwhile, there would be nobody to ask.
    let report = loop {
        let ended = ask(&program, &["--json"], &vars);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let reports: Value = serde_json::from_str(&ended.stdout).unwrap();
        if reports[0]["state"] == "draining" {
            break reports[0].clone();
        }
    };
    assert_eq!(report["connections"], 1, "{report}");
    assert_eq!(report["upstreams"]["default"]["in_flight"], 1, "{report}");
    stop(running, Signal::INT);
    drop(answer);
    assert!(names(&program, "state").iter().all(|name| !name.ends_with(".sock")));
}
