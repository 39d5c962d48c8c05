//! Ending what dead instances have left.
//!
//! A process is ended if its ledger names it by number and start, carries the cookie of a dead
//! instance, is in the group of a leader that is still there, or descends from such a process. A
//! number alone ends nobody: it may have been given to another since.

use std::{collections::BTreeSet, io};

use rustix::process::Signal;

use super::{
    folder::{Dead, Folder},
    text::{self, Content},
};
use crate::{
    chase::{Chase, Step},
    clock, proc,
    table::{Owner, Row, Table, Trees},
    target::Target,
    tree::Leader,
};

/// How many looks may fail, for want of file descriptors say, before that is an error.
const MAX_FAILURES: usize = 50;

/// What was found of dead instances, and done about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Ledgers of dead instances.
    pub ledgers: usize,
    /// Processes that were killed and are gone.
    pub killed: usize,
    /// Processes that could not be killed. Their ledgers are kept for the next time.
    pub left: usize,
    /// Processes that have a number of the ledger but are others. They were let be.
    pub recycled: usize,
    /// Ledgers of other pid namespaces, whose processes cannot be seen from here. They are kept.
    pub foreign: usize,
    /// Lines that could not be believed, and files that could not be trusted.
    pub skipped: usize,
}

/// Ends what the dead instances of this folder have left. Takes a few milliseconds, and five seconds
/// if something cannot be ended. Where processes cannot be looked at it fails, and the ledgers are
/// kept.
pub(crate) fn recover(folder: &Folder) -> io::Result<Recovered> {
    let (claimed, skipped) = folder.claim()?;
    let mut recovered = Recovered { skipped, ..Recovered::default() };
    let (boot, namespace) = (proc::boot(), proc::namespace());
    let mut settled: Vec<Dead> = Vec::new();
    let mut hunted: Vec<Dead> = Vec::new();
    let mut leaders = Vec::new();
    for dead in claimed {
        let Content { header, leaders: named, skipped } = text::parse(&dead.bytes);
        recovered.skipped += skipped;
        let header = header.filter(|header| header.instance == dead.instance);
        let same_boot = header.as_ref().is_none_or(|header| Some(&header.boot) == boot.as_ref());
        match header {
            Some(header) if same_boot && Some(&header.namespace) != namespace.as_ref() => {
                recovered.foreign += 1;
                continue;
            }
            // Its processes ended with the machine.
            Some(_) if !same_boot => settled.push(dead),
            Some(_) => {
                leaders.extend(named);
                hunted.push(dead);
            }
            // It names nothing, but its instance is known, and so is the cookie.
            None => hunted.push(dead),
        }
        recovered.ledgers += 1;
    }
    if !hunted.is_empty() {
        hunt(&hunted, &leaders, &mut recovered)?;
    }
    if recovered.left == 0 {
        settled.append(&mut hunted);
    }
    for dead in &settled {
        folder.remove(&dead.name)?;
    }
    Ok(recovered)
}

/// Kills until nobody is left.
fn hunt(dead: &[Dead], leaders: &[Leader], recovered: &mut Recovered) -> io::Result<()> {
    let recycled = |leader: &&Leader| match proc::stat(leader.pid) {
        Ok(Some(stat)) => stat.start != leader.start,
        // If it cannot be looked at, the rest fails as well.
        Ok(None) | Err(_) => false,
    };
    recovered.recycled += leaders.iter().filter(recycled).count();
    let mut trees: Trees = (0..).zip(leaders.iter().copied()).collect();
    let whose = |cookie: &[u8]| {
        let ours = dead.iter().any(|dead| dead.instance.number(cookie).is_some());
        if ours { Owner::Tree(u64::MAX) } else { Owner::Other }
    };
    let mut table = Table::of_everybody();
    let mut killed = BTreeSet::new();
    let mut chase = Chase::begin(clock::now());
    let mut failures = 0;
    loop {
        let looked = proc::all().and_then(|pids| {
            let rows = table.scan(&pids, || present(&mut trees), whose)?;
            let living = || rows.iter().filter(|row| !row.stat.ended);
            let members: Vec<Row> =
                living().filter(|row| matches!(row.owner, Owner::Tree(_))).copied().collect();
            for row in &members {
                if end(row)? {
                    killed.insert((row.stat.pid, row.stat.start));
                }
            }
            Ok((members, living().filter(|row| row.is_doubtful()).count()))
        });
        let now = clock::now();
        let (members, doubtful) = match looked {
            Ok(looked) => looked,
            Err(error) if failures >= MAX_FAILURES => return Err(error),
            Err(_) => {
                failures += 1;
                chase.failed(now);
                clock::pause(chase.due().saturating_sub(now));
                continue;
            }
        };
        match chase.found(members.len(), doubtful, now) {
            Step::Again => clock::pause(chase.due().saturating_sub(now)),
            Step::Over => break,
            Step::GaveUp => {
                recovered.left = members.len();
                break;
            }
        }
    }
    recovered.killed = killed.len().saturating_sub(recovered.left);
    Ok(())
}

/// Forgets leaders that are gone, and returns the others: only while a leader is there is its group
/// surely its own.
fn present(trees: &mut Trees) -> io::Result<Trees> {
    let mut gone = Vec::new();
    for (number, leader) in &*trees {
        if proc::stat(leader.pid)?.is_none_or(|stat| stat.start != leader.start) {
            gone.push(*number);
        }
    }
    for number in gone {
        trees.remove(&number);
    }
    Ok(trees.clone())
}

fn end(row: &Row) -> io::Result<bool> {
    let Some(target) = Target::open(row.stat.pid)? else { return Ok(false) };
    // Looked at after it was opened: the handle is of the process that was found.
    let same = proc::stat(row.stat.pid)?.is_some_and(|stat| stat.start == row.stat.start);
    Ok(same && target.signal(Signal::KILL))
}
