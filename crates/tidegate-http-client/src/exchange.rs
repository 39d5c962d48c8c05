//! One exchange from its response head on: the body, and what becomes of the connection.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http_body::Body as _;
use hyper::body::Incoming;
use tidegate_pool::{Lease, Reason};
use tokio::time::Instant;

use crate::{fault::Fault, link::Link};

/// How much of a body that nobody wants is read for the sake of the connection.
const MAX_SCRAP: usize = 16 << 10;

/// A response body on its connection.
///
/// The connection goes back only through [`Exchange::finish`], when the body has ended. Dropping an
/// exchange closes its connection, which is also how the server learns that nobody listens.
pub struct Exchange {
    lease: Lease<Box<Link>>,
    body: Incoming,
    limits: Limits,
    /// Since when nothing has come, if the reader has waited at all.
    waiting_since: Option<Instant>,
}

/// How long a body may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest pause.
    pub idle: Option<Duration>,
    /// The end of all patience.
    pub deadline: Option<Instant>,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Exchange {
    pub(crate) const fn new(lease: Lease<Box<Link>>, body: Incoming, limits: Limits) -> Self {
        Self { lease, body, limits, waiting_since: None }
    }

    /// The same, with somebody else who looks at the clock.
    #[must_use]
    pub fn without_limits(mut self) -> Self {
        self.limits = Limits { idle: None, deadline: None };
        self
    }

    /// From now on the body may pause this long at most.
    pub const fn limit_pauses(&mut self, limit: Duration) {
        self.limits.idle = Some(limit);
    }

    /// The next piece of the body; `None` is its proper end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        let Some(link) = self.lease.item() else { return Poll::Ready(Some(Err(Fault::Cut(None)))) };
        while let Poll::Ready(frame) = link.poll_frame(cx, &mut self.body) {
            self.waiting_since = None;
            match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
                None => return Poll::Ready(None),
                Some(Ok(Ok(data))) => return Poll::Ready(Some(Ok(data))),
                Some(Err(fault)) => return Poll::Ready(Some(Err(fault))),
                // Trailers mean nothing in MCP.
                Some(Ok(Err(_trailers))) => (),
            }
        }
        let Limits { idle, deadline } = self.limits;
        if self.waiting_since.is_none() {
            let now = Instant::now();
            self.waiting_since = Some(now);
            let pause = idle.map(|idle| now + idle);
            link.timer().set(pause.into_iter().chain(deadline).min());
        }
        link.timer().poll_passed(cx).map(|()| {
            let capped = deadline.is_some_and(|deadline| deadline <= Instant::now());
            Some(Err(match idle {
                Some(idle) if !capped => Fault::IdleTimeout(idle),
                _ => Fault::Deadline(self.lease.taken_at().elapsed()),
            }))
        })
    }

    /// Reads the whole body, which may have `limit` bytes, and frees the connection.
    ///
    /// # Errors
    ///
    /// [`Fault`]; the connection is closed then.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection.
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, Fault> {
        match self.read_all(limit).await {
            Ok(bytes) => {
                self.finish();
                Ok(bytes)
            }
            Err(fault) => {
                self.lease.retire(Reason::Broken);
                Err(fault)
            }
        }
    }

    /// Keeps the connection if the rest of the body is short, and here already or awaited.
    ///
    /// # Errors
    ///
    /// [`Fault`], if it breaks off.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection.
    pub async fn skip(self) -> Result<(), Fault> {
        match self.collect(MAX_SCRAP).await {
            // Whatever it is, it was not wanted; that it is too long costs only the connection.
            Ok(_) | Err(Fault::TooLarge(_)) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Keeps the connection if the rest of the body is short and here already.
    pub fn skip_now(self) {
        drop(self.skip().now_or_never());
    }

    /// Frees the connection for others. Only for a body that has ended.
    pub fn finish(mut self) {
        if self.lease.item().is_some_and(|link| link.settle()) {
            self.lease.release();
        } else {
            self.lease.retire(Reason::Broken);
        }
    }

    /// Closes the connection after a fault.
    pub fn discard(self) {
        self.lease.retire(Reason::Broken);
    }

    async fn read_all(&mut self, limit: usize) -> Result<Bytes, Fault> {
        let hint = self.body.size_hint();
        let known = usize::try_from(hint.lower()).unwrap_or(usize::MAX);
        if known > limit {
            return Err(Fault::TooLarge(limit));
        }
        let Some(first) = self.next().await? else { return Ok(Bytes::new()) };
        if self.body.is_end_stream() {
            // The common case, without a copy.
            return within(first.len(), limit).map(|()| first);
        }
        let mut whole = BytesMut::with_capacity(known.max(2 * first.len()).min(limit));
        whole.extend_from_slice(&first);
        while let Some(more) = self.next().await? {
            within(whole.len() + more.len(), limit)?;
            whole.extend_from_slice(&more);
        }
        Ok(whole.freeze())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        if self.body.is_end_stream() {
            return Ok(None);
        }
        poll_fn(|cx| self.poll_data(cx)).await.transpose()
    }
}

const fn within(length: usize, limit: usize) -> Result<(), Fault> {
    if length > limit { Err(Fault::TooLarge(limit)) } else { Ok(()) }
}
