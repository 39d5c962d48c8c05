//! What all processes of one upstream have in common: how many there may be, whether the server
//! may be started, and what became of those that were.

mod crashes;
mod place;
mod spawn;

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tidegate_pool::{Gate, GateParams};
use tidegate_process::Spawner;
use tidegate_service::Tasks;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::crashes::Crashes;
pub(crate) use self::{
    crashes::{HEALTHY, Ordinal},
    place::{Ready, Start},
    spawn::Alive,
};
use crate::{
    child::Child,
    demux::{Mode, Need, Owner},
    params::{Params, Sharing},
    stats::{Counters, Down, Failure, Moved},
};

/// Shared by everything that belongs to one upstream.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) params: Arc<Params>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) tasks: Tasks,
    spawner: Spawner,
    /// The upstream stops: no process starts, and every process ends.
    pub(crate) closing: CancellationToken,
    /// How many processes there may be.
    pub(crate) gate: Gate,
    crashes: Mutex<Crashes>,
    /// The last start that failed, for those who ask why the server is down.
    failure: Mutex<Option<Failure>>,
    /// Every process that may still be there.
    roll: Mutex<Vec<Weak<Child>>>,
    /// The server has answered as a modern one.
    modern: AtomicBool,
    /// How a shared server first showed that it needs a client.
    needs: OnceLock<Moved>,
    last_owner: AtomicU64,
    /// How many processes are not reaped yet.
    alive: watch::Sender<usize>,
}

impl Host {
    pub(crate) fn new(params: Params, spawner: Spawner, tasks: Tasks) -> Self {
        let gate = Gate::new(GateParams {
            max: params.max_processes,
            max_waiting: params.max_waiting,
            acquire_timeout: params.acquire_timeout,
        });
        Self {
            closing: tasks.stopping().child_token(),
            counters: Arc::default(),
            tasks,
            spawner,
            gate,
            crashes: Mutex::new(Crashes::new(params.start_attempts, params.down_for)),
            failure: Mutex::default(),
            roll: Mutex::default(),
            modern: AtomicBool::new(false),
            needs: OnceLock::new(),
            last_owner: AtomicU64::new(0),
            alive: watch::channel(0).0,
            params: Arc::new(params),
        }
    }

    /// Nothing starts from now on, and every process ends.
    pub(crate) fn close(&self) {
        self.closing.cancel();
        self.gate.close();
    }

    /// Waits until every process has ended and was reaped.
    pub(crate) async fn all_ended(&self) {
        // It fails only without a sender, and this is one.
        drop(self.alive.subscribe().wait_for(|alive| *alive == 0).await);
    }

    /// Whether new sessions share a process now.
    pub(crate) fn shares(&self) -> bool {
        match self.params.sharing {
            Sharing::Session => false,
            Sharing::Shared => true,
            Sharing::Auto => self.needs.get().is_none(),
        }
    }

    /// Why sessions do not share a process any more, where they did.
    pub(crate) fn moved(&self) -> Option<Moved> {
        self.needs.get().copied().filter(|_| self.params.sharing == Sharing::Auto)
    }

    /// The server has shown that it needs a client. Where that is for us to decide, sessions get
    /// a process each from now on.
    pub(crate) fn needs_client(&self, need: Need) {
        let upstream = &self.params.name;
        let why = need.as_str();
        if self.needs.set(Moved::now(need)).is_err() {
            return;
        }
        if self.params.sharing == Sharing::Auto {
            self.counters.moves.increment();
            warn!(%upstream, why, "sessions get a process each from now on");
            // What it has in hand is finished; nothing new comes to it.
            for child in self.children() {
                if child.mode() == Mode::Common {
                    child.retire();
                }
            }
        } else {
            warn!(%upstream, why, "sessions share this server; try `sharing: session` or `auto`");
        }
    }

    /// Whether the server is known to be modern. Silence and death are how servers of the other era
    /// receive the first question; of such a one they are failures.
    pub(crate) fn is_modern(&self) -> bool {
        self.modern.load(Ordering::Relaxed)
    }

    /// The server has answered as a modern one.
    pub(crate) fn found_modern(&self) {
        self.modern.store(true, Ordering::Relaxed);
    }

    /// A number that tells a session from others on a shared process.
    pub(crate) fn new_owner(&self) -> Owner {
        Owner(self.last_owner.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The processes that are there, as far as is known.
    pub(crate) fn children(&self) -> Vec<Arc<Child>> {
        let mut children = Vec::new();
        self.roll.lock().retain(|child| match child.upgrade() {
            Some(child) => {
                children.push(child);
                true
            }
            None => false,
        });
        children
    }

    /// A process has answered its first request.
    pub(crate) fn answered(&self, start: Ordinal) {
        self.crashes.lock().answered(start);
    }

    /// A process has lived long enough to trust its server.
    pub(crate) fn lived_well(&self, start: Ordinal) {
        self.crashes.lock().lived_well(start);
    }

    /// A start was given up, or its process has ended in a way that says nothing about the server.
    pub(crate) fn abandoned(&self, start: Ordinal) {
        self.crashes.lock().abandoned(start, Instant::now());
    }

    /// A start has failed, or what it started has died young.
    pub(crate) fn failed(&self, start: Ordinal, failure: Failure) {
        let upstream = &self.params.name;
        self.counters.start_failures.increment();
        let mut crashes = self.crashes.lock();
        let was_down = crashes.down().is_some();
        crashes.failed(start, Instant::now(), rand::random());
        let (failures, is_down) = (crashes.failures(), crashes.down().is_some());
        drop(crashes);
        if is_down && !was_down {
            warn!(%upstream, failures, reason = failure.reason, "the server is down");
        }
        *self.failure.lock() = Some(failure);
    }

    /// Since when callers are turned away because starts keep failing, if so.
    pub(crate) fn down(&self) -> Option<Down> {
        self.crashes.lock().down()
    }

    /// The last start that failed.
    pub(crate) fn last_failure(&self) -> Option<Failure> {
        self.failure.lock().clone()
    }
}
