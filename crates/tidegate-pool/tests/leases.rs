//! What users of a pool rely on: reuse, bounds, order, expiry, and that nothing is ever lost.
#![expect(clippy::panic, clippy::unwrap_used, reason = "tests")]

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::join_all};
use tidegate_pool::{CheckoutError, Closed, Idle, Lease, Params, Pool, Reason, Stats};
use tokio::time::{self, Instant};

/// Counts how many of its kind exist.
#[derive(Debug)]
struct Thing {
    number: usize,
    alive: Arc<AtomicUsize>,
}

impl Drop for Thing {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct Factory {
    alive: Arc<AtomicUsize>,
    made: AtomicUsize,
}

impl Factory {
    fn make(&self) -> Thing {
        self.alive.fetch_add(1, Ordering::SeqCst);
        Thing { number: self.made.fetch_add(1, Ordering::SeqCst), alive: Arc::clone(&self.alive) }
    }

    fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn params(idle: Idle, max: u32) -> Params {
    Params { idle, acquire_timeout: SECOND, ..Params::new(NonZeroU32::new(max).unwrap()) }
}

async fn filled(pool: &Pool<Thing>, factory: &Factory) -> Lease<Thing> {
    let mut lease = pool.checkout().await.unwrap();
    if lease.item().is_none() {
        lease.fill(factory.make());
    }
    lease
}

#[track_caller]
fn check_books(stats: Stats, factory: &Factory) {
    assert_eq!(stats.available + stats.in_use, stats.max, "{stats:?}");
    assert_eq!(stats.live(), factory.alive() as u64, "{stats:?}");
    assert_eq!(stats.created, factory.made.load(Ordering::SeqCst) as u64);
    assert!(stats.idle <= factory.alive(), "{stats:?}");
}

async fn the_thing_used_last_is_reused_first(idle: Idle) {
    let (pool, factory) = (Pool::new(params(idle, 3)), Factory::default());
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(filled(&pool, &factory).await);
    }
    for lease in leases {
        lease.release();
    }
    assert_eq!(pool.stats().idle, 3);
    for _ in 0..3 {
        let mut lease = filled(&pool, &factory).await;
        assert_eq!(lease.item().unwrap().number, 2);
        lease.release();
    }
    pool.sweep(Instant::now(), |_| false);
    let mut lease = filled(&pool, &factory).await;
    assert_eq!(lease.item().unwrap().number, 2, "a sweep keeps the order");
    drop(lease);
    check_books(pool.stats(), &factory);
}

async fn only_a_release_keeps_the_thing(idle: Idle) {
    let (pool, factory) = (Pool::new(params(idle, 1)), Factory::default());
    filled(&pool, &factory).await.release();
    assert_eq!((pool.stats().idle, factory.alive()), (1, 1));
    drop(filled(&pool, &factory).await);
    assert_eq!((pool.stats().idle, factory.alive()), (0, 0));
    filled(&pool, &factory).await.retire(Reason::Broken);
    drop(pool.checkout().await.unwrap());
    let mut lease = filled(&pool, &factory).await;
    lease.fill(factory.make());
    lease.close(Reason::Broken);
    lease.release();
    let closed = Closed { abandoned: 1, broken: 3, ..Closed::default() };
    assert_eq!(pool.stats().closed, closed);
    check_books(pool.stats(), &factory);
    assert_eq!(factory.alive(), 0);
}

async fn idle_and_old_things_expire_on_the_paused_clock(idle: Idle) {
    let limits = Params {
        idle_timeout: Some(10 * SECOND),
        max_lifetime: Some(25 * SECOND),
        ..params(idle, 2)
    };
    let (pool, factory) = (Pool::new(limits), Factory::default());
    filled(&pool, &factory).await.release();
    time::advance(9 * SECOND).await;
    filled(&pool, &factory).await.release();
    time::advance(9 * SECOND).await;
    let mut lease = filled(&pool, &factory).await;
    assert_eq!(lease.item().unwrap().number, 0, "each use starts the idle time anew");
    time::advance(9 * SECOND).await;
    lease.release();
    assert_eq!((pool.stats().closed.lifetime, factory.alive()), (1, 0));

    filled(&pool, &factory).await.release();
    time::advance(10 * SECOND).await;
    let mut lease = pool.checkout().await.unwrap();
    assert!(lease.item().is_none(), "idle for too long");
    assert_eq!((pool.stats().closed.idle, factory.alive()), (1, 0));
    drop(lease);
    check_books(pool.stats(), &factory);
}

async fn a_sweep_closes_what_nobody_asks_for(idle: Idle) {
    let limits = Params { idle_timeout: Some(10 * SECOND), ..params(idle, 4) };
    let (pool, factory) = (Pool::new(limits), Factory::default());
    let old = filled(&pool, &factory).await;
    let young = filled(&pool, &factory).await;
    let dead = filled(&pool, &factory).await;
    old.release();
    time::advance(6 * SECOND).await;
    dead.release();
    young.release();
    time::advance(6 * SECOND).await;
    pool.sweep(Instant::now(), |thing| thing.number == 2);
    assert_eq!((pool.stats().idle, factory.alive()), (1, 1));
    let closed = Closed { idle: 1, broken: 1, ..Closed::default() };
    assert_eq!(pool.stats().closed, closed);
    check_books(pool.stats(), &factory);
}

async fn a_judge_that_panics_costs_one_thing_and_no_leases(idle: Idle) {
    let (pool, factory) = (Pool::new(params(idle, 3)), Factory::default());
    let leases = [filled(&pool, &factory).await, filled(&pool, &factory).await];
    leases.into_iter().for_each(Lease::release);
    let sweep = std::panic::AssertUnwindSafe(|| pool.sweep(Instant::now(), |_| panic!("asked")));
    std::panic::catch_unwind(sweep).unwrap_err();
    assert_eq!((pool.stats().in_use, pool.stats().idle, factory.alive()), (0, 1, 1));
    let mut leases = [filled(&pool, &factory).await, filled(&pool, &factory).await];
    assert_eq!((pool.stats().in_use, factory.alive()), (2, 2));
    let [first, _] = &mut leases;
    assert_eq!(first.item().unwrap().number, 0, "it had looked at the one on top");
    drop(leases);
    check_books(pool.stats(), &factory);
}

async fn waiters_are_bounded_and_served_in_order(idle: Idle) {
    let (pool, factory) =
        (Pool::new(Params { max_waiting: 5, ..params(idle, 1) }), Factory::default());
    let held = filled(&pool, &factory).await;
    let served = std::sync::Mutex::new(Vec::new());
    let waiters = (0..5).map(|number| {
        let (pool, served) = (&pool, &served);
        async move {
            let lease = pool.checkout().await.unwrap();
            served.lock().unwrap().push(number);
            // Others run in between, and still nobody overtakes.
            tokio::task::yield_now().await;
            lease.release();
        }
    });
    let mut waiters = Box::pin(join_all(waiters));
    assert!(waiters.as_mut().now_or_never().is_none());
    assert_eq!(pool.stats().waiting, 5);
    assert_eq!(pool.checkout().await.unwrap_err(), CheckoutError::QueueFull);
    held.release();
    let latecomer = pool.checkout();
    let (_, late) = tokio::join!(waiters, latecomer);
    late.unwrap_or_else(|error| panic!("{error}")).release();
    assert_eq!(*served.lock().unwrap(), [0, 1, 2, 3, 4]);
    let stats = pool.stats();
    assert_eq!((stats.waiting, stats.refused, stats.created), (0, 1, 1));
    check_books(stats, &factory);
}

async fn patience_ends_at_the_nearer_of_timeout_and_deadline(idle: Idle) {
    let (pool, factory) = (Pool::new(params(idle, 1)), Factory::default());
    let held = filled(&pool, &factory).await;
    let start = Instant::now();
    let error = pool.checkout().await.unwrap_err();
    assert_eq!(error, CheckoutError::TimedOut { waited: SECOND });
    let soon = Instant::now() + SECOND / 4;
    let error = pool.checkout_within(Some(soon)).await.unwrap_err();
    assert_eq!(error, CheckoutError::TimedOut { waited: SECOND / 4 });
    assert_eq!(start.elapsed().as_millis() / 10, 125);
    drop(held);
    assert_eq!(pool.stats().timed_out, 2);
    check_books(pool.stats(), &factory);
}

async fn a_thousand_cancelled_waits_leave_nothing_behind(idle: Idle) {
    let limits = Params { max_waiting: 2_000, ..params(idle, 2) };
    let (pool, factory) = (Pool::new(limits), Factory::default());
    let held = [filled(&pool, &factory).await, filled(&pool, &factory).await];
    let mut waits: Vec<_> = (0..1_000).map(|_| Box::pin(pool.checkout())).collect();
    for wait in &mut waits {
        assert!(wait.now_or_never().is_none());
    }
    assert_eq!(pool.stats().waiting, 1_000);
    // Two get what they waited for and are dropped before they hear of it.
    held.into_iter().for_each(Lease::release);
    drop(waits);
    let stats = pool.stats();
    assert_eq!((stats.waiting, stats.in_use, stats.idle), (0, 0, 2));
    filled(&pool, &factory).await.release();
    assert_eq!(pool.stats().created, 2);
    check_books(pool.stats(), &factory);
}

fn leases_end_outside_a_runtime_and_after_the_pool_closed(idle: Idle) {
    let (pool, factory) = (Pool::new(params(idle, 4)), Factory::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut leases: Vec<_> = (0..4).map(|_| runtime.block_on(filled(&pool, &factory))).collect();
    drop(runtime);
    leases.pop().unwrap().release();
    drop(leases.pop());
    pool.sweep(Instant::now(), |_| false);
    assert_eq!((pool.stats().in_use, pool.stats().idle, factory.alive()), (2, 1, 3));
    check_books(pool.stats(), &factory);
    pool.close();
    leases.pop().unwrap().release();
    leases.pop().unwrap().retire(Reason::Broken);
    let stats = pool.stats();
    // bb8 cannot give up an idle thing here; it goes with the pool.
    let idle_left = usize::from(idle == Idle::Bb8);
    assert_eq!((stats.in_use, stats.idle), (0, idle_left));
    assert_eq!(stats.closed.shutdown, 2 - idle_left as u64);
    check_books(stats, &factory);
    drop(pool);
    assert_eq!(factory.alive(), 0);
}

async fn closing_refuses_everyone_and_waits_for_the_rest(idle: Idle) {
    let (pool, factory) = (Pool::new(params(idle, 2)), Factory::default());
    let (held, idle) = (filled(&pool, &factory).await, filled(&pool, &factory).await);
    idle.release();
    let taken = filled(&pool, &factory).await;
    let mut waiting = Box::pin(pool.checkout());
    assert!(waiting.as_mut().now_or_never().is_none());
    taken.release();
    let woken = waiting.await.unwrap();
    woken.release();
    pool.close();
    assert_eq!(pool.checkout().await.unwrap_err(), CheckoutError::Closed);
    assert_eq!((pool.stats().idle, factory.alive()), (0, 1));
    let mut drained = Box::pin(pool.drained());
    assert!(drained.as_mut().now_or_never().is_none());
    held.release();
    drained.await;
    assert_eq!((pool.stats().in_use, pool.stats().live(), factory.alive()), (0, 0, 0));
    assert_eq!(pool.stats().closed.shutdown, 2);
}

async fn sweeps_and_checkouts_on_two_threads_agree(idle: Idle) {
    const CALLERS: usize = 8;
    let limits = Params { max_waiting: CALLERS, acquire_timeout: 30 * SECOND, ..params(idle, 3) };
    let (pool, factory) = (Pool::new(limits), Arc::new(Factory::default()));
    let callers = (0..CALLERS).map(|caller| {
        let (pool, factory) = (pool.clone(), Arc::clone(&factory));
        async move {
            for round in 0..2_000 {
                let lease = filled(&pool, &factory).await;
                assert!(factory.alive() <= 3);
                match (caller + round) % 7 {
                    0 => drop(lease),
                    _ => lease.release(),
                }
                if round % 3 == caller % 3 {
                    pool.sweep(Instant::now(), |thing| thing.number % 5 == 0);
                }
                if round % 16 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
    });
    let mut tasks = tokio::task::JoinSet::new();
    for caller in callers {
        tasks.spawn(caller);
    }
    tasks.join_all().await;
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.waiting), (0, 0));
    assert_eq!(stats.live(), stats.idle as u64);
    check_books(stats, &factory);
    pool.close();
    assert_eq!(factory.alive(), 0);
}

async fn a_thing_is_used_as_often_as_allowed_and_no_more(idle: Idle) {
    let (pool, factory) =
        (Pool::new(Params { max_uses: Some(3), ..params(idle, 1) }), Factory::default());
    for _ in 0..7 {
        filled(&pool, &factory).await.release();
    }
    let stats = pool.stats();
    assert_eq!((stats.created, stats.closed.uses, stats.idle), (3, 2, 1));
    check_books(stats, &factory);
    pool.close();
    assert_eq!((pool.stats().closed.total(), factory.alive()), (3, 0));
}

async fn a_last_look_closes_what_is_not_good_and_takes_the_next(idle: Idle) {
    let (pool, factory) = (Pool::new(params(idle, 12)), Factory::default());
    let leases = join_all((0..12).map(|_| filled(&pool, &factory))).await;
    leases.into_iter().for_each(Lease::release);
    let mut lease = pool.checkout_good(None, |thing| thing.number == 9).await.unwrap();
    assert_eq!(lease.item().unwrap().number, 9);
    lease.release();
    let stats = pool.stats();
    assert_eq!((stats.closed.broken, stats.idle, stats.reused), (2, 10, 1));
    let mut looks = 0;
    let lease = pool.checkout_good(None, |_| {
        looks += 1;
        false
    });
    let mut lease = lease.await.unwrap();
    assert!(lease.item().is_none() && looks == 8, "{looks}: it does not look for ever");
    drop(lease);
    let stats = pool.stats();
    assert_eq!((stats.closed.broken, stats.idle, stats.reused), (10, 2, 1));
    check_books(stats, &factory);
}

async fn nobody_is_refused_because_of_a_sweep(idle: Idle) {
    let limits = Params { max_waiting: 0, ..params(idle, 2) };
    let (pool, factory) = (Pool::new(limits), Factory::default());
    let (first, second) = (filled(&pool, &factory).await, filled(&pool, &factory).await);
    assert_eq!(pool.checkout().await.unwrap_err(), CheckoutError::QueueFull);
    first.release();
    second.release();
    let mut wait = Box::pin(pool.checkout());
    let mut looks = 0;
    pool.sweep(Instant::now(), |_| {
        looks += 1;
        // By the second look the sweep has both places.
        assert!(looks < 2 || wait.as_mut().now_or_never().is_none());
        false
    });
    assert_eq!(looks, 2);
    wait.await.unwrap().release();
    let stats = pool.stats();
    assert_eq!((stats.refused, stats.waiting, stats.idle), (1, 0, 2));
    check_books(stats, &factory);
}

/// Every promise above holds however idle things are kept.
macro_rules! keep {
    ($kind:ident, $idle:expr, [$($name:ident),* $(,)?]) => {
        mod $kind {
            use tidegate_pool::Idle;

            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name($idle).await;
            })*

            #[test]
            fn leases_end_outside_a_runtime_and_after_the_pool_closed() {
                super::leases_end_outside_a_runtime_and_after_the_pool_closed($idle);
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sweeps_and_checkouts_on_two_threads_agree() {
                super::sweeps_and_checkouts_on_two_threads_agree($idle).await;
            }
        }
    };
    ($names:tt) => {
        keep!(in_bb8, Idle::Bb8, $names);
        keep!(on_the_stack, Idle::Stack, $names);
    };
}

keep!([
    the_thing_used_last_is_reused_first,
    only_a_release_keeps_the_thing,
    idle_and_old_things_expire_on_the_paused_clock,
    a_sweep_closes_what_nobody_asks_for,
    a_judge_that_panics_costs_one_thing_and_no_leases,
    waiters_are_bounded_and_served_in_order,
    patience_ends_at_the_nearer_of_timeout_and_deadline,
    a_thousand_cancelled_waits_leave_nothing_behind,
    closing_refuses_everyone_and_waits_for_the_rest,
    a_last_look_closes_what_is_not_good_and_takes_the_next,
    nobody_is_refused_because_of_a_sweep,
    a_thing_is_used_as_often_as_allowed_and_no_more,
]);
