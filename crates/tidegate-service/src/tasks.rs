//! The only way to start a task.
//!
//! A task has a name, an owner who waits for it, and a stated meaning of failure. `tokio::spawn`
//! is banned by clippy; this module is what it points to.

use std::{future::Future, panic::AssertUnwindSafe};

use futures_util::FutureExt as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, warn};

use crate::Error;

/// What the owner wants to happen when a task returns an error or panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// Note it and go on.
    Log,
    /// Stop everything under this owner.
    Stop,
}

/// A group of tasks that ends as one. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Starts a task that the group waits for.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, as every spawn does.
    pub fn spawn<F>(&self, name: &'static str, on_error: OnError, task: F)
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let stop = self.stop.clone();
        // An adapter, because an async block would have room for the task twice: as it was handed
        // over and as it is awaited. There is a task for every connection.
        let watched = AssertUnwindSafe(task).catch_unwind().map(move |outcome| {
            match outcome {
                Ok(Ok(())) => return,
                Ok(Err(error)) => warn!(task = name, error = %error.chain(), "task failed"),
                // The payload was printed by the panic hook.
                Err(_) => error!(task = name, "task panicked"),
            }
            if on_error == OnError::Stop {
                error!(task = name, "stopping its group");
                stop.cancel();
            }
        });
        // The handle is not needed: the tracker is the owner.
        drop(self.tracker.spawn(watched));
    }

    /// The signal that every task in the group obeys.
    pub const fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Asks every task to stop and waits until all have.
    ///
    /// # Cancel safety
    ///
    /// The request to stop stands even if the wait is dropped; waiting again resumes it.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.wait().await;
    }

    /// Waits until every task has ended by itself.
    ///
    /// # Cancel safety
    ///
    /// Dropping the wait changes nothing; waiting again resumes it.
    pub async fn wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// The number of tasks that have not ended.
    pub fn alive(&self) -> usize {
        self.tracker.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{OnError, Tasks};
    use crate::{Error, Kind, Origin, Retry};

    #[tokio::test(start_paused = true)]
    async fn stop_waits_for_every_task() {
        let tasks = Tasks::default();
        for _ in 0..3 {
            let stopping = tasks.stopping().clone();
            tasks.spawn("waiter", OnError::Log, async move {
                stopping.cancelled().await;
                Ok(())
            });
        }
        assert_eq!(tasks.alive(), 3);
        tasks.stop().await;
        assert_eq!(tasks.alive(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_vital_task_that_fails_or_panics_stops_its_group() {
        for fails_by_panic in [false, true] {
            let tasks = Tasks::default();
            tasks.spawn("vital", OnError::Stop, async move {
                assert!(!fails_by_panic, "a panic on purpose");
                Err(Error::new(Kind::Internal, Origin::Gateway, Retry::Never, "on purpose"))
            });
            tasks.stopping().cancelled().await;
            tasks.stop().await;
            assert_eq!(tasks.alive(), 0);
        }
    }
}
