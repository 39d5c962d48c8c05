//! What a gateway has taken from the system is given back. The only test of its process, since it
//! counts what belongs to the process.
#![expect(clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use tidegate_testkit::procs;
use tidegate_tests::{Client, Proxy, Recorder, http};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

/// One life of a gateway: sessions, calls, streams, refusals, and the end.
async fn live(round: usize) {
    let recorder = Recorder::start().await;
    let url = recorder.url();
    for proxy in [Proxy::to_stdio(&[]).await, Proxy::to_url(&url).await] {
        let (newer, older) = (Client::modern(&proxy), Client::legacy(&proxy, "2025-11-25").await);
        let mut calls = JoinSet::new();
        for client in [newer.clone(), older.clone(), newer.clone(), older.clone()] {
            calls.spawn(async move { client.tool("1", "echo", "{}").await.status });
        }
        assert_eq!(calls.join_all().await, [200; 4]);
        // Some streams and sessions are left open, and some connections in the middle.
        let stream = newer.tool_bytes("1", "hang", "{}");
        let mut left = http::Connection::open(proxy.address()).await;
        left.send(&stream[..stream.len() / 2]).await;
        left.reset();
        if round.is_multiple_of(2) {
            assert_eq!(older.delete().await.status, 200);
        }
        proxy.assert_alive().await;
        proxy.stop().await;
    }
}

#[tokio::test]
async fn files_processes_and_tasks_are_back_to_where_they_were() {
    live(0).await;
    sleep(Duration::from_millis(50)).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (files, alive) = (procs::open_files(), tasks());
    for round in 0..30 {
        live(round).await;
    }
    // The ends of connections are closed by tasks of the recorder that are on their way out.
    let settled = timeout(Duration::from_secs(5), async {
        while procs::open_files() > files || tasks() > alive {
            sleep(Duration::from_millis(10)).await;
        }
    });
    let is_settled = settled.await.is_ok();
    assert!(
        is_settled,
        "{} files, {files} before; {} tasks, {alive}",
        procs::open_files(),
        tasks()
    );
    assert_eq!((procs::children().len(), procs::zombies().len()), (0, 0));
}
