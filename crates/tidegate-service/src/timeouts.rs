//! How long a call may take.

use std::time::Duration;

/// The limits of a call's waits. An upstream has some of its own, and a route may set others for its
/// calls ([`Cx::timeouts`](crate::Cx::timeouts)). How long a call may take in all is its
/// [`Cx::deadline`](crate::Cx::deadline).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS included, where one has to be made.
    pub connect: Duration,
    /// From sending a request to the first message of its answer; `None` for no limit.
    pub request: Option<Duration>,
    /// Between two messages of an answer; `None` for no limit. Progress is a message, a comment of
    /// an event stream is none. While a server waits for its client it does not run.
    pub idle: Option<Duration>,
}

impl Default for Timeouts {
    /// 2 s to connect, 5 min to the first message and between messages.
    fn default() -> Self {
        let silence = Some(Duration::from_secs(300));
        Self { connect: Duration::from_secs(2), request: silence, idle: silence }
    }
}
