//! Any split gives the same lines, and nothing grows without bound.

use bytes::{Bytes, BytesMut};
use proptest::{collection::vec, prelude::*, sample::select};

use super::{Decoder, TooLong, encode_into};

fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Bytes>, Option<Bytes>) {
    let mut decoder = Decoder::new(1 << 20);
    let mut lines = Vec::new();
    for chunk in chunks {
        decoder.push_slice(chunk);
        while let Some(line) = decoder.next().unwrap() {
            lines.push(line);
        }
    }
    (lines, decoder.finish())
}

#[test]
fn lines_lose_their_ends_and_blank_ones_are_skipped() {
    let (lines, rest) = decode([b"a\r\n\n \t\r\nb\n\r\nc\rd\n{\"x\":1}\r".as_slice()]);
    assert_eq!(lines, [&b"a"[..], b"b", b"c\rd"]);
    assert_eq!(rest.as_deref(), Some(&br#"{"x":1}"#[..]));
    assert_eq!(decode([b"a\n \r".as_slice()]).1, None);
    assert_eq!(decode([]), (vec![], None));
}

#[test]
fn a_line_in_one_chunk_is_a_slice_of_it() {
    let chunk = Bytes::from_static(b"{}\n{\"a\":1}\r\n");
    let mut decoder = Decoder::new(100);
    decoder.push(chunk.clone());
    for _ in 0..2 {
        let line = decoder.next().unwrap().unwrap();
        assert!(chunk.as_ptr_range().contains(&line.as_ptr()));
    }
}

#[test]
fn a_long_line_is_told_once_and_dropped() {
    for size in [1, 3, 100] {
        let mut decoder = Decoder::new(4);
        let mut seen = Vec::new();
        for chunk in b"1234\r\n123456789\nab\n12345\nlast\n".chunks(size) {
            decoder.push_slice(chunk);
            loop {
                match decoder.next() {
                    Ok(None) => break,
                    Ok(Some(line)) => seen.push(Ok(line)),
                    Err(error) => seen.push(Err(error)),
                }
            }
        }
        let long = || Err(TooLong { limit: 4 });
        let line = |text: &'static str| Ok(Bytes::from_static(text.as_bytes()));
        assert_eq!(seen, [line("1234"), long(), line("ab"), long(), line("last")], "{size}");
    }
}

#[test]
fn an_endless_line_is_not_held() {
    let mut decoder = Decoder::new(1000);
    let mut errors = 0;
    for _ in 0..10_000 {
        decoder.push(Bytes::from_static(&[b'x'; 100]));
        errors += usize::from(decoder.next().is_err());
        assert!(decoder.held.capacity() <= 4096);
    }
    assert_eq!(errors, 1);
    decoder.push(Bytes::from_static(b"\nnext\n"));
    assert_eq!(decoder.next(), Ok(Some(Bytes::from_static(b"next"))));
    assert_eq!(decoder.finish(), None);
}

#[test]
fn a_message_becomes_one_line() {
    let mut out = BytesMut::new();
    encode_into(&mut out, b"{\n  \"a\": \"x\\ny\"\r\n}");
    encode_into(&mut out, b"{}");
    assert_eq!(out, &b"{   \"a\": \"x\\ny\"  }\n{}\n"[..]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_lines(
        pieces in vec(select(vec!["\n", "\r\n", "\r", "{}", "x y", " ", "\u{e9}"]), 0..24),
        cuts in vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let stream = pieces.concat().into_bytes();
        let mut expected: Vec<_> = stream
            .split(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .map(Bytes::copy_from_slice)
            .collect();
        let rest = expected.pop().filter(|rest| !rest.trim_ascii().is_empty());
        expected.retain(|line| !line.trim_ascii().is_empty());
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let random: Vec<_> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        for chunks in [vec![stream.as_slice()], stream.chunks(1).collect(), random] {
            prop_assert_eq!(decode(chunks), (expected.clone(), rest.clone()));
        }
    }
}
