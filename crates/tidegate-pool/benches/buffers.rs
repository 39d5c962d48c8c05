//! What it costs to read messages into shared buffers, against a buffer of the reader's own.
//!
//! `own` reads as a pipe of a stdio server did before: into a `BytesMut` that grows with what
//! comes. `shared` asks [`Buffers::poll_read`]. `bare` has room made for every read, which a quiet
//! reader holds no memory with either. A reader finds nothing, waits, and then finds one message;
//! the message lives until the next one is there. How often and how much each allocates is printed
//! first.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a bench may stop, and prints")]

#[path = "duration/short.rs"]
mod short;

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::{FutureExt as _, future::BoxFuture};
use tidegate_pool::Buffers;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

const MIN_READ: usize = 4 << 10;
const MAX_READ: usize = 64 << 10;
const MESSAGES: [usize; 4] = [200, 2 << 10, 20 << 10, 60 << 10];
const COUNTED: u64 = 1_000;

/// Nothing, then a message, and so on.
struct Source {
    message: Bytes,
    is_there: bool,
}

impl AsyncRead for Source {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.is_there = !self.is_there;
        if self.is_there {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let length = self.message.len().min(buf.remaining());
        buf.put_slice(&self.message.slice(..length));
        Poll::Ready(Ok(()))
    }
}

/// A way to read once.
trait Way {
    async fn read(&mut self, source: &mut Source) -> Bytes;
}

struct Own {
    buffer: BytesMut,
    chunk: usize,
}

struct Shared {
    buffers: Buffers,
    chunk: usize,
}

struct Bare {
    chunk: usize,
}

impl Way for Own {
    async fn read(&mut self, source: &mut Source) -> Bytes {
        if self.buffer.capacity() - self.buffer.len() < self.chunk / 4 {
            self.buffer.reserve(self.chunk);
        }
        let length = source.read_buf(&mut self.buffer).await.unwrap();
        if length >= self.chunk / 4 {
            self.chunk = (self.chunk * 2).min(MAX_READ);
        }
        self.buffer.split().freeze()
    }
}

impl Way for Shared {
    async fn read(&mut self, source: &mut Source) -> Bytes {
        let (buffers, chunk) = (&self.buffers, self.chunk);
        let read = poll_fn(|cx| buffers.poll_read(cx, Pin::new(&mut *source), chunk));
        let bytes = read.await.unwrap();
        self.chunk = next_size(self.chunk, bytes.len());
        bytes
    }
}

impl Way for Bare {
    async fn read(&mut self, source: &mut Source) -> Bytes {
        let chunk = self.chunk;
        let read = poll_fn(|cx| {
            let mut buffer = BytesMut::with_capacity(chunk);
            let polled = std::pin::pin!(source.read_buf(&mut buffer)).poll_unpin(cx);
            polled.map(|length| length.map(|_| buffer.freeze()))
        });
        let bytes = read.await.unwrap();
        self.chunk = next_size(self.chunk, bytes.len());
        bytes
    }
}

fn next_size(chunk: usize, length: usize) -> usize {
    if length == chunk { (chunk * 4).min(MAX_READ) } else { chunk }
}

/// Reads as many messages, one after the other.
async fn read_all(mut way: impl Way, message: usize, times: u64) {
    let mut source = Source { message: vec![b'x'; message].into(), is_there: false };
    let mut last = Bytes::new();
    for _ in 0..times {
        let mut left = message;
        while left > 0 {
            let bytes = way.read(&mut source).await;
            left = left.saturating_sub(bytes.len());
            last = bytes;
        }
    }
    drop(last);
}

fn ways(message: usize, times: u64) -> [(&'static str, BoxFuture<'static, ()>); 3] {
    let chunk = MIN_READ;
    let own = Own { buffer: BytesMut::new(), chunk };
    let shared = Shared { buffers: Buffers::new(8 << 20), chunk };
    [
        ("own", Box::pin(read_all(own, message, times))),
        ("shared", Box::pin(read_all(shared, message, times))),
        ("bare", Box::pin(read_all(Bare { chunk }, message, times))),
    ]
}

fn reading(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for message in MESSAGES {
        for (name, reading) in ways(message, COUNTED) {
            let count = allocation_counter::measure(|| runtime.block_on(reading));
            let (times, bytes) = (count.count_total, count.bytes_total / COUNTED);
            eprintln!(
                "{message} bytes, {name}: {times} allocations in {COUNTED} messages, {bytes} bytes each"
            );
        }
        let mut group = criterion.benchmark_group(format!("read_{message}"));
        group.throughput(Throughput::Elements(1));
        for at in 0..3 {
            let name = ways(message, 0).map(|(name, _)| name).into_iter().nth(at).unwrap();
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                bencher.iter_custom(|times| {
                    let (_, reading) = ways(message, times).into_iter().nth(at).unwrap();
                    let start = tokio::time::Instant::now();
                    runtime.block_on(reading);
                    start.elapsed()
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = short::criterion();
    targets = reading
}
criterion_main!(benches);
