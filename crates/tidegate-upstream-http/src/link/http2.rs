//! A share in an HTTP/2 connection.
//!
//! The connection has a task, since no one user can poll it for all. It closes when the last share
//! is gone. Dropping a response resets its stream and leaves the others alone.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Response, Uri, header::HOST, uri};
use http_body::{Body as _, Frame};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tidegate_pool::Usage;
use tidegate_service::{OnError, Tasks};
use tokio::time::Instant;
use tracing::debug;

use super::{HeadError, Outgoing};
use crate::{fault::Fault, io::Io, stats::OpenConnection, timer::Timer};

/// How much of a body one stream, and all together, may have on the way.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// The longest response head.
const MAX_HEAD: u32 = 64 << 10;

/// A silent server is asked for a sign of life this often, and has this long for it.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that calls share.
#[derive(Debug)]
pub(crate) struct Shared {
    sender: SendRequest<Full<Bytes>>,
    born: Instant,
    uses: AtomicU64,
    _open: OpenConnection,
}

/// One call's share.
pub(crate) struct Http2 {
    sender: SendRequest<Full<Bytes>>,
    origin: Arc<Origin>,
    timer: Timer,
    is_new: bool,
    shared: Arc<Shared>,
}

/// What HTTP/2 says with every request and HTTP/1.1 says by the connection and `Host`.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) scheme: uri::Scheme,
    pub(crate) authority: uri::Authority,
}

/// Runs what the HTTP library wants to have run.
#[derive(Clone, Debug)]
struct Executor(Tasks);

impl Shared {
    /// Speaks HTTP/2 over a connected socket, in a task of its own.
    pub(crate) async fn new(io: Io, open: OpenConnection, tasks: &Tasks) -> Result<Self, Fault> {
        let (sender, connection) = Builder::new(Executor(tasks.clone()))
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEAD)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Fault::Lost(Some(error)))?;
        let stopping = tasks.stopping().clone();
        tasks.spawn("upstream-http2", OnError::Log, async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    // Whoever used it has been told.
                    debug!(%error, "an HTTP/2 connection broke");
                },
                () = stopping.cancelled() => (),
            }
            Ok(())
        });
        Ok(Self { sender, born: Instant::now(), uses: AtomicU64::new(0), _open: open })
    }

    /// Whether it takes more streams.
    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// How old it is, and how many calls it took.
    pub(crate) fn usage(&self) -> Usage {
        Usage { born: self.born, idle_since: self.born, uses: self.uses.load(Relaxed) }
    }
}

impl Http2 {
    pub(crate) fn new(shared: Arc<Shared>, origin: Arc<Origin>) -> Self {
        let sender = shared.sender.clone();
        Self { sender, origin, timer: Timer::default(), is_new: true, shared }
    }

    pub(super) async fn exchange(
        &mut self,
        mut request: Outgoing,
        deadline: Instant,
    ) -> Result<Response<Incoming>, HeadError> {
        self.is_new = false;
        self.shared.uses.fetch_add(1, Relaxed);
        self.timer.set(Some(deadline));
        let path = std::mem::take(request.uri_mut());
        *request.uri_mut() = self.origin.full(path.clone());
        let host = request.headers_mut().remove(HOST);
        let mut response = pin!(self.sender.try_send_request(request));
        let timer = &mut self.timer;
        let outcome = poll_fn(|cx| match response.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => timer.poll_passed(cx).map(|()| None),
        })
        .await;
        match outcome {
            Some(Ok(response)) => Ok(response),
            Some(Err(mut error)) => match error.take_message() {
                Some(request) => Err(HeadError::Unsent(Box::new(restored(request, path, host)))),
                None => Err(HeadError::Failed(Fault::Lost(Some(error.into_error())))),
            },
            None => Err(HeadError::TimedOut),
        }
    }

    pub(super) fn poll_frame(
        cx: &mut Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        Pin::new(body).poll_frame(cx)
    }

    pub(super) const fn set_aside(&mut self) {
        self.is_new = false;
    }

    pub(super) const fn is_new(&self) -> bool {
        self.is_new
    }

    pub(super) const fn timer(&mut self) -> &mut Timer {
        &mut self.timer
    }

    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}

impl Origin {
    fn full(&self, path: Uri) -> Uri {
        let mut parts = path.into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        // Both halves are valid, and so is the whole.
        Uri::from_parts(parts).unwrap_or_default()
    }
}

/// The request as it was, for a connection of any kind.
fn restored(mut request: Outgoing, path: Uri, host: Option<HeaderValue>) -> Outgoing {
    *request.uri_mut() = path;
    if let Some(host) = host {
        request.headers_mut().insert(HOST, host);
    }
    request
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        let stopping = self.0.stopping().clone();
        self.0.spawn("upstream-http2", OnError::Log, async move {
            tokio::select! {
                () = task => (),
                // A peer that takes no bytes would hold up the stop.
                () = stopping.cancelled() => (),
            }
            Ok(())
        });
    }
}
