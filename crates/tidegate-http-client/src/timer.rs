//! One timer per connection, armed as rarely as possible.
//!
//! Every call has deadlines, hardly any is reached, and arming a timer costs as much as checking a
//! connection out. So a timer that is armed too early is left alone: it fires once too often and is
//! armed again then, which happens once per timeout instead of once per call.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{self, Instant, Sleep};

/// A deadline that can be watched.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Sets or removes the deadline.
    pub(crate) const fn set(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Ready once the deadline has passed.
    pub(crate) fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use futures_util::FutureExt as _;
    use tokio::time::{self, Instant};

    use super::Timer;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn it_fires_at_the_deadline_whatever_was_armed_before() {
        let start = Instant::now();
        let mut timer = Timer::default();
        assert!(poll_fn(|cx| timer.poll_passed(cx)).now_or_never().is_none(), "nothing is set");
        for (seconds, expected) in [(10, 10), (15, 15), (12, 15), (40, 40)] {
            // 12 lies in the past by then and counts as passed at once.
            timer.set(Some(start + seconds * SECOND));
            poll_fn(|cx| timer.poll_passed(cx)).await;
            assert_eq!(start.elapsed().as_secs(), expected);
        }
        // Armed late, then wanted earlier; armed early, then wanted later.
        timer.set(Some(start + 90 * SECOND));
        assert!(poll_fn(|cx| timer.poll_passed(cx)).now_or_never().is_none());
        timer.set(Some(start + 50 * SECOND));
        poll_fn(|cx| timer.poll_passed(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 50);
        timer.set(Some(start + 60 * SECOND));
        assert!(poll_fn(|cx| timer.poll_passed(cx)).now_or_never().is_none());
        timer.set(Some(start + 70 * SECOND));
        poll_fn(|cx| timer.poll_passed(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 70);
        timer.set(None);
        time::advance(100 * SECOND).await;
        assert!(poll_fn(|cx| timer.poll_passed(cx)).now_or_never().is_none());
    }
}
