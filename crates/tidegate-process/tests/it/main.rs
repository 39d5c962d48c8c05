//! What happens to processes and their trees, with real ones.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hang;
mod ledger;
mod limits;
mod rig;
mod spawn;
mod tree;
