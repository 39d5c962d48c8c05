//! A brake for the storm that follows when a server with many streams goes away.
//!
//! All of its streams break at once and would all come back at once. Here they come in order: only
//! so many at a time, and no faster than a rate.

use std::{future::Future, pin::pin, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{self, Instant},
};

use crate::Reconnect;

/// The most streams that may wait for their turn. One more fails this attempt and is back after
/// its next pause.
const MAX_WAITING: usize = 16_384;

/// How long an attempt keeps others out. A server that takes longer may let the client wait, but
/// not all the others.
const MAX_TURN: Duration = Duration::from_secs(5);

/// The turns of one upstream.
#[derive(Debug)]
pub(crate) struct Brake {
    /// Fair: turns are taken in the order of arrival.
    turns: Semaphore,
    line: Semaphore,
    interval: Duration,
    /// When the next one may go.
    next: Mutex<Option<Instant>>,
}

/// The right to reconnect now. Dropping it lets the next one in.
#[derive(Debug)]
struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
}

/// Too many wait already.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Crowded;

impl Brake {
    pub(crate) fn new(params: &Reconnect) -> Self {
        Self {
            turns: Semaphore::new(params.at_once.max(1)),
            line: Semaphore::new(MAX_WAITING),
            interval: Duration::from_secs(1) / params.per_second.max(1),
            next: Mutex::new(None),
        }
    }

    /// Waits for a turn and makes an attempt in it.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it gives up its turn or its place in the line, and drops the attempt.
    pub(super) async fn run<F: Future>(&self, attempt: F) -> Result<F::Output, Crowded> {
        let turn = self.enter().await?;
        let mut attempt = pin!(attempt);
        if let Ok(outcome) = time::timeout(MAX_TURN, attempt.as_mut()).await {
            return Ok(outcome);
        }
        drop(turn);
        Ok(attempt.await)
    }

    /// Waits for a turn.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it gives up its place in the line; those behind it move up.
    async fn enter(&self) -> Result<Turn<'_>, Crowded> {
        let place = self.line.try_acquire().map_err(|_| Crowded)?;
        // Never closed.
        let permit = self.turns.acquire().await.map_err(|_| Crowded)?;
        drop(place);
        // With the permit, so that no more than those who have one wait for their moment.
        time::sleep_until(self.moment(Instant::now())).await;
        Ok(Turn { _permit: permit })
    }

    /// The next free moment, which is taken with it.
    fn moment(&self, now: Instant) -> Instant {
        let mut next = self.next.lock();
        let moment = next.map_or(now, |next| next.max(now));
        *next = Some(moment + self.interval);
        moment
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::{FutureExt as _, future::join_all};
    use tokio::time::Instant;

    use super::{Brake, Crowded, MAX_TURN, MAX_WAITING};
    use crate::Reconnect;

    fn brake(at_once: usize, per_second: u32) -> Brake {
        Brake::new(&Reconnect { at_once, per_second, ..Reconnect::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_at_their_rate_and_in_order() {
        let brake = brake(3, 10);
        let start = Instant::now();
        let order = parking_lot::Mutex::new(Vec::new());
        join_all((0..20).map(|number| {
            let (brake, order) = (&brake, &order);
            async move {
                let _turn = brake.enter().await.unwrap();
                order.lock().push(number);
            }
        }))
        .await;
        assert_eq!(*order.lock(), (0..20).collect::<Vec<_>>());
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(1_900) && took < Duration::from_secs(2), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_go_at_once_and_who_leaves_makes_room() {
        let brake = brake(2, 1_000);
        let (first, second) = (brake.enter().await.unwrap(), brake.enter().await.unwrap());
        let mut third = Box::pin(brake.enter());
        let mut fourth = Box::pin(brake.enter());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(fourth.as_mut().now_or_never().is_none());
        drop(third);
        drop(first);
        let fourth = fourth.await.unwrap();
        drop((second, fourth));
        assert_eq!(
            (brake.turns.available_permits(), brake.line.available_permits()),
            (2, MAX_WAITING)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_without_an_end_does_not_keep_the_others_out() {
        let brake = brake(1, 1_000);
        let mut endless = Box::pin(brake.run(std::future::pending::<()>()));
        let start = Instant::now();
        assert!(endless.as_mut().now_or_never().is_none());
        tokio::select! {
            _ = endless.as_mut() => unreachable!(),
            done = brake.run(std::future::ready(7)) => assert_eq!(done, Ok(7)),
        }
        assert!(start.elapsed() >= MAX_TURN && start.elapsed() < 2 * MAX_TURN);
        // It goes on itself.
        assert!(endless.as_mut().now_or_never().is_none());
        drop(endless);
        assert_eq!(brake.turns.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_is_bounded() {
        let brake = brake(1, 1_000);
        let _turn = brake.enter().await.unwrap();
        let mut line: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(brake.enter())).collect();
        for waiter in &mut line {
            assert!(waiter.as_mut().now_or_never().is_none());
        }
        assert_eq!(brake.enter().await.err(), Some(Crowded));
        line.pop();
        assert!(brake.enter().now_or_never().is_none(), "there is room in the line again");
    }
}
