//! The building blocks of what is proven by model checking.
//!
//! `tests/model.rs` compiles the same files beside a `sync` of its own, with those of loom. So the
//! proof needs no build flag and is about the very code that ships.

pub(crate) use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

pub(crate) use parking_lot::Mutex;
