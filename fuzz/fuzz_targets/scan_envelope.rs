//! The scanner accepts what another parser accepts, but for its stricter rules, and finds the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tidegate_protocol::{
    Bytes, Envelope, Field, Limits, ParseErrorKind, rpc::code, split_batch,
};

fuzz_target!(|input: &[u8]| {
    let bytes = Bytes::copy_from_slice(input);
    let other = serde_json::from_slice::<Value>(input);
    let batch = split_batch(&bytes, &Limits::default(), 8);
    match Envelope::parse(bytes.clone()) {
        Ok(envelope) => {
            assert!(batch.is_err());
            match &other {
                Ok(whole) => same(&envelope, whole),
                Err(error) => assert!(is_range(error), "accepted: {error}"),
            }
            edit(&envelope);
        }
        Err(error) => {
            assert!(error.offset <= input.len());
            let grammatical = error.code() != code::PARSE_ERROR;
            match &other {
                _ if error.kind == ParseErrorKind::TooDeep => {}
                Ok(_) => assert!(grammatical, "refused: {error}"),
                Err(other) => assert!(!grammatical || is_range(other), "{error}, {other}"),
            }
        }
    }
    if let (Ok(items), Ok(Value::Array(values))) = (batch, other) {
        let reread: Vec<Value> =
            items.iter().map(|item| serde_json::from_slice(item).expect("valid")).collect();
        assert_eq!(reread, values);
    }
});

/// Whether the other parser only minds the size of a number, which we do not.
fn is_range(error: &serde_json::Error) -> bool {
    error.to_string().starts_with("number out of range")
}

fn same(envelope: &Envelope, whole: &Value) {
    let value = |raw: &[u8]| serde_json::from_slice::<Value>(raw).expect("valid");
    let present = |value: &Value| (!value.is_null()).then(|| value.clone());
    let params = &whole["params"];
    assert_eq!(envelope.id().map(|id| value(id.token())), present(&whole["id"]));
    assert_eq!(envelope.method().as_deref(), whole["method"].as_str());
    assert_eq!(envelope.params().map(value), present(params));
    assert_eq!(envelope.result().map(value), whole.get("result").cloned());
    assert_eq!(envelope.error().map(value), present(&whole["error"]));
    assert_eq!(envelope.uri().as_deref(), params["uri"].as_str());
    assert_eq!(envelope.error_code(), whole["error"]["code"].as_i64());
    if envelope.method().as_deref() == Some("tools/call") {
        assert_eq!(envelope.name().as_deref(), params["name"].as_str());
    }
}

fn edit(envelope: &Envelope) {
    let edited = envelope.edit(&[
        (Field::Id, b"18446744073709551615"),
        (Field::ProgressToken, br#""\u0041""#),
        (Field::NotifiedProgress, b"0"),
        (Field::CancelledRequest, b"-1"),
        (Field::SubscriptionId, br#""""#),
    ]);
    let reread = Envelope::parse(edited.bytes().clone()).expect("an edit keeps a message valid");
    assert_eq!(
        (edited.id(), edited.method(), edited.params(), edited.meta(), edited.name()),
        (reread.id(), reread.method(), reread.params(), reread.meta(), reread.name()),
    );
    assert_eq!(
        (edited.result(), edited.error(), edited.progress_token(), edited.subscription_id()),
        (reread.result(), reread.error(), reread.progress_token(), reread.subscription_id()),
    );
    let fields = [
        (Field::Id, envelope.id()),
        (Field::ProgressToken, envelope.progress_token()),
        (Field::NotifiedProgress, envelope.notified_progress()),
        (Field::CancelledRequest, envelope.cancelled_request()),
        (Field::SubscriptionId, envelope.subscription_id()),
    ];
    let back: Vec<_> = fields
        .iter()
        .filter_map(|(field, id)| Some((*field, id.as_ref()?.token())))
        .collect();
    assert_eq!(edited.edit(&back).bytes(), envelope.bytes());
}
