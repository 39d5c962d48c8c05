//! Whether a connection is in use, seen from both its ends: requests enter and leave, the byte
//! stream asks. In HTTP/2 also whether its client takes what is ready for it, which there the byte
//! stream cannot tell: a client that opens no window still reads frames. That is asked of the
//! connection, and of each of its streams.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{self, Instant, Sleep},
};

use crate::params::Timeouts;

/// The requests that a connection is busy with.
#[derive(Debug)]
pub(crate) struct Activity {
    timeouts: Timeouts,
    in_flight: AtomicUsize,
    epoch: Instant,
    /// Milliseconds after the epoch at which the last request left.
    left: AtomicU64,
    /// HTTP/2: how many responses have something ready that the client has not taken.
    ready: AtomicUsize,
    /// HTTP/2: milliseconds after the epoch at which it last took something, or had nothing to
    /// take.
    taken: AtomicU64,
    /// A timer for whoever waits for an answer next. Armed for an earlier call it fires too early
    /// once, which costs less than to arm one for each call.
    alarm: Mutex<Option<Alarm>>,
    /// HTTP/1.1: how long the client may take nothing of the response that it is given now, in
    /// milliseconds, where that is less than in general.
    patience: AtomicU64,
    /// HTTP/1.1: it has taken nothing for that long.
    has_stalled: AtomicBool,
    /// HTTP/2: the request that has just entered, for the task that will serve it.
    entering: Mutex<Option<Arc<Taking>>>,
}

type Alarm = Pin<Box<Sleep>>;

/// A limit to a wait that hardly ever matters.
pub(crate) struct Patience<'a> {
    activity: &'a Activity,
    alarm: Option<Alarm>,
    until: Instant,
}

/// HTTP/2: whether the client takes what is ready for it on one stream.
#[derive(Debug)]
pub(crate) struct Taking {
    activity: Arc<Activity>,
    /// Milliseconds after the epoch at which it last took something; `u64::MAX` where nothing is
    /// ready.
    since: AtomicU64,
    /// How long it may take nothing, in milliseconds.
    patience: AtomicU64,
    /// Told when that is known.
    judged: Notify,
    has_stalled: AtomicBool,
}

/// Proof that a request is under way, from its head to the end of its response's body.
#[derive(Debug)]
pub(crate) struct Entered {
    activity: Arc<Activity>,
    /// Whether something is ready for the client that it has not taken.
    has_ready: bool,
    /// HTTP/2.
    taking: Option<Arc<Taking>>,
}

impl Activity {
    pub(crate) fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            in_flight: AtomicUsize::new(0),
            epoch: Instant::now(),
            left: AtomicU64::new(0),
            ready: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            alarm: Mutex::new(None),
            patience: AtomicU64::new(u64::MAX),
            has_stalled: AtomicBool::new(false),
            entering: Mutex::default(),
        }
    }

    pub(crate) const fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    pub(crate) fn enter(self: &Arc<Self>) -> Entered {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Entered { activity: Arc::clone(self), has_ready: false, taking: None }
    }

    /// HTTP/2: the same for one of several requests.
    pub(crate) fn enter_stream(self: &Arc<Self>) -> Entered {
        let taking = Arc::new(Taking {
            activity: Arc::clone(self),
            since: AtomicU64::new(u64::MAX),
            patience: AtomicU64::new(u64::MAX),
            judged: Notify::new(),
            has_stalled: AtomicBool::new(false),
        });
        *self.entering.lock() = Some(Arc::clone(&taking));
        let mut entered = self.enter();
        entered.taking = Some(taking);
        entered
    }

    /// HTTP/2: what is to be known of the request that has just entered.
    pub(crate) fn entering(&self) -> Option<Arc<Taking>> {
        self.entering.lock().take()
    }

    /// HTTP/1.1: how long the client may take nothing now.
    pub(crate) fn patience(&self) -> Duration {
        let patience = Duration::from_millis(self.patience.load(Ordering::Relaxed));
        patience.min(self.timeouts.write_stall)
    }

    /// HTTP/1.1: notes that it has taken nothing for that long.
    pub(crate) fn note_stalled(&self) {
        self.has_stalled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// When the last request left, or the connection was made.
    pub(crate) fn rests_since(&self) -> Instant {
        self.at(&self.left)
    }

    /// Ends when no request has been under way for this long.
    pub(crate) async fn idle_for(&self, patience: Duration) {
        once_for(patience, || (!self.is_busy()).then(|| self.rests_since())).await;
    }

    /// HTTP/2: ends when the client has taken nothing for the write-stall time, although something
    /// was ready all the time.
    pub(crate) async fn stalled(&self) {
        let has_ready = || self.ready.load(Ordering::Relaxed) > 0;
        once_for(self.timeouts.write_stall, || has_ready().then(|| self.at(&self.taken))).await;
    }

    fn at(&self, millis: &AtomicU64) -> Instant {
        self.epoch + Duration::from_millis(millis.load(Ordering::Relaxed))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Taking {
    /// Ends when the client has taken nothing of the stream for too long, although something was
    /// ready all the time.
    pub(crate) async fn stalled(&self) {
        self.judged.notified().await;
        let since = || match self.since.load(Ordering::Relaxed) {
            u64::MAX => None,
            millis => Some(self.activity.epoch + Duration::from_millis(millis)),
        };
        loop {
            let patience = Duration::from_millis(self.patience.load(Ordering::Relaxed));
            tokio::select! {
                () = once_for(patience, since) => break,
                // Its route has said something else.
                () = self.judged.notified() => (),
            }
        }
        self.has_stalled.store(true, Ordering::Relaxed);
    }
}

/// Ends when something has been so for a time. `since` tells from when on it is so.
async fn once_for(patience: Duration, since: impl Fn() -> Option<Instant>) {
    loop {
        let rest = since().map_or(patience, |since| patience.saturating_sub(since.elapsed()));
        if rest.is_zero() {
            return;
        }
        time::sleep(rest).await;
    }
}

impl Patience<'_> {
    /// Ready once the time is up.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = self.until;
        let alarm = self.alarm.get_or_insert_with(|| {
            let kept = self.activity.alarm.lock().take();
            kept.unwrap_or_else(|| Box::pin(time::sleep_until(until)))
        });
        if alarm.deadline() > until {
            alarm.as_mut().reset(until);
        }
        while alarm.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(until);
        }
        Poll::Pending
    }
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        if self.alarm.is_some() {
            *self.activity.alarm.lock() = self.alarm.take();
        }
    }
}

impl Entered {
    /// The patience of somebody who begins to wait for an answer.
    pub(crate) fn patience(&self) -> Patience<'_> {
        let until = Instant::now() + self.activity.timeouts.heartbeat;
        Patience { activity: &self.activity, alarm: None, until }
    }

    /// Says that it matters from now on how long the client takes nothing of the response, and if
    /// that is less than in general, how long it may.
    pub(crate) fn judge(&self, patience: Option<Duration>) {
        let stall = self.activity.timeouts.write_stall;
        let patience = patience.map_or(stall, |patience| patience.min(stall));
        let millis = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        match &self.taking {
            None => self.activity.patience.store(millis, Ordering::Relaxed),
            Some(taking) => {
                taking.patience.store(millis, Ordering::Relaxed);
                taking.judged.notify_one();
            }
        }
    }

    /// Whether the client took nothing of the response for too long.
    pub(crate) fn has_stalled(&self) -> bool {
        let has_stalled = self.taking.as_ref().map(|taking| &taking.has_stalled);
        has_stalled.unwrap_or(&self.activity.has_stalled).load(Ordering::Relaxed)
    }

    /// HTTP/2: notes that something is ready that the client has not taken.
    pub(crate) fn waits(&mut self) {
        if !self.has_ready {
            self.has_ready = true;
            // The first that waits starts the clock; the last would stop it for all.
            if self.activity.ready.fetch_add(1, Ordering::Relaxed) == 0 {
                self.note_taken();
            }
            if let Some(taking) = &self.taking {
                taking.since.store(self.activity.now(), Ordering::Relaxed);
            }
        }
    }

    /// HTTP/2: notes that the client has taken something, and whether more is ready for it.
    pub(crate) fn took(&mut self, has_more: bool) {
        match (self.has_ready, has_more) {
            (false, true) => drop(self.activity.ready.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.activity.ready.fetch_sub(1, Ordering::Relaxed)),
            (false, false) | (true, true) => (),
        }
        self.has_ready = has_more;
        self.note_taken();
        if let Some(taking) = &self.taking {
            let since = if has_more { self.activity.now() } else { u64::MAX };
            taking.since.store(since, Ordering::Relaxed);
        }
    }

    fn note_taken(&self) {
        self.activity.taken.store(self.activity.now(), Ordering::Relaxed);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if self.has_ready {
            self.activity.ready.fetch_sub(1, Ordering::Relaxed);
        }
        if self.taking.is_none() {
            self.activity.patience.store(u64::MAX, Ordering::Relaxed);
        }
        self.activity.left.store(self.activity.now(), Ordering::Relaxed);
        self.activity.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::{Instant, sleep, timeout};

    use super::Activity;
    use crate::params::Timeouts;

    const SECOND: Duration = Duration::from_secs(1);

    fn activity() -> Arc<Activity> {
        Arc::new(Activity::new(Timeouts { write_stall: 60 * SECOND, ..Timeouts::default() }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_begins_when_the_last_request_leaves() {
        let activity = activity();
        let began = Instant::now();
        let requests = async {
            sleep(50 * SECOND).await;
            let first = activity.enter();
            let second = activity.enter();
            sleep(100 * SECOND).await;
            drop(first);
            sleep(10 * SECOND).await;
            drop(second);
        };
        tokio::join!(activity.idle_for(75 * SECOND), requests);
        assert_eq!(began.elapsed().as_secs(), 160 + 75);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_stalls_that_takes_nothing_of_what_is_ready() {
        let activity = activity();
        let mut slow = activity.enter();
        let mut stuck = activity.enter();
        assert!(timeout(600 * SECOND, activity.stalled()).await.is_err(), "nothing is ready");
        stuck.waits();
        slow.waits();
        for _ in 0..10 {
            assert!(timeout(50 * SECOND, activity.stalled()).await.is_err(), "it takes something");
            slow.took(true);
        }
        let began = Instant::now();
        slow.took(false);
        activity.stalled().await;
        assert_eq!(began.elapsed().as_secs(), 60, "what is left is not taken");
        drop(stuck);
        assert!(timeout(600 * SECOND, activity.stalled()).await.is_err(), "and now it is gone");
    }
}
