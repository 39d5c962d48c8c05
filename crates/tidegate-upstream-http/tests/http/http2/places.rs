//! How many calls share a connection, and what becomes of the others.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::join_all};
use tokio::{io::AsyncReadExt as _, task::JoinSet};

use super::{
    raw::{self, Raw},
    server::{Server, flood, hang, ping, until, wait},
};
use crate::support::{PONG, Peer, World, events, listen, message, next, soon};

/// What one connection is shared by at most, whatever the server takes.
const PLACES: usize = 64;

/// What a stream may have on the way.
const STREAM_WINDOW: usize = 256 << 10;

#[tokio::test]
async fn calls_and_streams_beyond_a_servers_limit_have_further_connections() {
    let server = Server::with_limit(4).await;
    let world = World::new(server.params());
    // All at once and one after the other.
    let calls = join_all((0..7).map(|_| world.call(hang()))).await;
    let mut open: Vec<_> = calls.into_iter().map(|reply| events(reply.unwrap())).collect();
    for _ in 0..3 {
        open.push(events(world.call(hang()).await.unwrap()));
    }
    for stream in &mut open {
        assert_eq!(next(stream).await.unwrap().unwrap(), "data: 1\n\n");
    }
    assert_eq!(server.counts(), (3, 10));
    for _ in 0..5 {
        open.push(events(world.call(listen()).await.unwrap()));
    }
    assert_eq!(server.counts(), (5, 15), "streams have their own");
    server.streams(15).await;
    let stats = world.stats();
    assert_eq!((stats.calls.created, stats.streams.created, stats.opened), (10, 5, 5));
    // There is room on the third, also for many that follow each other.
    for _ in 0..9 {
        assert_eq!(message(world.call(ping(1)).await.unwrap()), PONG);
    }
    assert_eq!((server.counts().0, world.stats().calls.reused), (5, 8));
    drop(open);
    server.streams(0).await;
    world.end().await;
    server.end().await;
}

#[tokio::test]
async fn a_place_that_was_left_is_taken_again() {
    let server = Server::with_limit(2).await;
    let world = World::new(server.params());
    let held = world.call(hang()).await.unwrap();
    for _ in 0..100 {
        // Left before and after the answer has begun.
        let mut early = Box::pin(world.call(wait()));
        assert!(early.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
        drop(early);
        drop(world.call(hang()).await.unwrap());
        assert_eq!(message(world.call(ping(1)).await.unwrap()), PONG);
    }
    assert_eq!((server.counts().0, world.stats().opened), (1, 1));
    drop(held);
    world.end().await;
    server.end().await;
}

#[tokio::test]
async fn readers_that_stand_still_do_not_hold_up_others() {
    let server = Server::start(None).await;
    let world = World::new(server.params());
    let still = join_all((1..PLACES).map(|_| world.call(flood()))).await;
    let still: Vec<_> = still.into_iter().map(Result::unwrap).collect();
    // First before they have stopped the server, and then when they have.
    for sent in [4 << 20, (PLACES - 1) * STREAM_WINDOW] {
        server.flooded(sent).await;
        assert_eq!(message(world.call(ping(1)).await.unwrap()), PONG);
    }
    assert_eq!(server.counts().0, 1, "the last place on the same connection");
    let more = [world.call(hang()).await.unwrap(), world.call(hang()).await.unwrap()];
    assert_eq!(server.counts().0, 2);
    drop((still, more));
    world.end().await;
    server.end().await;
}

#[tokio::test]
async fn connections_end_that_a_burst_has_needed() {
    let server = Server::start(None).await;
    let mut params = server.params();
    params.pool_idle = Duration::from_millis(200);
    let world = World::new(params);
    let burst = 2 * PLACES + 2;
    let calls = join_all((0..burst).map(|_| world.call(wait())));
    let release = async {
        server.streams(burst).await;
        server.release.add_permits(burst);
    };
    let (replies, ()) = tokio::join!(calls, release);
    assert!(replies.into_iter().all(|reply| message(reply.unwrap()) == PONG));
    let stats = world.stats();
    assert_eq!((stats.opened, stats.calls.reused), (3, 0));
    assert_eq!(stats.calls.created, u64::try_from(burst).unwrap());
    // One caller at a time needs one connection.
    let alone = async {
        loop {
            assert_eq!(message(world.call(ping(1)).await.unwrap()), PONG);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        () = until(|| world.stats().opened - world.stats().closed == 1) => (),
        () = alone => (),
    }
    let stats = world.stats();
    assert!(stats.calls.closed.idle >= 2, "{stats:?}");
    assert!(stats.calls.live() <= 64, "{stats:?}");
    world.end().await;
    server.end().await;
}

#[tokio::test]
async fn calls_of_a_burst_never_have_more_connections_than_there_may_be() {
    let server = Server::with_limit(1).await;
    let mut params = server.params();
    params.max_connections = 3;
    let world = World::new(params);
    let replies = join_all((0..30).map(|_| world.call(ping(1)))).await;
    assert!(replies.into_iter().all(|reply| message(reply.unwrap()) == PONG));
    assert_eq!(server.counts(), (3, 30));
    assert_eq!((world.stats().calls.created, world.stats().calls.reused), (3, 27));
    world.end().await;
    server.end().await;
}

#[tokio::test]
async fn a_connection_serves_no_more_calls_than_it_may_whoever_makes_them() {
    let server = Server::start(None).await;
    let mut params = server.params();
    params.max_uses = Some(10);
    let world = World::new(params);
    for _ in 0..6 {
        join_all((0..5).map(|_| world.call(ping(1)))).await;
    }
    assert_eq!((server.counts(), world.stats().calls.closed.uses), ((3, 30), 10));
    join_all((0..30).map(|_| world.call(ping(1)))).await;
    assert_eq!(server.counts(), (6, 60));
    world.end().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_refused_while_others_come_and_go() {
    let server = Server::with_limit(3).await;
    let mut params = server.params();
    (params.max_connections, params.acquire_timeout) = (8, Duration::from_secs(30));
    let world = Arc::new(World::new(params));
    let mut callers = JoinSet::new();
    for caller in 0..12 {
        let world = Arc::clone(&world);
        callers.spawn(async move {
            for round in 0..100 {
                let id = caller * 100 + round;
                let expected = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
                assert_eq!(message(world.call(ping(id)).await.unwrap()), expected);
                if round % 3 == 0 {
                    let early = Duration::from_micros(u64::try_from(round * 9).unwrap());
                    drop(tokio::time::timeout(early, world.call(hang())).await);
                }
            }
        });
    }
    callers.join_all().await;
    server.streams(0).await;
    let stats = world.stats();
    assert_eq!((stats.attempts.answered, stats.attempts.unreachable), (1200, 0), "{stats:?}");
    assert_eq!(stats.attempts.cancelled, 12 * 34, "{stats:?}");
    Arc::into_inner(world).unwrap().end().await;
    server.end().await;
}

#[tokio::test]
async fn who_waits_for_a_connection_makes_it_when_its_maker_leaves() {
    let peer = Peer::bind().await;
    let world = raw::world(&peer);
    let mut maker = Box::pin(world.ping());
    let accept = async {
        let mut first = peer.accept().await;
        assert_eq!(soon(first.socket.read_u8()).await.unwrap(), b'P');
        first
    };
    let first = tokio::select! {
        reply = &mut maker => panic!("{reply:?}"),
        first = accept => first,
    };
    let mut waiter = Box::pin(world.ping());
    tokio::select! {
        reply = &mut waiter => panic!("{reply:?}"),
        alone = peer.is_left_alone() => assert!(alone, "one makes it for both"),
    }
    drop(maker);
    let serve = async {
        let mut second = Raw::accept(&peer).await;
        let stream = second.request().await;
        second.message(stream, PONG).await;
        second
    };
    let (reply, second) = tokio::join!(waiter, serve);
    assert_eq!(message(reply.unwrap()), PONG);
    assert_eq!((world.stats().opened, world.stats().calls.created), (2, 1));
    world.end().await;
    assert_eq!(second.rest().await, 0);
    drop(first);
}
