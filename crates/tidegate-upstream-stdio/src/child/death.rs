//! Why a process can serve no more, and what that means to whoever waits for it.

use std::{borrow::Cow, os::unix::process::ExitStatusExt as _, process::ExitStatus, sync::Arc};

use tidegate_service::{Error, Kind, Origin, Retry};

/// The first reason why a process can serve no more. Later ones change nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// It ended by itself.
    Ended(ExitStatus),
    /// We ended it: the session is over, or the upstream stops.
    Stopped,
    /// It goes on for those who wait for answers; whoever wanted to stay goes to the next one.
    Replaced,
    /// It closed its stdout, so that no answer can come.
    Silent,
    /// It closed its stdin, so that nothing can be asked.
    Deaf,
    /// It wrote a line longer than this many bytes, so that the next one cannot be found.
    Oversized(usize),
}

impl Death {
    /// What a call is told whose answer will not come.
    pub(crate) fn error(&self, upstream: &Arc<str>) -> Error {
        let (kind, message): (_, Cow<'static, str>) = match self {
            Self::Ended(status) => (
                Kind::Died,
                format!(
                    "the server process ended ({}) before it answered; \
                     the outcome of the call is unknown",
                    describe(*status)
                )
                .into(),
            ),
            Self::Stopped => (
                Kind::Died,
                "the server process was stopped before it answered; \
                 the outcome of the call is unknown"
                    .into(),
            ),
            Self::Replaced => (Kind::Died, "the server process is being replaced".into()),
            Self::Silent => (
                Kind::Died,
                "the server process closed its output before it answered; \
                 the outcome of the call is unknown"
                    .into(),
            ),
            Self::Deaf => (
                Kind::Died,
                "the server process closed its input before it answered; \
                 the outcome of the call is unknown"
                    .into(),
            ),
            Self::Oversized(limit) => (
                Kind::Protocol,
                format!("the server process wrote a line of more than {limit} bytes").into(),
            ),
        };
        Error::new(kind, Origin::Upstream, Retry::Never, message).at(upstream)
    }
}

/// The status as a person says it: `exit status 3`, `signal 9`.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no exit status".to_owned(),
    }
}
