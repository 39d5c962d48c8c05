//! One sample, from the client's side: streams are opened one after the other and held, and the
//! process that holds their other end is looked at.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::LocalRuntime,
    task::LocalSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::TaskTracker;

use super::client::{Counts, Opener};
use crate::{
    client::Target, cpu::Snapshot, fixture::streams::Course, memory::resident_kib, wire::Era,
};

/// A stream opens within this, or the sample is void.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// Streams that are opened and closed first, so that what a process allocates once is not counted.
const WARM_UP: usize = 3;
/// How often memory is looked at while streams are busy; the largest counts.
const LOOKS: u32 = 5;

/// What is opened and how it is measured.
#[derive(Debug, Clone)]
pub struct Hold {
    /// The proxy.
    pub target: Target,
    /// Where the fixture takes commands.
    pub commands: SocketAddr,
    /// Which kind of stream.
    pub era: Era,
    /// Whether the client speaks HTTP/2.
    pub is_http2: bool,
    /// How many.
    pub streams: usize,
    /// The process to account for.
    pub account: u32,
    /// What is measured.
    pub measure: Measure,
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub enum Measure {
    /// Memory while the streams are idle, while they carry bursts, and when they are idle again.
    Memory {
        /// The bursts.
        pulse: Course,
        /// For how long there are bursts.
        busy: Duration,
        /// How long the process has to come to rest before it is looked at.
        rest: Duration,
    },
    /// Events a second, as many as it takes.
    Events {
        /// The bursts.
        flood: Course,
        /// Not counted.
        warm_up: Duration,
        /// Counted.
        window: Duration,
    },
}

/// What was seen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Held {
    /// Median and 95th percentile of the time from a request to its stream's first event.
    pub first_event_p50_us: f64,
    /// See there.
    pub first_event_p95_us: f64,
    /// KiB for each stream, on top of what the process had before.
    pub kib: Option<Kib>,
    /// The flood.
    pub flood: Option<Flood>,
}

/// Resident memory for each stream, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Kib {
    /// After its first event.
    pub idle: f64,
    /// The most while it carried bursts.
    pub busy: f64,
    /// After that, idle again.
    pub after: f64,
    /// What the process had before, in all.
    pub before: f64,
}

/// What came through at full speed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Flood {
    /// Events of all streams a second.
    pub per_second: f64,
    /// Processor time of the proxy for each, in nanoseconds.
    pub cpu_ns: f64,
    /// Which part of the window the proxy's processor was busy.
    pub busy: f64,
    /// Which part of the window the client was.
    pub client_busy: f64,
}

/// Takes one sample on a single-threaded runtime of its own.
///
/// # Errors
///
/// When a stream does not open, breaks, loses an event, or has none while there are bursts.
pub fn run(hold: &Hold) -> anyhow::Result<Held> {
    let runtime = LocalRuntime::new().context("runtime")?;
    runtime.block_on(LocalSet::new().run_until(sample(hold)))
}

async fn sample(hold: &Hold) -> anyhow::Result<Held> {
    command(hold.commands, Course::Quiet).await?;
    let tracker = TaskTracker::new();
    let open = || Opener::new(hold.target.clone(), hold.era, hold.is_http2, tracker.clone());
    let mut warm = open();
    for _ in 0..WARM_UP {
        drop(one(&mut warm).await?);
    }
    drop(warm);
    sleep(Duration::from_millis(300)).await;

    let before = resident_kib(hold.account)?;
    let counts = Rc::new(Counts::default());
    counts.each.borrow_mut().resize(hold.streams, 0);
    let (mut opener, mut first_events) = (open(), Vec::new());
    for number in 0..hold.streams {
        let (stream, took) = one(&mut opener).await.with_context(|| format!("stream {number}"))?;
        first_events.push(took.as_secs_f64() * 1e6);
        tracker.spawn_local(stream.follow(Rc::clone(&counts), number));
    }
    first_events.sort_by(f64::total_cmp);
    let quantile = |part: f64| {
        let at = (first_events.len() as f64 * part) as usize;
        first_events.get(at).copied().unwrap_or(f64::NAN)
    };
    let mut held = Held {
        first_event_p50_us: quantile(0.5),
        first_event_p95_us: quantile(0.95),
        ..Held::default()
    };
    match hold.measure {
        Measure::Memory { pulse, busy, rest } => {
            held.kib = Some(memory(hold, before, &counts, (pulse, busy, rest)).await?);
        }
        Measure::Events { flood, warm_up, window } => {
            held.flood = Some(events(hold, &counts, (flood, warm_up, window)).await?);
        }
    }
    match counts.failed.take() {
        Some(failed) => bail!("a stream broke: {failed}"),
        None => Ok(held),
    }
}

async fn one(opener: &mut Opener) -> anyhow::Result<(super::client::Stream, Duration)> {
    timeout(OPEN_WITHIN, opener.open()).await.context("it did not open in time")?
}

async fn memory(
    hold: &Hold,
    before: u64,
    counts: &Counts,
    (pulse, busy, rest): (Course, Duration, Duration),
) -> anyhow::Result<Kib> {
    let each = |now: u64| (now as f64 - before as f64) / hold.streams as f64;
    sleep(rest).await;
    let idle = resident_kib(hold.account)?;
    command(hold.commands, pulse).await?;
    let mut most = 0;
    for _ in 0..LOOKS {
        sleep(busy / LOOKS).await;
        most = most.max(resident_kib(hold.account)?);
    }
    command(hold.commands, Course::Quiet).await?;
    let least = counts.each.borrow().iter().min().copied();
    ensure!(least > Some(0), "a stream had no event while there were bursts");
    sleep(rest).await;
    let after = resident_kib(hold.account)?;
    Ok(Kib { idle: each(idle), busy: each(most), after: each(after), before: before as f64 })
}

async fn events(
    hold: &Hold,
    counts: &Counts,
    (flood, warm_up, window): (Course, Duration, Duration),
) -> anyhow::Result<Flood> {
    command(hold.commands, flood).await?;
    sleep(warm_up).await;
    let own = std::process::id();
    let (cpu, own_cpu) = (Snapshot::take(hold.account), Snapshot::take(own));
    let (start, first) = (Instant::now(), counts.events.get());
    sleep(window).await;
    let (seconds, last) = (start.elapsed().as_secs_f64(), counts.events.get());
    let (cpu, own_cpu) =
        (Snapshot::take(hold.account).since(&cpu), Snapshot::take(own).since(&own_cpu));
    command(hold.commands, Course::Quiet).await?;
    let came = last - first;
    ensure!(came > 0, "no event came");
    Ok(Flood {
        per_second: came as f64 / seconds,
        cpu_ns: cpu.own_s * 1e9 / came as f64,
        busy: cpu.own_s / seconds,
        client_busy: own_cpu.own_s / seconds,
    })
}

/// Tells the fixture what its streams do.
async fn command(address: SocketAddr, course: Course) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await.context("the fixture's commands")?;
    stream.write_all(format!("{course}\n").as_bytes()).await?;
    stream.shutdown().await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    ensure!(said == "ok\n", "the fixture said {said:?}");
    Ok(())
}
