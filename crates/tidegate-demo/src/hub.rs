//! Who wants to hear that something changed.
//!
//! Owns the list of watchers. A watcher is called at once, on the thread of whoever made the
//! change, and must not block: it pushes into a bounded queue and has its own rule for a full one.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The list of tools.
    Tools,
    /// The list of prompts.
    Prompts,
    /// The content of the resource with this URI.
    Resource(&'static str),
}

impl Change {
    /// The notification that tells of it.
    pub(crate) const fn method(&self) -> &'static str {
        match self {
            Self::Tools => "notifications/tools/list_changed",
            Self::Prompts => "notifications/prompts/list_changed",
            Self::Resource(_) => "notifications/resources/updated",
        }
    }

    /// The URI of the resource that changed.
    pub(crate) const fn uri(&self) -> Option<&'static str> {
        match self {
            Self::Tools | Self::Prompts => None,
            Self::Resource(uri) => Some(uri),
        }
    }
}

type Watcher = Arc<dyn Fn(&Change) + Send + Sync>;

/// The watchers of one server.
#[derive(Clone, Default)]
pub(crate) struct Hub(Arc<Mutex<Watchers>>);

#[derive(Default)]
struct Watchers {
    next: u64,
    by_key: HashMap<u64, Watcher>,
}

impl Hub {
    /// Calls `watcher` for each change until the returned guard is dropped.
    pub(crate) fn watch(&self, watcher: impl Fn(&Change) + Send + Sync + 'static) -> Watching {
        let mut watchers = self.lock();
        let key = watchers.next;
        watchers.next += 1;
        watchers.by_key.insert(key, Arc::new(watcher));
        Watching { watchers: Arc::downgrade(&self.0), key }
    }

    /// Tells every watcher.
    pub(crate) fn publish(&self, change: &Change) {
        // Called outside the lock, so that a watcher may start or stop watching.
        let watchers: Vec<Watcher> = self.lock().by_key.values().cloned().collect();
        for watcher in watchers {
            watcher(change);
        }
    }

    /// How many are watching.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().by_key.len()
    }

    fn lock(&self) -> MutexGuard<'_, Watchers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("watchers", &self.lock().by_key.len()).finish()
    }
}

/// Keeps one watcher registered.
#[derive(Debug)]
pub(crate) struct Watching {
    watchers: Weak<Mutex<Watchers>>,
    key: u64,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let Some(watchers) = self.watchers.upgrade() else { return };
        let removed =
            watchers.lock().unwrap_or_else(PoisonError::into_inner).by_key.remove(&self.key);
        // The closure may own things whose drop takes locks: let it go outside this one.
        drop(removed);
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers").field("len", &self.by_key.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::{Change, Hub};

    #[test]
    fn a_watcher_hears_changes_until_its_guard_is_dropped() {
        let hub = Hub::default();
        let heard = Arc::new(AtomicUsize::new(0));
        let watching = hub.watch({
            let heard = Arc::clone(&heard);
            move |_| {
                heard.fetch_add(1, Ordering::Relaxed);
            }
        });
        hub.publish(&Change::Tools);
        drop(watching);
        hub.publish(&Change::Tools);
        assert_eq!((heard.load(Ordering::Relaxed), hub.len()), (1, 0));
    }
}
