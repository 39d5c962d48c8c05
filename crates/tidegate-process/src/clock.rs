//! The system's time. The threads of this crate keep appointments with processes, which know no
//! paused clock.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since some moment in the past.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |n: i64| u64::try_from(n).unwrap_or_default();
    part(time.tv_sec) * 1000 + part(time.tv_nsec) / 1_000_000
}
