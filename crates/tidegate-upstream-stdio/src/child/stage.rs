//! What a process is doing, counted for all processes of an upstream.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::stats::Counters;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Starting,
    Spare,
    Serving,
    Stopping,
    /// Reaped; counted no more.
    Gone,
}

/// The stage of one process. Counts it from its beginning to the drop.
#[derive(Debug)]
pub(super) struct Staged {
    counters: Arc<Counters>,
    index: AtomicUsize,
}

impl Staged {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        let staged = Self { counters, index: AtomicUsize::new(Stage::Starting.index()) };
        staged.count(Stage::Starting.index(), 1);
        staged
    }

    /// Moves on. What is ending does not come back.
    pub(super) fn enter(&self, stage: Stage) {
        let next = stage.index();
        let ending = Stage::Stopping.index();
        let forward = |index| (next > index || index < ending && next != index).then_some(next);
        if let Ok(before) = self.index.fetch_update(Ordering::Relaxed, Ordering::Relaxed, forward) {
            self.count(next, 1);
            self.count(before, -1);
        }
    }

    fn count(&self, index: usize, change: isize) {
        if let Some(count) = self.counters.states.get(index) {
            count.fetch_add(change.cast_unsigned(), Ordering::Relaxed);
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let index = *self.index.get_mut();
        self.count(index, -1);
    }
}

impl Stage {
    const fn index(self) -> usize {
        match self {
            Self::Starting => 0,
            Self::Spare => 1,
            Self::Serving => 2,
            Self::Stopping => 3,
            Self::Gone => 4,
        }
    }
}
