//! Servers that speak HTTP/2, whose connections calls share.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use tidegate_service::{Kind, OnError, Retry, Tasks};
use tidegate_upstream_http::{Http2, Params};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Notify,
};
use tokio_util::sync::CancellationToken;

use crate::{
    support::{PONG, Peer, World, events, listen, message, next, send, soon},
    tls::{Authority, params as secure},
};

/// A server and what it has seen.
#[derive(Clone)]
struct Server {
    address: std::net::SocketAddr,
    seen: Arc<Seen>,
    tasks: Tasks,
    /// Cuts every connection.
    cut: CancellationToken,
    /// Tells the clients of the connections that there are to go elsewhere with what is new.
    leave: Arc<Notify>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    calls: AtomicUsize,
    /// Streams that are open.
    streams: AtomicUsize,
}

/// Says one event and then nothing, until it is dropped.
struct Endless(Option<Bytes>, Arc<Seen>);

enum Answer {
    Whole(Option<Bytes>),
    Endless(Endless),
}

#[derive(Clone)]
struct Run(Tasks);

impl Server {
    async fn start(tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            tasks: Tasks::default(),
            cut: CancellationToken::new(),
            leave: Arc::default(),
        };
        let this = server.clone();
        server.tasks.spawn("accept", OnError::Log, async move {
            let stopping = this.tasks.stopping().clone();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = stopping.cancelled() => return Ok(()),
                };
                let socket = accepted.unwrap().0;
                this.seen.connections.fetch_add(1, SeqCst);
                match &tls {
                    Some(tls) => this.serve(tls.accept(socket).await.unwrap()),
                    None => this.serve(socket),
                }
            }
        });
        server
    }

    fn serve(&self, socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (this, stopping) = (self.clone(), self.tasks.stopping().clone());
        self.tasks.spawn("connection", OnError::Log, async move {
            let (run, cut) = (Run(this.tasks.clone()), this.cut.clone());
            let leave = Arc::clone(&this.leave);
            let service = service_fn(move |request| {
                let this = this.clone();
                async move { Ok::<_, Infallible>(this.answer(request).await) }
            });
            let connection =
                http2::Builder::new(run).serve_connection(TokioIo::new(socket), service);
            let mut connection = pin!(connection);
            loop {
                tokio::select! {
                    _ = &mut connection => return Ok(()),
                    () = leave.notified() => connection.as_mut().graceful_shutdown(),
                    () = cut.cancelled() => return Ok(()),
                    () = stopping.cancelled() => return Ok(()),
                }
            }
        });
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        assert!(request.headers().get("host").is_none(), "HTTP/2 has an authority instead");
        assert_eq!(request.uri().path(), "/mcp");
        assert_eq!(request.uri().authority().unwrap().port_u16(), Some(self.address.port()));
        self.seen.calls.fetch_add(1, SeqCst);
        let endless = request.method() == "GET";
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let hangs = body.windows(4).any(|word| word == b"hang");
        if endless || hangs {
            self.seen.streams.fetch_add(1, SeqCst);
            let body = Endless(Some("data: 1\n\n".into()), Arc::clone(&self.seen));
            let response = Response::builder().header("content-type", "text/event-stream");
            return response.body(Answer::Endless(body)).unwrap();
        }
        let response = Response::builder().header("content-type", "application/json");
        // What was asked comes back, so that a mix-up shows.
        let id = serde_id(&body);
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
        response.body(Answer::Whole(Some(answer.into()))).unwrap()
    }

    fn counts(&self) -> (usize, usize) {
        (self.seen.connections.load(SeqCst), self.seen.calls.load(SeqCst))
    }

    fn params(&self) -> Params {
        let url = format!("http://{}/mcp", self.address);
        Params { http2: Http2::Always, ..Params::new("shared", url.parse().unwrap()) }
    }

    async fn streams(&self, count: usize) {
        soon(async {
            while self.seen.streams.load(SeqCst) != count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }

    async fn end(self) {
        soon(self.tasks.stop()).await;
    }
}

fn serde_id(body: &Bytes) -> String {
    let text = std::str::from_utf8(body).unwrap();
    let (_, id) = text.split_once(r#""id":"#).unwrap();
    id.split([',', '}']).next().unwrap().to_owned()
}

fn ping(id: usize) -> tidegate_service::Call {
    send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#))
}

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
    let hang = || send(r#"{"jsonrpc":"2.0","id":1,"method":"hang"}"#);
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
        let mut params = secure(server.address, Some(authority.pem()));
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
    let hang = send(r#"{"jsonrpc":"2.0","id":1,"method":"hang"}"#);
    let mut stream = events(world.call(hang).await.unwrap());
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
    let hang = send(r#"{"jsonrpc":"2.0","id":1,"method":"hang"}"#);
    let mut stream = events(world.call(hang).await.unwrap());
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
    let hang = || send(r#"{"jsonrpc":"2.0","id":1,"method":"hang"}"#);
    let held = [world.call(hang()).await.unwrap(), world.call(hang()).await.unwrap()];
    let error = world.call(ping(1)).await.unwrap_err();
    assert_eq!((error.kind, error.retry), (Kind::PoolExhausted, Retry::NotSent));
    drop(held);
    assert_eq!(message(world.call(ping(1)).await.unwrap()), PONG);
    world.end().await;
    server.end().await;
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Endless(Endless(first, _)) => match first.take() {
                Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                None => Poll::Pending,
            },
        }
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.1.streams.fetch_sub(1, SeqCst);
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Run {
    fn execute(&self, task: F) {
        let stopping = self.0.stopping().clone();
        self.0.spawn("stream", OnError::Log, async move {
            tokio::select! {
                () = task => (),
                () = stopping.cancelled() => (),
            }
            Ok(())
        });
    }
}
