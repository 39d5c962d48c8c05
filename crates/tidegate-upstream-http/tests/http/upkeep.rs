//! Connections that end of age or use, and connections that wait for the first call.

use std::time::Duration;

use tokio::{join, task::JoinSet, time};

use crate::support::{EVENTS_HEAD, PONG, Peer, World, chunk, events, json, message, next, soon};

const SHORT: Duration = Duration::from_millis(200);

/// Waits until as many connections lie ready.
async fn ready(world: &World, count: usize) {
    soon(async {
        while world.stats().calls.idle != count {
            time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_is_too_old_is_replaced() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.max_lifetime = Some(SHORT));
    let (reply, (mut first, _)) = join!(world.ping(), peer.serve(json(PONG)));
    assert_eq!(message(reply.unwrap()), PONG);
    let (reply, _) = join!(world.ping(), first.answer(json(PONG)));
    assert_eq!(message(reply.unwrap()), PONG);
    // Nobody has to call for it to be closed.
    first.closed().await;
    let (reply, (_second, _)) = join!(world.ping(), peer.serve(json(PONG)));
    assert_eq!(message(reply.unwrap()), PONG);
    let stats = world.stats();
    assert_eq!((stats.opened, stats.calls.reused, stats.calls.closed.lifetime), (2, 1, 1));
    world.end().await;
}

#[tokio::test]
async fn a_stream_outlives_the_age_of_its_connection() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.max_lifetime = Some(SHORT / 2));
    let (reply, (mut conn, _)) = join!(world.ping(), peer.serve(EVENTS_HEAD));
    let mut stream = events(reply.unwrap());
    conn.send(chunk("data: 1\n\n")).await;
    assert_eq!(next(&mut stream).await.unwrap().unwrap(), "data: 1\n\n");
    time::sleep(SHORT).await;
    conn.send(chunk("data: 2\n\n") + "0\r\n\r\n").await;
    assert_eq!(next(&mut stream).await.unwrap().unwrap(), "data: 2\n\n");
    assert!(next(&mut stream).await.is_none());
    conn.closed().await;
    assert_eq!(world.stats().calls.closed.lifetime, 1);
    world.end().await;
}

#[tokio::test]
async fn a_connection_serves_as_many_calls_as_it_may() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| params.max_uses = Some(3));
    for connection in 1..=2 {
        let (reply, (mut conn, _)) = join!(world.ping(), peer.serve(json(PONG)));
        assert_eq!(message(reply.unwrap()), PONG);
        for _ in 0..2 {
            let (reply, _) = join!(world.ping(), conn.answer(json(PONG)));
            assert_eq!(message(reply.unwrap()), PONG);
        }
        conn.closed().await;
        assert_eq!(world.stats().calls.closed.uses, connection);
    }
    assert_eq!(world.stats().opened, 2);
    world.end().await;
}

#[tokio::test]
async fn connections_are_ready_before_the_first_call_and_again_when_they_were_used_up() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| {
        params.min_idle = 2;
        params.max_uses = Some(1);
    });
    for _ in 0..3 {
        let (mut one, mut other) = (peer.accept().await, peer.accept().await);
        ready(&world, 2).await;
        let before = world.stats().calls.reused;
        let calls = async { join!(world.ping(), world.ping()) };
        let answers = async { join!(one.answer(json(PONG)), other.answer(json(PONG))) };
        let ((first, second), _) = join!(calls, answers);
        assert_eq!((message(first.unwrap()), message(second.unwrap())), (PONG.into(), PONG.into()));
        assert_eq!(world.stats().calls.reused, before + 2, "no call made its connection");
        one.closed().await;
        other.closed().await;
    }
    let (_one, _other) = (peer.accept().await, peer.accept().await);
    ready(&world, 2).await;
    assert!(peer.is_left_alone().await);
    world.end().await;
}

#[tokio::test]
async fn a_ready_connection_that_the_server_closed_costs_no_call() {
    let peer = Peer::bind().await;
    // Nobody looks at it before the call does.
    let world = peer.world_with(|params| params.min_idle = 1);
    let conn = peer.accept().await;
    ready(&world, 1).await;
    drop(conn);
    // The next one kept ready may come before the one that the call makes.
    let serve = async {
        let (mut one, mut other) = (peer.accept().await, peer.accept().await);
        tokio::select! {
            _ = one.answer(json(PONG)) => (),
            _ = other.answer(json(PONG)) => (),
        }
        (one, other)
    };
    let (reply, _conns) = join!(world.ping(), serve);
    assert_eq!(message(reply.unwrap()), PONG);
    world.end().await;
}

#[tokio::test]
async fn half_read_bodies_lose_no_place() {
    let peer = Peer::bind().await;
    let world = peer.world_with(|params| {
        params.max_connections = 2;
        params.max_waiting = 0;
        params.min_idle = 1;
        params.max_uses = Some(2);
    });
    // Every request is answered with an event and a half.
    let server = async {
        let mut conns = JoinSet::new();
        loop {
            let mut conn = peer.accept().await;
            conns.spawn(async move {
                while conn.try_request().await.is_some() {
                    conn.send(EVENTS_HEAD.to_owned() + &chunk("data: 1\n\ndata: 2")).await;
                }
            });
        }
    };
    let client = async {
        for round in 0..20 {
            let mut first = events(world.ping().await.unwrap());
            let second = events(world.ping().await.unwrap());
            assert_eq!(next(&mut first).await.unwrap().unwrap(), "data: 1\n\n");
            let mut both = [Some(first), Some(second)];
            both[round % 2] = None;
            drop(both);
            // Maintenance may have one place, for as long as connecting takes.
            soon(async {
                while world.stats().calls.in_use > 0 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
    };
    tokio::select! {
        () = server => (),
        () = client => (),
    }
    let stats = world.stats();
    assert_eq!((stats.attempts.cancelled, stats.calls.closed.abandoned), (40, 40));
    world.end().await;
}
