//! What readers keep in memory: with shared buffers, and with a buffer of each reader's own.
//!
//! 400 sockets are read, each in turn finds nothing, then 20 KiB, then nothing again. `own` reads
//! into a `BytesMut` that has room for what may come next, `shared` asks [`Buffers::poll_read`].
//! Each runs in a process of its own, and resident memory for each reader is printed: while all
//! are quiet for the first time, the most while they read, and when they are quiet again.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may stop, and prints")]

use std::{
    env, fs,
    future::poll_fn,
    pin::Pin,
    process::{self, Command},
};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use tidegate_pool::Buffers;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    runtime::Builder,
};

const READERS: usize = 400;
const BURST: usize = 20 << 10;
const READ: usize = 16 << 10;

enum Way {
    Own(BytesMut),
    Shared(Buffers),
}

impl Way {
    /// Reads once; `None` if there is nothing.
    async fn read(&mut self, stream: &mut UnixStream) -> Option<Bytes> {
        match self {
            Self::Own(buffer) => {
                buffer.reserve(READ);
                stream.read_buf(buffer).now_or_never()?.unwrap();
                Some(buffer.split().freeze())
            }
            Self::Shared(buffers) => {
                let read = poll_fn(|cx| buffers.poll_read(cx, Pin::new(&mut *stream), READ));
                Some(read.now_or_never()?.unwrap())
            }
        }
    }
}

fn main() {
    match env::args().find(|word| word == "own" || word == "shared") {
        Some(way) => Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(measure(way == "own")),
        None => {
            println!("{READERS} readers, bursts of {BURST} bytes, KiB of RSS for each");
            for way in ["own", "shared"] {
                assert!(
                    Command::new(env::current_exe().unwrap()).arg(way).status().unwrap().success()
                );
            }
        }
    }
}

async fn measure(is_own: bool) {
    let shared = Buffers::new(8 << 20);
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let (writer, reader) = UnixStream::pair().unwrap();
        let way = if is_own { Way::Own(BytesMut::new()) } else { Way::Shared(shared.clone()) };
        readers.push((writer, reader, way));
    }
    let burst = vec![b'x'; BURST];
    let before = resident_kib();
    let each = |now: f64| (now - before) / READERS as f64;
    for (_, reader, way) in &mut readers {
        assert!(way.read(reader).await.is_none());
    }
    let idle = each(resident_kib());
    let mut busy = 0_f64;
    for round in 0..3 {
        for (number, (writer, reader, way)) in readers.iter_mut().enumerate() {
            writer.write_all(&burst).await.unwrap();
            let mut left = BURST;
            while left > 0 {
                reader.readable().await.unwrap();
                left -= way.read(reader).await.map_or(0, |bytes| bytes.len());
            }
            assert!(way.read(reader).await.is_none());
            if round == 2 && number % 50 == 0 {
                busy = busy.max(each(resident_kib()));
            }
        }
    }
    let after = each(resident_kib());
    let name = if is_own { "own" } else { "shared" };
    println!("{name:<8} quiet {idle:>6.1}   reading {busy:>6.1}   quiet again {after:>6.1}");
}

fn resident_kib() -> f64 {
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", process::id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}
