//! Processes kept ready, so that a session does not wait for a start.
//!
//! A legacy handshake freezes who the client is and what it can do, so a greeted process serves
//! only a client that says the same. Spares are therefore greeted as the latest clients were; before
//! any client came they are started and not greeted. They never take a place that somebody waits
//! for.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tidegate_protocol::{Bytes, Envelope, Id, Kind as MessageKind, rpc};
use tidegate_service::Error;
use tokio::{
    sync::Notify,
    time::{self, Instant, timeout},
};
use tracing::debug;

use crate::{
    child::{Lease, Stage},
    demux::Mode,
    host::{Host, Ready, Start},
    legacy::greet,
    params::Sharing,
};

/// How many kinds of clients are remembered.
const MAX_PROFILES: usize = 8;

/// The longest time between two looks at the spares.
const LOOK: Duration = Duration::from_secs(1);

/// The spares of one upstream.
#[derive(Debug)]
pub(crate) struct Spares {
    pub(crate) host: Arc<Host>,
    state: Mutex<State>,
    /// One is missing, as far as somebody has noticed.
    wanted: Arc<Notify>,
    /// Somebody needs the place of the one that is being made.
    needed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The oldest first.
    ready: Vec<Spare>,
    /// What clients said of themselves, the latest first.
    profiles: Vec<Profile>,
    /// How many are being started or greeted.
    making: usize,
}

#[derive(Debug)]
struct Spare {
    lease: Lease,
    greeted: Option<Greeted>,
}

/// What a spare was told and what it said.
#[derive(Debug)]
struct Greeted {
    profile: Profile,
    answer: Envelope,
}

/// The parameters of a client's handshake, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Profile(Bytes);

/// A spare for a session.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) lease: Lease,
    /// What it said to the same handshake; `None` if it was not greeted yet.
    pub(crate) answer: Option<Envelope>,
}

/// A spare in the making; counted until it is dropped.
struct Making<'a>(&'a Spares);

impl Spares {
    pub(crate) fn new(host: Arc<Host>) -> Self {
        Self { host, state: Mutex::default(), wanted: Arc::default(), needed: Notify::new() }
    }

    /// Takes a spare for a client with this handshake, and remembers the client.
    pub(crate) fn take(&self, request: &Envelope) -> Option<Taken> {
        let most = self.most();
        if most == 0 {
            return None;
        }
        let profile = Profile::of(request);
        let mut state = self.state.lock();
        state.remember(&profile);
        let taken = state.take(&profile);
        // All are for others: the oldest makes way for one like this.
        let unfit = taken.is_none() && state.ready.len() >= most;
        let displaced = unfit.then(|| state.ready.remove(0));
        drop(state);
        self.displace(displaced);
        self.wanted.notify_one();
        taken
    }

    /// Takes a place in the order of arrival. A spare makes way if there is no other.
    ///
    /// # Errors
    /// When none comes free in time.
    ///
    /// # Cancel safety
    /// Dropping the wait leaves the queue.
    pub(crate) async fn place<'a>(
        &'a self,
        ready: Ready<'a>,
        until: Option<Instant>,
    ) -> Result<Start<'a>, Error> {
        if let Some(pass) = self.host.gate.try_enter() {
            return Ok(ready.with(&self.host, pass));
        }
        self.make_way();
        self.host.place(ready, until).await
    }

    /// Ends all spares.
    pub(crate) fn clear(&self) {
        let ready = std::mem::take(&mut self.state.lock().ready);
        drop(ready);
    }

    /// Signals that a spare may be missing.
    pub(crate) const fn wanted(&self) -> &Arc<Notify> {
        &self.wanted
    }

    /// Starts and greets what is missing.
    ///
    /// # Cancel safety
    /// What was started is ended if this is dropped.
    pub(crate) async fn fill(&self) {
        self.prune();
        while let Some(lease) = self.start().await {
            if !self.greet(lease).await {
                return;
            }
        }
        while let Some(lease) = self.ungreeted() {
            if !self.greet(lease).await {
                return;
            }
        }
    }

    /// How many there shall be now.
    fn most(&self) -> usize {
        // Sessions that share a process have no use for one of their own.
        let none = self.host.params.sharing == Sharing::Shared || self.host.shares();
        if none { 0 } else { usize::try_from(self.host.params.min_idle).unwrap_or(usize::MAX) }
    }

    fn is_missing_one(&self) -> bool {
        let state = self.state.lock();
        state.ready.len() + state.making < self.most()
    }

    /// A new process, if one is missing and there is room for it at once.
    async fn start(&self) -> Option<Lease> {
        if !self.is_missing_one() || self.host.closing.is_cancelled() {
            return None;
        }
        let ready = self.host.ready_now()?;
        let pass = self.host.gate.try_enter()?;
        match ready.with(&self.host, pass).spawn(Mode::Session, None).await {
            Ok(lease) => Some(lease),
            Err(error) => {
                debug!(error = %error.chain(), "no spare process");
                None
            }
        }
    }

    /// Makes a started process ready. `false` if that failed, and would fail again, or somebody
    /// needed its place first.
    async fn greet(&self, lease: Lease) -> bool {
        // Made before it can be seen that there is one.
        let needed = self.needed.notified();
        let _making = Making::begin(self);
        let profile = self.state.lock().most_wanted();
        let Some(profile) = profile else {
            // It was asked nothing, and says nothing about a server that is down.
            self.host.abandoned(lease.child().ordinal);
            self.keep(Spare { lease, greeted: None });
            return true;
        };
        let Some(request) = profile.request() else { return false };
        // Whoever came to wait meanwhile could not see it.
        let missed = self.host.gate.stats().waiting > 0;
        let limit = self.host.params.start_timeout;
        let greeting = timeout(limit, greet(lease.child(), &request, Id::from_u64(0), limit));
        let displaced = async {
            if !missed {
                needed.await;
            }
        };
        let greeted = tokio::select! {
            biased;
            () = displaced => None,
            greeted = greeting => Some(greeted),
        };
        match greeted {
            None => {
                self.host.counters.recycled_displaced.increment();
                false
            }
            Some(Ok(Ok(answer))) if answer.kind() == MessageKind::Response => {
                self.keep(Spare { lease, greeted: Some(Greeted { profile, answer }) });
                true
            }
            // The server does not like such clients; each will hear it for itself.
            Some(Ok(Ok(_))) => {
                self.state.lock().profiles.retain(|other| *other != profile);
                false
            }
            Some(Ok(Err(error))) => {
                debug!(error = %error.chain(), "no spare process");
                false
            }
            Some(Err(_elapsed)) => {
                lease.child().blame();
                false
            }
        }
    }

    fn keep(&self, spare: Spare) {
        spare.lease.child().enter(Stage::Spare);
        self.state.lock().ready.push(spare);
        // Whoever came to wait meanwhile could not see it.
        if self.host.gate.stats().waiting > 0 {
            self.make_way();
        }
    }

    /// A process that was started before anybody knew how to greet it.
    fn ungreeted(&self) -> Option<Lease> {
        let mut state = self.state.lock();
        state.profiles.first()?;
        let at = state.ready.iter().position(|spare| spare.greeted.is_none())?;
        Some(state.ready.remove(at).lease)
    }

    /// Ends the oldest spare for somebody who needs its place, or the one that is being made.
    fn make_way(&self) {
        let mut state = self.state.lock();
        let oldest = (!state.ready.is_empty()).then(|| state.ready.remove(0));
        drop(state);
        if oldest.is_none() {
            // It is lost on all but the one that is being made.
            self.needed.notify_waiters();
        }
        self.displace(oldest);
    }

    fn displace(&self, spare: Option<Spare>) {
        if let Some(spare) = spare {
            self.host.counters.recycled_displaced.increment();
            drop(spare);
        }
    }

    /// Forgets spares that cannot be used any more, and those beyond what there shall be.
    fn prune(&self) {
        let most = self.most();
        let mut gone = Vec::new();
        let mut state = self.state.lock();
        let (up, down) = state.ready.drain(..).partition(|spare| spare.lease.child().is_up());
        state.ready = up;
        gone.extend::<Vec<Spare>>(down);
        let surplus = state.ready.len().saturating_sub(most);
        gone.extend(state.ready.drain(..surplus));
        drop(state);
        drop(gone);
    }
}

impl State {
    fn remember(&mut self, profile: &Profile) {
        self.profiles.retain(|other| other != profile);
        self.profiles.truncate(MAX_PROFILES - 1);
        self.profiles.insert(0, profile.clone());
    }

    /// The latest kind of client that no spare is for, or else the latest of all.
    fn most_wanted(&self) -> Option<Profile> {
        let served = |profile: &&Profile| {
            let mut greeted = self.ready.iter().filter_map(|spare| spare.greeted.as_ref());
            greeted.any(|greeted| greeted.profile == **profile)
        };
        let missing = self.profiles.iter().find(|profile| !served(profile));
        missing.or_else(|| self.profiles.first()).cloned()
    }

    fn take(&mut self, profile: &Profile) -> Option<Taken> {
        self.ready.retain(|spare| spare.lease.child().is_up());
        let fits = |spare: &Spare| match &spare.greeted {
            Some(greeted) => greeted.profile == *profile,
            None => false,
        };
        let fitting = self.ready.iter().position(fits);
        let at = fitting.or_else(|| self.ready.iter().position(|spare| spare.greeted.is_none()))?;
        let Spare { lease, greeted } = self.ready.remove(at);
        Some(Taken { lease, answer: greeted.map(|greeted| greeted.answer) })
    }
}

impl Profile {
    fn of(request: &Envelope) -> Self {
        // A copy, because the request may stand in a large buffer.
        Self(Bytes::copy_from_slice(request.params().unwrap_or_default()))
    }

    fn request(&self) -> Option<Envelope> {
        let params = std::str::from_utf8(&self.0).ok()?;
        Envelope::parse(rpc::request(&Id::from_u64(0), "initialize", params)).ok()
    }
}

impl<'a> Making<'a> {
    fn begin(spares: &'a Spares) -> Self {
        spares.state.lock().making += 1;
        Self(spares)
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.state.lock().making -= 1;
    }
}

/// Keeps spares ready until the upstream stops or is gone.
pub(crate) async fn keep(spares: Weak<Spares>, wanted: Arc<Notify>) {
    let Some(closing) = spares.upgrade().map(|spares| spares.host.closing.clone()) else { return };
    loop {
        let Some(present) = spares.upgrade() else { return };
        tokio::select! {
            () = present.fill() => (),
            () = closing.cancelled() => return,
        }
        drop(present);
        tokio::select! {
            () = wanted.notified() => (),
            () = time::sleep(LOOK) => (),
            () = closing.cancelled() => return,
        }
    }
}
