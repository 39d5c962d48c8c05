//! What users of a gate rely on: bounds, order, patience, and that every place comes back.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{num::NonZeroU32, time::Duration};

use futures_util::{FutureExt as _, future::join_all};
use tidegate_pool::{CheckoutError, Gate, GateParams, GateStats, Pass};
use tokio::time::{self, Instant};

const SECOND: Duration = Duration::from_secs(1);

fn gate(max: u32, max_waiting: usize) -> Gate {
    let max = NonZeroU32::new(max).unwrap();
    Gate::new(GateParams { max, max_waiting, acquire_timeout: SECOND })
}

#[track_caller]
fn check_empty(stats: GateStats) {
    assert_eq!((stats.in_use, stats.waiting, stats.available), (0, 0, stats.max), "{stats:?}");
}

#[test]
fn a_pass_can_go_anywhere() {
    fn check<T: Send + Sync + std::fmt::Debug + 'static>() {}
    check::<Pass>();
    check::<Gate>();
}

#[tokio::test(start_paused = true)]
async fn callers_come_in_order_and_one_too_many_is_refused() {
    let gate = gate(1, 3);
    let pass = gate.try_enter().unwrap();
    let served = std::sync::Mutex::new(Vec::new());
    let waiters = (0..3).map(|number| {
        let (gate, served) = (&gate, &served);
        async move {
            let pass = gate.enter(None).await.unwrap();
            served.lock().unwrap().push(number);
            tokio::task::yield_now().await;
            drop(pass);
        }
    });
    let mut waiters = Box::pin(join_all(waiters));
    assert!(waiters.as_mut().now_or_never().is_none());
    let start = Instant::now();
    assert_eq!(gate.enter(None).await.unwrap_err(), CheckoutError::QueueFull);
    assert_eq!(start.elapsed(), Duration::ZERO, "refused at once");
    drop(pass);
    assert!(gate.try_enter().is_none(), "nobody overtakes those who wait");
    waiters.await;
    assert_eq!(*served.lock().unwrap(), [0, 1, 2]);
    let stats = gate.stats();
    assert_eq!((stats.entered, stats.refused, stats.timed_out), (4, 1, 0));
    check_empty(stats);
}

#[tokio::test(start_paused = true)]
async fn every_wait_counts_and_those_who_did_not_wait_count_as_nothing() {
    let gate = gate(1, 3);
    let pass = gate.enter(None).await.unwrap();
    assert_eq!(gate.stats().acquire.counts[0], 1);
    // The first loses patience, the second has less of it, the third gives up, the fourth gets in.
    let error = gate.enter(None).await.unwrap_err();
    assert_eq!(error, CheckoutError::TimedOut { waited: SECOND });
    let error = gate.enter(Some(Instant::now() + SECOND / 4)).await.unwrap_err();
    assert_eq!(error, CheckoutError::TimedOut { waited: SECOND / 4 });
    time::timeout(SECOND / 10, gate.enter(None)).await.unwrap_err();
    let mut wait = Box::pin(gate.enter(Some(Instant::now() + 60 * SECOND)));
    assert!(wait.as_mut().now_or_never().is_none());
    time::advance(SECOND / 5).await;
    drop(pass);
    drop(wait.await.unwrap());
    let stats = gate.stats();
    assert_eq!((stats.entered, stats.timed_out), (2, 2));
    // The timer of tokio is exact to a millisecond.
    assert_eq!(stats.waited.as_millis() / 10, 155);
    assert_eq!(stats.acquire.sum.as_millis() / 10, 20);
    check_empty(stats);
}

#[test]
fn passes_end_outside_a_runtime_and_after_the_gate_closed() {
    let gate = gate(2, 1);
    let (first, second) = (gate.try_enter().unwrap(), gate.try_enter().unwrap());
    drop(first);
    assert_eq!(gate.stats().in_use, 1);
    gate.close();
    assert!(gate.try_enter().is_none());
    std::thread::spawn(move || drop(second)).join().unwrap();
    assert!(gate.drained().now_or_never().is_some());
    check_empty(gate.stats());
}

#[tokio::test(start_paused = true)]
async fn closing_turns_everybody_away_and_waits_for_those_inside() {
    let gate = gate(1, 2);
    let pass = gate.enter(None).await.unwrap();
    let mut wait = Box::pin(gate.enter(None));
    assert!(wait.as_mut().now_or_never().is_none());
    let mut drained = Box::pin(gate.drained());
    assert!(drained.as_mut().now_or_never().is_none());
    gate.close();
    assert!(gate.is_closed());
    assert_eq!(wait.await.unwrap_err(), CheckoutError::Closed);
    assert_eq!(gate.enter(None).await.unwrap_err(), CheckoutError::Closed);
    assert!(drained.as_mut().now_or_never().is_none());
    drop(pass);
    drained.await;
    check_empty(gate.stats());
}

#[tokio::test(start_paused = true)]
async fn a_wait_dropped_after_it_was_served_does_not_hold_up_the_end() {
    let gate = gate(1, 1);
    let pass = gate.enter(None).await.unwrap();
    let mut wait = Box::pin(gate.enter(None));
    assert!(wait.as_mut().now_or_never().is_none());
    drop(pass);
    assert_eq!(gate.stats().in_use, 1, "the place belongs to the one who waits");
    gate.close();
    let mut drained = Box::pin(gate.drained());
    assert!(drained.as_mut().now_or_never().is_none());
    drop(wait);
    time::timeout(SECOND, drained).await.unwrap();
    check_empty(gate.stats());
}

#[tokio::test(start_paused = true)]
async fn an_empty_gate_that_closes_is_drained_for_those_who_wait_already() {
    let gate = gate(1, 1);
    let pass = gate.enter(None).await.unwrap();
    let mut drained = Box::pin(gate.drained());
    assert!(drained.as_mut().now_or_never().is_none());
    drop(pass);
    gate.close();
    time::timeout(SECOND, drained).await.unwrap();
    check_empty(gate.stats());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_threads_never_let_in_more_than_allowed_nor_lose_a_place() {
    let gate = gate(3, 64);
    let inside = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..16 {
        let (gate, inside) = (gate.clone(), std::sync::Arc::clone(&inside));
        tasks.spawn(async move {
            for round in 0..500 {
                let soon = Instant::now() + Duration::from_micros(50 * (caller + round) % 400);
                let Ok(pass) = gate.enter(Some(soon)).await else { continue };
                assert!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 3);
                if (caller + round) % 3 == 0 {
                    tokio::task::yield_now().await;
                }
                inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                drop(pass);
            }
        });
    }
    tasks.join_all().await;
    gate.close();
    gate.drained().await;
    let stats = gate.stats();
    assert_eq!(stats.entered + stats.timed_out, 8_000);
    check_empty(stats);
}
