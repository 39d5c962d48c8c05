//! Ending a process: ask, insist, kill. Pure: `now` comes in, the next step comes out.

use std::time::Duration;

use tokio::time::Instant;

/// How far the end of a process has come.
#[derive(Debug)]
pub(crate) struct Escalation {
    grace: Duration,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    /// Stdin is to be closed as soon as what is queued is written, or at this moment.
    Asked(Instant),
    /// SIGTERM was sent.
    Insisted(Instant),
    Killed,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Close stdin if it is still open, and send SIGTERM to the group.
    Terminate,
    /// Send SIGKILL to the group.
    Kill,
}

impl Escalation {
    pub(crate) const fn new(grace: Duration) -> Self {
        Self { grace, stage: Stage::Idle }
    }

    /// Starts it. A second start changes nothing.
    pub(crate) fn begin(&mut self, now: Instant) {
        if self.stage == Stage::Idle {
            self.stage = Stage::Asked(now + self.grace);
        }
    }

    /// Skips what is left: the caller kills now.
    pub(crate) const fn kill(&mut self) {
        self.stage = Stage::Killed;
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.stage != Stage::Idle
    }

    /// When [`Self::step`] has something to say.
    pub(crate) const fn due(&self) -> Option<Instant> {
        match self.stage {
            Stage::Idle | Stage::Killed => None,
            Stage::Asked(due) | Stage::Insisted(due) => Some(due),
        }
    }

    pub(crate) fn step(&mut self, now: Instant) -> Option<Step> {
        match self.stage {
            // Asked => Insisted: the process did not end when its stdin did.
            Stage::Asked(due) if due <= now => {
                self.stage = Stage::Insisted(now + self.grace);
                Some(Step::Terminate)
            }
            // Insisted => Killed: it ignores SIGTERM.
            Stage::Insisted(due) if due <= now => {
                self.stage = Stage::Killed;
                Some(Step::Kill)
            }
            Stage::Idle | Stage::Asked(_) | Stage::Insisted(_) | Stage::Killed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Escalation, Step};

    #[test]
    fn each_step_waits_for_the_grace_and_happens_once() {
        let grace = Duration::from_secs(2);
        let start = Instant::now();
        let mut escalation = Escalation::new(grace);
        assert_eq!(escalation.due(), None);
        assert_eq!(escalation.step(start + grace * 9), None, "not begun");
        escalation.begin(start);
        escalation.begin(start + grace);
        assert_eq!(escalation.due(), Some(start + grace), "the first start counts");
        assert_eq!(escalation.step(start + grace / 2), None);
        assert_eq!(escalation.step(start + grace), Some(Step::Terminate));
        assert_eq!(escalation.step(start + grace), None);
        assert_eq!(escalation.step(start + grace * 2), Some(Step::Kill));
        assert_eq!(escalation.step(start + grace * 9), None);
        assert_eq!(escalation.due(), None);
    }
}
