//! Sessions come and go by the hundred, each with a process that has a child of its own (battery
//! H03). The only test of its process, since it counts the processes that belong to it.

use std::{collections::BTreeSet, time::Duration};

use tidegate_testkit::procs;
use tidegate_tests::{Client, Proxy};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

const CYCLES: usize = 25;
const AT_ONCE: usize = 8;

#[tokio::test]
async fn two_hundred_sessions_leave_no_process_behind() {
    let proxy = Proxy::to_stdio(&["--fork"]).await;
    let mut groups = BTreeSet::new();
    for cycle in 0..CYCLES {
        let mut opening = JoinSet::new();
        for _ in 0..AT_ONCE {
            let client = Client::legacy(&proxy, "2025-11-25").await;
            opening.spawn(async move {
                assert_eq!(client.tool("1", "echo", "{}").await.status, 200);
                client
            });
        }
        let clients = opening.join_all().await;
        let running = procs::children();
        assert!(running.iter().any(|pid| procs::in_group(*pid).len() > 1), "grandchildren run");
        groups.extend(running);
        let mut leaving = JoinSet::new();
        for client in clients {
            leaving.spawn(async move { client.delete().await.status });
        }
        assert_eq!(leaving.join_all().await, [200; AT_ONCE], "cycle {cycle}");
    }
    assert_eq!(groups.len(), CYCLES * AT_ONCE, "a process for each session");
    let gone = timeout(Duration::from_secs(20), async {
        while groups.iter().any(|group| !procs::in_group(*group).is_empty()) {
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(gone.await.is_ok(), "still there: {:?}", procs::children());
    assert_eq!((procs::children().len(), procs::zombies().len()), (0, 0));
    proxy.stop().await;
}
