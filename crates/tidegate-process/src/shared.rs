//! What the parts of one spawner have in common.

use std::{
    collections::BTreeMap,
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    clock,
    cookie::Instance,
    ledger::Ledger,
    proc,
    stats::Counters,
    strays::{self, Strangers},
    table::{Owner, Row, Table, Trees},
    tree::Leader,
};

/// How old the last look at the process table may be to answer a question about usage, in
/// milliseconds: many trees are asked about in a row.
const FRESH: u64 = 200;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) instance: Instance,
    pub(crate) counters: Counters,
    /// The number of the youngest tree.
    last_number: AtomicU64,
    /// Orphans become our children.
    adopting: AtomicBool,
    /// And did so before the first process started.
    all_adopted: AtomicBool,
    pub(crate) strangers: Strangers,
    ledger: Option<Ledger>,
    /// Every tree from before its birth until its leader is reaped; without a leader at first.
    trees: Mutex<BTreeMap<u64, Option<Leader>>>,
    table: Mutex<Dated>,
    /// How many trees there are.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Dated {
    table: Table,
    at: Option<u64>,
}

impl Shared {
    pub(crate) fn new(instance: Instance, ledger: Option<Ledger>) -> Self {
        Self {
            instance,
            counters: Counters::default(),
            last_number: AtomicU64::new(0),
            adopting: AtomicBool::new(false),
            all_adopted: AtomicBool::new(false),
            strangers: Strangers::default(),
            ledger,
            trees: Mutex::default(),
            table: Mutex::default(),
            count: watch::channel(0).0,
        }
    }

    pub(crate) fn adopting(&self) {
        self.adopting.store(true, Relaxed);
        self.all_adopted.store(self.last_number.load(Relaxed) == 0, Relaxed);
    }

    /// Whether there can be no orphan that was given to somebody else.
    pub(crate) fn has_all_orphans(&self) -> bool {
        self.all_adopted.load(Relaxed)
    }

    pub(crate) fn is_adopting(&self) -> bool {
        self.adopting.load(Relaxed)
    }

    /// The numbers of the oldest tree and of the youngest there has ever been.
    pub(crate) fn range(&self) -> (Option<u64>, u64) {
        let oldest = self.trees.lock().keys().next().copied();
        (oldest, self.last_number.load(Relaxed))
    }

    /// A tree is about to be born, under this number. What carries its cookie is no stray from now
    /// on.
    pub(crate) fn announce(&self) -> u64 {
        let number = self.last_number.fetch_add(1, Relaxed) + 1;
        self.set(|trees| trees.insert(number, None));
        number
    }

    pub(crate) fn born(&self, number: u64, leader: Leader) {
        self.counters.spawned.increment();
        self.set(|trees| trees.insert(number, Some(leader)));
        // Without its start a line would not be believed.
        let record = |ledger: &Ledger| leader.start > 0 && ledger.record(number, leader).is_ok();
        if self.ledger.as_ref().is_some_and(|ledger| !record(ledger)) {
            // It goes on: its cookie finds it as well.
            self.counters.unrecorded.increment();
        }
    }

    /// The tree was not born, or its leader is reaped. What carries its cookie is a stray.
    pub(crate) fn forget(&self, number: u64) {
        if let Some(ledger) = &self.ledger {
            ledger.strike(number);
        }
        self.set(|trees| trees.remove(&number));
    }

    pub(crate) fn is_tree(&self, number: u64) -> bool {
        self.trees.lock().contains_key(&number)
    }

    pub(crate) fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Looks at every process that may be a member of a tree.
    pub(crate) fn scan(&self) -> io::Result<Vec<Row>> {
        let mut dated = self.table.lock();
        self.refresh(&mut dated)?;
        Ok(dated.table.rows().to_vec())
    }

    /// Looks at some processes only.
    pub(crate) fn scan_some(&self, pids: &[u32]) -> io::Result<Vec<Row>> {
        let mut dated = self.table.lock();
        dated.table.scan_some(pids, || Ok(self.leaders()), |cookie| self.whose(cookie))
    }

    /// Looks at the process table if nobody has just done so, or if the reader is not satisfied.
    pub(crate) fn scan_unless_fresh<R>(&self, read: impl Fn(&[Row]) -> Option<R>) -> Option<R> {
        let mut dated = self.table.lock();
        if dated.at.is_some_and(|at| clock::now() <= at + FRESH)
            && let Some(found) = read(dated.table.rows())
        {
            return Some(found);
        }
        if self.refresh(&mut dated).is_err() {
            self.counters.scans_failed.increment();
            return None;
        }
        read(dated.table.rows())
    }

    fn refresh(&self, dated: &mut Dated) -> io::Result<()> {
        let pids = if self.has_all_orphans() {
            let leaders: Vec<u32> = self.leaders().values().map(|leader| leader.pid).collect();
            strays::below(self, &leaders)?.into_iter().collect()
        } else {
            proc::all()?
        };
        dated.table.scan(&pids, || Ok(self.leaders()), |cookie| self.whose(cookie))?;
        dated.at = Some(clock::now());
        self.counters.scans.increment();
        Ok(())
    }

    fn leaders(&self) -> Trees {
        let trees = self.trees.lock();
        trees.iter().filter_map(|(number, leader)| Some((*number, (*leader)?))).collect()
    }

    fn whose(&self, cookie: &[u8]) -> Owner {
        self.instance.number(cookie).map_or(Owner::Other, Owner::Tree)
    }

    fn set<R>(&self, change: impl FnOnce(&mut BTreeMap<u64, Option<Leader>>) -> R) {
        let mut trees = self.trees.lock();
        change(&mut trees);
        self.count.send_replace(trees.len());
    }
}
