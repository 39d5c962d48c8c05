//! Whether a connection is in use, seen from both its ends: requests enter and leave, the byte
//! stream asks.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use tokio::time::{self, Instant};

use crate::params::Timeouts;

/// The requests that a connection is busy with.
#[derive(Debug)]
pub(crate) struct Activity {
    timeouts: Timeouts,
    in_flight: AtomicUsize,
    epoch: Instant,
    /// Milliseconds after the epoch at which the last request left.
    left: AtomicU64,
}

/// Proof that a request is under way, from its head to the end of its response's body.
#[derive(Debug)]
pub(crate) struct Entered(Arc<Activity>);

impl Activity {
    pub(crate) fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            in_flight: AtomicUsize::new(0),
            epoch: Instant::now(),
            left: AtomicU64::new(0),
        }
    }

    pub(crate) const fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    pub(crate) fn enter(self: &Arc<Self>) -> Entered {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Entered(Arc::clone(self))
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// When the last request left, or the connection was made.
    pub(crate) fn rests_since(&self) -> Instant {
        self.epoch + time::Duration::from_millis(self.left.load(Ordering::Relaxed))
    }

    /// Ends when no request has been under way for the keep-alive time.
    pub(crate) async fn idle(&self) {
        let keep_alive = self.timeouts.keep_alive;
        loop {
            let rested = self.rests_since().elapsed();
            if self.is_busy() {
                time::sleep(keep_alive).await;
            } else if rested >= keep_alive {
                return;
            } else {
                time::sleep(keep_alive.saturating_sub(rested)).await;
            }
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.left.store(now, Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
