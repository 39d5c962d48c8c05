//! What readers rely on: their bytes, memory that comes back, and a bound on what lies ready.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{future::poll_fn, pin::Pin};

use futures_util::FutureExt as _;
use proptest::prelude::{Strategy, any, prop_oneof};
use tidegate_pool::{Buffer, Buffers};
use tokio::io::{AsyncRead, AsyncWriteExt as _, duplex};

const KIB: usize = 1 << 10;

async fn read<R: AsyncRead + Unpin>(buffers: &Buffers, reader: &mut R) -> bytes::Bytes {
    poll_fn(|cx| buffers.poll_read(cx, Pin::new(reader), 16 * KIB)).await.unwrap()
}

#[test]
fn a_buffer_has_room_for_what_was_asked_as_far_as_any_has() {
    let buffers = Buffers::new(0);
    let cases = [(0, 4), (4, 4), (5, 16), (16, 16), (64, 64), (65, 256), (999, 256)];
    for (asked, room) in cases {
        assert_eq!(buffers.take(asked * KIB).capacity(), room * KIB, "{asked}");
    }
    assert_eq!(buffers.stats().held, 4, "one of each size is kept in any case");
}

#[tokio::test]
async fn a_reader_that_waits_holds_no_memory_and_loses_nothing() {
    let buffers = Buffers::new(1 << 20);
    let (mut writer, mut reader) = duplex(64 * KIB);
    for round in 0..3_u8 {
        assert!(read(&buffers, &mut reader).now_or_never().is_none());
        assert_eq!(buffers.stats().lent, 0);
        writer.write_all(&[round; 10 * KIB]).await.unwrap();
        let bytes = read(&buffers, &mut reader).await;
        assert_eq!(bytes, vec![round; 10 * KIB]);
        assert_eq!(buffers.stats().lent, 1);
    }
    writer.write_all(&vec![9; 30 * KIB]).await.unwrap();
    assert_eq!(read(&buffers, &mut reader).await.len(), 16 * KIB, "no more than asked");
    drop(writer);
    assert_eq!(read(&buffers, &mut reader).await.len(), 14 * KIB);
    assert!(read(&buffers, &mut reader).await.is_empty());
    let stats = buffers.stats();
    assert_eq!((stats.lent, stats.held, stats.misses), (0, 1, 1));
}

#[tokio::test]
async fn few_bytes_do_not_keep_a_buffer() {
    let buffers = Buffers::new(1 << 20);
    let (mut writer, mut reader) = duplex(KIB);
    writer.write_all(b"short").await.unwrap();
    let bytes = read(&buffers, &mut reader).await;
    assert_eq!((&bytes[..], buffers.stats().lent), (&b"short"[..], 0));
}

#[test]
fn memory_comes_back_from_the_last_slice_on_whatever_thread() {
    let buffers = Buffers::new(1 << 20);
    let mut buffer = buffers.take(KIB);
    buffer.as_mut().fill(7);
    let bytes = buffer.freeze(4 * KIB);
    let slice = bytes.slice(10..20);
    drop(bytes);
    assert_eq!(buffers.stats().lent, 1);
    std::thread::spawn(move || assert_eq!(slice, [7; 10][..])).join().unwrap();
    let stats = buffers.stats();
    assert_eq!((stats.lent, stats.held, stats.bytes), (0, 1, 4 * KIB));
    // Bytes may outlive what lent them.
    let last = buffers.take(KIB).freeze(4 * KIB);
    drop(buffers);
    assert_eq!(last.len(), 4 * KIB);
}

#[test]
fn no_more_lies_ready_than_allowed_and_the_rest_is_freed() {
    let max = 4 << 20;
    let buffers = Buffers::new(max);
    let many: Vec<_> = (0..1_000).map(|size| buffers.take(size % 257 * KIB)).collect();
    assert_eq!(buffers.stats().lent, 1_000);
    // Back from several threads, as readers are.
    let mut parts: Vec<Vec<Buffer>> = (0..4).map(|_| Vec::new()).collect();
    for (at, buffer) in many.into_iter().enumerate() {
        parts[at % 4].push(buffer);
    }
    let threads = parts.into_iter().map(|part| std::thread::spawn(move || drop(part)));
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
    let stats = buffers.stats();
    assert_eq!((stats.lent, stats.misses), (0, 1_000));
    assert_eq!(stats.held as u64 + stats.dropped, 1_000);
    assert!(stats.bytes <= max && stats.held > 20, "{stats:?}");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Take(usize),
    Drop(usize),
    Freeze(usize, usize),
    Slice(usize),
    DropBytes(usize),
    Elsewhere(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..300 * KIB).prop_map(Step::Take),
        any::<usize>().prop_map(Step::Drop),
        (any::<usize>(), 0..300 * KIB).prop_map(|(at, length)| Step::Freeze(at, length)),
        any::<usize>().prop_map(Step::Slice),
        any::<usize>().prop_map(Step::DropBytes),
        any::<usize>().prop_map(Step::Elsewhere),
    ]
}

proptest::proptest! {
    #[test]
    fn whatever_happens_the_bytes_are_right_and_the_books_add_up(
        max in 0_usize..2 << 20,
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let buffers = Buffers::new(max);
        let mut taken = Vec::new();
        let mut frozen: Vec<(u8, bytes::Bytes)> = Vec::new();
        for (mark, step) in (0_u8..).zip(steps) {
            match step {
                Step::Take(size) => taken.push(buffers.take(size)),
                Step::Drop(at) if !taken.is_empty() => drop(taken.swap_remove(at % taken.len())),
                Step::Freeze(at, length) if !taken.is_empty() => {
                    let mut buffer = taken.swap_remove(at % taken.len());
                    buffer.as_mut().fill(mark);
                    frozen.push((mark, buffer.freeze(length)));
                }
                Step::Slice(at) if !frozen.is_empty() => {
                    let (mark, bytes) = &frozen[at % frozen.len()];
                    let slice = bytes.slice(bytes.len() / 3..bytes.len() / 2);
                    frozen.push((*mark, slice));
                }
                Step::DropBytes(at) if !frozen.is_empty() => {
                    drop(frozen.swap_remove(at % frozen.len()));
                }
                Step::Elsewhere(at) if !frozen.is_empty() => {
                    let (_, bytes) = frozen.swap_remove(at % frozen.len());
                    std::thread::spawn(move || drop(bytes)).join().unwrap();
                }
                _ => (),
            }
            for (mark, bytes) in &frozen {
                assert!(bytes.iter().all(|byte| byte == mark));
            }
            let stats = buffers.stats();
            assert!(stats.lent >= taken.len() && stats.lent <= taken.len() + frozen.len());
            let made = (stats.held + stats.lent) as u64 + stats.dropped;
            assert_eq!(made, stats.misses, "{stats:?}");
        }
        drop((taken, frozen));
        let stats = buffers.stats();
        assert_eq!(stats.lent, 0);
        // A quarter for each size, and room for one where that is less.
        let most: usize = [4, 16, 64, 256].map(|size| (max / 4).max(size * KIB)).iter().sum();
        assert!(stats.bytes <= most, "{stats:?}");
    }
}

#[test]
fn what_lies_ready_can_be_freed_and_what_is_out_comes_back() {
    let buffers = Buffers::new(1 << 20);
    let out = buffers.take(4 * KIB);
    let many: Vec<Buffer> = (0..40).map(|_| buffers.take(4 * KIB)).collect();
    drop(many);
    assert!(buffers.stats().held > 1, "{:?}", buffers.stats());
    buffers.clear();
    let stats = buffers.stats();
    assert_eq!((stats.held, stats.lent, stats.bytes), (0, 1, 4 * KIB));
    drop(out);
    let stats = buffers.stats();
    assert_eq!((stats.held, stats.lent), (1, 0));
}
