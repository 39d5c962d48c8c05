//! Any split gives the same events, and the bytes survive.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*, sample::select};

use super::{Block, Decoder, TooLong, comment, encode, encode_event, encode_with_id, priming};

/// What a receiver would learn from a stream: data, id, event name, retry.
type Event = (Option<String>, Option<String>, Option<String>, Option<u64>);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn event(block: &Block) -> Event {
    let text = |field: &Option<Bytes>| field.as_deref().map(text);
    (text(&block.data), text(&block.id), text(&block.event), block.retry)
}

/// Decodes a stream that comes in these chunks; the blocks, and what is left.
fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Block>, Option<Bytes>) {
    let mut decoder = Decoder::new(1 << 20);
    let mut blocks = Vec::new();
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk));
        while let Some(block) = decoder.next().unwrap() {
            blocks.push(block);
        }
    }
    (blocks, decoder.finish())
}

fn events(blocks: &[Block]) -> Vec<Event> {
    blocks.iter().filter(|block| !block.is_silent()).map(event).collect()
}

fn raw(blocks: &[Block], rest: Option<&Bytes>) -> Vec<u8> {
    let raws = blocks.iter().map(|block| &block.raw).chain(rest);
    raws.flat_map(|raw| raw.iter().copied()).collect()
}

/// The standard's algorithm, taken literally: lines first, then fields.
fn by_the_book(stream: &[u8]) -> Vec<Event> {
    let stream = stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(stream);
    let unified = text_lines(stream);
    let mut found = Vec::new();
    let mut current = (Vec::new(), None, None, None);
    for line in unified {
        if line.is_empty() {
            let (data, id, name, retry) = std::mem::take(&mut current);
            let data = (!data.is_empty()).then(|| text(&data.join(&b'\n')));
            if data.is_some() || id.is_some() || name.is_some() || retry.is_some() {
                found.push((data, id, name, retry));
            }
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value).to_vec();
        match &line[..colon] {
            b"data" => current.0.push(value),
            b"id" if !value.contains(&0) => current.1 = Some(text(&value)),
            b"event" => current.2 = Some(text(&value)),
            b"retry" if value.iter().all(u8::is_ascii_digit) => {
                current.3 = text(&value).parse().ok().or(current.3);
            }
            _ => {}
        }
    }
    found
}

/// The complete lines of a stream, without their ends.
fn text_lines(stream: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = vec![Vec::new()];
    let mut bytes = stream.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\n' => lines.push(Vec::new()),
            b'\r' => {
                bytes.next_if_eq(&b'\n');
                lines.push(Vec::new());
            }
            _ => lines.last_mut().unwrap().push(byte),
        }
    }
    lines.pop();
    lines
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => select(vec!["\n", "\r", "\r\n", "\n\n", "\r\r", "\r\n\r\n"])
            .prop_map(|end| end.as_bytes().to_vec()),
        4 => select(vec![
            "data: {\"a\":1}", "data:x", "data", "data:", "data:  two", "id: 7", "id", "id: a\0b",
            "event: message", "retry: 250", "retry: x", "retry:", ": ping", ":", "unknown: y",
            "Data: no", "\u{feff}", "\u{feff}data: bom", " data: space",
        ]).prop_map(|line| line.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

#[test]
fn fields_are_read_by_the_standard() {
    let some = |text: &str| Some(text.to_owned());
    let cases: [(&str, Event); 11] = [
        ("data: x\n\n", (some("x"), None, None, None)),
        ("data:x\r\n\r\n", (some("x"), None, None, None)),
        ("data:  x\r\r", (some(" x"), None, None, None)),
        ("data: a\ndata:\ndata: b\n\n", (some("a\n\nb"), None, None, None)),
        ("id: 1\ndata: \n\n", (some(""), some("1"), None, None)),
        ("id: 1\ndata\n\n", (some(""), some("1"), None, None)),
        ("event: endpoint\ndata: /m?s=1\n\n", (some("/m?s=1"), None, some("endpoint"), None)),
        ("retry: 3000\nid\n\n", (None, some(""), None, Some(3000))),
        ("retry: -1\nid: a\0b\ndata: x\n\n", (some("x"), None, None, None)),
        ("\u{feff}data: x\n\n", (some("x"), None, None, None)),
        ("data: a:b\nx: y\n: c\n\n", (some("a:b"), None, None, None)),
    ];
    for (stream, expected) in cases {
        let (blocks, rest) = decode([stream.as_bytes()]);
        assert_eq!(blocks.iter().map(event).collect::<Vec<_>>(), [expected], "{stream:?}");
        assert_eq!((blocks[0].raw.as_ref(), rest), (stream.as_bytes(), None));
    }
}

#[test]
fn a_block_in_one_chunk_is_a_slice_of_it() {
    let chunk = Bytes::from_static(b"id: 1\ndata: {}\n\nevent: message\ndata: {\"a\":1}\n\n");
    let inside = |bytes: &Bytes| chunk.as_ptr_range().contains(&bytes.as_ptr());
    let mut decoder = Decoder::new(100);
    decoder.push(chunk.clone());
    for _ in 0..2 {
        let block = decoder.next().unwrap().unwrap();
        assert!(inside(&block.raw) && inside(&block.data.unwrap()));
    }
    assert_eq!(decoder.next(), Ok(None));
}

#[test]
fn comments_between_blocks_do_not_wait() {
    for end in ["\n", "\r", "\r\n"] {
        let stream = format!(": ping{end}");
        let (blocks, rest) = decode([stream.as_bytes()]);
        assert_eq!((blocks.len(), rest), (1, None));
        assert!(blocks[0].is_silent());
    }
    let (blocks, _) = decode([b"data: x\n\n: ping\n\ndata: y\n: inner\n\n".as_slice()]);
    let raws: Vec<_> = blocks.iter().map(|block| text(&block.raw)).collect();
    assert_eq!(raws, ["data: x\n\n", ": ping\n\n", "data: y\n: inner\n\n"]);
}

#[test]
fn a_block_that_ends_with_cr_does_not_wait_for_an_lf() {
    let (blocks, rest) = decode([b"data: x\r\n\r".as_slice()]);
    assert_eq!((events(&blocks).len(), rest), (1, None));
    let (blocks, rest) = decode([b"data: x\r\n\r".as_slice(), b"\ndata: y\r\n\r\n"]);
    assert_eq!((events(&blocks).len(), rest), (2, None));
}

#[test]
fn an_unfinished_block_is_left_over() {
    let (blocks, rest) = decode([b"data: x\n\ndata: y\n".as_slice()]);
    assert_eq!(blocks.len(), 1);
    assert_eq!(rest.as_deref(), Some(&b"data: y\n"[..]));
}

#[test]
fn long_blocks_end_the_stream_however_they_come() {
    let block = b"data: 0123456789\n\n";
    for size in [1, 5, block.len()] {
        for (limit, fits) in [(block.len(), true), (block.len() - 1, false)] {
            let mut decoder = Decoder::new(limit);
            let mut outcome = Ok(None);
            for chunk in block.chunks(size) {
                decoder.push(Bytes::copy_from_slice(chunk));
                outcome = decoder.next();
                if outcome.is_err() {
                    break;
                }
            }
            assert_eq!(outcome.is_ok(), fits, "{size} {limit}");
            if !fits {
                decoder.push(Bytes::from_static(b"data: x\n\n"));
                assert_eq!(decoder.next(), Err(TooLong { limit }));
                assert_eq!(decoder.finish(), None);
            }
        }
    }
    let mut endless = Decoder::new(1000);
    for _ in 0..1000 {
        endless.push(Bytes::from_static(&[b'x'; 100]));
        if endless.next().is_err() {
            return;
        }
    }
    panic!("an endless line was held");
}

#[test]
fn blank_lines_without_end_are_passed_on() {
    let mut decoder = Decoder::new(16);
    for _ in 0..10 {
        decoder.push(Bytes::from_static(&[b'\n'; 100]));
        assert_eq!(decoder.next().unwrap().unwrap().raw.len(), 100);
    }
}

#[test]
fn what_is_written_is_read_back() {
    let message = br#"{"jsonrpc":"2.0","id":1,"result":{"text":"a\nb"}}"#;
    let (blocks, _) = decode([encode(message).as_ref()]);
    assert_eq!(events(&blocks), [(Some(text(message)), None, Some("message".into()), None)]);
    let (blocks, _) = decode([encode_with_id("s-1", message).unwrap().as_ref()]);
    assert_eq!(blocks[0].id.as_deref(), Some(&b"s-1"[..]));
    let (blocks, _) = decode([encode_event("endpoint", None, b"/x").unwrap().as_ref()]);
    assert_eq!(events(&blocks), [(Some("/x".into()), None, Some("endpoint".into()), None)]);
    let (blocks, _) = decode([priming("p", Some(500)).unwrap().as_ref()]);
    assert_eq!(events(&blocks), [(Some(String::new()), Some("p".into()), None, Some(500))]);
    let (blocks, _) = decode([comment("keep\r\nalive").as_ref()]);
    assert_eq!((text(&blocks[0].raw), blocks.len()), (": keep  alive\n\n".into(), 1));
    assert_eq!(encode(b"{\r\n \"a\": 1\n}"), &b"event: message\ndata: {   \"a\": 1 }\n\n"[..]);
}

#[test]
fn a_message_is_a_block_at_once() {
    for message in [&br#"{"jsonrpc":"2.0","id":1,"result":{}}"#[..], b"{\r\n \"a\": 1\n}"] {
        let block = Block::message("s-1", message).unwrap();
        let (blocks, rest) = decode([encode_with_id("s-1", message).unwrap().as_ref()]);
        assert_eq!((blocks.as_slice(), rest), (&[block][..], None));
    }
    assert!(Block::message("a\nb", b"{}").is_err());
}

#[test]
fn a_block_gets_another_id_and_keeps_the_rest() {
    for (before, with, without) in [
        ("data: a\n\n", "id: n-1\ndata: a\n\n", "data: a\n\n"),
        ("id: 7\ndata: a\n\n", "id: n-1\ndata: a\n\n", "data: a\n\n"),
        ("id\r\ndata:\r\n\r\n", "id: n-1\ndata:\r\n\r\n", "data:\r\n\r\n"),
        (
            ": c\revent: x\rid: 7\rdata: a\rid:8\rdata: b\rretry: 5\r\r",
            "id: n-1\n: c\revent: x\rdata: a\rdata: b\rretry: 5\r\r",
            ": c\revent: x\rdata: a\rdata: b\rretry: 5\r\r",
        ),
        (
            "identity: 1\ndata: a\n\n",
            "id: n-1\nidentity: 1\ndata: a\n\n",
            "identity: 1\ndata: a\n\n",
        ),
        ("\u{feff}id: 7\ndata: a\n\n", "id: n-1\ndata: a\n\n", "data: a\n\n"),
    ] {
        // A comment that opens a block comes as one of its own, so blocks are joined again here.
        let (blocks, _) = decode([before.as_bytes()]);
        let under = |id| blocks.iter().map(|block| block.under(id).unwrap()).collect::<Vec<_>>();
        let last = under(Some("n-1")).pop().unwrap();
        let expected = with.strip_prefix("id: n-1\n: c\r").map(|rest| format!("id: n-1\n{rest}"));
        assert_eq!(text(&last.raw), expected.unwrap_or_else(|| with.to_owned()));
        assert_eq!(last.id.as_deref(), Some(&b"n-1"[..]));
        let original = blocks.last().unwrap();
        assert_eq!(
            (&last.data, &last.event, last.retry),
            (&original.data, &original.event, original.retry)
        );
        assert_eq!(raw(&under(None), None), without.as_bytes());
        assert!(under(None).iter().all(|block| block.id.is_none()));
    }
    let (blocks, _) = decode([&b"data: a\n\n"[..]]);
    assert!(blocks[0].under(Some("a\nb")).is_err());
}

#[test]
fn fields_that_would_break_out_are_refused() {
    for odd in ["a\nb", "a\r", "\0", "1\n\ndata: injected"] {
        assert_eq!(encode_with_id(odd, b"{}").unwrap_err().field, "id");
        assert_eq!(encode_event(odd, None, b"{}").unwrap_err().field, "event");
        assert!(priming(odd, None).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_events(
        stream in stream(),
        cuts in vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let expected = by_the_book(&stream);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let random: Vec<_> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        for chunks in [vec![stream.as_slice()], stream.chunks(1).collect(), random] {
            let (blocks, rest) = decode(chunks);
            prop_assert_eq!(events(&blocks), expected.clone());
            prop_assert_eq!(raw(&blocks, rest.as_ref()), stream.clone());
        }
    }

    #[test]
    fn chunks_may_be_pushed_ahead(stream in stream(), cut in any::<prop::sample::Index>()) {
        let (left, right) = stream.split_at(cut.index(stream.len() + 1));
        let mut decoder = Decoder::new(1 << 20);
        decoder.push(Bytes::copy_from_slice(left));
        decoder.push(Bytes::copy_from_slice(right));
        let mut blocks = Vec::new();
        while let Some(block) = decoder.next().unwrap() {
            blocks.push(block);
        }
        prop_assert_eq!(events(&blocks), by_the_book(&stream));
    }
}
