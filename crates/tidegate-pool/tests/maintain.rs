//! What the owner of a pool gets from running its maintenance.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    future::{Future, pending},
    num::NonZeroU32,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use futures_util::FutureExt as _;
use tidegate_pool::{CheckoutError, Idle, Keeper, Lease, Params, Pool};
use tokio::{
    task::JoinSet,
    time::{self, Instant},
};

const SECOND: Duration = Duration::from_secs(1);

/// Makes numbers; each thing has a clone of `alive`.
#[derive(Default)]
struct Numbers {
    tried: AtomicU32,
    /// How long it takes; `None` is for ever.
    takes: Option<Duration>,
    fails: AtomicBool,
    /// Things below this number are bad.
    bad_below: AtomicU32,
    alive: Arc<()>,
}

struct Thing {
    number: u32,
    _alive: Arc<()>,
}

/// The keeper inside the maintenance.
struct Making(Arc<Numbers>);

impl Keeper for Making {
    type Item = Thing;
    type Error = ();

    async fn make(&self) -> Result<Thing, ()> {
        let number = self.0.tried.fetch_add(1, SeqCst);
        match self.0.takes {
            Some(takes) => time::sleep(takes).await,
            None => pending().await,
        }
        let thing = Thing { number, _alive: Arc::clone(&self.0.alive) };
        if self.0.fails.load(SeqCst) { Err(()) } else { Ok(thing) }
    }

    fn is_good(&self, thing: &mut Thing) -> bool {
        thing.number >= self.0.bad_below.load(SeqCst)
    }
}

impl Numbers {
    fn quick() -> Self {
        Self { takes: Some(Duration::from_millis(5)), ..Self::default() }
    }

    fn alive(&self) -> usize {
        Arc::strong_count(&self.alive) - 1
    }

    fn tried(&self) -> u32 {
        self.tried.load(SeqCst)
    }
}

/// A pool with its maintenance, which runs only while the test lets time pass.
struct World {
    pool: Pool<Thing>,
    numbers: Arc<Numbers>,
    maintain: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl World {
    fn new(max: u32, min_idle: usize, numbers: Numbers) -> Self {
        Self::with(numbers, Params { min_idle, ..Params::new(NonZeroU32::new(max).unwrap()) })
    }

    fn with(numbers: Numbers, params: Params) -> Self {
        let pool = Pool::new(params);
        let numbers = Arc::new(numbers);
        let maintain = Box::pin(pool.maintain(Making(Arc::clone(&numbers)), 5 * SECOND));
        Self { pool, numbers, maintain }
    }

    async fn pass(&mut self, time: Duration) {
        time::timeout(time, self.maintain.as_mut()).await.unwrap_err();
    }

    #[track_caller]
    fn check(&self, idle: usize, in_use: usize) {
        let stats = self.pool.stats();
        assert_eq!((stats.idle, stats.in_use), (idle, in_use), "{stats:?}");
        assert_eq!(stats.live(), self.numbers.alive() as u64, "{stats:?}");
        assert!(stats.live() <= stats.max as u64, "{stats:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn enough_things_are_ready_before_the_first_call_and_again_after_they_were_used_up() {
    let mut world = World::new(8, 3, Numbers::quick());
    world.pass(SECOND).await;
    world.check(3, 0);
    let mut leases = Vec::new();
    for _ in 0..3 {
        let mut lease = world.pool.checkout().await.unwrap();
        assert!(lease.item().is_some(), "nobody has to make one");
        leases.push(lease);
    }
    world.check(0, 3);
    world.pass(SECOND).await;
    world.check(3, 3);
    leases.into_iter().for_each(Lease::release);
    world.check(6, 0);
    world.pass(60 * SECOND).await;
    world.check(6, 0);
    assert_eq!(world.numbers.tried(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_thing_that_was_lost_is_replaced_at_once() {
    let mut world = World::new(1, 1, Numbers::quick());
    world.pass(SECOND).await;
    let lease = world.pool.checkout().await.unwrap();
    world.pass(SECOND).await;
    world.check(0, 1);
    drop(lease);
    world.check(0, 0);
    world.pass(SECOND / 10).await;
    world.check(1, 0);
}

#[tokio::test(start_paused = true)]
async fn no_more_things_than_places_and_the_last_place_is_left_to_callers() {
    let mut world = World::new(3, 9, Numbers::quick());
    world.pass(SECOND).await;
    world.check(3, 0);
    let lease = world.pool.checkout().await.unwrap();
    let other = world.pool.checkout().await.unwrap();
    drop(world.pool.checkout().await.unwrap());
    world.check(0, 2);
    world.pass(60 * SECOND).await;
    world.check(0, 2);
    drop(lease);
    world.pass(SECOND).await;
    world.check(2, 1);
    drop(other);
    world.pass(SECOND).await;
    world.check(3, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_bad_or_too_old_is_replaced_within_a_period() {
    let lifetime = Some(60 * SECOND);
    let params = Params { min_idle: 2, ..Params::new(NonZeroU32::new(4).unwrap()) };
    let mut world = World::with(Numbers::quick(), Params { max_lifetime: lifetime, ..params });
    world.pass(SECOND).await;
    world.numbers.bad_below.store(2, SeqCst);
    world.pass(5 * SECOND).await;
    world.check(2, 0);
    assert_eq!((world.numbers.tried(), world.pool.stats().closed.broken), (4, 2));
    world.pass(66 * SECOND).await;
    world.check(2, 0);
    assert_eq!((world.numbers.tried(), world.pool.stats().closed.lifetime), (6, 2));
    // Unused as they were, they have not been used.
    assert_eq!(world.pool.stats().reused, 0);
    assert_eq!(world.pool.stats().acquire.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_ever_less_often_and_callers_do_not_change_that() {
    let mut world = World::new(4, 1, Numbers::quick());
    world.numbers.fails.store(true, SeqCst);
    // At 0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3 seconds, a little later each for what trying takes.
    for (after, tried) in [(50, 1), (100, 2), (200, 3), (400, 4), (800, 5), (1_600, 6), (3_200, 7)]
    {
        drop(world.pool.checkout().await.unwrap());
        world.pass(Duration::from_millis(after)).await;
        assert_eq!(world.numbers.tried(), tried, "{after}");
    }
    assert_eq!(world.pool.stats().failed, 7);
    world.pass(600 * SECOND).await;
    let tried = world.numbers.tried();
    assert!((25..32).contains(&tried), "{tried}: no longer than half a minute");
    world.numbers.fails.store(false, SeqCst);
    world.pass(31 * SECOND).await;
    world.check(1, 0);
}

/// Counts how often it was asked to poll again.
#[derive(Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_over_keeps_nobody_awake() {
    let mut world = World::new(4, 1, Numbers::quick());
    world.numbers.fails.store(true, SeqCst);
    let mut lease = world.pool.checkout().await.unwrap();
    world.pass(SECOND / 20).await;
    assert_eq!(world.pool.stats().failed, 1);
    // A caller fills the gap during the pause.
    lease.fill(Thing { number: 9, _alive: Arc::clone(&world.numbers.alive) });
    lease.release();
    time::advance(SECOND).await;
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    assert!(world.maintain.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(wakes.0.load(SeqCst), 0);
    world.check(1, 0);
}

#[tokio::test(start_paused = true)]
async fn whatever_is_made_goes_when_the_maintenance_is_dropped_or_the_pool_closed() {
    let mut world = World::new(2, 1, Numbers::default());
    world.pass(SECOND).await;
    world.check(0, 1);
    world.maintain = Box::pin(pending());
    world.check(0, 0);

    let numbers = Numbers::default();
    let mut world = World::new(2, 1, numbers);
    world.pass(SECOND).await;
    world.check(0, 1);
    world.pool.close();
    time::timeout(SECOND, world.maintain.as_mut()).await.unwrap();
    time::timeout(SECOND, world.pool.drained()).await.unwrap();
    assert_eq!((world.pool.stats().in_use, world.pool.stats().live()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_pool() {
    let World { pool, numbers, mut maintain } = World::new(2, 1, Numbers::quick());
    time::timeout(SECOND, maintain.as_mut()).await.unwrap_err();
    assert_eq!(numbers.alive(), 1);
    let start = Instant::now();
    drop(pool);
    maintain.await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(numbers.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_waits_for_the_place_in_which_something_is_made_and_is_not_refused() {
    let params = Params { min_idle: 1, max_waiting: 0, ..Params::new(NonZeroU32::MIN) };
    let mut world = World::with(Numbers::quick(), params);
    assert!(world.maintain.as_mut().now_or_never().is_none());
    world.check(0, 1);
    let pool = world.pool.clone();
    let mut wait = Box::pin(pool.checkout());
    assert!(wait.as_mut().now_or_never().is_none());
    assert_eq!(world.pool.checkout().await.unwrap_err(), CheckoutError::QueueFull);
    world.pass(SECOND).await;
    let mut lease = wait.await.unwrap();
    assert!(lease.item().is_some());
    lease.release();
    world.check(1, 0);
}

async fn callers_and_maintenance_agree(idle: Idle) {
    const MAX: u32 = 3;
    let numbers = Arc::new(Numbers { takes: Some(Duration::ZERO), ..Numbers::default() });
    let pool = Pool::new(Params {
        min_idle: 2,
        max_uses: Some(7),
        max_waiting: 8,
        idle,
        ..Params::new(NonZeroU32::new(MAX).unwrap())
    });
    let mut tasks = JoinSet::new();
    let mut upkeep = JoinSet::new();
    upkeep.spawn(pool.maintain(Making(Arc::clone(&numbers)), Duration::from_millis(1)));
    for caller in 0..8 {
        let (pool, numbers) = (pool.clone(), Arc::clone(&numbers));
        tasks.spawn(async move {
            for round in 0..1_500 {
                let lease = pool.checkout_good(None, |thing| thing.number % 11 != 0).await;
                let mut lease = lease.unwrap();
                if lease.item().is_none() {
                    let _alive = Arc::clone(&numbers.alive);
                    lease.fill(Thing { number: 1, _alive });
                }
                assert!(numbers.alive() <= MAX as usize);
                if round % 16 == 0 {
                    tokio::task::yield_now().await;
                }
                match (caller + round) % 5 {
                    0 => drop(lease),
                    _ => lease.release(),
                }
            }
        });
    }
    tasks.join_all().await;
    pool.close();
    pool.drained().await;
    upkeep.join_all().await;
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.waiting, stats.idle, stats.live()), (0, 0, 0, 0));
    assert_eq!((numbers.alive(), stats.refused), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_and_maintenance_never_have_too_many_things_in_bb8() {
    callers_and_maintenance_agree(Idle::Bb8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_and_maintenance_never_have_too_many_things_on_the_stack() {
    callers_and_maintenance_agree(Idle::Stack).await;
}
