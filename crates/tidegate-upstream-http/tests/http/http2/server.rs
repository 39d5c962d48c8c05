//! A server on the library that the upstream uses too, and what it has seen.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use tidegate_service::{Call, OnError, Tasks};
use tidegate_upstream_http::{Http2, Params};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{Notify, Semaphore},
};
use tokio_util::sync::CancellationToken;

use crate::support::{send, soon};

/// How large a piece of a flood is.
const PIECE: usize = 16 << 10;

/// A server and what it has seen.
#[derive(Clone)]
pub(crate) struct Server {
    address: SocketAddr,
    /// How many streams it takes on a connection.
    max_streams: Option<u32>,
    seen: Arc<Seen>,
    tasks: Tasks,
    /// Cuts every connection.
    pub(crate) cut: CancellationToken,
    /// Tells the clients of the connections that there are to go elsewhere with what is new.
    pub(crate) leave: Arc<Notify>,
    /// How many of those that wait may be answered.
    pub(crate) release: Arc<Semaphore>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    calls: AtomicUsize,
    /// Streams that are open.
    streams: AtomicUsize,
    /// Bytes of floods.
    flooded: AtomicUsize,
}

/// Says one event and then nothing, until it is dropped.
struct Endless(Option<Bytes>, Arc<Seen>);

enum Answer {
    Whole(Option<Bytes>),
    Endless(Endless),
    /// One event, as long as anybody takes it.
    Flood(Arc<Seen>),
}

#[derive(Clone)]
struct Run(Tasks);

impl Server {
    pub(crate) async fn start(tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        Self::start_with(tls, None).await
    }

    /// A server that takes no more than this many streams on a connection.
    pub(crate) async fn with_limit(max_streams: u32) -> Self {
        Self::start_with(None, Some(max_streams)).await
    }

    async fn start_with(tls: Option<tokio_rustls::TlsAcceptor>, max_streams: Option<u32>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            max_streams,
            seen: Arc::default(),
            tasks: Tasks::default(),
            cut: CancellationToken::new(),
            leave: Arc::default(),
            release: Arc::new(Semaphore::new(0)),
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
            let (leave, max_streams) = (Arc::clone(&this.leave), this.max_streams);
            let service = service_fn(move |request| {
                let this = this.clone();
                async move { Ok::<_, Infallible>(this.answer(request).await) }
            });
            let connection = http2::Builder::new(run)
                .max_concurrent_streams(max_streams)
                .serve_connection(TokioIo::new(socket), service);
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
        let asks = |word: &[u8]| body.windows(word.len()).any(|found| found == word);
        if asks(b"flood") {
            let response = Response::builder().header("content-type", "text/event-stream");
            return response.body(Answer::Flood(Arc::clone(&self.seen))).unwrap();
        }
        if asks(b"wait") {
            self.seen.streams.fetch_add(1, SeqCst);
            self.release.acquire().await.unwrap().forget();
            self.seen.streams.fetch_sub(1, SeqCst);
        }
        if endless || asks(b"hang") {
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

    /// Connections and calls so far.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.seen.connections.load(SeqCst), self.seen.calls.load(SeqCst))
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn params(&self) -> Params {
        let url = format!("http://{}/mcp", self.address);
        Params { http2: Http2::Always, ..Params::new("shared", url.parse().unwrap()) }
    }

    /// Waits until this many streams are open.
    pub(crate) async fn streams(&self, count: usize) {
        until(|| self.seen.streams.load(SeqCst) == count).await;
    }

    /// Waits until the floods have come this far.
    pub(crate) async fn flooded(&self, bytes: usize) {
        until(|| self.seen.flooded.load(SeqCst) >= bytes).await;
    }

    pub(crate) async fn end(self) {
        soon(self.tasks.stop()).await;
    }
}

pub(crate) async fn until(reached: impl Fn() -> bool) {
    soon(async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A call that is answered at once.
pub(crate) fn ping(id: usize) -> Call {
    send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#))
}

/// A call that is answered by one event and nothing else.
pub(crate) fn hang() -> Call {
    send(r#"{"jsonrpc":"2.0","id":1,"method":"hang"}"#)
}

/// A call that is answered when the server is told to.
pub(crate) fn wait() -> Call {
    send(r#"{"jsonrpc":"2.0","id":1,"method":"wait"}"#)
}

/// A call that is answered without an end.
pub(crate) fn flood() -> Call {
    send(r#"{"jsonrpc":"2.0","id":1,"method":"flood"}"#)
}

fn serde_id(body: &Bytes) -> String {
    let text = std::str::from_utf8(body).unwrap();
    let (_, id) = text.split_once(r#""id":"#).unwrap();
    id.split([',', '}']).next().unwrap().to_owned()
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
            Self::Flood(seen) => {
                seen.flooded.fetch_add(PIECE, SeqCst);
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b':'; PIECE])))))
            }
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
