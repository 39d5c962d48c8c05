//! What a process takes in, and who waits until it takes in more.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Child, State};
use crate::demux::Opening;

/// Why a message was not taken in. None of it has been written.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The process is gone or going.
    Gone,
    /// It works on as much as it may.
    Full,
    /// It did not read its stdin for this long.
    Stuck(Duration),
}

/// Somebody who waits for room; counted so that their number is bounded.
#[derive(Debug)]
struct Waiting<'a>(&'a Child);

impl Child {
    /// Queues a request under an id from [`Self::mint`].
    ///
    /// # Cancel safety
    /// Until it returns, nothing was queued.
    pub(crate) async fn open(
        &self,
        id: u64,
        line: &[u8],
        opening: Opening,
        until: Instant,
    ) -> Result<(), Refused> {
        self.check_capacity()?;
        let max_calls = self.params.max_calls.filter(|_| opening.counts);
        let open = |state: &mut State| {
            if opening.counts {
                state.usage.used(opening.now);
            } else {
                state.usage.idle_since = opening.now;
            }
            state.demux.open(id, opening);
            state.queue.push(line);
            max_calls.is_some_and(|max| state.usage.uses >= max)
        };
        let spent = self.enqueue_while(|state| !state.retiring, line.len(), until, open).await?;
        if spent && self.retire() {
            self.counters.recycled_calls.increment();
        }
        Ok(())
    }

    /// Changes the state once there is room for a client's message of this length.
    ///
    /// # Cancel safety
    /// Until it returns, nothing was changed.
    pub(crate) async fn enqueue<R>(
        &self,
        length: usize,
        until: Instant,
        act: impl FnOnce(&mut State) -> R,
    ) -> Result<R, Refused> {
        self.enqueue_while(|_| true, length, until, act).await
    }

    /// The same for what is of no use any more once the process does not take it.
    async fn enqueue_while<R>(
        &self,
        takes: impl Fn(&State) -> bool,
        length: usize,
        until: Instant,
        act: impl FnOnce(&mut State) -> R,
    ) -> Result<R, Refused> {
        let mut act = Some(act);
        if let Some(done) = self.try_enqueue(&takes, length, &mut act)? {
            return Ok(done);
        }
        let started = Instant::now();
        let _waiting = Waiting::start(self)?;
        loop {
            // Made before the look, so that room that comes after the look is noticed.
            let room = self.room.notified();
            if let Some(done) = self.try_enqueue(&takes, length, &mut act)? {
                return Ok(done);
            }
            if timeout_at(until, room).await.is_err() {
                return Err(Refused::Stuck(Instant::now() - started));
            }
        }
    }

    /// Refuses a request if there are too many. Other messages pass: they may be what the requests
    /// in flight wait for.
    fn check_capacity(&self) -> Result<(), Refused> {
        let state = self.state.lock();
        if state.retiring || state.is_gone() {
            Err(Refused::Gone)
        } else if state.demux.in_flight() + state.waiting >= self.params.max_in_flight {
            Err(Refused::Full)
        } else {
            Ok(())
        }
    }

    fn try_enqueue<R>(
        &self,
        takes: impl Fn(&State) -> bool,
        length: usize,
        act: &mut Option<impl FnOnce(&mut State) -> R>,
    ) -> Result<Option<R>, Refused> {
        let mut state = self.state.lock();
        if state.is_gone() || !takes(&state) {
            return Err(Refused::Gone);
        }
        if !state.queue.has_room(length) {
            return Ok(None);
        }
        let done = act.take().map(|act| act(&mut state));
        let resumes = state.resumes();
        drop(state);
        self.work.notify_one();
        if resumes {
            self.resume.notify_one();
        }
        Ok(done)
    }
}

impl<'a> Waiting<'a> {
    fn start(child: &'a Child) -> Result<Self, Refused> {
        let mut state = child.state.lock();
        if state.waiting >= child.params.max_in_flight {
            return Err(Refused::Full);
        }
        state.waiting += 1;
        Ok(Self(child))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state.lock().waiting -= 1;
    }
}
