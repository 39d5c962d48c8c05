//! The sessions that are open, in memory.
//!
//! Bounded by `max_sessions`; when full, new sessions are refused rather than old ones dropped.
//! Time comes in from outside: [`Store::sweep`] is told what time it is.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use tidegate_protocol::Era;
use tidegate_service::{Call, Cx, Operation, Session, Upstream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tracing::debug;

/// How long an upstream may take to see a session out that the proxy ends. Nobody waits for what it
/// says, but the end of others does, and so does a stop.
const FAREWELL: Duration = Duration::from_secs(5);

/// How many sessions, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct StoreParams {
    /// The most sessions open at once, being opened included.
    pub max_sessions: usize,
    /// How long a session may go unused before it is ended. Calls and streams count as use.
    pub idle: Duration,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// The client deleted it.
    Client,
    /// Nobody used it for too long.
    Idle,
    /// The upstream's side of it is gone.
    Upstream,
    /// The proxy stopped.
    Shutdown,
}

/// What the store counts. Totals never shrink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions open now.
    pub open: usize,
    /// Sessions ever opened.
    pub created: u64,
    /// Sessions refused because the store was full.
    pub refused: u64,
    /// Sessions ended by the client.
    pub ended_by_client: u64,
    /// Sessions ended for lack of use.
    pub ended_idle: u64,
    /// Sessions whose upstream went away.
    pub ended_by_upstream: u64,
    /// Sessions ended by shutdown.
    pub ended_by_shutdown: u64,
}

/// The open sessions. Clones share them.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    params: StoreParams,
    places: Arc<Semaphore>,
    open: RwLock<HashMap<Box<str>, Arc<Entry>>>,
    epoch: Instant,
    created: AtomicU64,
    refused: AtomicU64,
    ended: [AtomicU64; 4],
}

struct Entry {
    session: Session,
    route: Arc<str>,
    /// Where the upstream is told that the session is over.
    upstream: Upstream,
    /// Milliseconds after the store's epoch.
    last_used: AtomicU64,
    _place: OwnedSemaphorePermit,
}

impl Store {
    /// An empty store.
    pub fn new(params: StoreParams) -> Self {
        Self(Arc::new(Inner {
            params,
            places: Arc::new(Semaphore::new(params.max_sessions)),
            open: RwLock::default(),
            epoch: Instant::now(),
            created: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            ended: Default::default(),
        }))
    }

    /// Takes a place for a session that is about to be opened, if there is one.
    pub(crate) fn reserve(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.0.places).try_acquire_owned().ok();
        if place.is_none() {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
        }
        place
    }

    /// Adds a session that its upstream accepted.
    pub(crate) fn insert(
        &self,
        session: Session,
        route: Arc<str>,
        upstream: Upstream,
        place: OwnedSemaphorePermit,
    ) {
        let id = session.id().into();
        let last_used = AtomicU64::new(self.millis(Instant::now()));
        let entry = Arc::new(Entry { session, route, upstream, last_used, _place: place });
        self.0.created.fetch_add(1, Ordering::Relaxed);
        self.0.open.write().insert(id, entry);
    }

    /// Finds an open session of this route. One whose upstream has gone is removed on the way.
    pub(crate) fn find(&self, id: &str, route: &str) -> Option<Session> {
        let entry = self.0.open.read().get(id).map(Arc::clone)?;
        if &*entry.route != route {
            return None;
        }
        if entry.session.is_ended() {
            self.remove(id, EndCause::Upstream);
            return None;
        }
        entry.last_used.store(self.millis(Instant::now()), Ordering::Relaxed);
        Some(entry.session.clone())
    }

    /// Takes a session out and marks it ended. `false` if it was not there.
    pub(crate) fn remove(&self, id: &str, cause: EndCause) -> bool {
        let removed = self.0.open.write().remove(id);
        if let Some(entry) = &removed {
            self.count(cause);
            entry.session.end();
        }
        removed.is_some()
    }

    /// Ends what has gone unused too long at `now`, and forgets what its upstream ended. What is in
    /// use then counts as used then; so sweep many times within the idle time.
    /// Returns how many sessions went.
    ///
    /// # Cancel safety
    ///
    /// Sessions are out of the store before their upstreams are told. If the wait is dropped, the
    /// remaining upstreams learn it by the drop of the session.
    pub async fn sweep(&self, now: Instant) -> usize {
        let now = self.millis(now);
        let idle = u64::try_from(self.0.params.idle.as_millis()).unwrap_or(u64::MAX);
        let mut over = Vec::new();
        self.0.open.write().retain(|_, entry| {
            if entry.session.in_use() > 0 {
                // The end of a call or stream leaves no mark of its own; that it was seen here
                // does.
                entry.last_used.store(now, Ordering::Relaxed);
            }
            let unused = now.saturating_sub(entry.last_used.load(Ordering::Relaxed));
            let cause = if entry.session.is_ended() {
                EndCause::Upstream
            } else if unused >= idle {
                EndCause::Idle
            } else {
                return true;
            };
            over.push((Arc::clone(entry), cause));
            false
        });
        let count = over.len();
        self.finish(over).await;
        count
    }

    /// Ends every session.
    ///
    /// # Cancel safety
    ///
    /// As for [`Store::sweep`].
    pub async fn end_all(&self) {
        let all = std::mem::take(&mut *self.0.open.write());
        self.finish(all.into_values().map(|entry| (entry, EndCause::Shutdown)).collect()).await;
    }

    /// The counters now.
    pub fn stats(&self) -> Stats {
        let [client, idle, upstream, shutdown] =
            self.0.ended.each_ref().map(|count| count.load(Ordering::Relaxed));
        Stats {
            open: self.0.open.read().len(),
            created: self.0.created.load(Ordering::Relaxed),
            refused: self.0.refused.load(Ordering::Relaxed),
            ended_by_client: client,
            ended_idle: idle,
            ended_by_upstream: upstream,
            ended_by_shutdown: shutdown,
        }
    }

    async fn finish(&self, over: Vec<(Arc<Entry>, EndCause)>) {
        let told = over.into_iter().map(|(entry, cause)| {
            self.count(cause);
            async move {
                let mut cx = Cx::new(Era::Legacy);
                cx.version = entry.session.version();
                cx.session = Some(entry.session.clone());
                let call = Call { operation: Operation::EndSession, cx };
                match timeout(FAREWELL, entry.upstream.answer(call)).await {
                    Ok(Ok(_)) => (),
                    Ok(Err(error)) => {
                        debug!(session = ?entry.session, error = %error.chain(), "not ended upstream");
                    }
                    Err(_elapsed) => {
                        debug!(session = ?entry.session, "the upstream did not answer its end");
                    }
                }
                entry.session.end();
            }
        });
        futures_util::future::join_all(told).await;
    }

    fn count(&self, cause: EndCause) {
        let [client, idle, upstream, shutdown] = &self.0.ended;
        let counter = match cause {
            EndCause::Client => client,
            EndCause::Idle => idle,
            EndCause::Upstream => upstream,
            EndCause::Shutdown => shutdown,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.0.epoch).as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.stats()).finish()
    }
}
