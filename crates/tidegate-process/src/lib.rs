//! A child process whose whole tree is owned: nothing below it outlives it.
//!
//! [`Spawner`] starts a process in a group of its own, with nothing inherited. The [`Process`] that
//! it returns is the tree: dropping it kills the process, its group, everything that descends from
//! it, and what has left both but carries its cookie; and reaps. If we are killed, the system kills
//! the process. The crate knows nothing of ours: no protocol, no configuration, no metrics.
//!
//! ```
//! use tidegate_process::{Spawner, Spec};
//! use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let spawner = Spawner::new();
//! let (mut process, mut pipes) = spawner.spawn(&Spec::new("cat")).await?;
//! pipes.stdin.write_all(b"hello").await?;
//! drop(pipes.stdin);
//!
//! let mut answer = String::new();
//! pipes.stdout.read_to_string(&mut answer).await?;
//! assert_eq!(answer, "hello");
//! assert!(process.wait().await?.success());
//!
//! drop(process);
//! spawner.settled().await;
//! assert_eq!(spawner.stats().running, 0);
//! # Ok(()) }
//! ```
//!
//! The map: [`Spec`] says what to start, [`Spawner`] starts it, [`Process`] owns it. Behind them
//! are two threads: `forker` forks, since children die with the thread that forked them, and
//! `keeper` watches, kills and reaps. `tree` holds what may be done to a leader and until when;
//! `table` tells which tree a process belongs to, `cookie` is how that is recognized, `chase` says
//! when to look again. `ledger` is what the next start reads if we are killed; `strays` adopts
//! orphans and `ownerless` says which of them nobody can claim.
//!
//! Only Linux has all of it. Elsewhere the group is killed, and what leaves it escapes.

mod chase;
mod clock;
mod cookie;
mod desk;
mod forker;
mod keeper;
mod ledger;
mod ownerless;
mod proc;
mod process;
mod registry;
mod shared;
mod spawner;
mod spec;
mod stats;
mod strays;
mod table;
mod target;
mod tree;
mod usage;

pub use crate::{
    ledger::Recovered,
    process::{Pipes, Process},
    spawner::Spawner,
    spec::{Limits, Spec},
    stats::Stats,
    usage::Usage,
};
