//! When a server may be started again after it failed. Pure: `now` and chance come in.
//!
//! Each failed start makes the next one wait longer. After some in a row the server counts as
//! down: nobody waits for it any more, callers are told at once. After a while one start is tried;
//! if it works all is well, if not the server stays down for longer.
//!
//! Starts overlap, so every report says which start it is about: of a server that is down, what was
//! started before says nothing new.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

use crate::stats::Down;

/// The wait after the first failure; it doubles up to the longest.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// How often the time of being down doubles.
const DOUBLINGS: u32 = 4;

/// A process that lived this long has not failed to start.
pub(crate) const HEALTHY: Duration = Duration::from_secs(5);

/// The history of one server's starts.
#[derive(Debug)]
pub(crate) struct Crashes {
    attempts: u32,
    down_for: Duration,
    /// Failures since a process last lived well.
    failures: u32,
    /// How often the server was found down since then.
    rounds: u32,
    phase: Phase,
    /// When the server was found down, if it is.
    down_since: Option<Instant>,
    /// The last start that was allowed.
    last: Ordinal,
    /// The last one that had been allowed when the server was found down.
    last_before_down: Ordinal,
}

/// Which start something is about, in the order in which they were allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ordinal(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Starts are free, or free after this moment.
    Up(Option<Instant>),
    /// No start before this moment, and then only one.
    Down(Instant),
    /// That one is under way.
    Trying(Ordinal),
}

/// What a caller may do who wants a process started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Start(Ordinal),
    /// Wait until then and ask again.
    Wait(Instant),
    /// Give up: no start before this moment, if it is known.
    Down(Option<Instant>),
}

impl Crashes {
    pub(crate) const fn new(attempts: NonZeroU32, down_for: Duration) -> Self {
        let (attempts, phase) = (attempts.get(), Phase::Up(None));
        let (last, last_before_down) = (Ordinal(0), Ordinal(0));
        let (failures, rounds, down_since) = (0, 0, None);
        Self { attempts, down_for, failures, rounds, phase, down_since, last, last_before_down }
    }

    /// Whether a process may be started now. Who is told to start one, and does not, says
    /// [`Self::abandoned`].
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        match self.phase {
            Phase::Up(Some(from)) if now < from => Next::Wait(from),
            Phase::Up(_) => Next::Start(self.allow()),
            // Down => Trying: one start finds out for all.
            Phase::Down(until) if until <= now => {
                let start = self.allow();
                self.phase = Phase::Trying(start);
                Next::Start(start)
            }
            Phase::Down(until) => Next::Down(Some(until)),
            Phase::Trying(_) => Next::Down(None),
        }
    }

    /// A start has failed, or what it started has died young. `chance` is between 0 and 1.
    pub(crate) fn failed(&mut self, start: Ordinal, now: Instant, chance: f64) {
        if self.is_known(start) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let tried = matches!(self.phase, Phase::Trying(_));
        self.phase = if tried || self.failures >= self.attempts {
            // Up, Trying => Down.
            self.down_since.get_or_insert(now);
            self.last_before_down = self.last;
            let doubled = self.down_for.saturating_mul(1 << self.rounds.min(DOUBLINGS));
            self.rounds = self.rounds.saturating_add(1);
            // Never earlier than promised, and not all proxies at once.
            Phase::Down(now + doubled.mul_f64(1.0 + chance.clamp(0.0, 1.0) / 4.0))
        } else {
            let doubled = FIRST.saturating_mul(1 << (self.failures - 1).min(16)).min(LONGEST);
            Phase::Up(Some(now + doubled.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)))
        };
    }

    /// A process has answered. Whether it lives well is still to be seen, so that the next failure
    /// continues the row.
    pub(crate) fn answered(&mut self, start: Ordinal) {
        if matches!(self.phase, Phase::Trying(_)) && !self.is_known(start) {
            self.failures = self.attempts.saturating_sub(1);
            self.phase = Phase::Up(None);
            self.down_since = None;
        }
    }

    /// A process has lived well.
    pub(crate) fn lived_well(&mut self, start: Ordinal) {
        if self.is_known(start) {
            return;
        }
        self.failures = 0;
        self.rounds = 0;
        self.phase = Phase::Up(None);
        self.down_since = None;
    }

    /// A start was given up for reasons that say nothing about the server.
    pub(crate) fn abandoned(&mut self, start: Ordinal, now: Instant) {
        if self.phase == Phase::Trying(start) {
            self.phase = Phase::Down(now);
        }
    }

    fn allow(&mut self) -> Ordinal {
        self.last = Ordinal(self.last.0 + 1);
        self.last
    }

    /// Whether the server was found down after this start, whatever became of that.
    fn is_known(&self, start: Ordinal) -> bool {
        start <= self.last_before_down
    }

    /// Since when callers are turned away, if so, and when the next start is tried.
    pub(crate) fn down(&self) -> Option<Down> {
        let next_try = match self.phase {
            Phase::Up(_) => return None,
            Phase::Down(until) => Some(until),
            Phase::Trying(_) => None,
        };
        self.down_since.map(|since| Down { since, next_try })
    }

    /// Failures since a process last lived well.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use tokio::time::Instant;

    use super::{Crashes, Next, Ordinal};

    const DOWN: Duration = Duration::from_secs(30);

    fn crashes(attempts: u32) -> (Crashes, Instant) {
        (Crashes::new(NonZeroU32::new(attempts).unwrap(), DOWN), Instant::now())
    }

    #[track_caller]
    fn start(crashes: &mut Crashes, now: Instant) -> Ordinal {
        match crashes.next(now) {
            Next::Start(start) => start,
            next => panic!("no start: {next:?}"),
        }
    }

    /// Starts and fails.
    #[track_caller]
    fn fail(crashes: &mut Crashes, now: Instant, chance: f64) {
        let start = start(crashes, now);
        crashes.failed(start, now, chance);
    }

    #[test]
    fn waits_double_up_to_a_limit_within_their_jitter() {
        for (chance, share) in [(0.0, 0.5), (1.0, 1.0)] {
            let (mut crashes, mut now) = crashes(100);
            let mut waits = Vec::new();
            for _ in 0..8 {
                fail(&mut crashes, now, chance);
                let Next::Wait(until) = crashes.next(now) else { panic!("it should wait") };
                waits.push((until - now).as_millis());
                now = until;
            }
            let expected = [100, 200, 400, 800, 1600, 3200, 5000, 5000];
            let expected = expected.map(|ms| Duration::from_millis(ms).mul_f64(share).as_millis());
            assert_eq!(waits, expected);
        }
    }

    #[test]
    fn after_enough_failures_one_start_finds_out_for_all() {
        let (mut crashes, mut now) = crashes(2);
        fail(&mut crashes, now, 0.0);
        assert!(crashes.down().is_none());
        now += Duration::from_secs(1);
        fail(&mut crashes, now, 0.0);
        let down = crashes.down().unwrap();
        assert_eq!((down.since, down.next_try), (now, Some(now + DOWN)));
        assert_eq!(crashes.next(now), Next::Down(Some(now + DOWN)));
        let later = now + DOWN;
        let tried = start(&mut crashes, later);
        assert_eq!(crashes.next(later), Next::Down(None), "one is enough");
        crashes.abandoned(tried, later);
        // The one that was given up proved nothing.
        fail(&mut crashes, later, 1.0);
        assert_eq!(crashes.next(later), Next::Down(Some(later + DOWN * 5 / 2)), "doubled, late");
    }

    #[test]
    fn an_answer_ends_the_wait_and_only_a_good_life_ends_the_row() {
        let (mut crashes, mut now) = crashes(2);
        for _ in 0..2 {
            now += Duration::from_secs(1);
            fail(&mut crashes, now, 0.0);
        }
        let later = now + DOWN;
        let tried = start(&mut crashes, later);
        crashes.answered(tried);
        fail(&mut crashes, later, 0.0);
        assert_eq!(crashes.next(later), Next::Down(Some(later + DOWN * 2)));
        let much_later = later + DOWN * 2;
        let tried = start(&mut crashes, much_later);
        crashes.answered(tried);
        crashes.lived_well(tried);
        assert_eq!(crashes.failures(), 0);
        fail(&mut crashes, much_later, 0.0);
        assert!(crashes.down().is_none(), "the row begins anew");
    }

    #[test]
    fn of_a_server_that_is_down_only_later_starts_say_something() {
        let (mut crashes, now) = crashes(2);
        let starts: Vec<_> = (0..5).map(|_| start(&mut crashes, now)).collect();
        crashes.failed(starts[0], now, 0.0);
        crashes.failed(starts[1], now, 0.0);
        let until = now + DOWN;
        let before = |crashes: &mut Crashes| {
            crashes.failed(starts[2], now, 0.0);
            crashes.abandoned(starts[3], now);
            crashes.answered(starts[4]);
            crashes.lived_well(starts[4]);
        };
        before(&mut crashes);
        assert_eq!(crashes.next(now), Next::Down(Some(until)), "neither longer nor shorter");
        let tried = start(&mut crashes, until);
        before(&mut crashes);
        assert_eq!(crashes.next(until), Next::Down(None), "the try is still under way");
        crashes.answered(tried);
        before(&mut crashes);
        assert_eq!(crashes.failures(), 1, "the next failure continues the row");
        crashes.lived_well(tried);
        assert_eq!(crashes.failures(), 0);
    }

    #[test]
    fn a_try_that_was_given_up_does_not_give_up_the_next() {
        let (mut crashes, mut now) = crashes(1);
        fail(&mut crashes, now, 0.0);
        now += DOWN;
        let first = start(&mut crashes, now);
        crashes.abandoned(first, now);
        let second = start(&mut crashes, now);
        crashes.abandoned(first, now);
        assert_eq!(crashes.next(now), Next::Down(None), "the second is under way");
        crashes.abandoned(second, now);
        // What was only put by and answers all the same shows that the server works.
        start(&mut crashes, now);
        crashes.answered(first);
        assert!(crashes.down().is_none());
    }

    #[test]
    fn the_time_of_being_down_stops_doubling() {
        let (mut crashes, mut now) = crashes(1);
        let mut waits = Vec::new();
        for _ in 0..7 {
            fail(&mut crashes, now, 0.0);
            let Next::Down(Some(until)) = crashes.next(now) else { panic!("it should be down") };
            waits.push((until - now).as_secs());
            now = until;
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 480, 480]);
    }
}
