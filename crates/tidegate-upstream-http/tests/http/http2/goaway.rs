//! Servers that take no more calls, or not this one.

use tidegate_service::{Kind, Retry};

use super::{
    raw::{CANCEL, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM, Raw, world},
    server::hang,
};
use crate::support::{PONG, Peer, events, message, next};

#[tokio::test]
async fn a_connection_that_takes_no_more_calls_goes_on_with_those_it_has() {
    let peer = Peer::bind().await;
    let world = world(&peer);
    let serve = async {
        let mut old = Raw::accept(&peer).await;
        let stream = old.request().await;
        old.events(stream).await;
        old.data(stream, "data: 1\n\n").await;
        old.go_away(stream, NO_ERROR).await;
        old.data(stream, "data: 2\n\n").await;
        (old, stream)
    };
    let (reply, (mut old, stream)) = tokio::join!(world.call(hang()), serve);
    let mut open = events(reply.unwrap());
    assert_eq!(next(&mut open).await.unwrap().unwrap(), "data: 1\n\n");
    // What comes after the server's word has arrived, so the word has as well.
    assert_eq!(next(&mut open).await.unwrap().unwrap(), "data: 2\n\n");
    let serve = async {
        let mut new = Raw::accept(&peer).await;
        for _ in 0..2 {
            let stream = new.request().await;
            new.message(stream, PONG).await;
        }
        new
    };
    let calls = async {
        for _ in 0..2 {
            assert_eq!(message(world.ping().await.unwrap()), PONG);
        }
    };
    let ((), new) = tokio::join!(calls, serve);
    old.data(stream, "data: 3\n\n").await;
    old.end(stream).await;
    assert_eq!(next(&mut open).await.unwrap().unwrap(), "data: 3\n\n");
    assert!(next(&mut open).await.is_none());
    drop(open);
    assert_eq!((world.stats().opened, world.stats().attempts.answered), (2, 3));
    world.end().await;
    assert_eq!((old.rest().await, new.rest().await), (0, 0));
}

/// What a server does to the only call on a connection, and what the caller is told.
enum Refusal {
    Reset(u32),
    /// The connection takes streams up to this one only.
    GoAway(u32, u32),
    /// The same, and then it closes.
    GoAwayAndClose(u32, u32),
}

#[tokio::test]
async fn a_call_may_be_repeated_if_the_server_says_that_it_did_nothing_and_only_then() {
    use Refusal as R;
    let not_sent = (Kind::Unreachable, Retry::NotSent);
    let unknown = (Kind::Died, Retry::Never);
    let cases = [
        (R::Reset(REFUSED_STREAM), not_sent),
        (R::Reset(CANCEL), unknown),
        (R::Reset(INTERNAL_ERROR), unknown),
        (R::GoAway(0, NO_ERROR), not_sent),
        (R::GoAway(0, INTERNAL_ERROR), not_sent),
        (R::GoAwayAndClose(0, NO_ERROR), not_sent),
        (R::GoAwayAndClose(1, NO_ERROR), unknown),
        (R::GoAwayAndClose(1, INTERNAL_ERROR), unknown),
    ];
    for (case, (refusal, expected)) in cases.into_iter().enumerate() {
        let peer = Peer::bind().await;
        let world = world(&peer);
        let serve = async {
            let mut raw = Raw::accept(&peer).await;
            let stream = raw.request().await;
            assert_eq!(stream, 1);
            match refusal {
                R::Reset(reason) => raw.reset(stream, reason).await,
                R::GoAway(last, reason) => raw.go_away(last, reason).await,
                R::GoAwayAndClose(last, reason) => {
                    raw.go_away(last, reason).await;
                    return None;
                }
            }
            Some(raw)
        };
        let (reply, raw) = tokio::join!(world.ping(), serve);
        let error = reply.unwrap_err();
        assert_eq!((error.kind, error.retry), expected, "case {case}: {error}");
        assert!(peer.is_left_alone().await, "case {case}: it was sent again");
        world.end().await;
        if let Some(raw) = raw {
            assert_eq!(raw.rest().await, 0, "case {case}: it was sent again");
        }
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_after_its_head_is_never_unsent() {
    let peer = Peer::bind().await;
    let world = world(&peer);
    let serve = async {
        let mut raw = Raw::accept(&peer).await;
        let stream = raw.request().await;
        raw.events(stream).await;
        raw.reset(stream, REFUSED_STREAM).await;
        raw
    };
    let (reply, raw) = tokio::join!(world.call(hang()), serve);
    let error = match reply {
        Ok(reply) => next(&mut events(reply)).await.unwrap().unwrap_err(),
        Err(error) => panic!("a head came: {error}"),
    };
    assert_eq!((error.kind, error.retry), (Kind::Died, Retry::Never));
    world.end().await;
    assert_eq!(raw.rest().await, 0);
}
