//! Starting, binding and ending processes.

use std::{
    collections::BTreeMap, fs::Permissions, os::unix::fs::PermissionsExt as _, time::Duration,
};

use serde_json::json;
use tidegate_service::{Kind, Operation, Retry};
use tidegate_testkit::procs;
use tidegate_upstream_stdio::Rlimits;
use tokio::{runtime::Builder, time::Instant};

use crate::rig::{Rig, eventually, gone, initialize, params, pid, within};

#[tokio::test]
async fn each_session_has_a_process_of_its_own_in_a_group_of_its_own() {
    let rig = Rig::new(&[]);
    let (one, two) = (rig.client().await, rig.client().await);
    let first = pid(&one.tool("pid", json!({})).await);
    let second = pid(&two.tool("pid", json!({})).await);
    assert_ne!(first, second);
    assert_eq!(first, pid(&one.tool("pid", json!({})).await));
    assert_eq!(procs::in_group(first).into_iter().collect::<Vec<_>>(), [first]);
    assert_eq!((rig.upstream.stats().running, rig.upstream.stats().spawned), (2, 2));
    rig.end().await;
    assert!(!procs::is_running(first) && !procs::is_running(second));
}

#[tokio::test]
async fn the_process_sees_its_arguments_and_environment_and_nothing_else() {
    let canary = std::env::vars().next().expect("this process has an environment").0;
    let words = ["$(touch x)", "; rm -rf /", "a b", "`id`", "--quoted=\"'", ""];
    let mut params = params(&words);
    params.env = BTreeMap::from([("TIDEGATE_TEST".into(), "$HOME \"x\"".into())]);
    params.cwd = Some("/".into());
    let rig = Rig::with(params);
    let client = rig.client().await;
    let arguments = client.tool("args", json!({})).await;
    assert_eq!(arguments["args"].as_array().unwrap()[1..], words.map(|word| json!(word)));
    let mut environment = client.tool("env", json!({})).await["env"].take();
    // What the process starts is recognized by this one.
    assert!(environment.as_object_mut().unwrap().remove("TIDEGATE_PROCESS").is_some());
    assert_eq!(environment, json!({"TIDEGATE_TEST": "$HOME \"x\""}), "{canary} leaked");
    assert_eq!(client.tool("cwd", json!({})).await["cwd"], "/");
    rig.end().await;
}

#[tokio::test]
async fn a_session_that_is_dropped_takes_its_process_tree_along() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let server = pid(&client.tool("pid", json!({})).await);
    let grandchild = pid(&client.tool("fork", json!({"ignore_term": true})).await);
    assert!(procs::is_running(grandchild));
    drop(client);
    gone(server).await;
    gone(grandchild).await;
    eventually("reaping", || rig.upstream.stats().running == 0).await;
    assert_eq!(rig.upstream.stats().exits.stopped, 1);
    rig.end().await;
}

#[tokio::test]
async fn ending_a_session_answers_at_once_and_ends_its_process() {
    let rig = Rig::new(&["--ignore-eof", "--ignore-term"]);
    let client = rig.client().await;
    let server = pid(&client.tool("pid", json!({})).await);
    let mut listening = client.listen().await;
    let asked = Instant::now();
    let reply = client.operate(Operation::EndSession).await.unwrap();
    assert!(asked.elapsed() < Duration::from_millis(100));
    assert_eq!(reply.status, 200);
    assert!(within(futures_util::StreamExt::next(&mut listening)).await.is_none());
    assert!(procs::is_running(server), "it ignores what it can");
    let error = client.error(&client.call(1, "pid", json!({}))).await;
    assert_eq!(error.kind, Kind::SessionUnknown);
    gone(server).await;
    // End of stdin, then SIGTERM, each given its time; then SIGKILL.
    let took = asked.elapsed();
    assert!((900..3_000).contains(&took.as_millis()), "{took:?}");
    rig.end().await;
}

#[tokio::test]
async fn a_session_that_somebody_else_ends_loses_its_process() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let server = pid(&client.tool("pid", json!({})).await);
    client.session.as_ref().unwrap().end();
    gone(server).await;
    rig.end().await;
}

#[tokio::test]
async fn stop_ends_every_kind_of_process_within_its_graces() {
    let rig = Rig::new(&["--ignore-term", "--ignore-eof", "--fork", "--stderr-flood"]);
    let mut groups = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..5 {
        let client = rig.client().await;
        groups.push(pid(&client.tool("pid", json!({})).await));
        clients.push(client);
    }
    assert!(groups.iter().all(|group| procs::in_group(*group).len() >= 2));
    let asked = Instant::now();
    within(rig.upstream.stop()).await;
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    // The kernel ends a killed grandchild when it is scheduled, which may be after the reaping.
    eventually("the end of every group", || {
        groups.iter().all(|group| procs::in_group(*group).is_empty())
    })
    .await;
    for client in &clients {
        assert!(client.session.as_ref().unwrap().is_ended());
    }
    let error = rig.stranger().error(&initialize()).await;
    assert_eq!((error.kind, error.retry), (Kind::Draining, Retry::NotSent));
    rig.end().await;
}

#[tokio::test]
async fn the_end_of_stdin_is_all_that_a_good_server_needs() {
    let mut params = params(&["--ignore-term"]);
    params.stop_grace = Duration::from_secs(10);
    let rig = Rig::with(params);
    let client = rig.client().await;
    let modern = rig.modern();
    modern.tool("echo", json!({})).await;
    // What was queued before the end is still read and answered.
    let call = client.call(1, "echo", json!({"n": 1}));
    let mut call = Box::pin(client.ask(&call));
    assert!(futures_util::poll!(&mut call).is_pending());
    let asked = Instant::now();
    let (answer, ()) = tokio::join!(call, rig.upstream.stop());
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(answer["result"]["structuredContent"]["n"], 1);
    rig.end().await;
}

#[tokio::test]
async fn a_stop_that_nobody_waits_for_happens_all_the_same() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let server = pid(&client.tool("pid", json!({})).await);
    assert!(futures_util::FutureExt::now_or_never(rig.upstream.stop()).is_none());
    gone(server).await;
    rig.end().await;
}

#[test]
fn a_runtime_that_ends_without_a_stop_leaves_no_process() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (rig, client, group) = runtime.block_on(async {
        let rig = Rig::new(&["--ignore-term", "--ignore-eof", "--fork"]);
        let client = rig.client().await;
        let group = pid(&client.tool("pid", json!({})).await);
        (rig, client, group)
    });
    assert!(procs::in_group(group).len() >= 2);
    drop(runtime);
    let waiter = Builder::new_current_thread().enable_all().build().unwrap();
    waiter.block_on(eventually("the end of the group", || procs::in_group(group).is_empty()));
    assert!(client.session.as_ref().unwrap().is_ended(), "its process was all there was of it");
    drop(client);
    assert_eq!(rig.upstream.stats().running, 0);
}

#[tokio::test]
async fn what_outlives_its_parent_dies_with_the_group() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let grandchild = pid(&client.tool("fork", json!({"ignore_term": true})).await);
    let error = client.error(&client.call(1, "exit", json!({"code": 0}))).await;
    assert_eq!(error.kind, Kind::Died);
    gone(grandchild).await;
    assert_eq!(rig.upstream.stats().exits.finished, 1);
    rig.end().await;
}

#[tokio::test]
async fn what_has_left_the_group_delays_nothing_and_ends_as_well() {
    let rig = Rig::new(&[]);
    let client = rig.client().await;
    let first = pid(&client.tool("fork", json!({"setsid": true})).await);
    let asked = Instant::now();
    // It holds the pipes open, so that their end does not come.
    let error = client.error(&client.call(1, "exit", json!({"code": 3}))).await;
    assert!(error.message().contains("exit status 3"), "{error}");
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    let client = rig.client().await;
    let second = pid(&client.tool("fork", json!({"setsid": true})).await);
    let asked = Instant::now();
    rig.end().await;
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    gone(first).await;
    gone(second).await;
}

#[tokio::test]
async fn two_hundred_sessions_leave_nothing_behind() {
    let rig = Rig::new(&["--fork"]);
    drop(rig.client().await);
    eventually("reaping", || rig.upstream.stats().running == 0).await;
    let mut groups = Vec::new();
    for round in 0..20 {
        let mut clients = Vec::new();
        for _ in 0..10 {
            let client = rig.client().await;
            groups.push(pid(&client.tool("pid", json!({})).await));
            clients.push(client);
        }
        if round % 2 == 0 {
            for client in &clients {
                client.operate(Operation::EndSession).await.unwrap();
            }
        }
    }
    eventually("reaping", || rig.upstream.stats().running == 0).await;
    // The kernel ends a killed grandchild when it is scheduled, which may be after the reaping.
    eventually("the end of every group", || {
        groups.iter().all(|group| procs::in_group(*group).is_empty())
    })
    .await;
    assert!(procs::zombies().is_disjoint(&groups.into_iter().collect()));
    let stats = rig.upstream.stats();
    assert_eq!((stats.spawned, stats.exits.stopped), (201, 201));
    rig.end().await;
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_told_without_its_path() {
    for (command, cwd) in
        [("/no/such/secret-program", None), ("sh", Some("/no/such/secret-folder"))]
    {
        let mut params = params(&[]);
        params.command = vec![command.into()];
        params.cwd = cwd.map(Into::into);
        let rig = Rig::with(params);
        let client = rig.stranger();
        let error = client.error(&initialize()).await;
        assert_eq!((error.kind, error.retry), (Kind::Unreachable, Retry::NotSent));
        assert!(!error.message().contains("secret"), "{error}");
        assert_eq!(error.upstream(), Some("scripted"));
        let error = rig.modern().error(&rig.modern().call(1, "echo", json!({}))).await;
        assert_eq!((error.kind, error.retry), (Kind::Unreachable, Retry::NotSent));
        assert_eq!(rig.upstream.stats().spawn_failed, 2);
        rig.end().await;
    }
}

#[tokio::test]
async fn a_process_that_ends_while_it_starts_ends_the_session() {
    for arguments in [["--exit-at-start", "7"], ["--initialize", "exit"]] {
        let rig = Rig::new(&arguments);
        let client = rig.stranger();
        let error = client.error(&initialize()).await;
        assert_eq!((error.kind, error.retry), (Kind::Unreachable, Retry::NotSent), "{error}");
        assert!(!error.message().contains("canary"), "stderr is not for clients");
        assert!(client.session.as_ref().unwrap().is_ended());
        eventually("reaping", || rig.upstream.stats().exits.failed == 1).await;
        rig.end().await;
    }
}

#[tokio::test]
async fn a_process_that_does_not_start_in_time_is_ended() {
    let mut params = params(&["--initialize", "silent"]);
    params.start_timeout = Duration::from_millis(200);
    let rig = Rig::with(params);
    let client = rig.stranger();
    let error = client.error(&initialize()).await;
    assert_eq!((error.kind, error.retry), (Kind::Timeout, Retry::NotSent));
    assert!(error.message().ends_with("for the server process to start"), "{error}");
    eventually("reaping", || rig.upstream.stats().running == 0).await;
    rig.end().await;
}

#[tokio::test]
async fn a_handshake_that_is_refused_is_passed_on_and_ends_the_session() {
    let rig = Rig::new(&["--initialize", "error"]);
    let client = rig.stranger();
    let answer = client.ask(&initialize()).await;
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("init"), &json!(-32602)));
    assert!(client.session.as_ref().unwrap().is_ended());
    eventually("reaping", || rig.upstream.stats().running == 0).await;
    rig.end().await;
}

#[tokio::test]
async fn a_handshake_is_answered_by_one_message_even_if_the_server_chats() {
    let rig = Rig::new(&["--initialize", "log", "--garbage-at-start"]);
    let client = rig.client().await;
    let mut listening = client.listen().await;
    assert_eq!(crate::rig::next(&mut listening).await["params"]["data"], "starting");
    assert_eq!(rig.upstream.stats().garbage_lines, 3);
    rig.end().await;
}

#[tokio::test]
async fn sessions_are_required_bound_once_and_ours() {
    let rig = Rig::new(&[]);
    let mut nobody = rig.stranger();
    nobody.session = None;
    assert_eq!(nobody.error(&initialize()).await.kind, Kind::SessionMissing);
    let stranger = rig.stranger();
    let call = stranger.call(1, "pid", json!({}));
    assert_eq!(stranger.error(&call).await.kind, Kind::SessionUnknown);
    assert!(stranger.session.as_ref().unwrap().bind(std::sync::Arc::new(7)));
    assert_eq!(stranger.error(&call).await.kind, Kind::SessionUnknown);
    let client = rig.client().await;
    assert_eq!(client.error(&initialize()).await.kind, Kind::BadRequest);
    assert_eq!(rig.upstream.stats().spawned, 1);
    rig.end().await;
}

#[tokio::test]
async fn the_kernel_limits_the_process_as_configured() {
    let mut params = params(&[]);
    params.rlimits = Rlimits {
        open_files: Some(77),
        address_space: Some(3 << 30),
        cpu: Some(Duration::from_millis(8_500)),
    };
    let rig = Rig::with(params);
    let client = rig.client().await;
    let limits = client.tool("limits", json!({})).await;
    let soft = |name: &str| {
        let lines = limits["limits"].as_str().unwrap().lines();
        let line = lines.filter_map(|line| line.strip_prefix(name)).next().unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(soft("Max open files"), 77);
    assert_eq!(soft("Max address space"), 3 << 30);
    assert_eq!(soft("Max cpu time"), 9, "whole seconds");
    rig.end().await;
}

#[tokio::test]
async fn the_process_runs_as_the_configured_user_and_group_or_not_at_all() {
    // The build may lie where others cannot look.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("server");
    std::fs::copy(tidegate_testkit::stdio_bin(), &program).unwrap();
    let mut params = params(&[]);
    params.command = vec![program.into_os_string()];
    (params.user, params.group) = (Some(65_534), Some(65_533));
    let rig = Rig::with(params);
    if std::process::Command::new("id").arg("-u").output().unwrap().stdout == b"0\n" {
        let client = rig.client().await;
        let status = client.tool("limits", json!({})).await;
        let status = status["status"].as_str().unwrap();
        assert!(status.contains("Uid:\t65534\t65534\t65534\t65534\n"), "{status}");
        assert!(status.contains("Gid:\t65533\t65533\t65533\t65533\n"), "{status}");
    } else {
        let error = rig.stranger().error(&initialize()).await;
        assert_eq!((error.kind, error.retry), (Kind::Unreachable, Retry::NotSent));
    }
    rig.end().await;
}
