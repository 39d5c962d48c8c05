//! A server that does not start, or does not live: how often it is tried, and what callers hear.

use std::{fs, num::NonZeroU32, time::Duration};

use serde_json::json;
use tidegate_service::{Kind, Retry};
use tidegate_upstream_stdio::{Params, Sharing};
use tokio::time::Instant;

use crate::rig::{Rig, eventually, initialize, params};

fn failing(attempts: u32, down_for: Duration, arguments: &[&str]) -> Params {
    let mut params = params(arguments);
    params.start_attempts = NonZeroU32::new(attempts).unwrap();
    params.down_for = down_for;
    params
}

#[tokio::test]
async fn a_server_that_keeps_failing_is_left_alone_and_callers_hear_it_at_once() {
    for sharing in [Sharing::Session, Sharing::Shared] {
        let mut params = failing(3, Duration::from_secs(60), &["--exit-at-start", "7"]);
        params.sharing = sharing;
        let rig = Rig::with(params);
        let began = Instant::now();
        for _ in 0..3 {
            let error = rig.stranger().error(&initialize()).await;
            assert_eq!((error.kind, error.retry), (Kind::Unreachable, Retry::NotSent));
        }
        // Two waits, each at least half of its size.
        assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
        // A caller may hear of a closed pipe before the process is reaped, which is when it counts.
        eventually("its being down", || rig.upstream.stats().down).await;
        assert_eq!(rig.upstream.stats().spawned, 3);
        let asked = Instant::now();
        let error = rig.stranger().error(&initialize()).await;
        assert!(asked.elapsed() < Duration::from_millis(100), "{:?}", asked.elapsed());
        assert_eq!((error.kind, error.retry), (Kind::Unreachable, Retry::NotSent));
        let told = error.message();
        assert!(told.contains("failed to start 3 times in a row"), "{told}");
        assert!(!told.contains("canary"), "stderr is not for clients");
        assert!(error.chain().to_string().contains("the canary died"), "{}", error.chain());
        assert_eq!(rig.upstream.stats().spawned, 3, "no process was started for it");
        rig.end().await;
    }
}

#[tokio::test]
async fn a_server_that_was_down_is_tried_once_and_recovers_by_itself() {
    let folder = std::env::temp_dir().join(format!("tidegate-restarts-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let broken = folder.join("broken");
    fs::write(&broken, "").unwrap();
    let down_for = Duration::from_millis(300);
    let rig = Rig::with(failing(1, down_for, &["--exit-while", broken.to_str().unwrap()]));
    let down = Instant::now();
    rig.stranger().error(&initialize()).await;
    assert!(rig.upstream.stats().down);
    let failed = rig.upstream.last_failure().expect("it has failed");
    assert_eq!(failed.reason, "it ended before it answered");
    assert_eq!(failed.last_words.as_deref(), Some("cannot start: the canary died"));
    // Whoever comes early is turned away; whoever comes late tries it.
    while rig.upstream.stats().spawned == 1 {
        let error = rig.stranger().error(&initialize()).await;
        assert_eq!(error.kind, Kind::Unreachable);
        tokio::task::yield_now().await;
    }
    assert!(down.elapsed() >= down_for);
    fs::remove_file(&broken).unwrap();
    let again = Instant::now();
    let client = rig.stranger();
    while client.reply(&initialize()).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(again.elapsed() >= down_for, "twice as long as before");
    client.tool("pid", json!({})).await;
    assert!(!rig.upstream.stats().down);
    fs::remove_dir_all(&folder).unwrap();
    rig.end().await;
}

#[tokio::test]
async fn the_end_of_stderr_is_attached_to_the_error_of_a_start() {
    let rig = Rig::new(&["--exit-at-start", "7"]);
    let error = rig.stranger().error(&initialize()).await;
    let chain = error.chain().to_string();
    assert!(chain.contains("exit status 7") && chain.contains("the canary died"), "{chain}");
    assert!(!error.message().contains("canary"), "stderr is not for clients");
    rig.end().await;
}

#[tokio::test]
async fn a_shared_server_that_dies_young_again_and_again_is_down_as_well() {
    let mut params = failing(3, Duration::from_secs(60), &[]);
    params.sharing = Sharing::Shared;
    let rig = Rig::with(params);
    let client = rig.client().await;
    for _ in 0..3 {
        let error = client.error(&client.call(1, "exit", json!({"code": 1}))).await;
        assert_eq!(error.kind, Kind::Died);
    }
    eventually("its being down", || rig.upstream.stats().down).await;
    let error = client.error(&client.call(1, "pid", json!({}))).await;
    assert_eq!(error.kind, Kind::Unreachable);
    assert_eq!(rig.upstream.last_failure().unwrap().reason, "it ended soon after it had answered");
    rig.end().await;
}

#[tokio::test]
async fn what_a_session_does_to_its_own_process_concerns_nobody_else() {
    let rig = Rig::with(failing(2, Duration::from_secs(60), &[]));
    for _ in 0..5 {
        let client = rig.client().await;
        client.error(&client.call(1, "exit", json!({"code": 1}))).await;
    }
    assert!(!rig.upstream.stats().down);
    rig.client().await;
    rig.end().await;
}

#[tokio::test]
async fn a_modern_server_that_crashes_at_a_restart_is_not_taken_for_a_legacy_one() {
    let folder = std::env::temp_dir().join(format!("tidegate-modern-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let broken = folder.join("broken");
    let arguments = ["--exit-while", broken.to_str().unwrap()];
    let rig = Rig::with(failing(9, Duration::from_secs(60), &arguments));
    let client = rig.modern();
    client.tool("pid", json!({})).await;
    fs::write(&broken, "").unwrap();
    client.error(&client.call(1, "exit", json!({"code": 1}))).await;
    let error = client.error(&client.call(1, "pid", json!({}))).await;
    assert_eq!((error.kind, error.retry), (Kind::Unreachable, Retry::NotSent));
    fs::remove_file(&broken).unwrap();
    client.tool("pid", json!({})).await;
    fs::remove_dir_all(&folder).unwrap();
    rig.end().await;
}

#[tokio::test]
async fn a_modern_server_that_keeps_crashing_at_its_start_is_down_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    let arguments = ["--exit-while", broken.to_str().unwrap()];
    let rig = Rig::with(failing(3, Duration::from_secs(60), &arguments));
    let client = rig.modern();
    client.tool("pid", json!({})).await;
    fs::write(&broken, "").unwrap();
    // The first failure, since it dies young; then two starts.
    client.error(&client.call(1, "exit", json!({"code": 1}))).await;
    for _ in 0..2 {
        let error = client.error(&client.call(1, "pid", json!({}))).await;
        assert_eq!((error.kind, error.retry), (Kind::Unreachable, Retry::NotSent));
    }
    eventually("its being down", || rig.upstream.stats().down).await;
    let error = client.error(&client.call(1, "pid", json!({}))).await;
    assert!(error.message().contains("failed to start 3 times in a row"), "{error}");
    let stats = rig.upstream.stats();
    assert_eq!((stats.spawned, stats.start_failures), (3, 3));
    assert_eq!(rig.upstream.last_failure().unwrap().reason, "it ended before it answered");
    rig.end().await;
}

/// What becomes of a process says something about its own start, and nothing about later ones.
#[tokio::test]
async fn a_session_from_before_that_ends_well_does_not_bring_a_server_back() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    let arguments = ["--exit-while", broken.to_str().unwrap()];
    let rig = Rig::with(failing(2, Duration::from_secs(60), &arguments));
    let client = rig.client().await;
    fs::write(&broken, "").unwrap();
    for _ in 0..2 {
        rig.stranger().error(&initialize()).await;
    }
    eventually("its being down", || rig.upstream.stats().down).await;
    client.tool("pid", json!({})).await;
    drop(client);
    eventually("the end of the session's process", || rig.upstream.stats().running == 0).await;
    assert!(rig.upstream.stats().down);
    rig.stranger().error(&initialize()).await;
    assert_eq!(rig.upstream.stats().spawned, 3, "nobody tries it before its time");
    rig.end().await;
}

/// The handshakes of sessions that ended in order are good starts, however short the sessions.
#[tokio::test]
async fn good_starts_between_bad_ones_keep_a_server_up() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    let arguments = ["--exit-while", broken.to_str().unwrap()];
    let rig = Rig::with(failing(2, Duration::from_secs(60), &arguments));
    for _ in 0..3 {
        fs::write(&broken, "").unwrap();
        rig.stranger().error(&initialize()).await;
        fs::remove_file(&broken).unwrap();
        drop(rig.client().await);
        eventually("reaping", || rig.upstream.stats().running == 0).await;
        assert!(!rig.upstream.stats().down);
    }
    rig.end().await;
}
