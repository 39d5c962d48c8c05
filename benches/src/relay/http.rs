//! HTTP to HTTP: hyper's server in front of a thread-local stack of hyper client connections.
//!
//! Heads and bodies pass as they are. A connection goes back to the stack when the response body
//! that came over it has ended; one whose body was dropped half-way is closed with it.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::http1::{self as client, SendRequest},
    server::conn::http1 as server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use crate::serve;

/// Relays to `upstream` until the process ends; `ready` is told the bound address.
///
/// # Errors
///
/// When the port cannot be bound.
pub fn run(
    address: SocketAddr,
    upstream: SocketAddr,
    workers: usize,
    ready: impl FnOnce(SocketAddr),
) -> io::Result<()> {
    serve::run(
        address,
        workers,
        move |_, tracker| {
            Ok(Upstream { address: upstream, idle: RefCell::default(), tracker: tracker.clone() })
        },
        |upstream, _, stream| connection(upstream, stream),
        ready,
    )
}

struct Upstream {
    address: SocketAddr,
    idle: RefCell<Vec<SendRequest<Incoming>>>,
    tracker: TaskTracker,
}

impl Upstream {
    async fn lease(&self) -> io::Result<SendRequest<Incoming>> {
        loop {
            let Some(mut sender) = self.idle.borrow_mut().pop() else { break };
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            client::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        self.tracker.spawn_local(async move {
            // The request that used the connection reports the failure.
            connection.await.ok();
        });
        Ok(sender)
    }
}

async fn connection(upstream: Rc<Upstream>, stream: TcpStream) {
    let service = service_fn(|request| exchange(&upstream, request));
    // A client that goes away mid-request has nobody left to tell.
    server::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn exchange(
    upstream: &Rc<Upstream>,
    request: Request<Incoming>,
) -> Result<Response<Relayed>, io::Error> {
    let sent = match upstream.lease().await {
        Ok(mut sender) => match sender.send_request(request).await {
            Ok(response) => Ok((sender, response)),
            Err(error) => Err(io::Error::other(error)),
        },
        Err(error) => Err(error),
    };
    Ok(match sent {
        Ok((sender, response)) => {
            let mut lease = Lease { upstream: Rc::clone(upstream), sender: Some(sender) };
            response.map(|body| {
                if body.is_end_stream() {
                    lease.give_back();
                }
                Relayed { body: Some(body), lease }
            })
        }
        Err(_) => {
            let lease = Lease { upstream: Rc::clone(upstream), sender: None };
            let mut response = Response::new(Relayed { body: None, lease });
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    })
}

struct Lease {
    upstream: Rc<Upstream>,
    sender: Option<SendRequest<Incoming>>,
}

impl Lease {
    fn give_back(&mut self) {
        if let Some(sender) = self.sender.take() {
            self.upstream.idle.borrow_mut().push(sender);
        }
    }
}

/// A response body that remembers which connection it came over.
struct Relayed {
    body: Option<Incoming>,
    lease: Lease,
}

impl Body for Relayed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        // Asked here and not on the next poll: with a known length the server never polls again.
        if frame.is_none() || body.is_end_stream() {
            self.lease.give_back();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
