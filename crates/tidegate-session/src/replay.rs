//! What a client missed of a stream, given again.
//!
//! A layer behind session resolution puts event ids of its own on what a legacy session's streams
//! carry, and keeps a log of each stream. A client that comes back with `Last-Event-ID` gets what
//! followed on that stream, and then what comes. So a server needs no resumption of its own, not
//! even event ids; a child process has neither.
//!
//! A legacy client that goes away cancels nothing. When it leaves a stream that it could resume,
//! the call goes on: its stream is read into the log until it ends, or until the client has been
//! gone for the time that a log lasts.
//!
//! A session's streams stand in its `Journal`, which hangs on the session; each stream is a `Line`,
//! which has a [`log`] and is read by one `Reader` at a time. An [`Account`] counts the memory of
//! all logs, drops the oldest that nobody reads when it is too much, and owns the tasks that read
//! streams whose client is away.

pub mod account;
mod drain;
pub mod id;
mod journal;
mod layer;
mod line;
pub mod log;
mod reader;
mod source;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tidegate_protocol::{Bytes, Id};
use tidegate_service::Error;

pub use self::{
    account::{Account, Stats},
    layer::{Replay, ReplayLayer, Replaying},
    log::LogLimits,
};

/// How long a client that was cut off should wait before it comes back, in milliseconds.
const RETRY: u64 = 1000;

/// How one route's streams are kept.
#[derive(Clone, Copy, Debug)]
pub struct ReplayParams {
    /// How much one stream's log may hold; its age is also how long a client may stay away.
    pub limits: LogLimits,
    /// How long an answer may take before the client is given an id to come back with. Only
    /// clients of 2025-11-25 know what to do with one before the first message.
    pub prime_after: Duration,
    /// How long the answer to a call is streamed to a client of 2025-11-25 before it is asked to come
    /// back for the rest; `None` for as long as it takes.
    pub poll_after: Option<Duration>,
    /// The message that tells of a failed call, for streams that have begun.
    pub tell: fn(&Id, &Error) -> Bytes,
}
