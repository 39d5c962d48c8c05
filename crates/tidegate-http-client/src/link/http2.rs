//! A share in an HTTP/2 connection.
//!
//! The connection has a task, since no one user can poll it for all. It closes when the last share
//! is gone. Dropping a response resets its stream and leaves the others alone.
//!
//! A connection has as many places as the server takes streams, and no more than its window has
//! room for, so that a call never waits for the end of another, nor for a reader that stands still.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{HeaderValue, Response, Uri, header::HOST, uri};
use http_body::{Body as _, Frame};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tidegate_pool::{Expiry, Reason, Usage};
use tidegate_service::{OnError, Tasks};
use tokio::time::{self, Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use super::{HeadError, Outgoing};
use crate::{fault::Fault, io::Io, stats::OpenConnection, timer::Timer};

/// How many calls share a connection at most.
pub(crate) const MAX_STREAMS: usize = 64;

/// How much of a body one stream, and all together, may have on the way. A reader that stands still
/// keeps what its stream has; there is enough for the others even if all but one do.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;

/// What the library believes that the server takes, until the server says what it does. No server
/// can say this.
const UNTOLD: usize = usize::MAX - 1;

/// The longest response head.
const MAX_HEAD: u32 = 64 << 10;

/// A silent server is asked for a sign of life this often, and has this long for it.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that is over may take this long to say so to the server, which need not listen.
const GOODBYE: Duration = Duration::from_secs(5);

/// A connection that calls share.
#[derive(Debug)]
pub(crate) struct Shared {
    sender: SendRequest<Full<Bytes>>,
    /// How many streams the server takes.
    allowed: Arc<AtomicUsize>,
    expiry: Expiry,
    born: Instant,
    /// How many calls it has served or will, with the first of each share.
    uses: AtomicU64,
    _open: OpenConnection,
}

/// One call's share.
pub(crate) struct Http2 {
    sender: SendRequest<Full<Bytes>>,
    origin: Arc<Origin>,
    timer: Timer,
    is_new: bool,
    /// Whether its next call is counted already.
    is_expected: bool,
    shared: Arc<Shared>,
}

/// What HTTP/2 says with every request and HTTP/1.1 says by the connection and `Host`.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) scheme: uri::Scheme,
    pub(crate) authority: uri::Authority,
}

/// Runs what the HTTP library wants to have run for one connection.
#[derive(Clone, Debug)]
struct Executor(Arc<Running>);

#[derive(Debug)]
struct Running {
    tasks: Tasks,
    /// The tasks of this connection.
    own: TaskTracker,
    /// Ends them: with all other tasks, or when they take too long.
    end: CancellationToken,
    /// Woken when one of them may have learned something, until the server has said what it takes.
    told: AtomicWaker,
    is_told: AtomicBool,
}

impl Shared {
    /// Speaks HTTP/2 over a connected socket, in a task of its own. Ready when the server has said
    /// how many streams it takes, which it does before anything else.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes the connection.
    pub(crate) async fn new(
        io: Io,
        open: OpenConnection,
        expiry: Expiry,
        tasks: &Tasks,
    ) -> Result<Self, Fault> {
        let running = Arc::new(Running {
            tasks: tasks.clone(),
            own: TaskTracker::new(),
            end: tasks.stopping().child_token(),
            told: AtomicWaker::new(),
            is_told: AtomicBool::new(false),
        });
        // Whatever becomes of the connection, its tasks do not outlive this.
        let end = running.end.clone().drop_guard();
        let (sender, mut connection) = Builder::new(Executor(Arc::clone(&running)))
            .timer(TokioTimer::new())
            .initial_max_send_streams(UNTOLD)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEAD)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Fault::Greeting(Some(error)))?;
        let allowed = poll_fn(|cx| {
            running.told.register(cx.waker());
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(Err(Fault::Greeting(ended.err())));
            }
            match connection.current_max_send_streams() {
                UNTOLD => Poll::Pending,
                allowed => Poll::Ready(Ok(allowed)),
            }
        })
        .await?;
        running.is_told.store(true, Relaxed);
        let allowed = Arc::new(AtomicUsize::new(allowed));
        let told = Arc::clone(&allowed);
        let driven = poll_fn(move |cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            told.store(connection.current_max_send_streams(), Relaxed);
            polled
        });
        tasks.spawn("upstream-http2", OnError::Log, async move {
            let _end = end;
            running.drive(driven).await;
            Ok(())
        });
        let (born, uses) = (Instant::now(), AtomicU64::new(1));
        Ok(Self { sender, allowed, expiry, born, uses, _open: open })
    }

    /// How many calls may share it.
    pub(crate) fn places(&self) -> usize {
        // A server that takes none for now gets one, which waits.
        self.allowed.load(Relaxed).clamp(1, MAX_STREAMS)
    }

    /// Whether it takes more streams.
    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// How many it could share at first.
    pub(crate) fn places_when_new(&self) -> usize {
        let uses = self
            .expiry
            .uses
            .map_or(MAX_STREAMS, |uses| usize::try_from(uses).unwrap_or(MAX_STREAMS));
        self.places().min(uses).max(1)
    }

    /// Counts a call that will come.
    pub(crate) fn expect_call(&self) {
        self.uses.fetch_add(1, Relaxed);
    }

    /// Why it takes no more calls, if it is too old or has served enough.
    pub(crate) fn expired(&self, now: Instant) -> Option<Reason> {
        let usage = Usage { born: self.born, idle_since: self.born, uses: self.uses.load(Relaxed) };
        self.expiry.judge(&usage, now)
    }
}

impl Http2 {
    /// A share whose first call the connection expects.
    pub(crate) fn new(shared: Arc<Shared>, origin: Arc<Origin>) -> Self {
        let sender = shared.sender.clone();
        Self { sender, origin, timer: Timer::default(), is_new: true, is_expected: true, shared }
    }

    pub(super) async fn exchange(
        &mut self,
        mut request: Outgoing,
        deadline: Option<Instant>,
    ) -> Result<Response<Incoming>, HeadError> {
        self.is_new = false;
        if !std::mem::take(&mut self.is_expected) {
            self.shared.expect_call();
        }
        self.timer.set(deadline);
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
                None => Err(HeadError::Failed(Fault::of_stream(error.into_error()))),
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

    /// What the lease does not know, since others use the connection too.
    pub(super) fn expired(&self, now: Instant) -> Option<Reason> {
        if self.is_expected { None } else { self.shared.expired(now) }
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

impl Running {
    /// Waits for the end of a connection, and then not much longer for that of its tasks.
    async fn drive(&self, connection: impl Future<Output = hyper::Result<()>>) {
        tokio::select! {
            ended = connection => if let Err(error) = ended {
                // Whoever used it has been told.
                debug!(%error, "an HTTP/2 connection broke");
            },
            () = self.end.cancelled() => (),
        }
        self.own.close();
        drop(time::timeout(GOODBYE, self.own.wait()).await);
    }

    fn ran(&self) {
        if !self.is_told.load(Relaxed) {
            self.told.wake();
        }
    }
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        let running = Arc::clone(&self.0);
        let task = self.0.own.track_future(async move {
            let mut task = pin!(task);
            let task = poll_fn(|cx| {
                let polled = task.as_mut().poll(cx);
                running.ran();
                polled
            });
            tokio::select! {
                () = task => (),
                // A peer that takes no bytes would hold up the stop.
                () = running.end.cancelled() => (),
            }
            Ok(())
        });
        self.0.tasks.spawn("upstream-http2", OnError::Log, task);
    }
}
