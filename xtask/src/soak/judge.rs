//! What a reader got against what its server sent. Pure: numbers in, faults out.

use std::collections::BTreeSet;

/// What can be wrong with a transcript.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// Sent and never read, though the reader stayed until the end.
    pub(super) lost: u64,
    /// Read more often than asked for.
    pub(super) doubled: u64,
    /// Read after one that was sent later.
    pub(super) reordered: u64,
    /// Of another stream.
    pub(super) foreign: u64,
}

impl Faults {
    pub(super) const fn is_none(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.reordered == 0 && self.foreign == 0
    }

    pub(super) const fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.foreign += other.foreign;
    }
}

/// One stream as its reader sees it: events 1, 2, 3 … of one name.
#[derive(Debug)]
pub(super) struct Transcript {
    name: String,
    /// The last number that was read.
    at: u64,
    /// Smaller numbers that were not.
    missing: BTreeSet<u64>,
    faults: Faults,
}

impl Transcript {
    pub(super) fn new(name: &str) -> Self {
        let (missing, faults) = (BTreeSet::new(), Faults::default());
        Self { name: name.to_owned(), at: 0, missing, faults }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    /// The reader comes back with an id from before what it has read: all that followed on it is
    /// owed once more.
    pub(super) const fn go_back_to(&mut self, number: u64) {
        if number < self.at {
            self.at = number;
        }
    }

    /// The reader begins anew where it has nothing to go on from: it is owed what follows.
    pub(super) const fn begin_after(&mut self, number: u64) {
        self.at = number;
    }

    /// An event has come.
    pub(super) fn saw(&mut self, name: &str, number: u64) {
        if name != self.name {
            self.faults.foreign += 1;
        } else if number > self.at {
            self.missing.extend(self.at + 1..number);
            self.missing.remove(&number);
            self.at = number;
        } else if self.missing.remove(&number) {
            self.faults.reordered += 1;
        } else {
            self.faults.doubled += 1;
        }
    }

    /// The stream is over; all of it was owed, or, without `total`, what came before the last one
    /// that was read.
    pub(super) fn close(&mut self, total: Option<u64>) -> Faults {
        let tail = total.map_or(0, |total| total.saturating_sub(self.at));
        self.faults.lost = self.missing.len() as u64 + tail;
        self.faults
    }
}

#[cfg(test)]
mod tests {
    use super::{Faults, Transcript};

    fn faults(numbers: &[u64], total: Option<u64>) -> Faults {
        let mut transcript = Transcript::new("a");
        for number in numbers {
            transcript.saw("a", *number);
        }
        transcript.close(total)
    }

    #[test]
    fn a_whole_stream_has_no_fault() {
        assert!(faults(&[1, 2, 3, 4], Some(4)).is_none());
        assert!(faults(&[], Some(0)).is_none());
        assert!(faults(&[1, 2], None).is_none());
    }

    #[test]
    fn what_is_lost_doubled_or_out_of_order_is_found_and_told_apart() {
        let none = Faults::default();
        for (numbers, expected) in [
            (&[1, 2, 4][..], Faults { lost: 1, ..none }),
            (&[1, 2], Faults { lost: 2, ..none }),
            (&[2, 3, 4], Faults { lost: 1, ..none }),
            (&[1, 2, 2, 3, 4], Faults { doubled: 1, ..none }),
            (&[1, 2, 3, 1, 4], Faults { doubled: 1, ..none }),
            (&[1, 3, 2, 4], Faults { reordered: 1, ..none }),
            (&[1, 3, 2, 2, 4], Faults { reordered: 1, doubled: 1, ..none }),
            (&[4], Faults { lost: 3, ..none }),
            (&[4, 1], Faults { lost: 2, reordered: 1, ..none }),
        ] {
            assert_eq!(faults(numbers, Some(4)), expected, "{numbers:?}");
        }
    }

    #[test]
    fn an_event_of_another_stream_is_found_whatever_its_number() {
        let mut transcript = Transcript::new("a");
        transcript.saw("a", 1);
        transcript.saw("b", 2);
        transcript.saw("a", 2);
        assert_eq!(transcript.close(Some(2)), Faults { foreign: 1, ..Faults::default() });
    }

    #[test]
    fn what_is_asked_for_again_may_come_again_and_must() {
        let mut transcript = Transcript::new("a");
        for number in [1, 2, 3] {
            transcript.saw("a", number);
        }
        transcript.go_back_to(1);
        for number in [2, 3, 4] {
            transcript.saw("a", number);
        }
        assert!(transcript.close(Some(4)).is_none());
        transcript.go_back_to(2);
        transcript.saw("a", 4);
        assert_eq!(transcript.close(Some(4)).lost, 1);
    }

    #[test]
    fn a_stream_that_was_truthfully_cut_owes_no_more_but_has_no_hole() {
        assert_eq!(faults(&[1, 2, 4], None).lost, 1);
        assert!(faults(&[1, 2, 3], None).is_none());
    }
}
