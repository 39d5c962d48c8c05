//! Which strays nobody can claim.
//!
//! A stray that shows no sign of its tree may belong to any that lived when it was first seen. It is
//! let be as long as one of those lives, and is nobody's afterwards.

use std::collections::BTreeMap;

use crate::table::{Owner, Row};

/// The strays without a sign, by number and start, with the youngest tree that could be theirs.
#[derive(Debug, Default)]
pub(crate) struct Ownerless(BTreeMap<(u32, u64), u64>);

impl Ownerless {
    /// Takes note of the adopted, of the oldest tree and of the youngest there has ever been, and
    /// returns the strays that are nobody's.
    pub(crate) fn judge<'a>(
        &mut self,
        adopted: impl Iterator<Item = &'a Row>,
        oldest: Option<u64>,
        youngest: u64,
    ) -> Vec<Row> {
        let before = std::mem::take(&mut self.0);
        let mut nobodys = Vec::new();
        for row in adopted.filter(|row| row.owner == Owner::Unknown && !row.stat.ended) {
            let named = (row.stat.pid, row.stat.start);
            let last = before.get(&named).copied().unwrap_or(youngest);
            self.0.insert(named, last);
            if !row.is_doubtful() && oldest.is_none_or(|oldest| oldest > last) {
                nobodys.push(*row);
            }
        }
        nobodys
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Ownerless;
    use crate::table::{Owner, Row};

    fn judge(
        ownerless: &mut Ownerless,
        rows: &[Row],
        oldest: Option<u64>,
        youngest: u64,
    ) -> Vec<u32> {
        let nobodys = ownerless.judge(rows.iter(), oldest, youngest);
        nobodys.iter().map(|row| row.stat.pid).collect()
    }

    #[test]
    fn a_stray_is_nobodys_when_all_are_gone_that_it_can_belong_to() {
        let mut ownerless = Ownerless::default();
        let stray = [Row::of(12, 100, Owner::Unknown)];
        assert!(judge(&mut ownerless, &stray, Some(1), 2).is_empty());
        assert!(judge(&mut ownerless, &stray, Some(2), 3).is_empty(), "the second may own it");
        assert!(!ownerless.is_empty());
        assert_eq!(judge(&mut ownerless, &stray, Some(3), 3), [12], "the third is too young");
        assert_eq!(judge(&mut ownerless, &stray, None, 3), [12]);
        // Another process with its number is seen for the first time.
        let other = [Row::of(12, 101, Owner::Unknown)];
        assert!(judge(&mut ownerless, &other, Some(3), 3).is_empty());
        assert!(judge(&mut ownerless, &[], Some(3), 3).is_empty());
        assert!(ownerless.is_empty());
    }

    #[test]
    fn one_with_an_owner_is_not_judged() {
        let mut ownerless = Ownerless::default();
        let rows = [Row::of(12, 100, Owner::Tree(1)), Row::of(13, 100, Owner::Other)];
        assert!(judge(&mut ownerless, &rows, None, 3).is_empty());
        assert!(ownerless.is_empty());
    }

    #[test]
    fn one_in_doubt_is_noted_and_not_judged() {
        let mut ownerless = Ownerless::default();
        let stray = Row::of(12, 100, Owner::Unknown);
        assert!(judge(&mut ownerless, &[stray.in_doubt()], Some(1), 1).is_empty());
        assert!(judge(&mut ownerless, &[stray.in_doubt()], None, 5).is_empty());
        assert_eq!(judge(&mut ownerless, &[stray], Some(2), 5), [12]);
    }
}
