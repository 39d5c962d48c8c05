//! Whatever happens in whatever order, the books add up.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    future::Future,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use tidegate_pool::{CheckoutError, Idle, Keeper, Lease, Params, Pool, Reason};
use tokio::time::{self, Instant};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Ask for a lease, and remember the wait if it does not come at once.
    Ask {
        fill: bool,
        /// How many things are found bad first.
        bad: u8,
        /// The caller's own patience.
        patience: Option<u64>,
    },
    Release(usize),
    Drop(usize),
    Retire(usize),
    Refill(usize),
    /// The holder panics.
    Panic(usize),
    /// The lease ends on a thread without a runtime.
    Outside {
        at: usize,
        release: bool,
    },
    /// Look after the waits.
    Serve,
    Cancel(usize),
    Pass(u64),
    Sweep {
        number: u8,
        panics: bool,
    },
    /// Let maintenance go on, for some time.
    Maintain(u64),
    /// Drop the maintenance wherever it is, and begin anew.
    Restart,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let patience = proptest::option::of(0_u64..600);
    let ask = (any::<bool>(), 0_u8..3, patience);
    prop_oneof![
        12 => ask.prop_map(|(fill, bad, patience)| Step::Ask { fill, bad, patience }),
        8 => any::<usize>().prop_map(Step::Release),
        4 => any::<usize>().prop_map(Step::Drop),
        2 => any::<usize>().prop_map(Step::Retire),
        2 => any::<usize>().prop_map(Step::Refill),
        2 => any::<usize>().prop_map(Step::Panic),
        2 => (any::<usize>(), any::<bool>())
            .prop_map(|(at, release)| Step::Outside { at, release }),
        6 => Just(Step::Serve),
        2 => any::<usize>().prop_map(Step::Cancel),
        4 => (0_u64..400).prop_map(Step::Pass),
        2 => (0_u8..4, any::<bool>())
            .prop_map(|(number, panics)| Step::Sweep { number, panics }),
        4 => (0_u64..200).prop_map(Step::Maintain),
        1 => Just(Step::Restart),
        1 => Just(Step::Close),
    ]
}

/// Makes things, slowly; every third try fails.
struct Making {
    kind: Thing,
    tried: std::sync::atomic::AtomicU32,
}

impl Keeper for Making {
    type Item = Thing;
    type Error = ();

    async fn make(&self) -> Result<Thing, ()> {
        let thing = Arc::clone(&self.kind);
        time::sleep(Duration::from_millis(30)).await;
        let tried = self.tried.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if tried % 3 == 2 { Err(()) } else { Ok(thing) }
    }

    fn is_good(&self, _thing: &mut Thing) -> bool {
        true
    }
}

type Thing = Arc<u8>;
type Wait = Pin<Box<dyn Future<Output = Result<Lease<Thing>, CheckoutError>>>>;
type Maintenance = Pin<Box<dyn Future<Output = ()> + Send>>;

struct World {
    pool: Pool<Thing>,
    max: usize,
    /// Every thing in existence has a clone of this.
    kind: Thing,
    leases: Vec<Lease<Thing>>,
    waits: Vec<Wait>,
    maintenance: Option<Maintenance>,
}

impl World {
    fn new(idle: Idle, max: u32, max_waiting: usize, min_idle: usize) -> Self {
        let pool = Pool::new(Params {
            max_waiting,
            acquire_timeout: Duration::from_millis(500),
            idle_timeout: Some(Duration::from_millis(300)),
            max_lifetime: Some(Duration::from_millis(1_000)),
            max_uses: Some(5),
            min_idle,
            idle,
            ..Params::new(NonZeroU32::new(max).unwrap())
        });
        let (leases, waits, kind) = (Vec::new(), Vec::new(), Arc::new(0));
        let mut world = Self { pool, max: max as usize, kind, leases, waits, maintenance: None };
        world.restart();
        world
    }

    fn restart(&mut self) {
        let keeper = Making { kind: Arc::clone(&self.kind), tried: 0.into() };
        let maintenance = self.pool.maintain(keeper, Duration::from_millis(100));
        self.maintenance = Some(Box::pin(maintenance));
    }

    async fn maintain(&mut self, millis: u64) {
        if let Some(maintenance) = &mut self.maintenance
            && time::timeout(Duration::from_millis(millis), maintenance).await.is_ok()
        {
            assert!(self.pool.is_closed());
            self.maintenance = None;
        }
    }

    fn pick(&mut self, at: usize) -> Option<Lease<Thing>> {
        (!self.leases.is_empty()).then(|| self.leases.swap_remove(at % self.leases.len()))
    }

    fn poll(&mut self, mut wait: Wait, fill: bool) {
        match (&mut wait).now_or_never() {
            None => self.waits.push(wait),
            Some(Err(_)) => (),
            Some(Ok(mut lease)) => {
                if fill && lease.item().is_none() {
                    lease.fill(Arc::clone(&self.kind));
                }
                self.leases.push(lease);
            }
        }
    }

    async fn apply(&mut self, step: Step) {
        match step {
            Step::Ask { fill, mut bad, patience } => {
                let pool = self.pool.clone();
                let deadline =
                    patience.map(|millis| Instant::now() + Duration::from_millis(millis));
                let is_good = move |_: &mut Thing| {
                    bad = bad.saturating_sub(1);
                    bad == 0
                };
                let ask = async move { pool.checkout_good(deadline, is_good).await };
                self.poll(Box::pin(ask), fill);
            }
            Step::Release(at) => self.pick(at).into_iter().for_each(Lease::release),
            Step::Drop(at) => drop(self.pick(at)),
            Step::Retire(at) => {
                self.pick(at).into_iter().for_each(|lease| lease.retire(Reason::Broken));
            }
            Step::Refill(at) => {
                if let Some(mut lease) = self.pick(at) {
                    lease.fill(Arc::clone(&self.kind));
                    self.leases.push(lease);
                }
            }
            Step::Panic(at) => {
                if let Some(mut lease) = self.pick(at) {
                    let fault = catch_unwind(AssertUnwindSafe(move || {
                        lease.close(Reason::Broken);
                        resume_unwind(Box::new("a fault of the holder"));
                    }));
                    fault.unwrap_err();
                }
            }
            Step::Outside { at, release } => {
                if let Some(lease) = self.pick(at) {
                    let end = move || if release { lease.release() } else { drop(lease) };
                    std::thread::spawn(end).join().unwrap();
                }
            }
            Step::Serve => {
                for wait in std::mem::take(&mut self.waits) {
                    self.poll(wait, true);
                }
            }
            Step::Cancel(at) => {
                if !self.waits.is_empty() {
                    drop(self.waits.swap_remove(at % self.waits.len()));
                }
            }
            Step::Pass(millis) => time::advance(Duration::from_millis(millis)).await,
            Step::Sweep { number, panics } => {
                let mut left = number;
                let look = |_: &mut Thing| {
                    left = left.saturating_sub(1);
                    if panics && left == 1 {
                        resume_unwind(Box::new("a fault of the one who looks"));
                    }
                    left > 0
                };
                let sweep = AssertUnwindSafe(|| self.pool.sweep(Instant::now(), look));
                drop(catch_unwind(sweep));
            }
            Step::Maintain(millis) => self.maintain(millis).await,
            Step::Restart => {
                self.maintenance = None;
                self.restart();
            }
            Step::Close => self.pool.close(),
        }
    }

    #[track_caller]
    fn check(&self) {
        let stats = self.pool.stats();
        assert_eq!(stats.available + stats.in_use, self.max, "{stats:?}");
        // A wait that was served but not looked at yet holds a lease already, and so may the
        // maintenance while it makes something.
        let guests = usize::from(self.maintenance.is_some());
        let (leases, waits) = (self.leases.len(), self.waits.len());
        assert!((leases..=leases + waits + guests).contains(&stats.in_use), "{stats:?}");
        assert!(stats.waiting <= waits, "{stats:?}");
        // The world has one, the keeper another, and one may be in the making.
        let others = Arc::strong_count(&self.kind) as u64 - stats.live();
        assert!((1..=1 + 2 * guests as u64).contains(&others), "{others} {stats:?}");
        let filled = self.leases.iter().filter(|lease| format!("{lease:?}").contains("true"));
        assert!(filled.count() + stats.idle <= stats.live() as usize, "{stats:?}");
        assert!(stats.idle + leases <= self.max, "{stats:?}");
        assert!(stats.live() <= self.max as u64, "{stats:?}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 600, ..Default::default() })]
    #[test]
    fn the_books_add_up(
        max in 1_u32..5,
        max_waiting in 0_usize..4,
        min_idle in 0_usize..3,
        idle in prop_oneof![Just(Idle::Bb8), Just(Idle::Stack)],
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut world = World::new(idle, max, max_waiting, min_idle);
            for step in steps {
                world.apply(step).await;
                world.check();
            }
            world.apply(Step::Close).await;
            world.check();
            world.maintain(10_000).await;
            assert!(world.maintenance.is_none(), "it ends with the pool");
            world.waits.clear();
            world.leases.clear();
            world.check();
            time::timeout(Duration::from_secs(1), world.pool.drained()).await.unwrap();
            let stats = world.pool.stats();
            assert_eq!((stats.in_use, stats.waiting, stats.idle, stats.live()), (0, 0, 0, 0));
            assert_eq!(Arc::strong_count(&world.kind), 1);
        });
    }
}
