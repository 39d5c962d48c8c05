//! HTTP to HTTP: hyper's server in front of a thread-local stack of hyper client connections.
//!
//! Heads and bodies pass as they are. A connection goes back to the stack when the response body
//! that came over it has ended; one whose body was dropped half-way is closed with it.
//!
//! hyper wants a client connection polled beside its user. Usually a task does it, and hands what it
//! reads over a channel; with [`Driving::Inline`] whoever wants the body polls the connection first,
//! so that there is neither a second task nor a switch for each piece.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::http1::{self as client, Connection, SendRequest},
    server::conn::http1 as server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use crate::serve;

/// Who polls a connection to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driving {
    /// A task of its own.
    Task,
    /// Whoever uses it.
    Inline,
}

/// Relays to `upstream` until the process ends; `ready` is told the bound address.
///
/// # Errors
///
/// When the port cannot be bound.
pub fn run(
    address: SocketAddr,
    upstream: SocketAddr,
    workers: usize,
    driving: Driving,
    ready: impl FnOnce(SocketAddr),
) -> io::Result<()> {
    serve::run(
        address,
        workers,
        move |_, tracker| {
            let (idle, tracker) = (RefCell::default(), tracker.clone());
            Ok(Upstream { address: upstream, driving, idle, tracker })
        },
        |upstream, _, stream| connection(upstream, stream),
        ready,
    )
}

struct Upstream {
    address: SocketAddr,
    driving: Driving,
    idle: RefCell<Vec<Link>>,
    tracker: TaskTracker,
}

/// A connection to the upstream.
struct Link {
    sender: SendRequest<Incoming>,
    /// Unless a task has it.
    connection: Option<Connection<TokioIo<TcpStream>, Incoming>>,
}

impl Link {
    /// Lets the connection do what it can, if no task does.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(cx).is_ready()
        {
            // The request that used the connection reports the failure.
            self.connection = None;
        }
    }

    /// Waits for what `user` waits for, and drives the connection meanwhile.
    async fn beside<F: Future>(&mut self, user: F) -> F::Output {
        let mut user = pin!(user);
        poll_fn(|cx| {
            self.drive(cx);
            user.as_mut().poll(cx)
        })
        .await
    }

    async fn is_ready(&mut self) -> bool {
        poll_fn(|cx| {
            self.drive(cx);
            self.sender.poll_ready(cx)
        })
        .await
        .is_ok()
    }
}

impl Upstream {
    async fn lease(&self) -> io::Result<Link> {
        loop {
            let Some(mut link) = self.idle.borrow_mut().pop() else { break };
            if link.is_ready().await {
                return Ok(link);
            }
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            client::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let connection = match self.driving {
            Driving::Inline => Some(connection),
            Driving::Task => {
                self.tracker.spawn_local(async move {
                    // The request that used the connection reports the failure.
                    connection.await.ok();
                });
                None
            }
        };
        Ok(Link { sender, connection })
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
        Ok(mut link) => {
            let response = link.sender.send_request(request);
            match link.beside(response).await {
                Ok(response) => Ok((link, response)),
                Err(error) => Err(io::Error::other(error)),
            }
        }
        Err(error) => Err(error),
    };
    Ok(match sent {
        Ok((link, response)) => {
            let mut lease = Lease { upstream: Rc::clone(upstream), link: Some(link) };
            response.map(|body| {
                if body.is_end_stream() {
                    lease.give_back();
                }
                Relayed { body: Some(body), lease }
            })
        }
        Err(_) => {
            let lease = Lease { upstream: Rc::clone(upstream), link: None };
            let mut response = Response::new(Relayed { body: None, lease });
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    })
}

struct Lease {
    upstream: Rc<Upstream>,
    link: Option<Link>,
}

impl Lease {
    fn give_back(&mut self) {
        if let Some(link) = self.link.take() {
            self.upstream.idle.borrow_mut().push(link);
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
        let this = &mut *self;
        let Some(body) = this.body.as_mut() else { return Poll::Ready(None) };
        if let Some(link) = &mut this.lease.link {
            link.drive(cx);
        }
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        // Asked here and not on the next poll: with a known length the server never polls again.
        if frame.is_none() || body.is_end_stream() {
            this.lease.give_back();
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
