//! A way to one server, as one call uses it: a connection of its own, or a share in one.
//!
//! HTTP/1.1 carries one exchange at a time, so a connection belongs to its call. HTTP/2 carries
//! many, so calls share a connection, and what belongs to a call is a stream.

mod chunks;
mod http1;
mod http2;
mod stream;

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, response};
use http_body::Frame;
use http_body_util::Full;
use hyper::body::Incoming;
use tidegate_pool::Reason;
use tokio::time::Instant;

pub(crate) use self::{
    http1::Http1,
    http2::{Http2, MAX_STREAMS, Origin, Shared},
};
use crate::{fault::Fault, timer::Timer};

/// A request with its body in one piece.
pub type Outgoing = Request<Full<Bytes>>;

/// Dropped in the middle of an exchange, it lets the server know: the connection closes, or the
/// stream is reset.
pub(crate) enum Link {
    Http1(Http1),
    Http2(Http2),
}

/// Why there is no response head.
#[derive(Debug)]
pub(crate) enum HeadError {
    /// The connection had ended before the request was sent; here it is.
    Unsent(Box<Outgoing>),
    /// The deadline passed.
    TimedOut,
    /// Anything else; the request may have arrived.
    Failed(Fault),
}

impl Link {
    /// Sends a request, once, and reads the head of its response.
    ///
    /// # Cancel safety
    ///
    /// Not: the link is in the middle of an exchange then and must be dropped.
    pub(crate) async fn exchange(
        &mut self,
        request: Outgoing,
        deadline: Option<Instant>,
    ) -> Result<Response<Incoming>, HeadError> {
        match self {
            Self::Http1(link) => link.exchange(request, deadline).await,
            // Boxed, so that it does not make the other one's future larger.
            Self::Http2(link) => Box::pin(link.exchange(request, deadline)).await,
        }
    }

    /// Reads on in a response body.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match self {
            Self::Http1(link) => link.poll_frame(cx, body),
            Self::Http2(_) => Http2::poll_frame(cx, body)
                .map(|next| next.map(|next| next.map_err(Fault::of_body))),
        }
    }

    /// The next response may be a stream that lasts for ever, and is mostly quiet. Once its head has
    /// been read, [`Link::expect_stream`] must be told, or nothing of its body is seen.
    pub(crate) fn hold_body(&self) {
        match self {
            Self::Http1(link) => link.hold_body(),
            Self::Http2(_) => (),
        }
    }

    /// Gets ready for the body behind this head.
    pub(crate) fn expect_stream(&mut self, head: &response::Parts) {
        match self {
            Self::Http1(link) => link.expect_stream(head),
            Self::Http2(_) => (),
        }
    }

    /// It will lie unused for a while, in which the server may close it as if it had been used.
    pub(crate) const fn set_aside(&mut self) {
        match self {
            Self::Http1(link) => link.set_aside(),
            Self::Http2(link) => link.set_aside(),
        }
    }

    /// Whether it was made just now.
    pub(crate) const fn is_new(&self) -> bool {
        match self {
            Self::Http1(link) => link.is_new(),
            Self::Http2(link) => link.is_new(),
        }
    }

    /// Why a connection that others use too takes no more calls, if so.
    pub(crate) fn expired(&self, now: Instant) -> Option<Reason> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(link) => link.expired(now),
        }
    }

    /// The timer of whoever uses the link.
    pub(crate) const fn timer(&mut self) -> &mut Timer {
        match self {
            Self::Http1(link) => link.timer(),
            Self::Http2(link) => link.timer(),
        }
    }

    /// Leaves the link alone after an exchange; whether it can take another one.
    pub(crate) fn settle(&mut self) -> bool {
        match self {
            Self::Http1(link) => link.settle(),
            Self::Http2(link) => link.is_open(),
        }
    }

    /// Whether an idle link can take an exchange.
    pub(crate) fn is_clean(&mut self) -> bool {
        match self {
            Self::Http1(link) => link.is_clean(),
            Self::Http2(link) => link.is_open(),
        }
    }
}
