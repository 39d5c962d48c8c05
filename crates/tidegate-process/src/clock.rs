//! The system's time. The threads of this crate keep appointments with processes, which know no
//! paused clock.

use rustix::{
    event::{Timespec, poll},
    time::{ClockId, clock_gettime},
};

/// Milliseconds since some moment in the past.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |n: i64| u64::try_from(n).unwrap_or_default();
    part(time.tv_sec) * 1000 + part(time.tv_nsec) / 1_000_000
}

/// Waits on this thread, for less than a second. Only for a start, which nothing runs beside.
pub(crate) fn pause(milliseconds: u64) {
    let time = i64::try_from(milliseconds.min(999) * 1_000_000).unwrap_or_default();
    // It waits for nothing but the time; an interruption only makes it shorter.
    poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: time })).ok();
}
