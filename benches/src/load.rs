//! The closed loop: every connection sends its next call when it has checked the last answer.
//!
//! A closed loop measures capacity and the latency at that load; with one connection it measures
//! the latency of an idle hop. Processor time is read at the edges of the counted window, so that
//! connecting, handshakes and warm-up are left out.

pub mod pipe;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::LocalRuntime,
    sync::Barrier,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    client::{Client, Target},
    cpu::{Snapshot, Spent},
    syscalls::{self, Asked},
    wire::Era,
};

/// How long connecting all connections may take: a proxy may start a process for each.
const OPEN_WITHIN: Duration = Duration::from_secs(60);
/// How long answers may take after the window has closed.
const FINISH_WITHIN: Duration = Duration::from_secs(15);

/// What to send, where, for how long.
#[derive(Debug, Clone)]
pub struct Load {
    /// The server or proxy.
    pub target: Target,
    /// Which requests.
    pub era: Era,
    /// How many connections.
    pub connections: usize,
    /// Whether they share one session; in the legacy era each has its own otherwise.
    pub one_session: bool,
    /// How many events each call streams; with none, it echoes.
    pub events: u32,
    /// Sent but not counted.
    pub warm_up: Duration,
    /// The counted window.
    pub window: Duration,
    /// The process to account for, with its descendants.
    pub account: Option<u32>,
}

impl Load {
    fn tool(&self) -> &'static str {
        if self.events == 0 { "echo" } else { "stream" }
    }
}

/// What one run saw. Times are in microseconds where the name says `us`, else in seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Calls that were answered rightly within the window.
    pub calls: u64,
    /// Connections that failed, each with one call.
    pub errors: u64,
    /// What the first of them said.
    pub first_error: Option<String>,
    /// The window as it really was.
    pub seconds: f64,
    /// Median latency.
    pub p50_us: f64,
    /// 95th percentile.
    pub p95_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// The slowest call.
    pub max_us: f64,
    /// The accounted process and its descendants.
    pub proxy: Spent,
    /// How many descendants it had when the window closed.
    pub proxy_children: usize,
    /// What the accounted process and its descendants asked the kernel for.
    #[serde(default)]
    pub asked: Asked,
    /// This client.
    pub client_s: f64,
}

impl Outcome {
    /// Answered calls per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.calls as f64 / self.seconds } else { 0.0 }
    }

    /// Processor time of the accounted process alone, in microseconds per call.
    #[must_use]
    pub fn proxy_us_per_call(&self) -> f64 {
        if self.calls == 0 { f64::NAN } else { self.proxy.own_s * 1e6 / self.calls as f64 }
    }

    /// Write system calls of the accounted process per call.
    #[must_use]
    pub fn writes_per_call(&self) -> f64 {
        if self.calls == 0 { f64::NAN } else { self.asked.writes as f64 / self.calls as f64 }
    }

    /// Read system calls of the accounted process's children per call.
    #[must_use]
    pub fn child_reads_per_call(&self) -> f64 {
        if self.calls == 0 { f64::NAN } else { self.asked.child_reads as f64 / self.calls as f64 }
    }
}

struct Shared {
    load: Load,
    histogram: RefCell<Histogram<u64>>,
    counting: Cell<bool>,
    stopping: Cell<bool>,
    errors: Cell<u64>,
    first_error: RefCell<Option<String>>,
    opened: Barrier,
}

impl Shared {
    fn fail(&self, error: &anyhow::Error) {
        self.errors.set(self.errors.get() + 1);
        self.first_error.borrow_mut().get_or_insert_with(|| format!("{error:#}"));
    }
}

/// Runs one load to its end on a single-threaded runtime of its own.
///
/// Failed calls are part of the outcome.
///
/// # Errors
///
/// When no run took place: the runtime or the histogram could not be made.
pub fn run(load: &Load) -> anyhow::Result<Outcome> {
    let shared = Rc::new(Shared {
        load: load.clone(),
        histogram: RefCell::new(Histogram::new_with_bounds(1, 120_000_000_000, 3)?),
        counting: Cell::new(false),
        stopping: Cell::new(false),
        errors: Cell::new(0),
        first_error: RefCell::new(None),
        opened: Barrier::new(load.connections + 1),
    });
    LocalRuntime::new().context("runtime")?.block_on(drive(shared))
}

async fn drive(shared: Rc<Shared>) -> anyhow::Result<Outcome> {
    let load = &shared.load;
    let host = match load.one_session {
        true => {
            Some(Client::open(&load.target, load.era, load.tool()).await.context("the session")?)
        }
        false => None,
    };
    let session: Option<Rc<str>> = host.as_ref().and_then(Client::session).map(Rc::from);
    let mut tasks = JoinSet::new();
    for number in 0..load.connections {
        tasks.spawn_local(connection(Rc::clone(&shared), session.clone(), number));
    }
    timeout(OPEN_WITHIN, shared.opened.wait()).await.context("connections did not open")?;
    sleep(load.warm_up).await;

    let account =
        |pid: Option<u32>| pid.map(|pid| (Snapshot::take(pid), syscalls::Snapshot::take(pid)));
    let own = std::process::id();
    let (own_before, before) = (Snapshot::take(own), account(load.account));
    let start = Instant::now();
    shared.counting.set(true);
    sleep(load.window).await;
    shared.counting.set(false);
    let seconds = start.elapsed().as_secs_f64();
    let (own_after, after) = (Snapshot::take(own), account(load.account));
    shared.stopping.set(true);

    let finish = async { while tasks.join_next().await.is_some() {} };
    if timeout(FINISH_WITHIN, finish).await.is_err() {
        shared.fail(&anyhow::anyhow!("{} connections got no answer in time", tasks.len()));
        tasks.abort_all();
    }
    if let Some(host) = host {
        host.close().await?;
    }
    let (proxy, asked) = match (&before, &after) {
        (Some(before), Some(after)) => (after.0.since(&before.0), after.1.since(&before.1)),
        _ => Default::default(),
    };
    let histogram = shared.histogram.borrow();
    let us = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
    Ok(Outcome {
        calls: histogram.len(),
        errors: shared.errors.get(),
        first_error: shared.first_error.borrow().clone(),
        seconds,
        p50_us: us(histogram.value_at_quantile(0.50)),
        p95_us: us(histogram.value_at_quantile(0.95)),
        p99_us: us(histogram.value_at_quantile(0.99)),
        max_us: us(histogram.max()),
        proxy,
        proxy_children: after.as_ref().map_or(0, |(cpu, _)| cpu.descendants()),
        asked,
        client_s: own_after.since(&own_before).own_s,
    })
}

async fn connection(shared: Rc<Shared>, session: Option<Rc<str>>, number: usize) {
    let Load { target, era, .. } = &shared.load;
    let opened = match session {
        Some(session) => Client::join(target, &session, number).await,
        None => Client::open(target, *era, shared.load.tool()).await,
    };
    // Everybody waits for everybody, the failed too, or the run would never begin.
    shared.opened.wait().await;
    let result = match opened {
        Ok(client) => calls(&shared, client, number).await,
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        shared.fail(&error);
    }
}

async fn calls(shared: &Shared, mut client: Client, number: usize) -> anyhow::Result<()> {
    while !shared.stopping.get() {
        let start = Instant::now();
        match shared.load.events {
            0 => client.call(number).await?,
            events => client.stream(events).await?,
        }
        if shared.counting.get() {
            let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            shared.histogram.borrow_mut().saturating_record(nanoseconds);
        }
    }
    client.close().await
}
