//! Behavior of the upstream with real processes. Every test ends by asserting that nothing is left.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod abandon;
mod faults;
mod hang;
mod lifecycle;
mod mirrored;
mod places;
mod pressure;
mod recycling;
mod restarts;
mod rig;
mod session;
mod shared;
mod sharing;
mod spares;
