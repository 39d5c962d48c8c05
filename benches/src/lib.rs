//! Measures what a hop through Tidegate costs, and ships the parts that measuring needs.
//!
//! The package holds a fast fixture MCP server, a bare relay that is the floor any proxy can be
//! compared with, a closed-loop load client that checks every answer, and the loopback bench that
//! runs all of them side by side. It drives the `tidegate` program from outside only: it must not
//! know the proxy's crates, apart from the codecs that the criterion benches time.
//!
//! ```
//! use tidegate_benches::{fixture, wire::{self, Era}};
//!
//! let text = wire::unique_text(7, 1);
//! let mut body = Vec::new();
//! wire::write_call(&mut body, Era::Legacy, 1, &text);
//!
//! let mut answer = Vec::new();
//! let kind = fixture::answer(&body, &mut answer);
//! assert_eq!(kind, fixture::Kind::Answered);
//! wire::check_echo(&answer, 1, &text).expect("the fixture echoes what it was sent");
//! ```
//!
//! Modules, in reading order:
//!
//! * [`wire`]: the few MCP messages that are sent, and the check of what comes back.
//! * [`payload`]: requests of a given size, for the codec benches.
//! * [`fixture`]: the MCP server at the far end, over HTTP and over pipes.
//! * [`relay`]: the floor, HTTP to HTTP and HTTP to pipe.
//! * [`serve`]: one single-threaded runtime per worker behind one port.
//! * [`client`], [`load`]: an HTTP/1.1 connection, and the closed loop over many of them or over
//!   the pipe of a child.
//! * [`cpu`], [`syscalls`], [`memory`]: processor time of a process and of its descendants, how
//!   often they read and write, and what a process has in memory.
//! * [`npm`], [`peers`], [`plan`], [`rounds`], [`cold`], [`report`]: what is started, what is
//!   measured, in which order, and what is printed.
//! * [`streams`]: the same for streams that go on, by memory and by events.

pub mod client;
pub mod cold;
pub mod cpu;
pub mod fixture;
pub mod load;
pub mod memory;
pub mod npm;
pub mod payload;
pub mod peers;
pub mod plan;
pub mod relay;
pub mod report;
pub mod rounds;
pub mod serve;
pub mod streams;
pub mod syscalls;
pub mod wire;
