//! How many processes there may be, and who waits for one.

use std::{num::NonZeroU32, time::Duration};

use futures_util::{FutureExt as _, future::join_all};
use serde_json::json;
use tidegate_protocol::Envelope;
use tidegate_service::{Kind, Operation, Retry};
use tidegate_upstream_stdio::{Params, Sharing};
use tokio::time::Instant;

use crate::rig::{Client, Rig, eventually, initialize, params, pid, within};

fn limited(processes: u32) -> Params {
    let mut params = params(&[]);
    params.max_processes = NonZeroU32::new(processes).unwrap();
    params.acquire_timeout = Duration::from_secs(10);
    params
}

/// A client that has said hello, whose answer may have to wait.
fn hello(client: &Client) -> impl Future<Output = bool> + use<> {
    let hello = Envelope::parse(initialize().to_string().into()).unwrap();
    let reply = client.operate(Operation::Send(hello));
    async move { reply.await.is_ok() }
}

#[tokio::test]
async fn who_finds_no_place_is_told_so_in_time() {
    let mut params = limited(2);
    params.acquire_timeout = Duration::from_millis(200);
    let rig = Rig::with(params);
    let held = [rig.client().await, rig.client().await];
    let asked = Instant::now();
    let error = rig.stranger().error(&initialize()).await;
    assert_eq!((error.kind, error.retry), (Kind::PoolExhausted, Retry::NotSent));
    assert_eq!(error.message(), "waited 200 ms for one of the server's 2 processes to come free");
    assert!((200..2_000).contains(&asked.elapsed().as_millis()), "{:?}", asked.elapsed());
    // Modern callers need a place as well.
    let modern = rig.modern();
    assert_eq!(modern.error(&modern.call(1, "pid", json!({}))).await.kind, Kind::PoolExhausted);
    let stats = rig.upstream.stats();
    assert_eq!((stats.running, stats.places.available, stats.places.timed_out), (2, 0, 2));
    drop(held);
    within(rig.client()).await.tool("pid", json!({})).await;
    assert_eq!(rig.upstream.stats().places.waiting, 0);
    rig.end().await;
}

#[tokio::test]
async fn the_queue_is_served_in_the_order_of_arrival_and_at_once() {
    let rig = Rig::with(limited(1));
    let mut held = rig.client().await;
    let strangers: Vec<_> = (0..5).map(|_| rig.stranger()).collect();
    let mut waiting: Vec<_> = strangers.iter().map(|stranger| Box::pin(hello(stranger))).collect();
    for (place, hello) in waiting.iter_mut().enumerate() {
        assert!(hello.now_or_never().is_none());
        assert_eq!(rig.upstream.stats().places.waiting, place + 1);
    }
    for (stranger, hello) in strangers.into_iter().zip(waiting) {
        let freed = Instant::now();
        drop(std::mem::replace(&mut held, stranger));
        assert!(within(hello).await);
        assert!(freed.elapsed() < Duration::from_secs(2), "{:?}", freed.elapsed());
        assert_eq!(rig.upstream.stats().running, 1);
    }
    assert_eq!(rig.upstream.stats().spawned, 6);
    drop(held);
    rig.end().await;
}

#[tokio::test]
async fn one_waiter_too_many_is_refused_at_once_and_one_that_leaves_makes_room() {
    let mut params = limited(1);
    params.max_waiting = 1;
    let rig = Rig::with(params);
    let held = rig.client().await;
    let (one, two) = (rig.stranger(), rig.stranger());
    let mut first = Box::pin(hello(&one));
    assert!((&mut first).now_or_never().is_none());
    let error = two.error(&initialize()).await;
    assert_eq!(error.kind, Kind::PoolExhausted);
    assert!(error.message().ends_with("and 1 callers wait already"), "{error}");
    drop(first);
    let mut second = Box::pin(hello(&two));
    assert!((&mut second).now_or_never().is_none());
    drop(held);
    assert!(within(second).await);
    assert_eq!(rig.upstream.stats().places.refused, 1);
    rig.end().await;
}

#[tokio::test]
async fn a_process_keeps_its_place_until_it_is_really_gone() {
    let mut params = limited(1);
    params.command.extend(["--ignore-eof".into(), "--ignore-term".into()]);
    params.stop_grace = Duration::from_millis(150);
    let rig = Rig::with(params);
    let stubborn = rig.client().await;
    let first = pid(&stubborn.tool("pid", json!({})).await);
    let asked = Instant::now();
    drop(stubborn);
    let next = rig.client().await;
    assert!(asked.elapsed() >= Duration::from_millis(300), "{:?}", asked.elapsed());
    assert!(!tidegate_testkit::procs::is_running(first));
    drop(next);
    rig.end().await;
}

#[tokio::test]
async fn fifty_sessions_have_a_process_each_and_leave_none() {
    let rig = Rig::with(limited(50));
    let clients = join_all((0..50).map(|_| rig.client())).await;
    let stats = rig.upstream.stats();
    assert_eq!((stats.spawned, stats.running, stats.states.serving), (50, 50, 50));
    assert_eq!((stats.places.in_use, stats.places.available), (50, 0));
    assert_eq!(stats.starts.count(), 50);
    drop(clients);
    eventually("reaping", || rig.upstream.stats().running == 0).await;
    let stats = rig.upstream.stats();
    assert_eq!((stats.spawned, stats.places.available), (50, 50));
    assert_eq!(stats.states, tidegate_upstream_stdio::States::default());
    rig.end().await;
}

#[tokio::test]
async fn a_process_works_on_so_many_requests_and_refuses_more() {
    for sharing in [Sharing::Session, Sharing::Shared] {
        let mut params = limited(2);
        params.sharing = sharing;
        params.max_in_flight = 2;
        let rig = Rig::with(params);
        let client = rig.client().await;
        let hang = |id| {
            let call = client.call(id, "hang", json!({})).to_string();
            Box::pin(client.operate(Operation::Send(Envelope::parse(call.into()).unwrap())))
        };
        let (mut one, mut two) = (hang(1), hang(2));
        assert!((&mut one).now_or_never().is_none() && (&mut two).now_or_never().is_none());
        let error = client.error(&client.call(3, "pid", json!({}))).await;
        assert_eq!((error.kind, error.retry), (Kind::Overloaded, Retry::NotSent));
        client.tell(&crate::rig::cancel(1)).await;
        client.ask(&client.call(3, "pid", json!({}))).await;
        drop((one, two));
        rig.end().await;
    }
}
