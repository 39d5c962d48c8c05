//! The upstream against peers that follow a script, byte by byte, on real sockets.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod calls;
mod faults;
mod framing;
mod http2;
mod patience;
mod resume;
mod sessions;
mod streams;
mod stress;
mod support;
mod tls;
mod upkeep;
