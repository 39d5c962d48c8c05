//! Reuse of expensive things: exclusive leases, bounded and fair, with counters as data.
//!
//! A [`Pool`] bounds how many things of one kind exist and lends each to one user at a time. It
//! does not know how to make one: a [`Lease`] is the right to have a thing, and an empty lease is
//! filled by its holder, who has the deadline and hears at once why making it failed. The crate
//! must not know HTTP, processes, MCP or metrics, and it starts no task; whoever owns a pool runs
//! [`Pool::maintain`], which closes what expired and keeps [`Params::min_idle`] things ready with
//! the help of a [`Keeper`], or calls [`Pool::sweep`] now and then.
//!
//! Reuse is a promise that the thing is as good as new, so only [`Lease::release`] makes it. A
//! lease that is dropped in any other way (an error, a cancelled call, a panic) closes its thing.
//!
//! ```
//! use std::{num::NonZeroU32, time::Duration};
//! use tidegate_pool::{Params, Pool};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let max = NonZeroU32::new(2).ok_or("zero")?;
//! let pool = Pool::new(Params { idle_timeout: Some(Duration::from_secs(60)), ..Params::new(max) });
//!
//! let mut lease = pool.checkout().await?;
//! assert!(lease.item().is_none(), "nothing to reuse yet");
//! lease.fill(String::from("a connection"));
//! lease.release();
//!
//! let mut lease = pool.checkout().await?;
//! assert_eq!(lease.item().map(|text| text.as_str()), Some("a connection"));
//! drop(lease); // Not released, hence closed.
//! assert_eq!(pool.stats().closed.abandoned, 1);
//! # Ok(()) }
//! ```
//!
//! The map: [`Pool`] and [`Lease`] are what users see; [`Gate`] decides who may come in and who
//! waits, also for owners that keep their things elsewhere; [`Expiry`] decides when a thing is too
//! old; [`Buffers`] lends memory to read into; `idle` keeps the idle things, in one of two ways ([`Idle`]); `maintain` looks after them;
//! [`Stats`] and [`Times`] count. What threads agree on without a lock is in `closing` and
//! `idle::stack`, and proven in `tests/model.rs`.

mod buffers;
mod closing;
mod expiry;
mod gate;
mod idle;
mod lease;
mod maintain;
mod params;
mod pool;
mod stats;
mod sync;
mod times;

pub use crate::{
    buffers::{Buffer, BufferStats, Buffers},
    expiry::{Expiry, Usage},
    gate::{CheckoutError, Gate, GateParams, GateStats, Pass},
    idle::Idle,
    lease::Lease,
    maintain::Keeper,
    params::Params,
    pool::Pool,
    stats::{Closed, Reason, Stats},
    times::{Times, Timings},
};
