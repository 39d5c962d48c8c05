//! Servers that speak HTTP/2, whose connections calls share.

mod goaway;
mod places;
mod raw;
mod server;
mod silence;

use std::time::Duration;

use futures_util::future::join_all;
use tidegate_service::{Kind, Retry};
use tidegate_upstream_http::{Http2, Params};
use tokio::net::TcpListener;

use self::server::{Server, hang, ping};
use crate::{
    support::{PONG, Peer, World, events, listen, message, next, soon},
    tls::{Authority, params as secure},
};

#[tokio::test]
async fn calls_of_all_kinds_share_a_connection_and_streams_have_another() {
    let server = Server::start(None).await;
    let world = World::new(server.params());
    let calls = (0..50).map(|id| {
        let call = world.call(ping(id));
        async move {
            let expected = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
            assert_eq!(message(call.await.unwrap()), expected);
        }
    });
    join_all(calls).await;
    assert_eq!(server.counts(), (1, 50));
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = events(world.call(listen()).await.unwrap());
        assert_eq!(next(&mut stream).await.unwrap().unwrap(), "data: 1\n\n");
        streams.push(stream);
    }
    assert_eq!(server.counts(), (2, 55));
    assert_eq!((world.stats().opened, world.stats().streams.in_use), (2, 5));
    drop(streams);
    server.streams(0).await;
    world.end().await;
    server.end().await;
}

#[tokio::test]
async fn who_leaves_resets_a_stream_and_no_other() {
    let server = Server::start(None).await;
    let world = World::new(server.params());
    let mut mine = events(world.call(hang()).await.unwrap());
    let mut others = events(world.call(hang()).await.unwrap());
    assert_eq!(next(&mut mine).await.unwrap().unwrap(), "data: 1\n\n");
    assert_eq!(next(&mut others).await.unwrap().unwrap(), "data: 1\n\n");
    server.streams(2).await;
    drop(mine);
    server.streams(1).await;
    assert_eq!(message(world.call(ping(1)).await.unwrap()), PONG);
    assert_eq!((server.counts().0, world.stats().calls.in_use), (1, 1));
    drop(others);
    server.streams(0).await;
    assert_eq!(world.stats().calls.in_use, 0, "a place is back as soon as its stream is gone");
    world.end().await;
    server.end().await;
}

#[tokio::test]
async fn the_handshake_tells_whether_a_server_wants_to_share() {
    let authority = Authority::new();
    for (wish, protocols) in
        [(Http2::Auto, &[&b"h2"[..], b"http/1.1"][..]), (Http2::Always, &[&b"h2"[..]][..])]
    {
        let server = Server::start(Some(authority.acceptor("localhost", protocols))).await;
        let mut params = secure(server.address(), Some(authority.pem()));
        params.http2 = wish;
        let world = World::new(params);
        join_all((0..20).map(|id| world.call(ping(id)))).await;
        assert_eq!(server.counts(), (1, 20), "{wish:?}");
        world.end().await;
        server.end().await;
    }
}

#[tokio::test]
async fn who_does_not_want_to_share_has_nothing_in_common_with_a_server_that_does() {
    let (peer, authority) = (Peer::bind().await, Authority::new());
    let acceptor = authority.acceptor("localhost", &[b"h2"]);
    let mut params = secure(peer.address(), Some(authority.pem()));
    params.http2 = Http2::Off;
    let world = World::new(params);
    let accept = async { acceptor.accept(peer.accept().await.socket).await };
    let (reply, accepted) = tokio::join!(world.ping(), accept);
    assert_eq!(reply.unwrap_err().kind, Kind::Unreachable);
    assert!(accepted.is_err());
    world.end().await;
}

#[tokio::test]
async fn a_connection_that_broke_fails_its_calls_and_the_next_gets_a_new_one() {
    let server = Server::start(None).await;
    let world = World::new(server.params());
    let mut stream = events(world.call(hang()).await.unwrap());
    assert_eq!(next(&mut stream).await.unwrap().unwrap(), "data: 1\n\n");
    server.cut.cancel();
    let error = next(&mut stream).await.unwrap().unwrap_err();
    assert_eq!((error.kind, error.retry), (Kind::Died, Retry::Never));
    drop(stream);
    // The server's connections are cut from now on as soon as they come.
    let error = world.call(ping(1)).await.unwrap_err();
    assert!(matches!(error.kind, Kind::Died | Kind::Unreachable), "{error}");
    assert!(server.counts().0 >= 2);
    world.end().await;
    server.end().await;
}

#[tokio::test]
async fn a_server_that_wants_a_new_connection_gets_it_without_a_call_that_fails() {
    let server = Server::start(None).await;
    let world = World::new(server.params());
    // It keeps the old connection open, so that nothing but the server's word says it is over.
    let mut stream = events(world.call(hang()).await.unwrap());
    assert_eq!(next(&mut stream).await.unwrap().unwrap(), "data: 1\n\n");
    server.leave.notify_waiters();
    let calls = async {
        while server.counts().0 == 1 {
            let replies = join_all((0..8).map(|_| world.call(ping(1)))).await;
            assert!(replies.into_iter().all(|reply| message(reply.unwrap()) == PONG));
        }
    };
    soon(calls).await;
    server.streams(1).await;
    drop(stream);
    world.end().await;
    server.end().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_at_once_also_where_calls_would_share() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let url = format!("http://{address}/mcp");
    let params = Params { http2: Http2::Always, ..Params::new("gone", url.parse().unwrap()) };
    let world = World::new(params);
    for reply in join_all((0..5).map(|id| world.call(ping(id)))).await {
        let error = reply.unwrap_err();
        assert_eq!((error.kind, error.retry), (Kind::Unreachable, Retry::NotSent));
    }
    world.end().await;
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed() {
    let server = Server::start(None).await;
    let mut params = server.params();
    params.pool_idle = Duration::from_millis(100);
    let world = World::new(params);
    join_all((0..5).map(|id| world.call(ping(id)))).await;
    assert_eq!(world.stats().opened, 1);
    soon(async {
        while world.stats().closed == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert_eq!(message(world.call(ping(1)).await.unwrap()), PONG);
    assert_eq!(server.counts(), (2, 6));
    world.end().await;
    server.end().await;
}

#[tokio::test]
async fn streams_at_a_time_are_limited_like_connections() {
    let server = Server::start(None).await;
    let mut params = server.params();
    (params.max_connections, params.max_waiting) = (2, 0);
    let world = World::new(params);
    let held = [world.call(hang()).await.unwrap(), world.call(hang()).await.unwrap()];
    let error = world.call(ping(1)).await.unwrap_err();
    assert_eq!((error.kind, error.retry), (Kind::PoolExhausted, Retry::NotSent));
    drop(held);
    assert_eq!(message(world.call(ping(1)).await.unwrap()), PONG);
    world.end().await;
    server.end().await;
}
