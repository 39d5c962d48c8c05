//! The word between those who leave and the one who closes.
//!
//! Whoever leaves first puts down what they carry and then looks whether the place is closed.
//! Whoever closes first says so and then picks up what lies around. Both steps write the same word,
//! so one of the two comes first for everybody: either the closer sees what was put down, or the
//! one who leaves sees that nobody will pick it up later.

use crate::sync::{AtomicBool, Ordering};

/// Whether a place is closed; it never opens again.
#[derive(Debug)]
pub(crate) struct Closing(AtomicBool);

impl Closing {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Closes. What was put down before a [`Closing::look`] that saw nothing can be seen now.
    pub(crate) fn close(&self) {
        // A read as well as a write, or it would not be ordered after those who looked.
        let _was = self.0.swap(true, Ordering::AcqRel);
    }

    /// Whether it is closed, asked by somebody who has put something down.
    pub(crate) fn look(&self) -> bool {
        // A write as well as a read, so that it is ordered with the one in `close`.
        self.0.fetch_or(false, Ordering::AcqRel)
    }

    /// Whether it is closed, asked by somebody who has nothing at stake.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
