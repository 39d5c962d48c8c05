//! The head scan allocates nothing, whatever the size and shape of the message.

#![expect(clippy::unwrap_used, reason = "tests")]

use allocation_counter::measure;
use tidegate_benches::payload::{self, SIZES};
use tidegate_protocol::{Bytes, Envelope, Kind};

fn check(request: String) {
    let request = Bytes::from(request);
    // The first clone of a `Bytes` that came from a `String` allocates its reference count.
    let kept = request.clone();
    let mut parsed = None;
    let seen = measure(|| parsed = Some(Envelope::parse(request)));
    assert_eq!((seen.count_total, seen.bytes_total), (0, 0), "{} bytes: {seen:?}", kept.len());

    let envelope = parsed.unwrap().unwrap();
    assert_eq!(envelope.kind(), Kind::Request);
    assert_eq!(envelope.id().unwrap().as_u64(), Some(42));
    let seen = measure(|| {
        assert_eq!(envelope.method().as_deref(), Some("tools/call"));
        assert_eq!(envelope.name().as_deref(), Some("write_file"));
        assert!(envelope.params().is_some() && envelope.meta().is_some());
    });
    assert_eq!(seen.count_total, 0, "reading what the scan found: {seen:?}");
}

#[test]
fn a_request_with_one_long_string_is_scanned_without_allocating() {
    SIZES.iter().for_each(|(_, size)| check(payload::text(*size)));
}

#[test]
fn a_request_with_many_small_objects_is_scanned_without_allocating() {
    SIZES.iter().for_each(|(_, size)| check(payload::objects(*size)));
}

#[test]
fn the_counter_counts() {
    let seen = measure(|| drop(std::hint::black_box(vec![0_u8; 100])));
    assert_eq!((seen.count_total, seen.bytes_total), (1, 100));
}
