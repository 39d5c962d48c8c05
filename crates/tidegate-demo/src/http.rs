//! The Streamable HTTP transport: one endpoint, `/mcp`, for both eras.
//!
//! Owns the listener, the connections and the legacy calls. Everything that runs is a task of one
//! set inside the returned future, so dropping that future ends it all.

mod connection;
mod guard;
mod legacy;
mod mirror;
mod modern;
mod reply;

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    Options,
    http::{legacy::Sessions, reply::Body},
    message::{self, Incoming, Parsed, RpcError},
    modern::{Envelope, named_version},
    server::Server,
    version::Version,
};

/// How long connections may go on after the shutdown signal.
const DRAIN: Duration = Duration::from_secs(2);

/// How long to wait after a failed accept, which usually means too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// How many calls wait to be started.
const STARTING: usize = 256;

/// Serves `/mcp` on a listener until `shutdown` resolves, then drains for a moment.
///
/// HTTP/1.1 and HTTP/2 with prior knowledge. On a loopback address, requests whose `Host` or
/// `Origin` is not a loopback name are refused.
///
/// # Errors
///
/// That the listener's address cannot be read.
///
/// # Cancel safety
///
/// Dropping the future closes the listener and every connection and ends every call.
pub async fn serve_http(
    options: Options,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    serve(Server::new(options), listener, shutdown).await
}

async fn serve(
    server: Arc<Server>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let loopback = listener.local_addr()?.ip().is_loopback();
    let mut clock = interval(server.options.clock_period);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (starting, mut started) = mpsc::channel(STARTING);
    let front = Arc::new(Front {
        server,
        sessions: Sessions::default(),
        spawner: Spawner(starting),
        loopback,
    });
    let mut tasks = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => drop(tasks.spawn(connection::serve(Arc::clone(&front), socket))),
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(task) = started.recv() => drop(tasks.spawn(task)),
            Some(_) = tasks.join_next() => (),
            _ = clock.tick() => front.server.tick(),
        }
    }
    drop(listener);
    front.server.stop();
    let drained = async {
        loop {
            tokio::select! {
                Some(task) = started.recv() => drop(tasks.spawn(task)),
                ended = tasks.join_next() => if ended.is_none() { break },
            }
        }
    };
    // Sessions end first, so that their endless streams do.
    front.sessions.close();
    drop(timeout(DRAIN, drained).await);
    Ok(())
}

/// What every connection shares.
#[derive(Debug)]
struct Front {
    server: Arc<Server>,
    sessions: Sessions,
    spawner: Spawner,
    loopback: bool,
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Hands tasks to the set that owns them.
#[derive(Debug)]
struct Spawner(mpsc::Sender<Task>);

impl Spawner {
    async fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // The receiver is gone only when the whole server is being dropped.
        drop(self.0.send(Box::pin(task)).await);
    }
}

/// Answers one HTTP request.
async fn answer(front: &Front, request: Request<hyper::body::Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    if !guard::admits(front.loopback, &head.uri, &head.headers) {
        let error = RpcError::invalid_request("this host or origin is not served");
        return reply::refuse(StatusCode::FORBIDDEN, &error);
    }
    if head.uri.path() != "/mcp" {
        return reply::bare(StatusCode::NOT_FOUND);
    }
    match head.method {
        Method::POST => match receive(front, &head.headers, body).await {
            Ok(bytes) => post(front, &head.headers, &bytes).await,
            Err(status) => reply::refuse(status, &RpcError::invalid_request(status.to_string())),
        },
        Method::GET | Method::DELETE if !has_session(&head.headers) => reply::not_allowed("POST"),
        Method::GET if !accepts(&head.headers, "text", "event-stream") => {
            let error = RpcError::invalid_request("a stream must be acceptable");
            reply::refuse(StatusCode::NOT_ACCEPTABLE, &error)
        }
        Method::GET => legacy::get(front, &head.headers),
        Method::DELETE => legacy::delete(front, &head.headers),
        _ => reply::not_allowed("GET, POST, DELETE"),
    }
}

/// Whether a GET or DELETE is one of the revisions that have sessions.
fn has_session(headers: &HeaderMap) -> bool {
    match mirror::single(headers, mirror::VERSION) {
        Ok(Some(version)) => !Version::parse(version).is_some_and(Version::is_modern),
        _ => headers.contains_key(legacy::SESSION),
    }
}

/// Takes the body of a POST.
async fn receive(
    front: &Front,
    headers: &HeaderMap,
    body: hyper::body::Incoming,
) -> Result<Bytes, StatusCode> {
    let content = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = content.and_then(|content| content.split(';').next()).unwrap_or_default();
    if !media.trim().eq_ignore_ascii_case("application/json") {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    if !accepts(headers, "application", "json") || !accepts(headers, "text", "event-stream") {
        return Err(StatusCode::NOT_ACCEPTABLE);
    }
    let limit = front.server.options.max_message;
    if body.size_hint().lower() > limit as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    match timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

/// Whether the client lists a media type, by name or by range.
fn accepts(headers: &HeaderMap, kind: &str, subtype: &str) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next()?.trim().split_once('/'))
        .any(|(left, right)| {
            (left == "*" && right == "*")
                || (left.eq_ignore_ascii_case(kind)
                    && (right == "*" || right.eq_ignore_ascii_case(subtype)))
        })
}

/// Decides which era a body belongs to.
async fn post(front: &Front, headers: &HeaderMap, body: &[u8]) -> Response<Body> {
    let parsed = match message::parse(body) {
        Ok(parsed) => parsed,
        Err(refused) => {
            let bytes = message::error(refused.id.as_ref(), &refused.error);
            return reply::json(StatusCode::BAD_REQUEST, bytes);
        }
    };
    let named = mirror::single(headers, mirror::VERSION).ok().flatten().and_then(Version::parse);
    let modern_header = named.is_some_and(Version::is_modern);
    let bad = |message| reply::refuse(StatusCode::BAD_REQUEST, &RpcError::invalid_request(message));
    match parsed {
        Parsed::One(Incoming::Request(request)) => {
            post_request(front, headers, request, modern_header).await
        }
        // Nothing in this era is told by a notification over HTTP: taken, and ignored.
        Parsed::One(Incoming::Notification(notification))
            if modern_header || matches!(named_version(&notification.params), Ok(Some(_))) =>
        {
            reply::bare(StatusCode::ACCEPTED)
        }
        Parsed::One(Incoming::Answer(_)) if modern_header => {
            bad("this revision has no requests that a client could answer")
        }
        Parsed::One(incoming) => legacy::post_one(front, headers, incoming).await,
        Parsed::Batch(batch) => {
            let modern = |item: &Result<_, _>| match item {
                Ok(Incoming::Request(request)) => {
                    !matches!(named_version(&request.params), Ok(None))
                }
                _ => false,
            };
            if modern_header || batch.iter().any(modern) {
                return bad("this revision has no batches");
            }
            legacy::post_batch(front, headers, batch).await
        }
    }
}

async fn post_request(
    front: &Front,
    headers: &HeaderMap,
    request: message::Request,
    modern_header: bool,
) -> Response<Body> {
    let error = match named_version(&request.params) {
        Ok(Some(named)) => return modern::post(&front.server, headers, request, &named).await,
        Err(error) => error,
        Ok(None) if !modern_header => {
            return legacy::post_one(front, headers, Incoming::Request(request)).await;
        }
        Ok(None) if request.method == "initialize" => {
            RpcError::new(RpcError::HEADER_MISMATCH, "this revision has no `initialize`")
        }
        Ok(None) => match Envelope::parse(&request.params) {
            Err(error) => error,
            Ok(_) => RpcError::invalid_params("`_meta` is missing"),
        },
    };
    reply::json(StatusCode::BAD_REQUEST, message::error(Some(&request.id), &error))
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
        task::JoinSet,
        time::{sleep, timeout},
    };

    use super::serve;
    use crate::{Options, server::Server};

    /// Waits until that many are listening.
    async fn listeners(server: &Server, count: usize) {
        let reached = async {
            while server.hub.len() != count {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(Duration::from_secs(10), reached).await.expect("the listeners did not come or go");
    }

    async fn listen(address: std::net::SocketAddr) -> TcpStream {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
        let head = format!(
            "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\naccept: */*\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: subscriptions/listen\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut socket = TcpStream::connect(address).await.expect("connect");
        socket.write_all(format!("{head}{body}").as_bytes()).await.expect("send");
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.expect("receive");
        assert_eq!(&answer, b"HTTP/1.1 200");
        socket
    }

    #[tokio::test]
    async fn a_modern_client_that_hangs_up_ends_its_call() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let server = Server::new(Options::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(Arc::clone(&server), listener, std::future::pending()));

        let (one, two) = (listen(address).await, listen(address).await);
        listeners(&server, 2).await;
        drop(one);
        listeners(&server, 1).await;

        // Dropping the server ends what is left, and nothing keeps what its peers share.
        tasks.shutdown().await;
        listeners(&server, 0).await;
        let freed = async {
            while Arc::strong_count(&server) > 1 {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(Duration::from_secs(10), freed).await.expect("something outlived the server");
        drop(two);
    }
}
