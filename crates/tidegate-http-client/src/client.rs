//! The client of one server: its connections, and requests over them.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use http::{Response, response};
use hyper::body::Incoming;
use tidegate_pool::{Lease, Pool, Reason};
use tidegate_service::{Cx, OnError, Tasks, Timeouts};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Params, SetupError, Stats,
    dial::{Dialer, Lane},
    exchange::{Exchange, Limits},
    fault::Fault,
    headers::Always,
    keep,
    link::{HeadError, Link, Outgoing},
    params::Target,
    stats::Counters,
};

/// Connections to one server. Dropped, it lets those go that nobody uses.
pub struct Client {
    name: Arc<str>,
    dialer: Arc<Dialer>,
    always: Always,
    /// Connections for calls.
    calls: Pool<Box<Link>>,
    /// Connections for streams without an end, so that they cannot starve calls.
    streams: Pool<Box<Link>>,
    counters: Arc<Counters>,
    timeouts: Timeouts,
    stopped: CancellationToken,
}

/// What is sent, and how.
#[derive(Debug)]
pub struct Errand {
    /// `None` once it has left.
    pub request: Option<Outgoing>,
    /// By which kind of connection.
    pub lane: Lane,
    /// The caller's patience.
    pub wait: Wait,
}

/// How long a caller waits.
#[derive(Clone, Debug, Default)]
pub struct Wait {
    /// Until when at most, the response and all before it.
    pub deadline: Option<Instant>,
    /// For what how long, unless it is as the client's [`Params`] say.
    pub timeouts: Option<Arc<Timeouts>>,
}

impl Wait {
    /// That of a call.
    pub fn of(cx: &Cx) -> Self {
        Self { deadline: cx.deadline, timeouts: cx.timeouts.clone() }
    }
}

impl Client {
    /// Sets a client up. No connection is made before the first request, unless some are to be kept
    /// ready.
    ///
    /// One task, under `tasks`, looks after connections that nobody uses; it ends with the client.
    ///
    /// # Errors
    ///
    /// [`SetupError`] says which parameter cannot work.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(params: &Params, tasks: Tasks) -> Result<Self, SetupError> {
        let target = Target::read(&params.url)?;
        let max = u32::try_from(params.max_connections).ok().and_then(NonZeroU32::new);
        let max = max.ok_or(SetupError::NoConnections)?;
        let limits = tidegate_pool::Params {
            max_waiting: params.max_waiting,
            acquire_timeout: params.acquire_timeout,
            idle_timeout: Some(params.pool_idle),
            max_lifetime: params.max_lifetime,
            max_uses: params.max_uses,
            min_idle: params.min_idle,
            ..tidegate_pool::Params::new(max)
        };
        let calls = Pool::new(limits);
        // A stream takes its place for good, so there is nothing to wait for.
        let streams = Pool::new(tidegate_pool::Params { max_waiting: 0, min_idle: 0, ..limits });
        let counters = Arc::new(Counters::default());
        let always = Always { host: target.authority.clone(), configured: params.headers.clone() };
        let dialer = Arc::new(Dialer::new(params, target, Arc::clone(&counters), tasks.clone())?);
        let (pools, stopped) = ([calls.clone(), streams.clone()], CancellationToken::new());
        let keep = keep::look_after(pools, &dialer, params, stopped.clone(), tasks.clone());
        tasks.spawn("upstream-http-connections", OnError::Log, keep);
        Ok(Self {
            name: Arc::clone(&params.name),
            dialer,
            always,
            calls,
            streams,
            counters,
            timeouts: params.timeouts,
            stopped,
        })
    }

    /// The upstream's name as configured.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The server.
    pub fn target(&self) -> &Target {
        self.dialer.target()
    }

    /// What every request carries.
    pub const fn always(&self) -> &Always {
        &self.always
    }

    /// The signal that the client takes no more requests.
    pub const fn stopped(&self) -> &CancellationToken {
        &self.stopped
    }

    /// What is counted.
    pub const fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// What the client has open and has done.
    pub fn stats(&self) -> Stats {
        Stats {
            calls: self.calls.stats(),
            streams: self.streams.stats(),
            ..self.counters.snapshot()
        }
    }

    /// How long a caller waits for what.
    pub fn timeouts<'a>(&'a self, wait: &'a Wait) -> &'a Timeouts {
        wait.timeouts.as_deref().unwrap_or(&self.timeouts)
    }

    /// Sends a request exactly once and waits for the head of its response.
    ///
    /// A kept connection that turns out to be closed before anything was written is replaced by a
    /// new one. That is not a second attempt: the server has seen nothing.
    ///
    /// # Errors
    ///
    /// [`Fault`], which knows whether the request was sent.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes the connection it was using; that is how a server hears of it.
    pub async fn send(&self, errand: &mut Errand) -> Result<(response::Parts, Exchange), Fault> {
        let (mut lease, response) = self.deliver(errand).await?;
        let (head, body) = response.into_parts();
        if let (Lane::Streams, Some(link)) = (errand.lane, lease.item()) {
            link.expect_stream(&head);
        }
        let idle = match errand.lane {
            Lane::Calls => self.timeouts(&errand.wait).idle,
            // It may be silent for as long as it likes.
            Lane::Streams => None,
        };
        let limits = Limits { idle, deadline: errand.wait.deadline };
        Ok((head, Exchange::new(lease, body, limits)))
    }

    async fn deliver(
        &self,
        errand: &mut Errand,
    ) -> Result<(Lease<Box<Link>>, Response<Incoming>), Fault> {
        let (lane, cap) = (errand.lane, errand.wait.deadline);
        let Timeouts { connect, request: first, .. } = *self.timeouts(&errand.wait);
        let pool = match lane {
            Lane::Streams => &self.streams,
            Lane::Calls => &self.calls,
        };
        let mut lease = pool.checkout_within(cap).await.map_err(Fault::Busy)?;
        let mut start = lease.taken_at();
        if cap.is_some_and(|cap| cap <= start) {
            return Err(Fault::TooLate);
        }
        if let Some(reason) = lease.item().and_then(|link| link.expired(start)) {
            lease.close(reason);
        }
        if lease.item().is_none() {
            start = self.dial_into(lane, &mut lease, connect, cap).await?;
        }
        loop {
            let deadline = first.map(|limit| start + limit).into_iter().chain(cap).min();
            let (Some(link), Some(request)) = (lease.item(), errand.request.take()) else {
                return Err(Fault::Unsent);
            };
            let is_new = link.is_new();
            if lane == Lane::Streams {
                link.hold_body();
            }
            let fault = match link.exchange(request, deadline).await {
                Ok(response) => return Ok((lease, response)),
                Err(HeadError::Unsent(returned)) if !is_new => {
                    lease.close(Reason::Broken);
                    errand.request = Some(*returned);
                    start = self.dial_into(lane, &mut lease, connect, cap).await?;
                    continue;
                }
                Err(HeadError::Unsent(_)) => Fault::Unsent,
                Err(HeadError::TimedOut) => Fault::HeadTimeout(start.elapsed()),
                Err(HeadError::Failed(fault)) => fault,
            };
            lease.retire(Reason::Broken);
            return Err(fault);
        }
    }

    /// Makes a connection for a lease; says when it was ready.
    async fn dial_into(
        &self,
        lane: Lane,
        lease: &mut Lease<Box<Link>>,
        limit: Duration,
        cap: Option<Instant>,
    ) -> Result<Instant, Fault> {
        // Rare and large, so it does not ride along in the future of every call.
        let link = Box::pin(self.dialer.dial(lane, limit, cap)).await?;
        lease.fill(Box::new(link));
        Ok(Instant::now())
    }

    /// Refuses requests from now on, closes idle connections, and waits for the calls and streams
    /// that are still going on. How long that may take is up to the caller.
    ///
    /// # Cancel safety
    ///
    /// The refusal stands even if the wait is dropped; waiting again resumes it.
    pub async fn stop(&self) {
        self.close();
        self.calls.drained().await;
        self.streams.drained().await;
    }

    /// Refuses requests from now on and closes idle connections.
    pub fn close(&self) {
        self.stopped.cancel();
        self.calls.close();
        self.streams.close();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stopped.cancel();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("name", &self.name).finish_non_exhaustive()
    }
}
