//! The scanner against another parser, on generated documents and on damaged ones.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::Value;

use super::{Envelope, Field, Limits, ParseErrorKind as E, split_batch};
use crate::{rpc::code, version::Version};

/// JSON texts, spelled in more ways than a serializer would: white space, escapes, odd numbers,
/// repeated and watched keys.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        select(vec!["null", "true", "false", "0", "-0", "1", "-12", "1.50", "1e3", "-2E-2"])
            .prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
        string(),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(" ,\n"))),
            vec((key(), inner), 0..5).prop_map(object),
        ]
    })
}

fn object(members: Vec<(String, String)>) -> String {
    let members: Vec<_> =
        members.into_iter().map(|(key, value)| format!("{key}\t: {value}")).collect();
    format!("{{ {} }}", members.join(","))
}

fn string() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "[ -~]{0,70}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        select(vec![r#""\u0041\/""#, r#""\ud83d\ude00""#, r#""\uD834\uDD1E\b\f""#, r#""""#])
            .prop_map(str::to_owned),
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => select(vec![
            r#""jsonrpc""#, r#""id""#, r#""method""#, r#""params""#, r#""result""#, r#""error""#,
            r#""_meta""#, r#""name""#, r#""uri""#, r#""progressToken""#, r#""requestId""#,
            r#""code""#, r#""isError""#, r#""\u006eame""#, r#""i\u0064""#,
        ]).prop_map(str::to_owned),
        1 => string(),
    ]
}

/// Something close to a message, so that the rules behind the grammar are reached as well.
fn message() -> impl Strategy<Value = String> {
    let member = prop_oneof![
        3 => Just((r#""jsonrpc""#.to_owned(), r#""2.0""#.to_owned())),
        3 => (Just(r#""id""#.to_owned()), prop_oneof![any::<u32>().prop_map(|id| id.to_string()), string()]),
        3 => (Just(r#""method""#.to_owned()), select(vec![
            r#""tools/call""#, r#""notifications/progress""#, r#""resources/read""#, r#""\u0078""#,
        ]).prop_map(str::to_owned)),
        3 => (select(vec![r#""params""#, r#""result""#, r#""error""#]).prop_map(str::to_owned),
            vec((key(), json()), 0..5).prop_map(object)),
        1 => (key(), json()),
    ];
    vec(member, 3..7).prop_map(object)
}

/// Bytes of which some are replaced, removed or added.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..3u8);
    (prop_oneof![json(), message()], vec(change, 0..4)).prop_map(|(text, changes)| {
        let mut bytes = text.into_bytes();
        for (index, byte, what) in changes {
            let at = index.index(bytes.len() + 1);
            match what {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                _ if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.push(byte),
            }
        }
        bytes
    })
}

/// Whether the other parser takes the bytes; `None` where its limits on numbers hide the answer.
fn is_json(bytes: &[u8]) -> Option<bool> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(_) => Some(true),
        Err(error) if error.to_string().starts_with("number out of range") => None,
        Err(_) => Some(false),
    }
}

fn value(raw: Option<&[u8]>) -> Option<Value> {
    raw.and_then(|raw| serde_json::from_slice(raw).ok())
}

/// Compares what was found in an accepted message with what the other parser found.
fn same_parts(envelope: &Envelope, whole: &Value) {
    let params = &whole["params"];
    let meta =
        if params["_meta"].is_object() { &params["_meta"] } else { &whole["result"]["_meta"] };
    let present = |value: &Value| (!value.is_null()).then(|| value.clone());
    assert_eq!(value(envelope.id().as_ref().map(|id| id.token())), present(&whole["id"]));
    assert_eq!(envelope.method().as_deref(), whole["method"].as_str());
    for method in ["ping", "tools/call", "tools/list", "initialize", r"tools\/call", ""] {
        assert_eq!(envelope.is_method(method), envelope.method().as_deref() == Some(method));
    }
    let version = envelope.meta_version().as_deref().and_then(Version::parse);
    assert_eq!(envelope.known_version(), version);
    let edits: [(Field, &[u8]); 3] =
        [(Field::Id, b"77"), (Field::ProgressToken, b"\"x\""), (Field::Id, b"8")];
    assert_eq!(envelope.edited_bytes(&edits), envelope.edit(&edits).into_bytes());
    assert_eq!(envelope.edited_bytes(&[]), envelope.bytes());
    assert_eq!(value(envelope.params()), present(params));
    assert_eq!(value(envelope.error()), present(&whole["error"]));
    assert_eq!(value(envelope.meta()), present(meta));
    assert_eq!(envelope.uri().as_deref(), params["uri"].as_str());
    assert_eq!(envelope.is_tool_error(), whole["result"]["isError"] == Value::Bool(true));
    assert_eq!(envelope.error_code(), whole["error"]["code"].as_i64());
    let whole_result = whole.get("result").cloned();
    assert_eq!(value(envelope.result()), whole_result);
    if envelope.method().is_some() {
        let token = value(envelope.progress_token().as_ref().map(|token| token.token()));
        assert_eq!(token, present(&meta["progressToken"]));
    }
    if envelope.method().as_deref() == Some("tools/call") {
        assert_eq!(envelope.name().as_deref(), params["name"].as_str());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_grammar_is_the_same(bytes in damaged()) {
        match Envelope::parse(Bytes::copy_from_slice(&bytes)) {
            Ok(envelope) => {
                prop_assert_ne!(is_json(&bytes), Some(false));
                if let Ok(whole) = serde_json::from_slice::<Value>(&bytes) {
                    same_parts(&envelope, &whole);
                }
            }
            Err(error) => {
                prop_assert!(error.offset <= bytes.len());
                let other = is_json(&bytes).filter(|_| error.kind != E::TooDeep);
                if let Some(grammatical) = other {
                    prop_assert_eq!(error.code() != code::PARSE_ERROR, grammatical, "{}", error);
                }
            }
        }
    }

    #[test]
    fn messages_are_found_alike(text in message()) {
        if let Ok(envelope) = Envelope::parse(Bytes::from(text.clone().into_bytes())) {
            same_parts(&envelope, &serde_json::from_str(&text).unwrap());
        }
    }

    #[test]
    fn an_edited_message_reads_as_if_it_had_come_so(
        text in message(),
        tokens in vec(prop_oneof![any::<u64>().prop_map(|id| id.to_string()), string()], 5),
    ) {
        let Ok(envelope) = Envelope::parse(Bytes::from(text.into_bytes())) else { return Ok(()) };
        let fields = [
            Field::Id,
            Field::ProgressToken,
            Field::NotifiedProgress,
            Field::CancelledRequest,
            Field::SubscriptionId,
        ];
        let edits: Vec<_> =
            fields.into_iter().zip(&tokens).map(|(field, token)| (field, token.as_bytes())).collect();
        prop_assume!(tokens.iter().all(|token| token.len() <= 256));
        let edited = envelope.edit(&edits);
        let reread = Envelope::parse(edited.bytes().clone()).unwrap();
        prop_assert_eq!(format!("{:?}", edited.head), format!("{:?}", reread.head));
        if let Some(id) = envelope.id() {
            assert_eq!(edited.id().unwrap().token(), tokens[0].as_bytes());
            let mut back = vec![(Field::Id, id.token())];
            let progress = envelope.progress_token();
            back.extend(progress.as_ref().map(|token| (Field::ProgressToken, token.token())));
            let subscription = envelope.subscription_id();
            back.extend(subscription.as_ref().map(|token| (Field::SubscriptionId, token.token())));
            let restored = edited.edit(&back);
            prop_assert_eq!(restored.bytes(), envelope.bytes());
        }
    }

    #[test]
    fn a_batch_is_its_elements(items in vec(json(), 1..6)) {
        let text = Bytes::from(format!(" [ {} ]\n", items.join(" , ")));
        let split = split_batch(&text, &Limits::default(), 6).unwrap();
        prop_assert_eq!(split, items.into_iter().map(Bytes::from).collect::<Vec<_>>());
    }
}
