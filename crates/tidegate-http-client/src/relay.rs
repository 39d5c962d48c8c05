//! Waking the task that uses a connection, and only when there is something new.
//!
//! A connection and its user are polled by the same task, one after the other. Each wakes the other
//! through channels inside hyper, and to the runtime that looks like news: the task, with the whole
//! stack above it, would be polled again for nothing, up to three times per call. And a connection
//! that was idle would wake the task that used it last. So the connection gets a waker of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// Passes wakes on to the current user, except those that arrive while it polls anyway.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    task: AtomicWaker,
    polling: AtomicBool,
    woken: AtomicBool,
}

impl Relay {
    /// From now on wakes go to `waker`.
    pub(crate) fn watch(&self, waker: &Waker) {
        self.task.register(waker);
    }

    /// From now on wakes go nowhere.
    pub(crate) fn forget(&self) {
        drop(self.task.take());
    }

    /// Begins to hold wakes back.
    pub(crate) fn begin(&self) {
        self.woken.store(false, SeqCst);
        self.polling.store(true, SeqCst);
    }

    /// Ends holding wakes back; whether there was one, which the caller must act on.
    pub(crate) fn end(&self) -> bool {
        // A wake from another thread either sees this, and goes through, or is seen below.
        self.polling.store(false, SeqCst);
        self.woken.load(SeqCst)
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, SeqCst);
        if !self.polling.load(SeqCst) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        task::{Wake, Waker},
    };

    use super::Relay;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn a_wake_is_passed_on_or_reported_but_never_both_or_lost() {
        let (relay, count) = (Arc::new(Relay::default()), Arc::new(Count::default()));
        let (waker, task) = (Waker::from(Arc::clone(&relay)), Waker::from(Arc::clone(&count)));
        relay.watch(&task);
        relay.begin();
        waker.wake_by_ref();
        assert!(relay.end(), "held back, hence reported");
        assert_eq!(count.0.load(SeqCst), 0);
        waker.wake_by_ref();
        assert_eq!(count.0.load(SeqCst), 1);
        relay.begin();
        assert!(!relay.end(), "an old wake is no news");
        relay.watch(&task);
        relay.forget();
        waker.wake_by_ref();
        assert_eq!(count.0.load(SeqCst), 1, "nobody is there to be woken");
    }
}
