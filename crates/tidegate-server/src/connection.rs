//! One client connection: find out what it speaks, then speak it.
//!
//! The first bytes have a deadline of their own, since an HTTP library starts its clocks only once
//! it knows the protocol. One task serves the connection; its requests are futures inside it.

mod aside;
mod handover;
mod idle;
mod io;

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
};

use bytes::{Bytes, BytesMut};
use hyper::{rt::Executor, server::conn, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tidegate_service::{OnError, Tasks};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time};
use tokio_util::{future::FutureExt as _, sync::CancellationToken};

use self::io::Guarded;
use self::{aside::aside, idle::Activity};
pub(crate) use self::{
    handover::{Handed, Handover},
    idle::{Entered, Patience},
};
use crate::http::Front;

/// What an HTTP/2 client with prior knowledge sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FIRST_READ: usize = 4 << 10;
/// HTTP/2: how often a silent client is asked for a sign of life, and how long it may think.
const PING_EVERY: time::Duration = time::Duration::from_secs(20);
const PING_WAIT: time::Duration = time::Duration::from_secs(10);
/// How long a client may go on sending what nobody will read, and how long it may pause.
const LINGER: time::Duration = time::Duration::from_secs(5);
const LINGER_IDLE: time::Duration = time::Duration::from_secs(1);
const MAX_H2_STREAMS: u32 = 128;

/// Why a connection ended before its time. Only for the log.
#[derive(Debug)]
pub(crate) enum Ended {
    Silent,
    Stalled,
    Io(std::io::Error),
    Http(hyper::Error),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("nothing that tells the protocol came in time"),
            Self::Stalled => f.write_str("the client took nothing of what was ready for it"),
            Self::Io(error) => error.fmt(f),
            Self::Http(error) => error.fmt(f),
        }
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve(
    mut stream: TcpStream,
    front: &Arc<Front>,
    tasks: &Tasks,
) -> Result<(), Ended> {
    let counters = Arc::clone(front.counters());
    counters.connections_open.fetch_add(1, Ordering::Relaxed);
    let _open = scopeguard(move || {
        counters.connections_open.fetch_sub(1, Ordering::Relaxed);
    });
    let first = time::timeout(front.params().timeouts.first_byte, first_bytes(&mut stream));
    let first = tokio::select! {
        first = first => first.map_err(|_| Ended::Silent)?.map_err(Ended::Io)?,
        () = front.draining().cancelled() => return Ok(()),
    };
    if first.is_empty() {
        return Ok(());
    }
    let activity = Arc::new(Activity::new(front.params().timeouts));
    let is_http2 = first.starts_with(PREFACE);
    let served = async {
        let begun = Arc::clone(&activity);
        if is_http2 {
            // Large, so that it must not ride along in the future of every connection.
            Box::pin(http2(Guarded::new(stream, first, begun, true), front, activity, tasks)).await
        } else {
            http1(Guarded::new(&mut stream, first, begun, false), front, activity).await?;
            linger(&mut stream, front.draining()).await;
            Ok(())
        }
    };
    tokio::select! {
        ended = served => ended,
        // The time to drain is over: what is still open is cut.
        () = aside(tasks.stopping().cancelled()) => Ok(()),
    }
}

/// Reads until it is clear whether this is HTTP/2. Empty at the end of the stream.
async fn first_bytes(stream: &mut TcpStream) -> std::io::Result<Bytes> {
    let mut read = BytesMut::with_capacity(FIRST_READ);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(Bytes::new());
        }
        if read.len() >= PREFACE.len() || !PREFACE.starts_with(&read) {
            return Ok(read.freeze());
        }
    }
}

/// Takes what a client goes on sending after its connection has been closed for writing. A socket
/// that is closed with bytes unread is reset, and the client may lose the answer that tells it why,
/// such as a 413 in the middle of its body.
async fn linger(stream: &mut TcpStream, draining: &CancellationToken) {
    let read_all = async {
        let mut piece = vec![0; FIRST_READ];
        while let Ok(Ok(1..)) = time::timeout(LINGER_IDLE, stream.read(&mut piece)).await {}
    };
    tokio::select! {
        _ = time::timeout(LINGER, read_all) => (),
        () = draining.cancelled() => (),
    }
}

async fn http1(
    mut stream: Guarded<&mut TcpStream>,
    front: &Arc<Front>,
    activity: Arc<Activity>,
) -> Result<(), Ended> {
    let handover = Arc::clone(stream.handover());
    while let Some(handed) = exchanges(stream, front, &activity).await? {
        let (mut taken, read) = *handed;
        let Some(body) = handover.take() else { return Ok(()) };
        // A copy, even of nothing: these are in the buffer that the library has read into.
        let ahead = BytesMut::from(read.as_ref());
        drop(read);
        let ahead = handover::write_body(&mut taken, body, ahead).await.map_err(Ended::Io)?;
        if front.draining().is_cancelled() {
            return Ok(());
        }
        stream = taken.resting(ahead);
    }
    Ok(())
}

/// Answers requests until the connection ends, or until a response goes on without the library;
/// then the stream, and what has been read of the next request, come back.
async fn exchanges<'a>(
    stream: Guarded<&'a mut TcpStream>,
    front: &Arc<Front>,
    activity: &Arc<Activity>,
) -> Result<Option<Box<(Guarded<&'a mut TcpStream>, Bytes)>>, Ended> {
    let limits = &front.params().limits;
    let handover = Arc::clone(stream.handover());
    let service = {
        let (activity, handover) = (Arc::clone(activity), Arc::clone(&handover));
        service_fn(move |request| {
            front.respond(request, activity.enter(), Some(Arc::clone(&handover)))
        })
    };
    let mut connection = conn::http1::Builder::new()
        // Its one clock would be set anew for every head; ours are in the stream and in `Activity`.
        .header_read_timeout(None)
        .max_headers(limits.max_headers)
        .max_buf_size(limits.max_header_bytes.max(8 << 10) + limits.max_uri + (64 << 10))
        .serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = served(&mut connection, &handover) => Some(ended),
        () = aside(front.draining().cancelled()) => None,
        () = aside(activity.idle_for(front.params().timeouts.keep_alive)) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            served(&mut connection, &handover).await
        }
    };
    match ended {
        Some(ended) => ended.map(|()| None).map_err(Ended::Http),
        None => {
            let parts = connection.into_parts();
            Ok(Some(Box::new((parts.io.into_inner(), parts.read_buf))))
        }
    }
}

/// How a connection ended; `None` when it is to be taken from the library.
async fn served<C>(connection: &mut C, handover: &Handover) -> Option<hyper::Result<()>>
where
    C: Future<Output = hyper::Result<()>> + Unpin,
{
    poll_fn(|cx| match Pin::new(&mut *connection).poll(cx) {
        Poll::Ready(ended) => Poll::Ready(Some(ended)),
        Poll::Pending if handover.is_due() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

async fn http2(
    stream: Guarded<TcpStream>,
    front: &Arc<Front>,
    activity: Arc<Activity>,
    tasks: &Tasks,
) -> Result<(), Ended> {
    let limits = &front.params().limits;
    let service = {
        let (front, activity) = (Arc::clone(front), Arc::clone(&activity));
        service_fn(move |request| {
            let (front, entered) = (Arc::clone(&front), activity.enter_stream());
            async move { front.respond(request, entered, None).await }
        })
    };
    let connection = conn::http2::Builder::new(Tracked(tasks.clone(), Arc::clone(&activity)))
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WAIT)
        .max_concurrent_streams(MAX_H2_STREAMS)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended.map_err(Ended::Http),
        () = front.draining().cancelled() => connection.as_mut().graceful_shutdown(),
        () = activity.idle_for(front.params().timeouts.keep_alive) => {
            connection.as_mut().graceful_shutdown();
        }
        () = activity.stalled() => return Err(Ended::Stalled),
    }
    // A client that does not answer the farewell, or takes nothing of what is ready for it, would
    // keep the connection for ever.
    tokio::select! {
        ended = connection.as_mut() => ended.map_err(Ended::Http),
        () = activity.stalled() => Err(Ended::Stalled),
        () = activity.idle_for(front.params().timeouts.write_stall) => Err(Ended::Stalled),
    }
}

/// Lets HTTP/2 answer requests side by side, in tasks that have an owner. The library waits for a
/// client's window where nobody else can, so a response that is not taken ends with its task.
#[derive(Clone)]
struct Tracked(Tasks, Arc<Activity>);

impl<F> Executor<F> for Tracked
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, request: F) {
        let stopping = self.0.stopping().clone();
        // The library hands a request over as soon as the service has seen it.
        let taking = self.1.entering();
        let mut request = Box::pin(request.with_cancellation_token_owned(stopping));
        let mut stalled = taking.map(|taking| Box::pin(async move { taking.stalled().await }));
        let served = poll_fn(move |cx| {
            let is_over = request.as_mut().poll(cx).is_ready();
            let mut stalls = || stalled.as_mut().is_some_and(|it| it.as_mut().poll(cx).is_ready());
            if is_over || stalls() { Poll::Ready(Ok(())) } else { Poll::Pending }
        });
        self.0.spawn("request", OnError::Log, served);
    }
}

/// Runs `action` at the end of the scope, however it is left.
fn scopeguard(action: impl FnMut()) -> impl Drop {
    struct Guard<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(action)
}
