//! What it costs to look at a message, and to cut messages out of a stream of bytes.
//!
//! `serde_json_lazy` is there for scale: the cheapest that serde offers for the same question.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;
use serde_json::value::RawValue;
use tidegate_benches::payload::{self, SIZES};
use tidegate_protocol::{Bytes, Envelope, line, sse};

/// Larger than any message here; the limit itself is not what is measured.
const LIMIT: usize = 16 << 20;
/// What one read from a socket or a pipe commonly brings.
const CHUNK: usize = 16 << 10;
/// How much each codec run decodes.
const STREAM: usize = 1 << 20;

#[derive(Deserialize)]
struct Lazy<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<LazyParams<'a>>,
}

#[derive(Deserialize)]
struct LazyParams<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'a RawValue>,
}

fn head_scan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head_scan");
    for (name, size) in SIZES {
        for (shape, request) in [("", payload::text(size)), ("objects/", payload::objects(size))] {
            let request = Bytes::from(request);
            group.throughput(Throughput::Bytes(request.len() as u64));
            group.bench_function(
                BenchmarkId::from_parameter(format!("{shape}{name}")),
                |bencher| {
                    bencher.iter(|| {
                        let envelope = Envelope::parse(black_box(request.clone()))?;
                        black_box((envelope.kind(), envelope.id(), envelope.name().is_some()));
                        Ok::<_, tidegate_protocol::ParseError>(envelope)
                    });
                },
            );
            let id = BenchmarkId::from_parameter(format!("serde_json_lazy/{shape}{name}"));
            group.bench_function(id, |bencher| {
                bencher.iter(|| {
                    let lazy: Lazy<'_> = serde_json::from_slice(black_box(&request))?;
                    let params = lazy.params.map(|params| (params.name, params.meta));
                    black_box((lazy.id, lazy.method, params));
                    Ok::<_, serde_json::Error>(())
                });
            });
        }
    }
    group.finish();
}

/// `message` over and over, framed by `frame`, cut into reads.
fn stream(message: &str, frame: impl Fn(&str) -> String) -> Vec<Bytes> {
    let framed = frame(message);
    let whole = Bytes::from(framed.repeat(STREAM.div_ceil(framed.len())));
    (0..whole.len()).step_by(CHUNK).map(|at| whole.slice(at..whole.len().min(at + CHUNK))).collect()
}

fn line_codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("line_codec");
    for (name, size) in SIZES {
        let chunks = stream(&payload::text(size), |message| format!("{message}\n"));
        assert_eq!(decode_lines(&chunks), Ok(STREAM.div_ceil(size + 1)), "every line comes out");
        group.throughput(Throughput::Bytes(chunks.iter().map(|chunk| chunk.len() as u64).sum()));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| decode_lines(black_box(&chunks)));
        });
    }
    group.finish();
}

fn decode_lines(chunks: &[Bytes]) -> Result<usize, line::TooLong> {
    let mut decoder = line::Decoder::new(LIMIT);
    let mut messages = 0;
    for chunk in chunks {
        decoder.push_slice(chunk);
        while let Some(message) = decoder.next()? {
            black_box(message);
            messages += 1;
        }
    }
    Ok(messages)
}

fn sse_codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sse_codec");
    for (name, size) in SIZES {
        let frame = |message: &str| format!("event: message\ndata: {message}\n\n");
        let chunks = stream(&payload::text(size), frame);
        let framed = frame(&payload::text(size)).len();
        assert_eq!(decode_events(&chunks), Ok(STREAM.div_ceil(framed)), "every event comes out");
        group.throughput(Throughput::Bytes(chunks.iter().map(|chunk| chunk.len() as u64).sum()));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| decode_events(black_box(&chunks)));
        });
    }
    group.finish();
}

fn decode_events(chunks: &[Bytes]) -> Result<usize, sse::TooLong> {
    let mut decoder = sse::Decoder::new(LIMIT);
    let mut events = 0;
    for chunk in chunks {
        decoder.push(chunk.clone());
        while let Some(block) = decoder.next()? {
            black_box(block);
            events += 1;
        }
    }
    Ok(events)
}

criterion_group!(codecs, head_scan, line_codec, sse_codec);
criterion_main!(codecs);
