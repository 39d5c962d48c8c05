//! The thread that watches leaders, hunts down what is left of doomed trees, and reaps.
//!
//! It is a thread and no task, so that a process is seen out even when the runtime is gone.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, mpsc::SyncSender},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
};
use tokio::sync::watch;

use crate::{
    chase::{Chase, Step},
    clock,
    desk::{Born, Desk, Ear, Inbox},
    ownerless::Ownerless,
    proc, registry,
    shared::Shared,
    spawner::enter_thread,
    strays,
    table::{Owner, Row},
    target::Target,
    tree::{Exit, Tree},
};

/// How often leaders are looked at for whose end there is no handle to wait on, in milliseconds.
const BLIND: u64 = 20;

/// How long the thread works on after nobody is left to ask for it, in milliseconds.
const AFTERLIFE: u64 = 6_000;

#[derive(Debug)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    ear: Ear,
    trees: BTreeMap<u64, Kept>,
    chases: BTreeMap<u64, Chase>,
    strays: Ownerless,
    /// Strays that the last look has ended, with their start times: until they are gone, each look
    /// ends them again.
    ended: BTreeMap<u32, u64>,
    /// Somebody wants a look at the table.
    look: bool,
    /// The table is not looked at before this moment.
    rested: u64,
    /// Nobody asks for anything after this; when to leave at the latest.
    closed: Option<u64>,
    /// Dropped when the thread ends.
    _done: SyncSender<()>,
}

/// What a sweep found.
#[derive(Debug)]
struct Found {
    /// How many are left of each tree.
    alive: BTreeMap<u64, usize>,
    doubtful: usize,
}

#[derive(Debug)]
struct Kept {
    tree: Arc<Tree>,
    exit: watch::Sender<Option<Exit>>,
    /// Nobody holds it any more, or its holder has buried it.
    released: bool,
}

impl Keeper {
    pub(crate) fn new(
        shared: Arc<Shared>,
        desk: Arc<Desk>,
        ear: Ear,
        done: SyncSender<()>,
    ) -> Self {
        Self {
            shared,
            desk,
            ear,
            trees: BTreeMap::new(),
            chases: BTreeMap::new(),
            strays: Ownerless::default(),
            ended: BTreeMap::new(),
            look: false,
            rested: 0,
            closed: None,
            _done: done,
        }
    }

    pub(crate) fn run(mut self) {
        enter_thread();
        loop {
            // In this order: what rings after the look into the inbox rings again.
            self.ear.hush();
            let inbox = self.desk.take();
            let now = clock::now();
            self.receive(inbox, now);
            self.sweep(now);
            self.reap();
            if self
                .closed
                .is_some_and(|until| (self.trees.is_empty() && !self.look) || now >= until)
            {
                return;
            }
            let ended = self.rest(now);
            self.notice(&ended);
        }
    }

    fn receive(&mut self, inbox: Inbox, now: u64) {
        for Born { tree, exit } in inbox.born {
            self.trees.insert(tree.number, Kept { tree, exit, released: false });
        }
        for number in inbox.doomed {
            if let Some(kept) = self.trees.get_mut(&number) {
                kept.released |= inbox.released.contains(&number);
                let chase = self.chases.entry(number).or_insert_with(|| Chase::begin(now));
                if kept.tree.has_ended() {
                    chase.hurry(now);
                }
            }
        }
        self.look |= inbox.look;
        if inbox.closed {
            self.closed.get_or_insert(now + AFTERLIFE);
        }
    }

    /// Takes note of leaders that have ended.
    fn notice(&mut self, candidates: &[u64]) {
        let now = clock::now();
        for number in candidates {
            let Some(kept) = self.trees.get(number) else { continue };
            let Some(exit) = kept.tree.look() else { continue };
            kept.exit.send_replace(Some(exit));
            if let Some(chase) = self.chases.get_mut(number) {
                chase.hurry(now);
            }
        }
    }

    /// Looks at the table if it is time to, and kills what must not be there.
    fn sweep(&mut self, now: u64) {
        let due = self.look || self.chases.values().any(|chase| chase.due() <= now);
        if !due || now < self.rested {
            return;
        }
        let swept = self.kill();
        let after = clock::now();
        // At most half of the time goes into looking.
        self.rested = after + after.saturating_sub(now).max(1);
        let Ok(Found { alive, doubtful }) = swept else {
            self.shared.counters.scans_failed.increment();
            self.chases.values_mut().for_each(|chase| chase.failed(after));
            self.rested = self.rested.max(after + BLIND);
            return;
        };
        self.look = false;
        let shared = &self.shared;
        self.chases.retain(|number, chase| {
            let alive = alive.get(number).copied().unwrap_or_default();
            match chase.found(alive, doubtful, after) {
                Step::Again => true,
                Step::Over => false,
                Step::GaveUp => {
                    (0..alive).for_each(|_| shared.counters.strays_spared.increment());
                    false
                }
            }
        });
    }

    /// Kills what must not be there, and tells what was. If it fails, some may be there that it has
    /// not seen.
    fn kill(&mut self) -> io::Result<Found> {
        let mut rows = self.look()?;
        rows.retain(|row| !row.stat.ended);
        let doubtful = rows.iter().filter(|row| row.is_doubtful()).count();
        let ownerless = self.ownerless(&rows)?;
        let (chases, shared) = (&self.chases, &self.shared);
        let doomed = rows.iter().filter(|row| match row.owner {
            Owner::Tree(number) => chases.contains_key(&number) || !shared.is_tree(number),
            Owner::Other | Owner::Unknown => false,
        });
        let mut alive: BTreeMap<u64, usize> = BTreeMap::new();
        let (mut ended, mut failed) = (BTreeMap::new(), None);
        for row in doomed.chain(&ownerless) {
            match self.end(row) {
                Ok(true) => drop(ended.insert(row.stat.pid, row.stat.start)),
                Ok(false) => (),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
            if let Owner::Tree(number) = row.owner {
                *alive.entry(number).or_default() += 1;
            }
        }
        if let Some(error) = failed {
            self.ended.append(&mut ended);
            return Err(error);
        }
        self.ended = ended;
        Ok(Found { alive, doubtful })
    }

    /// Looks at whoever may be a member of a doomed tree. Where orphans are ours, that is few: once
    /// its leader is gone, a process of the tree is ours or below one of ours.
    fn look(&self) -> io::Result<Vec<Row>> {
        if !self.shared.has_all_orphans() {
            return self.shared.scan();
        }
        let doomed = self.chases.keys().filter_map(|number| self.trees.get(number));
        let leaders: Vec<u32> = doomed.map(|kept| kept.tree.leader.pid).collect();
        let pids: Vec<u32> = strays::below(&self.shared, &leaders)?.into_iter().collect();
        self.shared.scan_some(&pids)
    }

    /// Strays among these that can belong to no tree that is still there.
    fn ownerless(&mut self, rows: &[Row]) -> io::Result<Vec<Row>> {
        // An orphan that shows no sign may be a stranger's, if there are any.
        if !self.shared.is_adopting() || self.shared.strangers.may_leave_orphans() {
            return Ok(Vec::new());
        }
        let adopted = strays::adopted(&self.shared)?;
        let (oldest, youngest) = self.shared.range();
        let rows = rows.iter().filter(|row| adopted.contains(&row.stat.pid));
        Ok(self.strays.judge(rows, oldest, youngest))
    }

    /// Kills a process, and tells whether it was a stray. Each is counted once.
    fn end(&self, row: &Row) -> io::Result<bool> {
        let pid = row.stat.pid;
        let Some(target) = Target::open(pid)? else { return Ok(false) };
        // Looked at after it was opened: the handle is of the process that was found.
        let same = proc::stat(pid)?.is_some_and(|stat| stat.start == row.stat.start && !stat.ended);
        let is_stray = same && target.signal(Signal::KILL) && !registry::contains(pid);
        if is_stray && self.ended.get(&pid) != Some(&row.stat.start) {
            self.shared.counters.strays_ended.increment();
        }
        Ok(is_stray)
    }

    /// Reaps the leaders of trees that are gone and that nobody holds.
    fn reap(&mut self) {
        let chases = &self.chases;
        let gone = self.trees.extract_if(.., |number, kept| {
            kept.released && kept.tree.has_ended() && !chases.contains_key(number)
        });
        for (number, kept) in gone {
            registry::remove(kept.tree.leader.pid, || kept.tree.reap());
            // Counted first: whoever waits for the last one may look at the counters next.
            self.shared.counters.reaped.increment();
            self.shared.forget(number);
            // Its end may be theirs.
            self.look |= !self.strays.is_empty();
        }
    }

    /// Waits until there is something to do; tells which leaders may have ended.
    fn rest(&self, now: u64) -> Vec<u64> {
        let mut fds = vec![PollFd::new(self.ear.pipe(), PollFlags::IN)];
        let mut watched = Vec::new();
        // Those that cannot be waited for are looked at each time.
        let mut ended = Vec::new();
        for (number, kept) in self.trees.iter().filter(|(_, kept)| !kept.tree.has_ended()) {
            match kept.tree.handle() {
                Some(handle) => {
                    fds.push(PollFd::from_borrowed_fd(handle, PollFlags::IN));
                    watched.push(*number);
                }
                None => ended.push(*number),
            }
        }
        let blind = (!ended.is_empty()).then_some(now + BLIND);
        let due = self.due().into_iter().chain(blind).chain(self.closed).min();
        let timeout = due.map(|due| milliseconds(due.saturating_sub(clock::now())));
        // An error can only be an interruption, and then there is nothing to tell.
        if poll(&mut fds, timeout.as_ref()).is_ok() {
            let ready = fds.iter().skip(1).map(|fd| !fd.revents().is_empty());
            ended.extend(watched.into_iter().zip(ready).filter(|(_, ready)| *ready).map(|of| of.0));
        }
        ended
    }

    /// When to look at the table next.
    fn due(&self) -> Option<u64> {
        let looking = self.look.then_some(0);
        let due = self.chases.values().map(Chase::due).chain(looking).min()?;
        Some(due.max(self.rested))
    }
}

fn milliseconds(time: u64) -> Timespec {
    let part = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Timespec { tv_sec: part(time / 1000), tv_nsec: part(time % 1000 * 1_000_000) }
}
