//! One HTTP/1.1 connection, driven by the task that uses it.
//!
//! hyper wants a connection polled beside its user, usually in a task of its own. Here the user
//! polls it: an event then reaches the reader without a task switch, dropping the user closes the
//! socket at that moment, and there is no task to wait for at shutdown.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Response, response};
use http_body::{Body as _, Frame};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{self, Connection, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::{
    HeadError, Outgoing,
    stream::{self, Stream},
};
use crate::{
    fault::Fault,
    io::{Io, MAX_HEAD, Watch},
    relay::Relay,
    stats::OpenConnection,
    timer::Timer,
};

/// How often a connection and its user are polled in turn before the runtime gets a say.
const ROUNDS: usize = 4;

type Connected = Connection<TokioIo<Io>, Full<Bytes>>;

/// A connection with all that belongs to it.
pub(crate) struct Http1 {
    /// `None` while a stream has the connection: its queue takes 9 KiB.
    sender: Option<SendRequest<Full<Bytes>>>,
    /// `None` once the connection has ended, or while a stream has it. Boxed, because it is large
    /// and a stream has no use for it.
    connection: Option<Box<Connected>>,
    /// The connection while an event stream comes over it.
    stream: Option<Box<Stream>>,
    /// How long the body of the latest request is.
    sent: usize,
    watch: Arc<Watch>,
    relay: Arc<Relay>,
    /// The relay as what hyper and the socket call.
    waker: Waker,
    timer: Timer,
    is_new: bool,
    _open: OpenConnection,
}

impl Http1 {
    /// Speaks HTTP over a connected socket. Nothing is sent yet.
    pub(crate) async fn new(
        io: Io,
        watch: Arc<Watch>,
        open: OpenConnection,
    ) -> Result<Self, Fault> {
        let (sender, connection) = greet(io).await.map_err(|error| Fault::Lost(Some(error)))?;
        let relay = Arc::new(Relay::default());
        Ok(Self {
            sender: Some(sender),
            connection: Some(Box::new(connection)),
            stream: None,
            sent: 0,
            watch,
            waker: Waker::from(Arc::clone(&relay)),
            relay,
            timer: Timer::default(),
            is_new: true,
            _open: open,
        })
    }

    /// Writes a request, once, and reads the head of its response.
    ///
    /// # Cancel safety
    ///
    /// Not: the link is in the middle of an exchange then and must be dropped.
    pub(super) fn exchange(
        &mut self,
        request: Outgoing,
        deadline: Option<Instant>,
    ) -> impl Future<Output = Result<Response<Incoming>, HeadError>> + Send {
        self.is_new = false;
        self.watch.before_request();
        self.timer.set(deadline);
        // The connection hears of the request when it is polled, not by a wake of whoever used it
        // last.
        self.relay.begin();
        self.sent = request.body().size_hint().exact().map_or(0, |length| length as usize);
        let response = match &mut self.sender {
            Some(sender) => Ok(sender.try_send_request(request)),
            None => Err(HeadError::Unsent(Box::new(request))),
        };
        async move {
            let mut response = pin!(response?);
            let outcome = poll_fn(|cx| {
                if let Poll::Ready(outcome) = self.poll_both(cx, |cx| response.as_mut().poll(cx)) {
                    return Poll::Ready(Some(outcome));
                }
                self.timer.poll_passed(cx).map(|()| None)
            })
            .await;
            self.judge(outcome)
        }
    }

    /// `None` means that the deadline passed.
    fn judge(
        &self,
        outcome: Option<Result<Response<Incoming>, TrySendError<Outgoing>>>,
    ) -> Result<Response<Incoming>, HeadError> {
        let too_long = self.watch.head_too_long();
        self.watch.head_done();
        match outcome {
            Some(Ok(response)) => Ok(response),
            Some(Err(mut error)) => match error.take_message() {
                Some(request) => Err(HeadError::Unsent(Box::new(request))),
                None => Err(HeadError::Failed(Self::of_head(error.into_error(), too_long))),
            },
            None => Err(HeadError::TimedOut),
        }
    }

    /// Reads on in a response body.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if let Some(stream) = &mut self.stream {
            return stream.poll_data(cx).map(|next| next.map(|next| next.map(Frame::data)));
        }
        self.poll_body(cx, body).map(|next| next.map(|next| next.map_err(Fault::of_body)))
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        // The connection reads no body before the reader has asked for it.
        self.relay.watch(cx.waker());
        self.relay.begin();
        let asked = Pin::new(&mut *body).poll_frame(&mut Context::from_waker(&self.waker));
        if asked.is_ready() {
            return asked;
        }
        self.poll_both(cx, |cx| Pin::new(&mut *body).poll_frame(cx))
    }

    /// Sees to it that the library gets nothing of the body of the next response, so that
    /// [`Http1::expect_stream`] can take it over.
    pub(super) fn hold_body(&self) {
        self.watch.hold.begin();
    }

    /// Takes the connection from the library if it can do without: the request has been written,
    /// and what comes can be read here. Otherwise the library goes on.
    pub(super) fn expect_stream(&mut self, head: &response::Parts) {
        let is_held = self.watch.hold.is_holding();
        self.watch.hold.release();
        if is_held
            && stream::is_fit(head)
            && self.watch.has_written(self.sent)
            && let Some(connection) = self.connection.take()
        {
            self.relay.forget();
            self.sender = None;
            let mut io = connection.into_parts().io.into_inner();
            let rest = io.take_held();
            self.stream = Some(Box::new(Stream::new(io, rest, head)));
        }
    }

    pub(super) const fn set_aside(&mut self) {
        self.is_new = false;
    }

    pub(super) const fn is_new(&self) -> bool {
        self.is_new
    }

    /// The timer of whoever uses the link.
    pub(super) const fn timer(&mut self) -> &mut Timer {
        &mut self.timer
    }

    /// Leaves the link alone after an exchange; whether it can take another one.
    pub(super) fn settle(&mut self) -> bool {
        self.relay.forget();
        if let Some(stream) = self.stream.take() {
            self.connection = stream.into_io().and_then(|io| {
                // It has nothing to wait for.
                let (sender, connection) = greet(io).now_or_never()?.ok()?;
                self.sender = Some(sender);
                Some(Box::new(connection))
            });
        }
        // Usually it has found its way to the start already, and has seen that nothing follows.
        self.can_send() || self.is_clean()
    }

    /// Whether an idle link can take an exchange.
    pub(super) fn is_clean(&mut self) -> bool {
        self.advance();
        self.can_send()
    }

    fn can_send(&self) -> bool {
        self.connection.is_some() && self.sender.as_ref().is_some_and(SendRequest::is_ready)
    }

    /// Polls the connection and its user in turn until both wait for the socket.
    fn poll_both<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut user: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.relay.watch(cx.waker());
        for _ in 0..ROUNDS {
            self.relay.begin();
            self.advance();
            let polled = user(&mut Context::from_waker(&self.waker));
            let woken = self.relay.end();
            if polled.is_ready() || !woken {
                return polled;
            }
        }
        // Still news, possibly because the task has used up its turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn advance(&mut self) {
        if let Some(connection) = &mut self.connection {
            let mut cx = Context::from_waker(&self.waker);
            if Pin::new(&mut **connection).poll(&mut cx).is_ready() {
                // Its error, if any, has reached whoever waited for it.
                self.connection = None;
            }
        }
    }

    fn of_head(error: hyper::Error, too_long: bool) -> Fault {
        match error {
            _ if too_long => Fault::HeadTooLong,
            error if error.is_parse() => Fault::Head(error),
            error => Fault::Lost(Some(error)),
        }
    }
}

/// Lets the library have a connection. Nothing is sent yet.
async fn greet(io: Io) -> hyper::Result<(SendRequest<Full<Bytes>>, Connected)> {
    http1::Builder::new()
        // hyper keeps the buffer that its largest read took for as long as it has the connection.
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(io))
        .await
}
