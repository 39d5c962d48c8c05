//! What can go wrong with one exchange, and what the rest of the proxy is told about it.

use std::{borrow::Cow, error::Error as StdError, io, sync::Arc, time::Duration};

use http::StatusCode;
use tidegate_pool::CheckoutError;
use tidegate_protocol::{ParseError, sse::TooLong};
use tidegate_service::{Error, Kind, Origin, Retry};

/// Why an exchange has no reply. Everything up to [`Fault::ConnectTimeout`] happened before a byte
/// of the request was written, and with [`Fault::Refused`] the server says that it looked at none.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each says what it is in its message")]
pub enum Fault {
    #[error("no connection is free")]
    Busy(#[source] CheckoutError),
    #[error("the session belongs to another upstream")]
    ForeignSession,
    #[error("the caller's deadline has passed")]
    TooLate,
    #[error("the name cannot be resolved")]
    Resolve(#[source] io::Error),
    #[error("the connection cannot be made")]
    Connect(#[source] io::Error),
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    #[error("no HTTP/2 connection can be agreed on")]
    Greeting(#[source] Option<hyper::Error>),
    #[error("the connection ended before the request was written")]
    Unsent,
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("the server refused the request unread")]
    Refused(#[source] hyper::Error),

    #[error("no response head within {0:?}")]
    HeadTimeout(Duration),
    #[error("the response paused for {0:?}")]
    IdleTimeout(Duration),
    #[error("no message of the answer within {0:?}")]
    FirstTimeout(Duration),
    #[error("the caller's deadline passed during the response, after {0:?}")]
    Deadline(Duration),
    #[error("the connection broke before the response began")]
    Lost(#[source] Option<hyper::Error>),
    #[error("the response broke off")]
    Cut(#[source] Option<BodyError>),
    #[error("the stream ended inside an event")]
    CutEvent,
    #[error("the response head is malformed")]
    Head(#[source] hyper::Error),
    #[error("the response head is too long")]
    HeadTooLong,
    #[error("the response is framed ambiguously: {0}")]
    Framing(&'static str),
    #[error("the response body is malformed")]
    Body(#[source] BodyError),
    #[error("a body that must be empty is not")]
    NotEmpty,
    #[error("a request was not answered")]
    NoAnswer,
    #[error("the server answered HTTP {0}")]
    Bare(StatusCode),
    #[error("the session is gone")]
    SessionGone,
    #[error("the operation is not offered")]
    Unsupported,
    #[error("the response is compressed")]
    Encoded,
    #[error("the content type is not one of MCP")]
    ContentType,
    #[error("the body is no message")]
    Message(#[source] ParseError),
    #[error("the body is longer than {0} bytes")]
    TooLarge(usize),
    #[error("an event is too long")]
    EventTooLarge(#[source] TooLong),
    #[error("the session id is not valid")]
    SessionId,
    #[error("the rest of a stream is not to be had: {0:?}")]
    NotResumed(Option<StatusCode>),
    #[error("the stream did not go on within {waited:?}, {attempts} attempts failed")]
    GaveUp { attempts: u32, waited: Duration },
}

/// Why a body cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// What the HTTP library says.
    #[error(transparent)]
    Http(hyper::Error),
    /// What the socket says.
    #[error(transparent)]
    Io(io::Error),
    /// The chunks are not framed as they must be.
    #[error("the body is not chunked as it must be: {0}")]
    Chunk(&'static str),
}

impl Fault {
    /// Sorts an error that came instead of a response on HTTP/2: in two ways a server says that it
    /// did nothing with a request.
    pub(crate) fn of_stream(error: hyper::Error) -> Self {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
        let refused = cause.is_some_and(|cause| {
            // A connection that takes no more requests gives this error to those only that came
            // after the last it took.
            let too_late = cause.is_go_away();
            let too_many = cause.is_reset() && cause.reason() == Some(h2::Reason::REFUSED_STREAM);
            cause.is_remote() && (too_late || too_many)
        });
        if refused { Self::Refused(error) } else { Self::Lost(Some(error)) }
    }

    /// Sorts an error of a body: the peer broke the framing, or the connection broke.
    pub(crate) fn of_body(error: hyper::Error) -> Self {
        let mut cause = error.source();
        while let Some(source) = cause {
            let kind = source.downcast_ref::<io::Error>().map(io::Error::kind);
            if matches!(kind, Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)) {
                return Self::Body(BodyError::Http(error));
            }
            cause = source.source();
        }
        Self::Cut(Some(BodyError::Http(error)))
    }

    /// The error for the rest of the proxy.
    pub fn at(self, upstream: &Arc<str>) -> Error {
        let (kind, origin, retry) = self.verdict();
        Error::new(kind, origin, retry, self.message()).at(upstream).because(self)
    }

    /// What it means to those who decide.
    pub const fn verdict(&self) -> (Kind, Origin, Retry) {
        use {Kind as K, Origin as O, Retry as R};
        match self {
            Self::Busy(CheckoutError::Closed) => (K::Draining, O::Gateway, R::NotSent),
            Self::Busy(_) => (K::PoolExhausted, O::Gateway, R::NotSent),
            Self::ForeignSession => (K::SessionUnknown, O::Gateway, R::Never),
            Self::TooLate => (K::Timeout, O::Gateway, R::NotSent),
            Self::Resolve(_)
            | Self::Connect(_)
            | Self::Tls(_)
            | Self::Greeting(_)
            | Self::Unsent
            | Self::Refused(_) => (K::Unreachable, O::Upstream, R::NotSent),
            Self::ConnectTimeout(_) => (K::Timeout, O::Upstream, R::NotSent),
            Self::HeadTimeout(_)
            | Self::FirstTimeout(_)
            | Self::IdleTimeout(_)
            | Self::Deadline(_)
            | Self::GaveUp { .. } => (K::Timeout, O::Upstream, R::Never),
            Self::Lost(_) | Self::Cut(_) | Self::CutEvent => (K::Died, O::Upstream, R::Never),
            Self::Bare(StatusCode::TOO_MANY_REQUESTS) => (K::Overloaded, O::Upstream, R::Never),
            Self::Bare(
                StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT,
            ) => (K::Unreachable, O::Upstream, R::Never),
            Self::SessionGone => (K::SessionUnknown, O::Upstream, R::Never),
            Self::Unsupported => (K::Unsupported, O::Upstream, R::Never),
            Self::TooLarge(_) | Self::EventTooLarge(_) => (K::TooLarge, O::Upstream, R::Never),
            Self::Head(_)
            | Self::HeadTooLong
            | Self::Framing(_)
            | Self::Body(_)
            | Self::NotEmpty
            | Self::NoAnswer
            | Self::Bare(_)
            | Self::Encoded
            | Self::ContentType
            | Self::Message(_)
            | Self::NotResumed(_)
            | Self::SessionId => (K::Protocol, O::Upstream, R::Never),
        }
    }

    /// What the client is told.
    fn message(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Busy(CheckoutError::Closed) => "the upstream is shutting down",
            Self::Busy(CheckoutError::QueueFull) => {
                "every connection to the server is in use and the queue is full"
            }
            Self::Busy(CheckoutError::TimedOut { waited }) => {
                return format!("waited {waited:?} for a free connection to the server").into();
            }
            Self::ForeignSession => "the session belongs to another server",
            Self::TooLate => "the deadline passed before the call was sent",
            Self::Resolve(_) => "the server's name could not be resolved",
            Self::Connect(_) => "the server could not be connected to",
            Self::Tls(_) => "no TLS session could be agreed on with the server",
            Self::Greeting(_) => "the server did not open an HTTP/2 connection",
            Self::Unsent => "the server closed the connection before the call was sent",
            Self::ConnectTimeout(waited) => return format!("waited {waited:?} to connect").into(),
            Self::Refused(_) => "the server refused the call without looking at it",
            Self::HeadTimeout(waited) => {
                return format!("waited {waited:?} for the response to begin").into();
            }
            Self::IdleTimeout(waited) => {
                return format!("waited {waited:?} for more of the answer").into();
            }
            Self::FirstTimeout(waited) => {
                return format!("waited {waited:?} for the first message of the answer").into();
            }
            Self::Deadline(waited) => {
                return format!("waited {waited:?} for the end of the answer").into();
            }
            Self::Lost(_) => "the server closed the connection without an answer, outcome unknown",
            Self::Cut(_) => "the server broke off its answer, outcome unknown",
            Self::CutEvent => "the server ended the stream inside an event",
            Self::Head(_) => "the server's response head is malformed",
            Self::HeadTooLong => "the server's response head is too long",
            Self::Framing(_) => "the server's response is framed ambiguously",
            Self::Body(_) => "the server's response body is malformed",
            Self::NotEmpty => "the server sent a body without saying what it is",
            Self::NoAnswer => "the server took the request and sent no answer",
            Self::Bare(status) if status.is_redirection() => {
                "the server answered with a redirect, which is not followed"
            }
            Self::Bare(status) => {
                let status = status.as_u16();
                return format!("the server answered HTTP {status} without a JSON-RPC body").into();
            }
            Self::SessionGone => "the server no longer knows the session",
            Self::Unsupported => "the server does not offer this operation",
            Self::Encoded => "the server compressed its answer unasked",
            Self::ContentType => "the server's answer is neither JSON nor an event stream",
            Self::Message(_) => "the server's answer is not a JSON-RPC message",
            Self::TooLarge(limit) => {
                return format!("the server's answer is longer than {limit} bytes").into();
            }
            Self::EventTooLarge(too_long) => {
                return format!("the server sent an event longer than {} bytes", too_long.limit)
                    .into();
            }
            Self::SessionId => "the server's session id is not visible ASCII",
            Self::NotResumed(None) => {
                "the connection to the server broke, and it offers no way to get the rest of the \
                 stream; outcome unknown"
            }
            Self::NotResumed(Some(status)) => {
                let status = status.as_u16();
                return format!(
                    "the connection to the server broke, and it refused the rest of the stream \
                     with HTTP {status}; outcome unknown"
                )
                .into();
            }
            Self::GaveUp { attempts, waited } => {
                return format!(
                    "waited {waited:?} for the server to go on with the stream, {attempts} \
                     attempts failed, outcome unknown"
                )
                .into();
            }
        })
    }
}
