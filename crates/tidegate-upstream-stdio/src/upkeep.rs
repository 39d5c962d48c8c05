//! Looking after the processes of one upstream: which are to be replaced, and how much they use.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tidegate_pool::{Expiry, Reason};
use tokio::time::{self, Instant};
use tracing::debug;

use crate::{child::Child, demux::Mode, host::Host, params::Params};

/// The longest time between two looks.
const LOOK: Duration = Duration::from_secs(5);

/// The same where memory is limited, since it can grow fast.
const LOOK_AT_MEMORY: Duration = Duration::from_millis(500);

/// How soon a process measures itself for the first time.
pub(crate) const FIRST_LOOK: Duration = Duration::from_millis(500);

/// Why a process is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Idle,
    Age,
    Memory,
    /// It was started for sessions to share, and they do not any more.
    Moved,
}

/// Looks after the processes until the upstream stops or is gone. `tidy` lets go of dead ones.
pub(crate) async fn run(host: Weak<Host>, tidy: impl Fn() -> bool) {
    let Some((closing, period)) =
        host.upgrade().map(|host| (host.closing.clone(), period(&host.params)))
    else {
        return;
    };
    loop {
        tokio::select! {
            () = time::sleep(period) => (),
            () = closing.cancelled() => return,
        }
        let Some(host) = host.upgrade() else { return };
        if !tidy() {
            return;
        }
        look(&host, Instant::now());
    }
}

/// How often a process measures itself.
pub(crate) fn measuring(params: &Params) -> Duration {
    if params.max_rss.is_some() { LOOK_AT_MEMORY } else { LOOK }
}

/// Often enough that no limit is overdrawn by more than a quarter.
fn period(params: &Params) -> Duration {
    let limits = params.idle_timeout.into_iter().chain(params.max_age);
    let shortest = limits.min().map_or(LOOK, |limit| limit / 4);
    shortest.min(measuring(params)).max(Duration::from_millis(10))
}

fn look(host: &Host, now: Instant) {
    for child in host.children() {
        let moved = child.mode() == Mode::Common && !host.shares();
        let over = if moved { Some(Over::Moved) } else { judge(&child, now) };
        let Some(over) = over else { continue };
        if child.retire() {
            debug!(upstream = %host.params.name, pid = child.pid(), ?over, "replacing a process");
            let counters = &host.counters;
            let counter = match over {
                Over::Idle => &counters.recycled_idle,
                Over::Age => &counters.recycled_age,
                Over::Memory => &counters.recycled_memory,
                // Counted once for the server, as a move.
                Over::Moved => continue,
            };
            counter.increment();
        }
    }
}

fn judge(child: &Arc<Child>, now: Instant) -> Option<Over> {
    let params = &child.params;
    // A session says for itself when it is over, and spares wait for one.
    let idle = params.idle_timeout.filter(|_| child.mode() != Mode::Session);
    let expiry = Expiry { idle, lifetime: params.max_age, uses: None };
    match expiry.judge(&child.usage(now), now) {
        Some(Reason::Idle) => Some(Over::Idle),
        Some(_) => Some(Over::Age),
        None => {
            params.max_rss.is_some_and(|max| child.resident_bytes() > max).then_some(Over::Memory)
        }
    }
}
