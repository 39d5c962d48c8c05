//! Every limit of reconnecting, and the brake that all streams of a server share.

use std::time::Duration;

use futures_util::{StreamExt as _, future::join_all};
use tidegate_service::{Kind, Retry};
use tidegate_upstream_http::Reconnect;
use tokio::{join, time::Instant};

use super::{QUICK, answer, begun, event, replay, resumption, status, transcript, whole};
use crate::support::{Peer, World, events, next};

fn world(peer: &Peer, reconnect: Reconnect) -> World {
    peer.world_with(|params| params.reconnect = Some(reconnect))
}

#[tokio::test]
async fn attempts_are_bounded() {
    for attempts in [1_u32, 3] {
        let peer = Peer::bind().await;
        let world = world(&peer, Reconnect { attempts: attempts.try_into().unwrap(), ..QUICK });
        let server = async {
            drop(peer.serve(begun(&event("1", "a"))).await);
            for _ in 0..attempts {
                let (mut conn, _) = resumption(&peer).await;
                conn.send(status("503 Service Unavailable")).await;
            }
        };
        let (told, ()) = join!(async { transcript(world.ping().await).await }, server);
        let error = told.error.unwrap();
        assert_eq!((error.kind, error.retry), (Kind::Timeout, Retry::Never));
        let said = format!("to go on with the stream, {attempts} attempts failed, outcome unknown");
        assert!(error.message().ends_with(&said), "{}", error.message());
        assert_eq!(told.comments.len(), attempts as usize);
        assert!(peer.is_left_alone().await);
        let stats = world.resumption();
        assert_eq!((stats.failed, stats.given_up), (u64::from(attempts), 1));
        world.end().await;
    }
}

#[tokio::test]
async fn time_is_bounded() {
    let peer = Peer::bind().await;
    let window = Duration::from_millis(150);
    let attempts = u32::MAX.try_into().unwrap();
    let world = world(&peer, Reconnect { window, attempts, ..QUICK });
    let (reply, (conn, _)) = join!(world.ping(), peer.serve(begun(&event("1", "a"))));
    let start = Instant::now();
    // Nobody listens any more.
    drop((conn, peer));
    let told = transcript(reply).await;
    assert_eq!(told.error.unwrap().kind, Kind::Timeout);
    assert!(start.elapsed() >= window && told.comments.len() > 2, "{:?}", told.comments);
    world.end().await;
}

#[tokio::test]
async fn pauses_are_under_their_limits() {
    let hour = Duration::from_secs(3_600);
    // Each limit is small enough alone to let the first attempt be made soon.
    for reconnect in [
        Reconnect { base: hour, max: Duration::from_millis(1), ..QUICK },
        Reconnect { base: Duration::from_millis(1), max: hour, ..QUICK },
    ] {
        let peer = Peer::bind().await;
        let world = world(&peer, reconnect);
        let server = async {
            drop(peer.serve(begun(&event("1", "a"))).await);
            replay(&peer, Some("1"), &answer("2")).await
        };
        let (told, _conn) = join!(async { transcript(world.ping().await).await }, server);
        told.assert_whole(&[event("1", "a"), answer("2")]);
        world.end().await;
    }
}

/// As many streams that all break at once.
async fn broken(world: &World, peer: &Peer, count: usize) -> Vec<tidegate_service::EventStream> {
    let mut streams = Vec::new();
    let mut conns = Vec::new();
    for _ in 0..count {
        let (reply, (conn, _)) = join!(world.ping(), peer.serve(begun(&event("1", "a"))));
        let mut stream = events(reply.unwrap());
        next(&mut stream).await.unwrap().unwrap();
        streams.push(stream);
        conns.push(conn);
    }
    drop(conns);
    streams
}

#[tokio::test]
async fn only_so_many_streams_reconnect_at_once() {
    let peer = Peer::bind().await;
    let world = world(&peer, Reconnect { at_once: 2, ..QUICK });
    let streams = broken(&world, &peer, 5).await;
    let readers = join_all(streams.into_iter().map(|stream| stream.collect::<Vec<_>>()));
    let server = async {
        let mut open = Vec::new();
        for round in 0..5 {
            open.push(resumption(&peer).await.0);
            if open.len() == 2 || round == 4 {
                // The others wait until one of these has its answer.
                assert!(round == 4 || peer.is_left_alone().await);
                assert!(world.stats().calls.in_use <= 2);
                let mut conn = open.remove(0);
                conn.send(whole(&answer("2"))).await;
                drop(conn);
            }
        }
        for mut conn in open {
            conn.send(whole(&answer("2"))).await;
        }
    };
    let (all, ()) = join!(readers, server);
    for frames in all {
        assert!(frames.iter().all(Result::is_ok), "{frames:?}");
    }
    assert_eq!(world.resumption().resumed, 5);
    world.end().await;
}

#[tokio::test]
async fn streams_reconnect_no_faster_than_their_rate() {
    let peer = Peer::bind().await;
    let world = world(&peer, Reconnect { per_second: 20, ..QUICK });
    let streams = broken(&world, &peer, 4).await;
    let start = Instant::now();
    let readers = join_all(streams.into_iter().map(|stream| stream.collect::<Vec<_>>()));
    let server = async {
        for number in 0..4_u32 {
            drop(replay(&peer, Some("1"), &answer("2")).await);
            let least = Duration::from_millis(50) * number;
            assert!(start.elapsed() >= least, "{number} after {:?}", start.elapsed());
        }
    };
    join!(readers, server);
    world.end().await;
}
