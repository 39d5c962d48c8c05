//! The wait for a stream to go on: what the reader hears, and what leaving it leaves.

use std::time::Duration;

use futures_util::StreamExt as _;
use tidegate_service::{EventStream, Frame, Kind, Verdict};
use tidegate_upstream_http::Reconnect;
use tokio::{join, time::Instant};

use super::{
    QUICK, answer, begun, event, ping, post, quick, replay, resumption, session, transcript,
};
use crate::support::{PING, PONG, Peer, World, events, in_session, json, next, send, soon};

const HOUR: Duration = Duration::from_secs(3_600);

/// A server that wants to be left alone for an hour, and one that does not.
const PATIENT: &str = "id: 1\nretry: 3600000\ndata: a\n\n";
const IMPATIENT: &str = "id: 1\ndata: a\n\n";

/// A stream that waits, its first event read.
async fn waiting(world: &World, peer: &Peer, first: &str) -> EventStream {
    let (reply, (conn, _)) = join!(world.ping(), peer.serve(begun(first)));
    drop(conn);
    let mut stream = events(reply.unwrap());
    assert_eq!(next(&mut stream).await.unwrap().unwrap(), first);
    assert!(next(&mut stream).await.unwrap().unwrap().starts_with(": reconnecting"));
    stream
}

/// A world in which such a wish is granted.
fn patient(peer: &Peer) -> World {
    peer.world_with(|params| params.reconnect = Some(Reconnect { window: 2 * HOUR, ..QUICK }))
}

#[tokio::test]
async fn leaving_the_wait_leaves_nothing() {
    let peer = Peer::bind().await;
    let world = patient(&peer);
    let stream = waiting(&world, &peer, PATIENT).await;
    let stats = world.stats();
    assert_eq!((world.resumption().waiting, stats.open_streams), (1, 1));
    assert_eq!((stats.calls.in_use, stats.opened), (0, stats.closed), "it holds no connection");
    let (verdicts, heard) = std::sync::mpsc::channel();
    let stream = stream.on_end(move |verdict| verdicts.send(verdict).unwrap());
    drop(stream);
    assert_eq!(heard.recv().unwrap(), Verdict::Dropped);
    let stats = world.stats();
    assert_eq!((world.resumption().waiting, stats.open_streams), (0, 0));
    world.end().await;
}

#[tokio::test]
async fn leaving_an_attempt_closes_its_connection() {
    let peer = Peer::bind().await;
    let world = peer.world_with(quick);
    let mut stream = waiting(&world, &peer, IMPATIENT).await;
    let server = resumption(&peer);
    let (mut conn, _) = tokio::select! {
        frame = stream.next() => panic!("{frame:?}"),
        accepted = server => accepted,
    };
    assert_eq!((world.resumption().waiting, world.stats().calls.in_use), (1, 1));
    drop(stream);
    conn.closed().await;
    let stats = world.stats();
    assert_eq!((world.resumption().waiting, stats.calls.in_use, stats.open_streams), (0, 0, 0));
    assert_eq!(stats.attempts.cancelled, 1);
    world.end().await;
}

#[tokio::test]
async fn a_stop_ends_the_wait_at_once() {
    let peer = Peer::bind().await;
    let world = patient(&peer);
    let mut stream = waiting(&world, &peer, PATIENT).await;
    let (frame, ()) = join!(next(&mut stream), async { soon(world.upstream.stop()).await });
    assert_eq!(frame.unwrap().unwrap_err().kind, Kind::Draining);
    assert!(next(&mut stream).await.is_none());
    assert_eq!(world.resumption().waiting, 0);
    world.end().await;
}

#[tokio::test]
async fn a_stream_that_breaks_after_the_stop_began_does_not_come_back() {
    for ends in [true, false] {
        let peer = Peer::bind().await;
        let world = peer.world_with(quick);
        let (reply, (mut conn, _)) = join!(world.ping(), peer.serve(begun(IMPATIENT)));
        let mut stream = events(reply.unwrap());
        assert_eq!(next(&mut stream).await.unwrap().unwrap(), IMPATIENT);
        let reader = async {
            if ends {
                conn.send("0\r\n\r\n").await;
            }
            drop(conn);
            assert!(next(&mut stream).await.unwrap().unwrap().starts_with(": reconnecting"));
            // Not a whole stream: a client that resumes may find its answer elsewhere.
            assert_eq!(next(&mut stream).await.unwrap().unwrap_err().kind, Kind::Draining);
        };
        // The stop waits for the stream's connection, so it has begun before the break.
        let mut stop = Box::pin(soon(world.upstream.stop()));
        assert!(futures_util::poll!(stop.as_mut()).is_pending());
        join!(stop, reader);
        assert!(peer.is_left_alone().await);
        world.end().await;
    }
}

#[tokio::test]
async fn an_upstream_that_is_gone_ends_the_wait() {
    let peer = Peer::bind().await;
    let world = patient(&peer);
    let mut stream = waiting(&world, &peer, PATIENT).await;
    let World { upstream, tasks } = world;
    drop(upstream);
    assert_eq!(next(&mut stream).await.unwrap().unwrap_err().kind, Kind::Draining);
    soon(tasks.stop()).await;
}

#[tokio::test]
async fn the_callers_deadline_holds_in_the_wait_too() {
    let peer = Peer::bind().await;
    let world = patient(&peer);
    let mut call = send(PING);
    call.cx.deadline = Some(Instant::now() + Duration::from_millis(100));
    let server = async { drop(peer.serve(begun(&event("1", "a"))).await) };
    let (told, ()) = join!(async { transcript(world.call(call).await).await }, server);
    assert_eq!(told.error.unwrap().kind, Kind::Timeout);
    world.end().await;
}

#[tokio::test]
async fn a_client_that_asked_for_warnings_gets_one() {
    let ok = json(PONG).replacen("\r\n", "\r\nconnection: close\r\n", 1);
    let no = json(r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}"#).replacen(
        "\r\n",
        "\r\nconnection: close\r\n",
        1,
    );
    for (level, response, expected) in [
        (None, &ok, 0),
        (Some("debug"), &ok, 1),
        (Some("warning"), &ok, 1),
        (Some("error"), &ok, 0),
        (Some("debug"), &no, 0),
    ] {
        let peer = Peer::bind().await;
        let world = peer.world_with(quick);
        let session = session(&peer, &world).await;
        if let Some(level) = level {
            let set = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{{"level":"{level}"}}}}"#
            );
            let call = world.call(in_session(post(&set), &session));
            let (reply, _) = join!(call, peer.serve(response));
            reply.unwrap();
        }
        let server = async {
            drop(peer.serve(begun(&event("1", "a"))).await);
            // An attempt that fails is no further news.
            drop(resumption(&peer).await);
            replay(&peer, Some("1"), &answer("2")).await
        };
        let call = world.call(in_session(ping(), &session));
        let (told, _conn) = join!(async { transcript(call.await).await }, server);
        told.assert_whole(&[event("1", "a"), answer("2")]);
        assert_eq!(told.comments.len(), 2);
        assert_eq!(told.messages.len(), expected, "{level:?} {told:?}");
        for message in told.messages {
            assert_eq!(
                message,
                r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"warning","logger":"tidegate","data":"the connection to the server broke; reconnecting"}}"#
            );
        }
        world.end().await;
    }
}

#[tokio::test]
async fn a_comment_is_a_block_that_says_nothing_to_a_client() {
    let peer = Peer::bind().await;
    let world = patient(&peer);
    let (reply, (conn, _)) = join!(world.ping(), peer.serve(begun(PATIENT)));
    drop(conn);
    let mut stream = events(reply.unwrap());
    next(&mut stream).await.unwrap().unwrap();
    let Some(Ok(Frame::Block(block))) = soon(stream.next()).await else { panic!("no block") };
    assert_eq!(block.raw, ": reconnecting to the server, attempt 1\n\n");
    assert!(block.is_silent());
    drop(stream);
    world.end().await;
}
