//! When to look for the members of a doomed tree, and when to stop looking.
//!
//! One look is not enough: what is killed takes a moment to go, and may have forked just before.

/// From a kill to the first look, if the end of the leader does not call for it sooner.
const LAG: u64 = 20;

/// The longest pause between two looks.
const MAX_PAUSE: u64 = 100;

/// After this long, what is still there cannot be killed: it waits for a device, or it is not ours
/// to kill.
const PATIENCE: u64 = 5_000;

/// A pursuit. Times are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chase {
    due: u64,
    pause: u64,
    until: u64,
}

/// What a look has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There were some. Look again when it is due.
    Again,
    /// There was nobody.
    Over,
    /// They stay, whatever we do.
    GaveUp,
}

impl Chase {
    /// Begins after a kill.
    pub(crate) const fn begin(now: u64) -> Self {
        Self { due: now + LAG, pause: 1, until: now + PATIENCE }
    }

    /// Nothing is to be waited for any more.
    pub(crate) fn hurry(&mut self, now: u64) {
        self.due = self.due.min(now);
    }

    pub(crate) const fn due(&self) -> u64 {
        self.due
    }

    /// Takes note of a look that failed, which says nothing about anybody and costs no patience.
    pub(crate) fn failed(&mut self, now: u64) {
        self.until = self.until.max(now + PATIENCE);
        self.wait(now);
    }

    /// Takes note of a look that found so many members, and so many processes that could be some.
    pub(crate) const fn found(&mut self, alive: usize, doubtful: usize, now: u64) -> Step {
        if alive == 0 && doubtful == 0 {
            return Step::Over;
        }
        if now >= self.until {
            return if alive == 0 { Step::Over } else { Step::GaveUp };
        }
        self.wait(now);
        Step::Again
    }

    const fn wait(&mut self, now: u64) {
        self.due = now + self.pause;
        self.pause = if self.pause < MAX_PAUSE / 2 { self.pause * 2 } else { MAX_PAUSE };
    }
}

#[cfg(test)]
mod tests {
    use super::{Chase, LAG, PATIENCE, Step};

    #[test]
    fn it_is_over_when_nobody_is_left() {
        let mut chase = Chase::begin(1000);
        assert_eq!(chase.due(), 1000 + LAG);
        chase.hurry(1005);
        assert_eq!(chase.due(), 1005);
        assert_eq!(chase.found(2, 0, 1005), Step::Again);
        assert_eq!(chase.due(), 1006);
        assert_eq!(chase.found(0, 1, 1006), Step::Again);
        assert_eq!(chase.due(), 1008);
        assert_eq!(chase.found(0, 0, 1008), Step::Over);
    }

    #[test]
    fn a_look_that_failed_says_nothing_about_anybody() {
        let mut chase = Chase::begin(0);
        while chase.due() < 2 * PATIENCE {
            chase.failed(chase.due());
        }
        let now = chase.due();
        assert_eq!(chase.found(1, 0, now), Step::Again, "the first that it could kill");
        assert_eq!(chase.found(0, 0, chase.due()), Step::Over);
    }

    #[test]
    fn it_gives_up_on_what_cannot_be_killed() {
        let mut chase = Chase::begin(0);
        let mut looks = 0;
        loop {
            looks += 1;
            let now = chase.due();
            match chase.found(1, 0, now) {
                Step::Again => (),
                Step::GaveUp => break assert!((PATIENCE..PATIENCE + 200).contains(&now)),
                Step::Over => unreachable!(),
            }
        }
        assert!((50..70).contains(&looks), "{looks}");
    }
}
