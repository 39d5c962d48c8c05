//! The process table, with an owner for each process that belongs to one of our trees.
//!
//! A process belongs to a tree if it is its leader, is in the leader's group, carries its cookie, or
//! descends from such a process. What was once seen to belong stays so, whatever it does to its
//! parents, its group or its environment later. [`attribute`] decides, [`Table::scan`] looks.

use std::{
    collections::{BTreeMap, HashMap},
    io,
};

use crate::{
    proc::{Mark, Reader, Stat},
    tree::Leader,
};

/// How many processes are looked at. No machine has so many; it bounds what one scan may cost.
const MAX_PROCESSES: usize = 1 << 18;

/// How many generations a process may be away from the one that tells whose it is.
const MAX_DEPTH: usize = 4096;

/// After how many looks an environment is taken to be as empty as it seems. A process that is about
/// to run another program has none for a moment.
const MAX_DOUBTS: u8 = 5;

/// The trees whose leaders are not reaped, by number.
pub(crate) type Trees = BTreeMap<u64, Leader>;

/// What was learned about processes so far.
#[derive(Debug, Default)]
pub(crate) struct Table {
    seen: HashMap<u32, Seen>,
    rows: Vec<Row>,
    /// What started before is not looked at closely; by default, before we did.
    since: Option<u64>,
}

/// A process and its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) stat: Stat,
    pub(crate) owner: Owner,
    /// How often its environment was looked for and was not there; zero when that is settled.
    doubts: u8,
}

/// Whose a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The tree with this number, which may be gone.
    Tree(u64),
    /// It carries the cookie of another instance.
    Other,
    /// Nothing tells.
    Unknown,
}

/// What is remembered of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    start: u64,
    owner: Owner,
    doubts: u8,
}

/// What a cookie says, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Owner(Owner),
    /// Ask again.
    Nothing,
}

impl Table {
    /// A table that reads the environments of those that are older than we are, too.
    pub(crate) fn of_everybody() -> Self {
        Self { since: Some(0), ..Self::default() }
    }

    /// Looks at these processes, which are all that matter. If it fails, nothing was learned.
    ///
    /// `trees` says whose leaders are still there. It is asked when the processes have been looked
    /// at, so that a group was surely its leader's when a process was found in it. `whose` reads a
    /// cookie.
    pub(crate) fn scan(
        &mut self,
        pids: &[u32],
        trees: impl FnOnce() -> io::Result<Trees>,
        whose: impl Fn(&[u8]) -> Owner,
    ) -> io::Result<&[Row]> {
        self.rows = self.look(pids, trees, whose)?;
        self.seen = self.rows.iter().map(Row::seen).collect();
        Ok(&self.rows)
    }

    /// Looks at these processes only; what is known of others remains.
    pub(crate) fn scan_some(
        &mut self,
        pids: &[u32],
        trees: impl FnOnce() -> io::Result<Trees>,
        whose: impl Fn(&[u8]) -> Owner,
    ) -> io::Result<Vec<Row>> {
        let rows = self.look(pids, trees, whose)?;
        if self.seen.len() > MAX_PROCESSES {
            // Nobody has looked at everybody for long, so most of it is about the dead.
            self.seen.clear();
        }
        self.seen.extend(rows.iter().map(Row::seen));
        Ok(rows)
    }

    fn look(
        &self,
        pids: &[u32],
        trees: impl FnOnce() -> io::Result<Trees>,
        whose: impl Fn(&[u8]) -> Owner,
    ) -> io::Result<Vec<Row>> {
        let me = std::process::id();
        let mut reader = Reader::default();
        let stats = pids.iter().take(MAX_PROCESSES).filter_map(|pid| reader.stat(*pid).transpose());
        let stats: Vec<Stat> = stats.collect::<io::Result<_>>()?;
        let since = match self.since {
            Some(since) => since,
            None => reader.stat(me)?.map_or(0, |stat| stat.start),
        };
        let mut failure = None;
        let rows = attribute(stats, me, &trees()?, &self.seen, |stat| {
            if stat.pid == me || stat.group == 0 || stat.start < since {
                // A thread of the kernel, or older than all that we have started.
                return Said::Owner(Owner::Unknown);
            }
            Said::Owner(match reader.mark(stat.pid) {
                Ok(Mark::Cookie(cookie)) => whose(cookie),
                Ok(Mark::None) => Owner::Unknown,
                Ok(Mark::Empty) => return Said::Nothing,
                Err(error) => {
                    failure.get_or_insert(error);
                    return Said::Nothing;
                }
            })
        });
        failure.map_or(Ok(rows), Err)
    }

    /// What the last scan found.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }
}

impl Row {
    /// Whether the next look may say more.
    pub(crate) const fn is_doubtful(&self) -> bool {
        matches!(self.owner, Owner::Unknown) && 0 < self.doubts && self.doubts < MAX_DOUBTS
    }

    const fn seen(&self) -> (u32, Seen) {
        let seen = Seen { start: self.stat.start, owner: self.owner, doubts: self.doubts };
        (self.stat.pid, seen)
    }
}

#[cfg(test)]
impl Row {
    /// A process of which nothing else matters.
    pub(crate) fn of(pid: u32, start: u64, owner: Owner) -> Self {
        let stat = Stat { pid, parent: 1, group: pid, ended: false, start, cpu: 0, resident: 0 };
        Self { stat, owner, doubts: 0 }
    }

    pub(crate) fn in_doubt(self) -> Self {
        Self { doubts: 1, ..self }
    }
}

/// Gives each process an owner. `said` is asked only about processes that are new or in doubt.
fn attribute(
    stats: Vec<Stat>,
    me: u32,
    trees: &Trees,
    seen: &HashMap<u32, Seen>,
    mut said: impl FnMut(&Stat) -> Said,
) -> Vec<Row> {
    let leaders: HashMap<u32, (u64, u64)> =
        trees.iter().map(|(number, leader)| (leader.pid, (*number, leader.start))).collect();
    let own = |stat: &Stat| {
        let tree = |pid: u32| leaders.get(&pid).filter(|(_, start)| *start <= stat.start);
        let leads = tree(stat.pid).filter(|(_, start)| *start == stat.start);
        leads.or_else(|| tree(stat.group)).map(|(number, _)| Owner::Tree(*number))
    };
    let mut rows: Vec<Row> = stats
        .into_iter()
        .map(|stat| {
            let known = seen.get(&stat.pid).filter(|seen| seen.start == stat.start);
            let doubts = known.map_or(0, |seen| seen.doubts);
            let mut row = Row { stat, owner: Owner::Unknown, doubts };
            match known {
                Some(Seen { owner: owner @ (Owner::Tree(_) | Owner::Other), .. }) => {
                    row.owner = *owner;
                }
                // Its cookie was looked for, and a process does not get one later.
                Some(Seen { doubts: 0 | MAX_DOUBTS.., .. }) => {
                    row.owner = own(&stat).unwrap_or(Owner::Unknown);
                }
                Some(_) | None => match own(&stat).map_or_else(|| said(&stat), Said::Owner) {
                    Said::Owner(owner) => (row.owner, row.doubts) = (owner, 0),
                    Said::Nothing if stat.ended => row.doubts = 0,
                    Said::Nothing => row.doubts += 1,
                },
            }
            row
        })
        .collect();
    inherit(&mut rows, me);
    rows
}

/// Gives processes without an owner the one of their nearest ancestor that has one. That goes up to
/// us and no further: we are no part of what we own, whoever has started us.
fn inherit(rows: &mut [Row], me: u32) {
    let by_pid: HashMap<u32, Row> = rows.iter().map(|row| (row.stat.pid, *row)).collect();
    let orphans = rows.iter_mut().filter(|row| row.owner == Owner::Unknown && row.stat.pid != me);
    for row in orphans {
        let mut parent = by_pid.get(&row.stat.parent);
        // The table changes while it is read, so it may show a circle.
        for _ in 0..MAX_DEPTH {
            match parent {
                Some(found) if found.stat.pid == me => break,
                Some(found) if found.owner == Owner::Unknown => {
                    parent = by_pid.get(&found.stat.parent);
                }
                Some(found) => {
                    row.owner = found.owner;
                    break;
                }
                None => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{MAX_DOUBTS, Owner, Row, Said, Seen, Stat, Trees, attribute};
    use crate::tree::Leader;

    const ME: u32 = 5;

    fn stat(pid: u32, parent: u32, group: u32, start: u64) -> Stat {
        Stat { pid, parent, group, ended: false, start, cpu: 0, resident: 0 }
    }

    fn rows(stats: &[Stat], seen: &[Row], cookies: &[(u32, Said)]) -> Vec<Row> {
        let trees: Trees =
            [(1, Leader { pid: 10, start: 100 }), (2, Leader { pid: 20, start: 100 })]
                .into_iter()
                .collect();
        let seen: HashMap<u32, Seen> = seen.iter().map(Row::seen).collect();
        attribute(stats.to_vec(), ME, &trees, &seen, |stat| {
            let said = cookies.iter().find(|(of, _)| *of == stat.pid);
            said.map_or(Said::Owner(Owner::Unknown), |(_, said)| *said)
        })
    }

    fn owners(stats: &[Stat], seen: &[Row], cookies: &[(u32, Owner)]) -> Vec<(u32, Owner)> {
        let cookies: Vec<(u32, Said)> =
            cookies.iter().map(|(pid, owner)| (*pid, Said::Owner(*owner))).collect();
        rows(stats, seen, &cookies).iter().map(|row| (row.stat.pid, row.owner)).collect()
    }

    fn row(stat: Stat, owner: Owner) -> Row {
        Row { stat, owner, doubts: 0 }
    }

    #[test]
    fn leader_group_cookie_and_descent_make_a_member() {
        let found = owners(
            &[
                stat(10, 5, 10, 100),
                stat(11, 1, 10, 101),
                stat(12, 1, 12, 101),
                stat(13, 12, 13, 102),
                stat(14, 13, 13, 102),
                stat(20, 5, 20, 100),
                stat(30, 1, 30, 50),
            ],
            &[],
            &[(12, Owner::Tree(1))],
        );
        let one = Owner::Tree(1);
        assert_eq!(
            found,
            [
                (10, one),
                (11, one),
                (12, one),
                (13, one),
                (14, one),
                (20, Owner::Tree(2)),
                (30, Owner::Unknown)
            ]
        );
    }

    #[test]
    fn a_recycled_number_makes_no_member() {
        let found = owners(&[stat(10, 1, 9, 200), stat(11, 1, 10, 99)], &[], &[]);
        assert_eq!(found, [(10, Owner::Unknown), (11, Owner::Unknown)]);
    }

    #[test]
    fn we_are_no_member_and_our_children_do_not_become_some_by_us() {
        let stats = [stat(12, 1, 12, 50), stat(ME, 12, ME, 60), stat(13, ME, 13, 101)];
        let found = owners(&stats, &[], &[(12, Owner::Tree(9))]);
        assert_eq!(found, [(12, Owner::Tree(9)), (ME, Owner::Unknown), (13, Owner::Unknown)]);
    }

    #[test]
    fn what_was_a_member_remains_one() {
        let was = row(stat(12, 10, 10, 101), Owner::Tree(1));
        assert_eq!(owners(&[stat(12, 1, 12, 101)], &[was], &[]), [(12, Owner::Tree(1))]);
        // Another process with its number is not it.
        assert_eq!(owners(&[stat(12, 1, 12, 102)], &[was], &[]), [(12, Owner::Unknown)]);
    }

    #[test]
    fn an_environment_is_read_once() {
        let was = row(stat(12, 1, 12, 101), Owner::Unknown);
        let asked = [(12, Owner::Tree(1))];
        assert_eq!(owners(&[stat(12, 1, 12, 101)], &[was], &asked), [(12, Owner::Unknown)]);
    }

    #[test]
    fn an_environment_that_is_not_there_yet_is_looked_for_again() {
        let orphan = stat(12, 1, 12, 101);
        let first = rows(&[orphan], &[], &[(12, Said::Nothing)]);
        assert!(first[0].is_doubtful());
        let second = rows(&[orphan], &first, &[(12, Said::Owner(Owner::Tree(1)))]);
        assert_eq!((second[0].owner, second[0].is_doubtful()), (Owner::Tree(1), false));

        let mut empty = first;
        for _ in 1..MAX_DOUBTS {
            assert!(empty[0].is_doubtful());
            empty = rows(&[orphan], &empty, &[(12, Said::Nothing)]);
        }
        assert!(!empty[0].is_doubtful(), "some have none");
        let later = rows(&[orphan], &empty, &[(12, Said::Owner(Owner::Tree(1)))]);
        assert_eq!(later[0].owner, Owner::Unknown);
    }

    #[test]
    fn members_of_other_instances_are_not_ours_and_circles_end() {
        let stats =
            [stat(12, 1, 12, 101), stat(13, 12, 13, 101), stat(14, 15, 1, 1), stat(15, 14, 1, 1)];
        let found = owners(&stats, &[], &[(12, Owner::Other)]);
        assert_eq!(
            found,
            [(12, Owner::Other), (13, Owner::Other), (14, Owner::Unknown), (15, Owner::Unknown)]
        );
    }
}
