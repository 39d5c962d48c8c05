//! What a tree uses.

use std::time::Duration;

use crate::{
    shared::Shared,
    table::{Owner, Row},
    tree::Tree,
};

/// Memory and processor time of a whole tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many processes it has now.
    pub processes: u64,
    /// Resident memory in bytes. What processes share counts for each of them.
    pub resident: u64,
    /// Processor time of the living and of those they have reaped.
    pub cpu: Duration,
}

pub(crate) fn of(shared: &Shared, tree: &Tree) -> Option<Usage> {
    shared.scan_unless_fresh(|rows| sum(rows, tree))
}

fn sum(rows: &[Row], tree: &Tree) -> Option<Usage> {
    let mut members = rows
        .iter()
        .filter(|row| row.owner == Owner::Tree(tree.number) && !row.stat.ended)
        .peekable();
    members.peek()?;
    let (mut processes, mut pages, mut ticks) = (0, 0_u64, 0_u64);
    for row in members {
        processes += 1;
        pages = pages.saturating_add(row.stat.resident);
        ticks = ticks.saturating_add(row.stat.cpu);
    }
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let cpu = Duration::from_millis(ticks.saturating_mul(1000) / per_second);
    Some(Usage { processes, resident: pages.saturating_mul(page), cpu })
}
