//! The connections that calls share, and who makes the next one.
//!
//! A lease has its place in one connection for as long as it has anything, so the places in use are
//! the leases that are alive, and a connection takes no more of them than the server takes streams.
//! Who finds no place waits for a connection that somebody makes already, if it will have a place to
//! spare, and makes one otherwise; there are never more connections than leases.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};

use crate::link::{MAX_STREAMS, Shared};

/// Connections for one purpose, each kept by those who use it.
#[derive(Debug)]
pub(crate) struct Sharing {
    state: Mutex<State>,
    /// Told when somebody has made a connection, or has given up.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// Those that take more calls. The oldest come first and are filled first, so that the others
    /// can end when there is less to do.
    connections: Vec<Weak<Shared>>,
    /// How many are being made.
    dialing: usize,
    /// How many callers wait for one of those.
    waiting: usize,
    /// How many places the newest has, which the next will probably have too.
    places: usize,
}

/// What a caller does next.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// It has a place.
    Take(Arc<Shared>),
    /// It makes a connection.
    Dial(Turn<'a>),
    /// It asks again later.
    Wait(Wait<'a>),
}

/// The right to make a connection. Its end lets those go on who wait for it.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Sharing);

/// A place in line for a connection that somebody makes.
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    line: Line<'a>,
    changed: Notified<'a>,
}

#[derive(Debug)]
struct Line<'a>(&'a Sharing);

impl Sharing {
    pub(crate) const fn new() -> Self {
        let state = State { connections: Vec::new(), dialing: 0, waiting: 0, places: MAX_STREAMS };
        Self { state: Mutex::new(state), changed: Notify::const_new() }
    }

    /// Decides for a caller that has no connection.
    pub(crate) fn step(&self) -> Step<'_> {
        // Before the look, so that no change is missed.
        let changed = self.changed.notified();
        let mut state = self.state.lock();
        if let Some(shared) = state.find() {
            return Step::Take(shared);
        }
        // Whoever makes a connection takes the first of its places.
        if state.waiting < state.dialing * (state.places - 1) {
            state.waiting += 1;
            return Step::Wait(Wait { line: Line(self), changed });
        }
        state.dialing += 1;
        Step::Dial(Turn(self))
    }

    /// Offers a connection to others.
    pub(crate) fn add(&self, shared: &Arc<Shared>) {
        let mut state = self.state.lock();
        state.places = shared.places_when_new();
        state.connections.push(Arc::downgrade(shared));
    }
}

impl State {
    /// The first connection with a free place. Those that will never have one again are forgotten.
    fn find(&mut self) -> Option<Arc<Shared>> {
        let (mut found, now) = (None, Instant::now());
        self.connections.retain(|connection| {
            if found.is_some() {
                return true;
            }
            let Some(shared) = connection.upgrade() else { return false };
            let good = shared.is_open() && shared.expired(now).is_none();
            // Shares are only made here, under the lock, and this is one of them.
            if good && Arc::strong_count(&shared) <= shared.places() {
                shared.expect_call();
                found = Some(shared);
            }
            good
        });
        found
    }
}

impl Wait<'_> {
    /// Ready when it makes sense to ask again.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the line.
    pub(crate) async fn over(self) {
        let Self { line: _line, changed } = self;
        changed.await;
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.0.state.lock().waiting -= 1;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state.lock().dialing -= 1;
        self.0.changed.notify_waiters();
    }
}
