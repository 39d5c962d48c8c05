//! The way to a process: may the server be started, and is there a place for one more?

use std::{fmt, sync::Arc};

use tidegate_pool::{CheckoutError, Pass};
use tidegate_service::{Error, Kind, Origin, Retry};
use tokio::time::{Instant, sleep_until};

use super::{
    Host,
    crashes::{Next, Ordinal},
};
use crate::{child::Lease, demux::Mode, exchange::waited};

/// Permission to start one process. Dropped unused, it says so.
pub(crate) struct Start<'a> {
    host: &'a Arc<Host>,
    ordinal: Ordinal,
    pass: Option<Pass>,
}

/// The permission to try a server, before there is a place.
pub(crate) struct Ready<'a> {
    /// `None` once there is a place.
    host: Option<&'a Host>,
    ordinal: Ordinal,
}

impl Host {
    /// Waits until the server may be started, at most until then.
    ///
    /// # Errors
    /// When the server is down, or stays unready for too long.
    ///
    /// # Cancel safety
    /// Dropping the wait leaves no trace.
    pub(crate) async fn ready(&self, until: Instant) -> Result<Ready<'_>, Error> {
        loop {
            let next = self.crashes.lock().next(Instant::now());
            match next {
                Next::Start(ordinal) => return Ok(Ready { host: Some(self), ordinal }),
                Next::Wait(moment) if moment <= until => {
                    tokio::select! {
                        () = sleep_until(moment) => (),
                        () = self.closing.cancelled() => return Err(self.draining()),
                    }
                }
                Next::Wait(_) | Next::Down(_) => return Err(self.turned_away(next)),
            }
        }
    }

    /// The permission to start the server, if there is no reason to wait.
    pub(crate) fn ready_now(&self) -> Option<Ready<'_>> {
        let next = self.crashes.lock().next(Instant::now());
        match next {
            Next::Start(ordinal) => Some(Ready { host: Some(self), ordinal }),
            Next::Wait(_) | Next::Down(_) => None,
        }
    }

    /// Takes a place in the order of arrival.
    ///
    /// # Errors
    /// When none comes free in time.
    ///
    /// # Cancel safety
    /// Dropping the wait leaves the queue.
    pub(crate) async fn place<'a>(
        self: &'a Arc<Self>,
        ready: Ready<'a>,
        until: Option<Instant>,
    ) -> Result<Start<'a>, Error> {
        let pass = self.gate.enter(until).await.map_err(|error| self.unplaced(error))?;
        Ok(ready.with(self, pass))
    }

    /// What a caller is told for whom there is no place.
    pub(crate) fn unplaced(&self, error: CheckoutError) -> Error {
        let max = self.params.max_processes;
        let error = match error {
            CheckoutError::Closed => return self.draining(),
            CheckoutError::QueueFull => {
                let waiting = self.params.max_waiting;
                let message = format!(
                    "all {max} processes of the server are in use and {waiting} callers wait already"
                );
                Error::new(Kind::PoolExhausted, Origin::Gateway, Retry::NotSent, message)
            }
            CheckoutError::TimedOut { waited: time } => {
                let what = format!("for one of the server's {max} processes to come free");
                let message = waited(time, &what);
                Error::new(Kind::PoolExhausted, Origin::Gateway, Retry::NotSent, message)
            }
        };
        error.at(&self.params.name)
    }

    /// What a caller is told while the proxy stops.
    pub(crate) fn draining(&self) -> Error {
        let message = "the proxy is shutting down";
        Error::new(Kind::Draining, Origin::Gateway, Retry::NotSent, message).at(&self.params.name)
    }

    /// What a caller is told for whom no start is made.
    fn turned_away(&self, next: Next) -> Error {
        let failures = self.crashes.lock().failures();
        let again = match next {
            Next::Down(Some(until)) | Next::Wait(until) => {
                let seconds = (until - Instant::now()).as_secs_f64().ceil();
                format!("the next try is in {seconds} s")
            }
            Next::Down(None) | Next::Start(_) => "one more try is under way".to_owned(),
        };
        let message =
            format!("the server process failed to start {failures} times in a row; {again}");
        let error = Error::new(Kind::Unreachable, Origin::Upstream, Retry::NotSent, message);
        let error = error.at(&self.params.name);
        match self.last_failure() {
            Some(failure) => error.because(failure),
            None => error,
        }
    }
}

impl<'a> Ready<'a> {
    /// The permission with a place.
    pub(crate) fn with(mut self, host: &'a Arc<Host>, pass: Pass) -> Start<'a> {
        self.host = None;
        Start { host, ordinal: self.ordinal, pass: Some(pass) }
    }
}

impl Start<'_> {
    /// Starts the process, which may take as long as a start may, and no longer than until then.
    ///
    /// # Errors
    /// When the system does not start it in time.
    ///
    /// # Cancel safety
    /// Dropping the wait gives the start up.
    pub(crate) async fn spawn(
        mut self,
        mode: Mode,
        deadline: Option<Instant>,
    ) -> Result<Lease, Error> {
        let Some(pass) = self.pass.take() else { return Err(self.host.draining()) };
        let mut given_up = Ready { host: Some(self.host), ordinal: self.ordinal };
        let spawned = self.host.spawn(mode, self.ordinal, pass, deadline).await;
        // What became of the start is told, and what becomes of the process it tells by itself.
        given_up.host = None;
        spawned.map(Lease::new).map_err(|error| error.into_error(&self.host.params.name))
    }
}

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        if let Some(host) = self.host {
            host.abandoned(self.ordinal);
        }
    }
}

impl Drop for Start<'_> {
    fn drop(&mut self) {
        if self.pass.is_some() {
            self.host.abandoned(self.ordinal);
        }
    }
}

impl fmt::Debug for Ready<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").finish_non_exhaustive()
    }
}

impl fmt::Debug for Start<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start").finish_non_exhaustive()
    }
}
