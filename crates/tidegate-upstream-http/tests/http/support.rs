//! A scripted HTTP server and the ends of a test.

use std::{future::Future, net::SocketAddr, time::Duration};

use futures_util::StreamExt as _;
use socket2::SockRef;
use tidegate_protocol::{Envelope, Era};
use tidegate_service::{
    Body, Call, Cx, Error, EventStream, Frame, Operation, Reply, Session, Tasks,
};
use tidegate_upstream_http::{HttpUpstream, Params, Stats};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tower::ServiceExt as _;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
pub(crate) const PONG: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

pub(crate) struct Peer {
    listener: TcpListener,
}

/// One accepted connection.
pub(crate) struct Conn<S = TcpStream> {
    pub(crate) socket: S,
}

/// One request as it arrived.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct World {
    pub(crate) upstream: HttpUpstream,
    pub(crate) tasks: Tasks,
}

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("nothing happened"))
}

impl Peer {
    pub(crate) async fn bind() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// On an address that was in use before.
    pub(crate) async fn bind_to(address: SocketAddr) -> Self {
        Self { listener: TcpListener::bind(address).await.unwrap() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub(crate) async fn accept(&self) -> Conn {
        let (socket, _) = soon(self.listener.accept()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Conn { socket }
    }

    /// Accepts, reads one request and answers it.
    pub(crate) async fn serve(&self, response: impl Into<String>) -> (Conn, Seen) {
        let mut conn = self.accept().await;
        let seen = conn.answer(response).await;
        (conn, seen)
    }

    /// Whether anybody wants to connect. Connecting to the loopback interface takes no time.
    pub(crate) async fn is_left_alone(&self) -> bool {
        timeout(Duration::from_millis(50), self.listener.accept()).await.is_err()
    }

    pub(crate) fn world(&self) -> World {
        self.world_with(|_| ())
    }

    pub(crate) fn world_with(&self, change: impl FnOnce(&mut Params)) -> World {
        let url = format!("http://{}/mcp?k=1", self.address());
        let mut params = Params::new("peer", url.parse().unwrap());
        change(&mut params);
        World::new(params)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conn<S> {
    /// Reads one request with its body.
    pub(crate) async fn request(&mut self) -> Seen {
        soon(self.try_request()).await.unwrap_or_else(|| panic!("the client closed"))
    }

    /// `None` if the client has closed.
    pub(crate) async fn try_request(&mut self) -> Option<Seen> {
        let mut bytes = Vec::new();
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if self.socket.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let mut body = bytes.split_off(head);
        let mut seen = Seen { head: String::from_utf8(bytes).unwrap(), body: Vec::new() };
        let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
        while body.len() < length {
            if self.socket.read_buf(&mut body).await.ok()? == 0 {
                return None;
            }
        }
        assert_eq!(body.len(), length, "more than one request");
        seen.body = body;
        Some(seen)
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.socket.write_all(bytes.as_ref())).await.unwrap();
        soon(self.socket.flush()).await.unwrap();
    }

    pub(crate) async fn answer(&mut self, response: impl Into<String>) -> Seen {
        let seen = self.request().await;
        self.send(response.into()).await;
        seen
    }

    /// Waits until the other side has closed.
    pub(crate) async fn closed(&mut self) {
        let mut rest = Vec::new();
        match soon(self.socket.read_to_end(&mut rest)).await {
            Ok(_) => assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest)),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

impl Conn {
    /// Closes the hard way.
    pub(crate) fn reset(self) {
        SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut values = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value);
        assert!(values.next().is_none(), "{name} twice");
        value
    }
}

impl World {
    pub(crate) fn new(params: Params) -> Self {
        let tasks = Tasks::default();
        let upstream = HttpUpstream::new(params, tasks.clone()).unwrap();
        Self { upstream, tasks }
    }

    pub(crate) fn call(&self, call: Call) -> impl Future<Output = Result<Reply, Error>> + use<> {
        let reply = self.upstream.clone().oneshot(call);
        async { soon(reply).await }
    }

    pub(crate) fn ping(&self) -> impl Future<Output = Result<Reply, Error>> + use<> {
        self.call(send(PING))
    }

    pub(crate) fn stats(&self) -> Stats {
        self.upstream.stats()
    }

    pub(crate) fn resumption(&self) -> tidegate_upstream_http::Resumption {
        self.upstream.resumption()
    }

    /// Stops, and sees to it that nothing is left.
    pub(crate) async fn end(self) {
        soon(self.upstream.stop()).await;
        let stats = self.stats();
        assert_eq!(self.resumption().waiting, 0);
        for pool in [stats.calls, stats.streams] {
            assert_eq!((pool.in_use, pool.idle, pool.waiting, pool.live()), (0, 0, 0, 0));
        }
        assert_eq!((stats.open_streams, stats.opened), (0, stats.closed));
        soon(self.tasks.stop()).await;
        assert_eq!(self.tasks.alive(), 0);
    }
}

pub(crate) fn send(message: &str) -> Call {
    Call::send(Envelope::parse(message.to_owned().into()).unwrap(), Cx::new(Era::Legacy))
}

pub(crate) fn in_session(operation: Operation, session: &Session) -> Call {
    let cx = Cx { session: Some(session.clone()), ..Cx::new(Era::Legacy) };
    Call { operation, cx }
}

pub(crate) fn listen() -> Call {
    let operation = Operation::Listen { last_event_id: None };
    Call { operation, cx: Cx::new(Era::Legacy) }
}

pub(crate) fn json(body: &str) -> String {
    with_status("200 OK", body)
}

pub(crate) fn with_status(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

pub(crate) const EVENTS_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

pub(crate) fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

#[track_caller]
pub(crate) fn message(reply: Reply) -> String {
    match reply.body {
        Body::One(envelope) => String::from_utf8(envelope.bytes().to_vec()).unwrap(),
        other => panic!("expected a message, got {other:?}"),
    }
}

#[track_caller]
pub(crate) fn events(reply: Reply) -> EventStream {
    match reply.body {
        Body::Stream(stream) => stream,
        other => panic!("expected a stream, got {other:?}"),
    }
}

/// The next event as sent; `None` at the end.
pub(crate) async fn next(stream: &mut EventStream) -> Option<Result<String, Error>> {
    let frame = soon(stream.next()).await?;
    Some(frame.map(|frame| match frame {
        Frame::Block(block) => String::from_utf8(block.raw.to_vec()).unwrap(),
        Frame::Message(_) | Frame::Stamped { .. } => panic!("events come as they were framed"),
    }))
}
