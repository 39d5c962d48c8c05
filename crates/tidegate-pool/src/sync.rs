//! The atomics of what is proven by model checking.
//!
//! `tests/model.rs` compiles the same files beside a `sync` of its own, with loom's atomics. So the
//! proof needs no build flag and is about the very code that ships.

pub(crate) use std::sync::atomic::{AtomicBool, Ordering};
