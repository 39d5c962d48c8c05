//! Starts that hang, as on a disk that does not answer: their callers are told in time, and all
//! others go on.

use std::{cell::Cell, path::Path, pin::pin, time::Duration};

use tidegate_service::{Kind, Retry};
use tidegate_testkit::{hang, procs};
use tidegate_upstream_stdio::Params;
use tokio::time::timeout;

use crate::rig::{Rig, SOON, eventually, initialize, params, within};

/// A server whose start hangs once it is caught.
fn hanging(folder: &Path) -> Params {
    let mut params = params(&[]);
    params.command = vec!["sleep".into(), "651".into()];
    params.env.insert("PATH".into(), hang::path(folder).unwrap());
    params.cwd = Some(folder.to_owned());
    params
}

/// Stops the start that is under way. Everything here is on one thread, so that this gets nowhere
/// if the start holds it.
async fn caught(folder: &Path) -> u32 {
    let child = Cell::new(None);
    eventually("a start", || {
        child.set(hang::catch(folder));
        child.get().is_some()
    })
    .await;
    child.get().unwrap()
}

#[tokio::test]
async fn a_start_that_hangs_is_given_up_in_time() {
    for deadline in [None, Some(Duration::from_millis(300))] {
        let folder = tempfile::tempdir().unwrap();
        let start_timeout = if deadline.is_none() { Duration::from_millis(300) } else { SOON };
        let rig = Rig::with(Params { start_timeout, ..hanging(folder.path()) });
        let mut client = rig.stranger();
        client.deadline = deadline;
        let message = initialize();
        let both = async { tokio::join!(client.error(&message), caught(folder.path())) };
        let (error, child) = within(both).await;
        assert_eq!((error.kind, error.retry), (Kind::Timeout, Retry::NotSent), "{error}");
        assert!(error.message().ends_with("for the server process to start"), "{error}");
        let stats = rig.upstream.stats();
        assert_eq!((stats.running, stats.spawn_failed, stats.start_failures), (0, 1, 1));
        procs::kill(child);
        rig.end().await;
    }
}

#[tokio::test]
async fn a_start_that_hangs_may_be_dropped_and_says_nothing_about_its_server() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::with(hanging(folder.path()));
    let client = rig.stranger();
    let message = initialize();
    let child = {
        let mut reply = pin!(client.reply(&message));
        let child = tokio::select! {
            reply = &mut reply => panic!("{reply:?}"),
            child = caught(folder.path()) => child,
        };
        assert!(timeout(Duration::from_millis(10), &mut reply).await.is_err());
        assert_eq!(rig.upstream.stats().running, 1, "it has a place");
        child
    };
    let stats = rig.upstream.stats();
    assert_eq!((stats.running, stats.spawn_failed, stats.start_failures), (0, 0, 0));
    procs::kill(child);
    rig.end().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_start_that_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::with(hanging(folder.path()));
    let client = rig.stranger();
    let message = initialize();
    let stopped = async {
        let child = caught(folder.path()).await;
        within(rig.upstream.stop()).await;
        child
    };
    let (error, child) = within(async { tokio::join!(client.error(&message), stopped) }).await;
    assert_eq!(error.kind, Kind::Draining);
    procs::kill(child);
    rig.end().await;
}
