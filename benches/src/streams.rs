//! Streams that go on: what one costs in memory, and how many events go through them.
//!
//! nginx and haproxy take part, since a stream that is idle costs them least, and the bare relay in
//! both of its forms. Each sample has a proxy process of its own, because an allocator keeps what
//! was once in use: memory is what [`hold`] makes a fresh process grow by.
//!
//! Reading order: [`plan`] and [`peers`], then [`hold`] with [`client`] and [`check`], then
//! [`report`].

pub mod check;
pub mod client;
pub mod hold;
pub mod peers;
pub mod plan;
pub mod report;
