//! Ids compare by type and value and keep their spelling.

use std::collections::HashSet;

use bytes::Bytes;

use super::Id;

fn id(token: &str) -> Id {
    Id::parse(Bytes::copy_from_slice(token.as_bytes())).unwrap_or_else(|| panic!("{token}"))
}

#[test]
fn type_and_value_decide() {
    let same = [
        ("1", "1"),
        ("0", "-0"),
        (r#""1""#, r#""\u0031""#),
        (r#""a/b""#, r#""a\/b""#),
        (r#""😀""#, r#""\ud83d\ude00""#),
        (r#""\u000a""#, r#""\n""#),
    ];
    for (left, right) in same {
        assert_eq!(id(left), id(right), "{left} {right}");
        assert_eq!(HashSet::from([id(left), id(right)]).len(), 1, "{left} {right}");
    }
    let different = [
        ("1", r#""1""#),
        ("1", "-1"),
        (r#""a""#, r#""A""#),
        (r#""""#, r#"" ""#),
        ("9007199254740992", "9007199254740993"),
        (r#""1""#, r#""\\u0031""#),
    ];
    for (left, right) in different {
        assert_ne!(id(left), id(right), "{left} {right}");
    }
}

#[test]
fn only_strings_and_integers_are_ids() {
    for odd in [
        "",
        "null",
        "true",
        "1.0",
        "1e2",
        "01",
        "-",
        "+1",
        "--1",
        "1 ",
        " 1",
        "{}",
        "[1]",
        r#"""#,
        r#""a"#,
        r#""a"b""#,
        r#""\""#,
        r#""\x""#,
        r#""\ud800""#,
        "\"\n\"",
        "\"a\\\"",
    ] {
        assert_eq!(Id::parse(Bytes::copy_from_slice(odd.as_bytes())), None, "{odd}");
    }
    assert_eq!(Id::parse(Bytes::from_static(b"\"\xff\"")), None);
    assert!(Id::parse(Bytes::from(vec![b'1'; 257])).is_none());
}

#[test]
fn made_ids_read_back() {
    for value in [0, 7, u64::MAX] {
        assert_eq!(Id::from_u64(value).as_u64(), Some(value));
        assert_eq!(Id::from_u64(value), id(&value.to_string()));
    }
    for text in ["", "1", "a\"b\\c", "line\nbreak", "\u{1}\u{7f}é😀"] {
        let made = Id::from_str(text);
        assert_eq!(made.as_text().as_deref(), Some(text));
        assert_eq!(Id::parse(Bytes::copy_from_slice(made.token())), Some(made));
    }
    assert_eq!(id("-5").as_u64(), None);
    assert_eq!(id("18446744073709551616").as_u64(), None);
    assert_eq!(id("5").as_text(), None);
}

#[test]
fn a_detached_id_has_its_own_buffer() {
    let message = Bytes::from_static(br#"{"id":"a"}"#);
    let shared = Id::trusted(message.slice(6..9));
    let own = shared.detach();
    assert_eq!(own, shared);
    assert!(!message.as_ptr_range().contains(&own.token().as_ptr()));
    assert_eq!(format!("{own} {own:?}"), r#""a" Id("a")"#);
}
