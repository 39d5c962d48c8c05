//! Whatever happens in whatever order, the books add up.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{future::Future, num::NonZeroU32, pin::Pin, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use proptest::prelude::{Strategy, any, prop_oneof};
use tidegate_pool::{CheckoutError, Lease, Params, Pool, Reason};
use tokio::time::{self, Instant};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Ask for a lease, and remember the wait if it does not come at once.
    Ask {
        fill: bool,
    },
    Release(usize),
    Drop(usize),
    Retire(usize),
    Refill(usize),
    /// Look after the waits.
    Serve,
    Cancel(usize),
    Pass(u64),
    Sweep {
        number: u8,
    },
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<bool>().prop_map(|fill| Step::Ask { fill }),
        4 => any::<usize>().prop_map(Step::Release),
        2 => any::<usize>().prop_map(Step::Drop),
        1 => any::<usize>().prop_map(Step::Retire),
        1 => any::<usize>().prop_map(Step::Refill),
        3 => proptest::strategy::Just(Step::Serve),
        1 => any::<usize>().prop_map(Step::Cancel),
        2 => (0_u64..400).prop_map(Step::Pass),
        1 => (0_u8..4).prop_map(|number| Step::Sweep { number }),
    ]
}

type Thing = Arc<u8>;
type Wait = Pin<Box<dyn Future<Output = Result<Lease<Thing>, CheckoutError>>>>;

struct World {
    pool: Pool<Thing>,
    max: usize,
    /// Every thing in existence has a clone of this.
    kind: Thing,
    leases: Vec<Lease<Thing>>,
    waits: Vec<Wait>,
}

impl World {
    fn new(max: u32, max_waiting: usize) -> Self {
        let pool = Pool::new(Params {
            max_waiting,
            acquire_timeout: Duration::from_millis(500),
            idle_timeout: Some(Duration::from_millis(300)),
            max_lifetime: Some(Duration::from_millis(1_000)),
            ..Params::new(NonZeroU32::new(max).unwrap())
        });
        let (leases, waits) = (Vec::new(), Vec::new());
        Self { pool, max: max as usize, kind: Arc::new(0), leases, waits }
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
            Step::Ask { fill } => {
                let pool = self.pool.clone();
                self.poll(Box::pin(async move { pool.checkout().await }), fill);
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
            Step::Sweep { number } => {
                let mut left = number;
                self.pool.sweep(Instant::now(), |_| {
                    left = left.saturating_sub(1);
                    left > 0
                });
            }
            Step::Close => self.pool.close(),
        }
    }

    #[track_caller]
    fn check(&self) {
        let stats = self.pool.stats();
        assert_eq!(stats.available + stats.in_use, self.max, "{stats:?}");
        // A wait that was served but not looked at yet holds a lease already.
        assert!(stats.in_use >= self.leases.len(), "{stats:?}");
        assert!(stats.in_use <= self.leases.len() + self.waits.len(), "{stats:?}");
        assert!(stats.waiting <= self.waits.len(), "{stats:?}");
        assert_eq!(stats.live(), Arc::strong_count(&self.kind) as u64 - 1, "{stats:?}");
        assert!(stats.idle as u64 <= stats.live(), "{stats:?}");
        assert!(stats.live() <= self.max as u64, "{stats:?}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 400, ..Default::default() })]
    #[test]
    fn the_books_add_up(
        max in 1_u32..5,
        max_waiting in 0_usize..4,
        steps in proptest::collection::vec(step(), 0..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut world = World::new(max, max_waiting);
            for step in steps {
                world.apply(step).await;
                world.check();
            }
            world.apply(Step::Close).await;
            world.check();
            world.waits.clear();
            world.leases.clear();
            world.check();
            let stats = world.pool.stats();
            assert_eq!((stats.in_use, stats.waiting, stats.idle, stats.live()), (0, 0, 0, 0));
        });
    }
}
