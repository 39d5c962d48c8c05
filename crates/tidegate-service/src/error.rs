//! The one error that crosses the seam.
//!
//! Three readers decide by it: retry reads [`Error::retry`], the breaker reads [`Error::kind`] and
//! [`Error::origin`], and the server maps all three to a status and a JSON-RPC code. Layers keep
//! their own error enums and convert at their edge.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc};

/// Why a call has no reply.
///
/// Small on purpose: it is moved through every layer. What only the client and the log want to
/// know is behind one pointer.
#[derive(Debug)]
pub struct Error {
    /// What went wrong, coarsely enough to decide by.
    pub kind: Kind,
    /// Whose fault it is.
    pub origin: Origin,
    /// Whether sending the call again is allowed.
    pub retry: Retry,
    detail: Box<Detail>,
}

#[derive(Debug, Default)]
struct Detail {
    message: Cow<'static, str>,
    upstream: Option<Arc<str>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The coarse reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The client's request cannot be understood or is not allowed (JSON-RPC -32600).
    BadRequest,
    /// The client's request needs a session id and has none.
    SessionMissing,
    /// The session is unknown, has ended, or belongs to somebody else.
    SessionUnknown,
    /// No route matches.
    NotRouted,
    /// The upstream has no such operation (a GET stream, ending a session).
    Unsupported,
    /// Every lease or process slot is taken.
    PoolExhausted,
    /// A deadline passed.
    Timeout,
    /// No endpoint could be reached.
    Unreachable,
    /// Too much is going on already.
    Overloaded,
    /// The upstream went away in the middle; the outcome of the call is unknown.
    Died,
    /// The peer broke the protocol.
    Protocol,
    /// A message is larger than the configured limit.
    TooLarge,
    /// What the client wants to go on from is no longer kept, or never was.
    StreamGap,
    /// The client did not read what came for it.
    SlowClient,
    /// The proxy is shutting down.
    Draining,
    /// The proxy itself is at fault.
    Internal,
}

/// The side that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The client.
    Downstream,
    /// This process.
    Gateway,
    /// The server behind us.
    Upstream,
}

/// The retry verdict, decided where the failure is known best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The call may have had an effect.
    Never,
    /// The call never left this process, or the upstream says that it did not look at it.
    NotSent,
    /// The call is idempotent.
    Safe,
}

impl Error {
    /// Makes an error. `message` is shown to the client: it says what was waited for or what is
    /// wrong, and never a secret, a path or a peer's address.
    pub fn new(
        kind: Kind,
        origin: Origin,
        retry: Retry,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let detail = Detail { message: message.into(), ..Detail::default() };
        Self { kind, origin, retry, detail: Box::new(detail) }
    }

    /// A refusal of something the client did.
    pub fn refused(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(kind, Origin::Downstream, Retry::NotSent, message)
    }

    /// Attaches the cause, for logs only.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.detail.source = Some(source.into());
        self
    }

    /// Names the upstream as configured.
    #[must_use]
    pub fn at(mut self, upstream: &Arc<str>) -> Self {
        self.detail.upstream = Some(Arc::clone(upstream));
        self
    }

    /// What the client is told.
    pub fn message(&self) -> &str {
        &self.detail.message
    }

    /// The configured name of the upstream that failed, where one did.
    pub fn upstream(&self) -> Option<&str> {
        self.detail.upstream.as_deref()
    }

    /// The error and all its causes on one line, for logs.
    pub fn chain(&self) -> impl fmt::Display + '_ {
        Chain(self)
    }
}

impl Kind {
    /// A stable lowercase word, used in error data and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::SessionMissing => "session_missing",
            Self::SessionUnknown => "session_unknown",
            Self::NotRouted => "not_routed",
            Self::Unsupported => "unsupported",
            Self::PoolExhausted => "pool_exhausted",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Overloaded => "overloaded",
            Self::Died => "died",
            Self::Protocol => "protocol",
            Self::TooLarge => "too_large",
            Self::StreamGap => "stream_gap",
            Self::SlowClient => "slow_client",
            Self::Draining => "draining",
            Self::Internal => "internal",
        }
    }
}

impl Origin {
    /// A stable lowercase word, used in error data.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Downstream => "client",
            Self::Gateway => "gateway",
            Self::Upstream => "upstream",
        }
    }
}

impl Retry {
    /// Whether the caller may simply send the request again.
    pub const fn is_safe(self) -> bool {
        match self {
            Self::Never => false,
            Self::NotSent | Self::Safe => true,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.origin.as_str(), self.kind.as_str(), self.detail.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.detail.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

struct Chain<'a>(&'a Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, Kind, Origin, Retry};

    #[test]
    fn display_stops_at_the_seam_and_the_chain_does_not() {
        let error = Error::new(Kind::Died, Origin::Upstream, Retry::Never, "the process ended")
            .because(std::io::Error::other("pipe closed"));
        assert_eq!(error.to_string(), "upstream: died: the process ended");
        assert_eq!(error.chain().to_string(), "upstream: died: the process ended: pipe closed");
    }

    #[test]
    fn an_error_is_small_enough_to_return_by_value() {
        assert!(size_of::<Error>() <= 16, "{}", size_of::<Error>());
    }
}
