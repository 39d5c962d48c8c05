//! However a stream is split, its lines are the same, and none is longer than the limit.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_protocol::{
    Bytes,
    line::{Decoder, TooLong},
};

fuzz_target!(|input: &[u8]| {
    // The first bytes say how long chunks and lines are.
    let [size, limit, stream @ ..] = input else { return };
    let limit = usize::from(*limit);
    let whole = decode(stream, stream.len().max(1), limit);
    let split = decode(stream, usize::from(*size).max(1), limit);
    assert_eq!(whole, split);
    for line in whole.iter().flatten() {
        assert!(line.len() <= limit && !line.contains(&b'\n'));
    }
});

fn decode(stream: &[u8], size: usize, limit: usize) -> Vec<Result<Bytes, TooLong>> {
    let mut decoder = Decoder::new(limit);
    let mut lines = Vec::new();
    for chunk in stream.chunks(size) {
        decoder.push_slice(chunk);
        while let Some(line) = decoder.next().transpose() {
            lines.push(line);
        }
    }
    lines
}
