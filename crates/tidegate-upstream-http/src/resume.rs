//! Going on with a stream that broke, while its reader waits.
//!
//! A legacy stream that gave event ids can be taken up again by GET, and so can the stream of what a
//! server says unasked, with an id or without. `state` decides when and whether, without a socket or
//! a clock; `recent` knows which events the reader has; `brake` keeps many streams from coming back
//! at once; `attempt` is one GET; `stream` is what the reader holds. `level` knows whether a client
//! wants to be told by message. There is no task: whoever drops the stream drops all of it.

mod attempt;
mod brake;
mod counters;
mod level;
mod recent;
mod state;
mod stream;

pub use self::counters::Resumption;
pub(crate) use self::{
    attempt::Source,
    brake::Brake,
    counters::Counters,
    level::{Level, level_of},
    stream::Resuming,
};
