//! What a lease costs with either way to keep idle things, by how many want one at once.
//!
//! Each task takes a lease, lets others run, and releases it, again and again, on a runtime with
//! two workers. The two ways follow each other directly for every number of tasks.
#![expect(clippy::unwrap_used, reason = "a bench may stop")]

#[path = "duration/short.rs"]
mod short;

use std::{num::NonZeroU32, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidegate_pool::{Idle, Params, Pool};
use tokio::{runtime::Runtime, task, time::Instant};

/// Something that is worth keeping, as a connection is: a pointer to more.
type Thing = Box<u64>;

async fn use_often(pool: Pool<Thing>, times: u64) {
    for _ in 0..times {
        let mut lease = pool.checkout().await.unwrap();
        match lease.item() {
            Some(thing) => **thing += 1,
            None => lease.fill(Box::default()),
        }
        task::yield_now().await;
        lease.release();
    }
}

async fn measure(pool: Pool<Thing>, tasks: u64, times: u64) -> Duration {
    let start = Instant::now();
    let mut all = task::JoinSet::new();
    for task in 0..tasks {
        all.spawn(use_often(pool.clone(), times / tasks + u64::from(task < times % tasks)));
    }
    all.join_all().await;
    start.elapsed()
}

fn leases(criterion: &mut Criterion) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime: Runtime = runtime.worker_threads(2).enable_time().build().unwrap();
    for max in [4, 64] {
        let mut group = criterion.benchmark_group(format!("lease_of_{max}"));
        group.throughput(Throughput::Elements(1));
        for tasks in [1, 4, 64, 256] {
            for (name, idle) in [("bb8", Idle::Bb8), ("stack", Idle::Stack)] {
                let limits = Params { idle, max_waiting: 1_000, ..Params::new(max_leases(max)) };
                let pool = Pool::new(limits);
                let id = BenchmarkId::new(name, tasks);
                group.bench_function(id, |bencher| {
                    bencher
                        .iter_custom(|times| runtime.block_on(measure(pool.clone(), tasks, times)));
                });
            }
        }
        group.finish();
    }
}

fn max_leases(max: u32) -> NonZeroU32 {
    NonZeroU32::new(max).unwrap()
}

criterion_group! {
    name = benches;
    config = short::criterion();
    targets = leases
}
criterion_main!(benches);
