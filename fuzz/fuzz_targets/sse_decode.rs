//! However a stream is split, its events are the same, and the blocks are the stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_protocol::{
    Bytes,
    sse::{Block, Decoder, TooLong},
};

fuzz_target!(|input: &[u8]| {
    // The first byte says how long the chunks are.
    let Some((size, stream)) = input.split_first() else { return };
    let whole = decode(stream, stream.len().max(1)).expect("within the limit");
    let split = decode(stream, usize::from(*size).max(1)).expect("within the limit");
    for (blocks, rest) in [&whole, &split] {
        let raws = blocks.iter().map(|block| &block.raw).chain(rest);
        let raw: Vec<u8> = raws.flat_map(|raw| raw.iter().copied()).collect();
        assert_eq!(raw, stream);
    }
    assert_eq!(events(&whole.0), events(&split.0));
});

fn decode(stream: &[u8], size: usize) -> Result<(Vec<Block>, Option<Bytes>), TooLong> {
    let mut decoder = Decoder::new(1 << 20);
    let mut blocks = Vec::new();
    for chunk in stream.chunks(size) {
        decoder.push(Bytes::copy_from_slice(chunk));
        while let Some(block) = decoder.next()? {
            blocks.push(block);
        }
    }
    Ok((blocks, decoder.finish()))
}

type Event<'a> = (&'a Option<Bytes>, &'a Option<Bytes>, &'a Option<Bytes>, Option<u64>);

fn events(blocks: &[Block]) -> Vec<Event<'_>> {
    let told = blocks.iter().filter(|block| !block.is_silent());
    told.map(|block| (&block.data, &block.id, &block.event, block.retry)).collect()
}
