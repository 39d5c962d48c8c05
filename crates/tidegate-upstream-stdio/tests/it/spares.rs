//! Processes that are ready before a session comes.

use std::{num::NonZeroU32, time::Duration};

use futures_util::future::join_all;
use serde_json::json;
use tidegate_upstream_stdio::{Params, Sharing};
use tokio::time::Instant;

use crate::rig::{Client, Rig, eventually, params, pid};

fn ready(min_idle: u32, arguments: &[&str]) -> Params {
    let mut params = params(arguments);
    params.min_idle = min_idle;
    params
}

async fn process(client: &Client) -> u32 {
    pid(&client.tool("pid", json!({})).await)
}

async fn spares(rig: &Rig, count: usize) {
    eventually("a spare", || {
        let states = rig.upstream.stats().states;
        states.spare == count && states.starting == 0
    })
    .await;
}

/// Until the spares are greeted as the last client was.
async fn greeted(rig: &Rig, starts: u64) {
    eventually("a greeted spare", || rig.upstream.stats().starts.count() >= starts).await;
    spares(rig, 1).await;
}

#[tokio::test]
async fn spares_are_started_before_anybody_comes_and_replaced_when_taken() {
    let rig = Rig::with(ready(2, &[]));
    spares(&rig, 2).await;
    assert_eq!(rig.upstream.stats().spawned, 2);
    let clients = join_all((0..50).map(|_| rig.client())).await;
    spares(&rig, 2).await;
    assert_eq!(rig.upstream.stats().running, 52);
    drop(clients);
    eventually("reaping", || rig.upstream.stats().running == 2).await;
    let stats = rig.upstream.stats();
    assert_eq!((stats.spawned, stats.states.spare), (52, 2), "one each, and those that are left");
    rig.end().await;
}

#[tokio::test]
async fn a_client_does_not_wait_for_the_start_of_a_spare() {
    let rig = Rig::with(ready(1, &["--start-delay", "700"]));
    rig.client().await;
    // The first client has taught the spare how to be greeted.
    greeted(&rig, 2).await;
    let asked = Instant::now();
    let client = rig.client().await;
    assert!(asked.elapsed() < Duration::from_millis(350), "{:?}", asked.elapsed());
    let seen = client.tool("seen", json!({})).await;
    assert_eq!(seen["seen"][0]["method"], "notifications/initialized", "said by the client");
    assert_eq!(seen["seen"].as_array().unwrap().len(), 1);
    rig.end().await;
}

#[tokio::test]
async fn a_spare_serves_only_a_client_like_the_one_it_was_greeted_as() {
    let rig = Rig::with(ready(1, &[]));
    drop(rig.client().await);
    greeted(&rig, 2).await;
    let before = rig.upstream.stats();
    let other = rig.able(json!({"sampling": {}})).await;
    let hello = other.tool("hello", json!({})).await;
    assert_eq!(hello["hello"]["capabilities"], json!({"sampling": {}}));
    // The spare that nobody asked for has made way for one like this.
    greeted(&rig, before.starts.count() + 2).await;
    assert_eq!(rig.upstream.stats().recycled.displaced, 1);
    let starts = rig.upstream.stats().starts.count();
    let again = rig.able(json!({"sampling": {}})).await;
    let hello = again.tool("hello", json!({})).await;
    assert_eq!(hello["hello"]["capabilities"], json!({"sampling": {}}));
    greeted(&rig, starts + 1).await;
    rig.end().await;
}

#[tokio::test]
async fn a_spare_makes_way_for_whoever_needs_its_place() {
    let mut params = ready(1, &[]);
    params.max_processes = NonZeroU32::MIN;
    let rig = Rig::with(params);
    spares(&rig, 1).await;
    // A modern caller has no use for a legacy spare.
    let modern = rig.modern();
    modern.tool("pid", json!({})).await;
    let stats = rig.upstream.stats();
    assert_eq!((stats.running, stats.spawned, stats.recycled.displaced), (1, 2, 1));
    rig.end().await;
}

#[tokio::test]
async fn a_spare_that_dies_is_replaced() {
    let rig = Rig::with(ready(1, &[]));
    spares(&rig, 1).await;
    let client = rig.client().await;
    spares(&rig, 1).await;
    let mine = process(&client).await;
    let spare = tidegate_testkit::procs::children().into_iter().find(|pid| *pid != mine).unwrap();
    let killed = std::process::Command::new("kill").args(["-9", &spare.to_string()]).status();
    assert!(killed.unwrap().success());
    eventually("a new spare", || {
        let stats = rig.upstream.stats();
        stats.exits.signaled == 1 && stats.states.spare == 1
    })
    .await;
    rig.end().await;
}

#[tokio::test]
async fn sessions_that_share_a_process_need_no_spares_until_they_move() {
    let mut params = ready(1, &[]);
    params.sharing = Sharing::Auto;
    let rig = Rig::with(params);
    let client = rig.client().await;
    client.ask(&client.call(1, "echo", json!({}))).await;
    assert_eq!(rig.upstream.stats().spawned, 1);
    client.ask(&client.call(1, "ask", json!({"method": "roots/list"}))).await;
    spares(&rig, 1).await;
    rig.end().await;
}

#[tokio::test]
async fn a_spare_in_the_making_makes_way_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let stall = folder.path().join("stall");
    let mut params = ready(1, &["--stall-while", stall.to_str().unwrap()]);
    params.max_processes = NonZeroU32::new(3).unwrap();
    let rig = Rig::with(params);
    let _one = rig.client().await;
    greeted(&rig, 2).await;
    std::fs::write(&stall, "").unwrap();
    // This one takes the spare, and the next does not answer.
    let _two = rig.client().await;
    eventually("the next spare", || rig.upstream.stats().states.starting == 1).await;
    let displaced = async {
        eventually("its end", || rig.upstream.stats().recycled.displaced == 1).await;
        assert_eq!(rig.upstream.stats().starts.count(), 2);
        std::fs::remove_file(&stall).unwrap();
    };
    // Another kind of client, which no spare is for.
    let (three, ()) = tokio::join!(rig.able(json!({"sampling": {}})), displaced);
    three.tool("pid", json!({})).await;
    let stats = rig.upstream.stats();
    assert_eq!((stats.running, stats.recycled.displaced, stats.start_failures), (3, 1, 0));
    rig.end().await;
}

/// A spare that nobody has asked anything proves nothing, and must not stand for the one try that
/// finds out whether a server is still down.
#[tokio::test]
async fn a_spare_that_was_asked_nothing_does_not_keep_a_server_down() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    std::fs::write(&broken, "").unwrap();
    let mut params = ready(1, &["--exit-while", broken.to_str().unwrap()]);
    params.start_attempts = NonZeroU32::MIN;
    params.down_for = Duration::from_millis(200);
    let rig = Rig::with(params);
    eventually("its being down", || rig.upstream.stats().down).await;
    std::fs::remove_file(&broken).unwrap();
    spares(&rig, 1).await;
    assert!(rig.upstream.stats().down, "nothing has answered yet");
    // A modern caller has no use for the spare, and makes a try of its own.
    rig.modern().tool("pid", json!({})).await;
    assert!(!rig.upstream.stats().down);
    rig.end().await;
}
