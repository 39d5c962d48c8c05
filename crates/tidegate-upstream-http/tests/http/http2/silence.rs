//! Servers that say nothing, or take nothing.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use tidegate_service::{Kind, Retry};
use tokio::time::{self, Instant};

use super::{
    raw::{Raw, world, world_with},
    server::until,
};
use crate::support::{Peer, World, events, listen, send, soon};

#[tokio::test]
async fn a_server_that_does_not_open_the_connection_has_not_got_the_call() {
    let peer = Peer::bind().await;
    let world = world_with(&peer, |params| params.timeouts.connect = Duration::from_millis(100));
    let (reply, silent) = tokio::join!(world.ping(), peer.accept());
    let error = reply.unwrap_err();
    assert_eq!((error.kind, error.retry), (Kind::Timeout, Retry::NotSent), "{error}");
    drop(silent);
    let refuse = async { peer.accept().await.send("HTTP/1.1 400 Bad Request\r\n\r\n").await };
    let (reply, ()) = tokio::join!(world.ping(), refuse);
    let error = reply.unwrap_err();
    assert_eq!((error.kind, error.retry), (Kind::Unreachable, Retry::NotSent), "{error}");
    until(|| world.tasks.alive() == 1).await;
    world.end().await;
}

#[tokio::test]
async fn a_server_that_is_gone_without_a_word_is_found_out() {
    let peer = Peer::bind().await;
    // What goes on behind the break is told elsewhere.
    let world = world_with(&peer, |params| params.reconnect = None);
    let serve = async {
        let mut raw = Raw::accept(&peer).await;
        let stream = raw.request().await;
        raw.events(stream).await;
        raw.data(stream, "data: 1\n\n").await;
        raw
    };
    let (reply, raw) = tokio::join!(world.call(listen()), serve);
    let mut stream = events(reply.unwrap());
    stream.next().await.unwrap().unwrap();
    time::pause();
    let start = Instant::now();
    let error = time::timeout(Duration::from_secs(300), stream.next()).await.unwrap();
    let error = error.unwrap().unwrap_err();
    assert_eq!((error.kind, error.retry), (Kind::Died, Retry::Never));
    assert!(start.elapsed() <= Duration::from_secs(31), "{:?}", start.elapsed());
    time::resume();
    drop((stream, raw));
    world.end().await;
}

/// A call to a server that has stopped reading in its middle.
async fn stuck(peer: &Peer) -> (World, Raw) {
    let world = world(peer);
    let large = "x".repeat(32 << 20);
    let call =
        send(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"x":"{large}"}}}}"#));
    let mut call = Box::pin(world.call(call));
    let serve = async {
        let mut raw = Raw::accept_open(peer).await;
        raw.request().await;
        raw
    };
    let raw = tokio::select! {
        reply = &mut call => panic!("{reply:?}"),
        raw = serve => raw,
    };
    // Until nothing more fits between the two.
    time::pause();
    time::sleep(Duration::from_millis(1)).await;
    time::resume();
    assert!(call.as_mut().now_or_never().is_none());
    drop(call);
    (world, raw)
}

#[tokio::test]
async fn a_server_that_takes_no_bytes_does_not_hold_up_the_stop() {
    let peer = Peer::bind().await;
    let (world, raw) = stuck(&peer).await;
    soon(world.upstream.stop()).await;
    assert!(world.tasks.alive() > 0, "the connection cannot say good-bye");
    world.end().await;
    drop(raw);
}

#[tokio::test]
async fn a_server_that_takes_no_bytes_does_not_keep_a_connection() {
    let peer = Peer::bind().await;
    let (world, raw) = stuck(&peer).await;
    time::pause();
    let over = async {
        // One of them looks after the connections.
        while world.tasks.alive() > 1 {
            time::sleep(Duration::from_millis(100)).await;
        }
    };
    time::timeout(Duration::from_secs(60), over).await.unwrap();
    time::resume();
    world.end().await;
    drop(raw);
}
