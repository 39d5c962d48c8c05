//! The use of a process.

use std::sync::Arc;

use super::Child;

/// Dropping it gives the process up, which ends it.
#[derive(Debug)]
pub(crate) struct Lease {
    child: Arc<Child>,
    left: bool,
}

impl Lease {
    /// Takes over a process.
    pub(crate) const fn new(child: Arc<Child>) -> Self {
        Self { child, left: false }
    }

    pub(crate) const fn child(&self) -> &Arc<Child> {
        &self.child
    }

    /// Gives the process up, but lets it finish the calls that it has.
    pub(crate) fn leave(mut self) {
        self.left = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.left {
            self.child.retire();
        } else {
            self.child.release();
        }
    }
}
