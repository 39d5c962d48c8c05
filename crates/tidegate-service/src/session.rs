//! A legacy session, as the layers share it.
//!
//! The store in `tidegate-session` owns sessions; upstreams hang their own state (a child process,
//! the upstream's session id) on them with [`Session::bind`]. When the last handle is gone the
//! binding is dropped, and with it whatever the upstream kept for the session.

use std::{
    any::Any,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use tidegate_protocol::Version;
use tokio_util::sync::CancellationToken;

/// A handle to one legacy session. Clones share it.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    id: Box<str>,
    version: OnceLock<Version>,
    binding: OnceLock<Arc<dyn Any + Send + Sync>>,
    journal: OnceLock<Arc<dyn Any + Send + Sync>>,
    in_use: AtomicUsize,
    ended: CancellationToken,
}

/// Proof that somebody is using a session; while one exists the session does not expire.
#[derive(Debug)]
pub struct SessionUse(Session);

impl Session {
    /// Makes a session with the id that the client will see.
    pub fn new(id: impl Into<Box<str>>) -> Self {
        Self(Arc::new(Inner {
            id: id.into(),
            version: OnceLock::new(),
            binding: OnceLock::new(),
            journal: OnceLock::new(),
            in_use: AtomicUsize::new(0),
            ended: CancellationToken::new(),
        }))
    }

    /// The id that the client sees. A secret of sorts: it never goes into logs whole.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The version that `initialize` agreed on, once known.
    pub fn version(&self) -> Option<Version> {
        self.0.version.get().copied()
    }

    /// Notes the negotiated version. The first one stands.
    pub fn negotiated(&self, version: Version) {
        self.0.version.get_or_init(|| version);
    }

    /// Hangs an upstream's state on the session. Returns `false` if there is some already.
    pub fn bind<T: Any + Send + Sync>(&self, state: Arc<T>) -> bool {
        self.0.binding.set(state).is_ok()
    }

    /// The upstream's state, if it was bound and is of this type.
    pub fn binding<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.0.binding.get().and_then(|state| Arc::clone(state).downcast().ok())
    }

    /// Whether the upstream's state is of this type.
    pub fn is_bound_to<T: Any>(&self) -> bool {
        self.0.binding.get().is_some_and(|state| (**state).is::<T>())
    }

    /// Whether an upstream keeps state for this session.
    pub fn is_bound(&self) -> bool {
        self.0.binding.get().is_some()
    }

    /// What the proxy itself keeps of the session's streams, made at its first use; `None` if that
    /// is something of another type.
    pub fn journal<T: Any + Send + Sync>(&self, make: impl FnOnce() -> Arc<T>) -> Option<Arc<T>> {
        Arc::clone(self.0.journal.get_or_init(|| make())).downcast().ok()
    }

    /// Marks the session as used until the proof is dropped.
    pub fn enter(&self) -> SessionUse {
        self.0.in_use.fetch_add(1, Ordering::Relaxed);
        SessionUse(self.clone())
    }

    /// How many calls and streams use the session now.
    pub fn in_use(&self) -> usize {
        self.0.in_use.load(Ordering::Relaxed)
    }

    /// Ends the session: calls are refused from now on, and its streams close.
    pub fn end(&self) {
        self.0.ended.cancel();
    }

    /// Whether the session has ended.
    pub fn is_ended(&self) -> bool {
        self.0.ended.is_cancelled()
    }

    /// The signal that the session has ended.
    pub fn ended(&self) -> &CancellationToken {
        &self.0.ended
    }
}

impl Drop for SessionUse {
    fn drop(&mut self) {
        self.0.0.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Enough of the id to find it in a log, too little to use it.
        let prefix = self.0.id.get(..6).unwrap_or_default();
        f.debug_struct("Session")
            .field("id", &format_args!("{prefix}…"))
            .field("version", &self.version())
            .field("bound", &self.is_bound())
            .field("ended", &self.is_ended())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Session;

    #[test]
    fn the_binding_is_dropped_with_the_last_handle() {
        let session = Session::new("abcdefgh");
        let state = Arc::new(7_u32);
        let weak = Arc::downgrade(&state);
        assert!(session.bind(state));
        assert!(!session.bind(Arc::new(8_u32)), "the first binding stands");
        assert_eq!(session.binding::<u32>().as_deref(), Some(&7));
        assert!(session.binding::<u8>().is_none());
        assert!(session.is_bound_to::<u32>() && !session.is_bound_to::<u8>());
        let other = session.clone();
        drop(session);
        assert!(weak.upgrade().is_some());
        drop(other);
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn the_journal_is_made_once_and_is_not_the_binding() {
        let session = Session::new("abcdefgh");
        let first = session.journal(|| Arc::new(1_u32)).unwrap();
        let second = session.clone().journal(|| Arc::new(2_u32)).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert!(session.journal(|| Arc::new(3_u8)).is_none());
        assert!(!session.is_bound());
    }

    #[test]
    fn uses_are_counted_and_debug_hides_the_id() {
        let session = Session::new("0123456789abcdef");
        let one = session.enter();
        let two = session.enter();
        assert_eq!(session.in_use(), 2);
        drop((one, two));
        assert_eq!(session.in_use(), 0);
        assert!(!format!("{session:?}").contains("0123456789"));
    }
}
