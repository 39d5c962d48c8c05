//! What is accepted, what is refused, and what is found.

use bytes::Bytes;

use super::{
    Envelope, Field, Kind, Limits, ParseError, ParseErrorKind as E, holds_answer, split_batch,
};
use crate::{Id, rpc::code};

fn parse(text: &str) -> Result<Envelope, ParseError> {
    Envelope::parse(Bytes::copy_from_slice(text.as_bytes()))
}

fn good(text: &str) -> Envelope {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[track_caller]
fn refuses(text: &str, kind: E) {
    match parse(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => assert_eq!(error.kind, kind, "{text}: {error}"),
    }
}

fn call(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#)
}

fn tool_call(params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#)
}

#[test]
fn the_four_kinds_are_told_apart() {
    for (text, kind) in [
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, Kind::Request),
        (r#"{"method":"ping","jsonrpc":"2.0","id":"x","params":{}}"#, Kind::Request),
        (r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, Kind::Notification),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, Kind::Response),
        (r#"{"jsonrpc":"2.0","id":1,"result":null}"#, Kind::Response),
        (r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}"#, Kind::Error),
        (r#"{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"no"}}"#, Kind::Error),
        (r#"{"jsonrpc":"2.0","error":{"code":-1,"message":"no"}}"#, Kind::Error),
        (" \r\n\t{ \"jsonrpc\" : \"2.0\" , \"id\" : 1 , \"result\" : [ ] }\n", Kind::Response),
        (r#"{"jsonrpc":"\u0032.0","\u006dethod":"ping","id":1}"#, Kind::Request),
    ] {
        assert_eq!(good(text).kind(), kind, "{text}");
    }
}

#[test]
fn a_method_is_compared_by_what_it_says() {
    for (token, says) in [
        ("tools/call", Some("tools/call")),
        (r"tools\/call", Some("tools/call")),
        (r"tools\u002fcall", Some("tools/call")),
        (r"tools\\call", Some(r"tools\call")),
        ("tools/calls", None),
        ("tools/cal", None),
        ("Tools/call", None),
        ("", None),
    ] {
        let message = good(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{token}"}}"#));
        let names = ["ping", "tools/call", r"tools\call"];
        assert_eq!(message.method_among(&names).map(|index| names[index]), says, "{token}");
        for name in names {
            assert_eq!(message.is_method(name), says == Some(name), "{token} {name}");
        }
        assert!(!message.is_method(r"tools\/call"), "an escape is not taken literally");
    }
}

#[test]
fn shapes_that_are_no_message_are_refused() {
    for (text, kind) in [
        (r#"{}"#, E::BadShape("jsonrpc")),
        (r#"{"id":1,"method":"ping"}"#, E::BadShape("jsonrpc")),
        (r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#, E::BadShape("jsonrpc")),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, E::BadShape("jsonrpc")),
        (r#"{"jsonrpc":"2.0"}"#, E::BadShape("method")),
        (r#"{"jsonrpc":"2.0","id":1}"#, E::BadShape("method")),
        (r#"{"jsonrpc":"2.0","id":1,"Method":"ping"}"#, E::BadShape("method")),
        (r#"{"jsonrpc":"2.0","id":1,"method":null}"#, E::BadShape("method")),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, E::BadShape("method")),
        (r#"{"jsonrpc":"2.0","id":1,"method":"x","result":{}}"#, E::BadShape("result")),
        (r#"{"jsonrpc":"2.0","id":1,"method":"x","error":{}}"#, E::BadShape("error")),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, E::BadShape("error")),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"params":{}}"#, E::BadShape("params")),
        (r#"{"jsonrpc":"2.0","id":1,"error":null}"#, E::BadShape("error")),
        (r#"{"jsonrpc":"2.0","id":1,"error":"no"}"#, E::BadShape("error")),
        (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":[]}"#, E::BadShape("params")),
        (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":"y"}"#, E::BadShape("params")),
        (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":[]}}"#, E::BadShape("_meta")),
        (r#"{"jsonrpc":"2.0","id":1,"result":{"_meta":1}}"#, E::BadShape("_meta")),
        (r#"[]"#, E::Array),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, E::Array),
        (r#"null"#, E::NotObject),
        (r#"12"#, E::NotObject),
        (r#""x""#, E::NotObject),
    ] {
        refuses(text, kind);
        assert_eq!(kind.code(), code::INVALID_REQUEST);
    }
}

#[test]
fn bytes_that_are_no_json_are_refused() {
    for (text, kind) in [
        ("", E::Empty),
        (" \n", E::Empty),
        ("{", E::Truncated),
        (r#"{"jsonrpc""#, E::Truncated),
        (r#"{"jsonrpc":"2.0","id":1,"method":"pi"#, E::Truncated),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping""#, E::Truncated),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping"]"#, E::Syntax),
        (r#"{"jsonrpc":"2.0",}"#, E::Syntax),
        (r#"{"jsonrpc":"2.0" "id":1}"#, E::Syntax),
        (r#"{jsonrpc:"2.0"}"#, E::Syntax),
        (r#"{'jsonrpc':"2.0"}"#, E::Syntax),
        (r#"{"a":[1,]}"#, E::Syntax),
        (r#"{"a":[1}"#, E::Syntax),
        (r#"{"a":{"b":1]}"#, E::Syntax),
        (r#"{"a":tru}"#, E::Syntax),
        (r#"{"a":tru"#, E::Truncated),
        (r#"{"a":NaN}"#, E::Syntax),
        (r#"{"a":Infinity}"#, E::Syntax),
        (r#"{"a":+1}"#, E::Syntax),
        (r#"{"a":.5}"#, E::Syntax),
        (r#"{"a":01}"#, E::Syntax),
        (r#"{"a":-}"#, E::Number),
        (r#"{"a":-x}"#, E::Number),
        (r#"{"a":1.}"#, E::Number),
        (r#"{"a":1e}"#, E::Number),
        (r#"{"a":1e+"#, E::Truncated),
        (r#"{"a":1/**/}"#, E::Syntax),
        ("\u{feff}{}", E::Syntax),
        ("{\"a\":\"\u{1}\"}", E::Control),
        ("{\"a\":\"line\nbreak\"}", E::Control),
        ("{\"a\tb\":1}", E::Control),
        (r#"{"a":"\x41"}"#, E::Escape),
        (r#"{"a":"\u00g0"}"#, E::Escape),
        (r#"{"a":"\u00"}"#, E::Escape),
        (r#"{"a":"\u00"#, E::Truncated),
        (r#"{"a":"\"#, E::Truncated),
        (r#"{"a":"\ud800"}"#, E::Surrogate),
        (r#"{"a":"\udc00"}"#, E::Surrogate),
        (r#"{"a":"\ud800\u0041"}"#, E::Surrogate),
        (r#"{"a":"\udc00\ud800"}"#, E::Surrogate),
        (r#"{"a":1}{}"#, E::TrailingData),
        (r#"{"a":1},"#, E::TrailingData),
        ("{\"a\":1}\0", E::TrailingData),
        ("[1,", E::Truncated),
        ("nul", E::Truncated),
    ] {
        refuses(text, kind);
        assert_eq!(kind.code(), code::PARSE_ERROR);
    }
    for bytes in
        [&b"{\"a\":\"\xff\"}"[..], b"\xff{}", b"{\"\xc0\xaf\":1}", b"{\"a\":\"\xed\xa0\x80\"}"]
    {
        let error = Envelope::parse(Bytes::copy_from_slice(bytes)).unwrap_err();
        assert_eq!(error.kind, E::Utf8);
    }
}

#[test]
fn ids_are_strings_or_integers() {
    for id in ["0", "-0", "1", "-7", "9007199254740993", "123456789012345678901234567890"] {
        assert_eq!(good(&call(id)).id().unwrap().token(), id.as_bytes());
    }
    for id in [r#""""#, r#""a""#, r#""\u0031""#, r#""\ud83d\ude00""#, r#""é""#] {
        assert_eq!(good(&call(id)).id().unwrap().token(), id.as_bytes());
    }
    for id in
        ["1.0", "1e3", "1E3", "-0.0", "null", "true", "false", "{}", "[]", "[1]", r#"{"a":1}"#]
    {
        refuses(&call(id), E::BadId);
    }
    for digits in [256, 257] {
        assert_eq!(parse(&call(&"9".repeat(digits))).is_ok(), digits == 256);
        assert_eq!(parse(&call(&format!("\"{}\"", "x".repeat(digits - 2)))).is_ok(), digits == 256);
    }
    for answer in ["result", "error"] {
        for id in ["1.0", "true", "{}", "[1]"] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"{answer}":{{}}}}"#);
            refuses(&text, E::BadId);
        }
    }
    refuses(r#"{"jsonrpc":"2.0","id":null,"result":{}}"#, E::BadId);
    refuses(r#"{"jsonrpc":"2.0","result":{}}"#, E::BadId);
    assert_eq!(good(r#"{"jsonrpc":"2.0","id":null,"error":{}}"#).id(), None);
}

#[test]
fn members_that_are_acted_on_occur_once() {
    let meta = |key: &str| tool_call(&format!(r#"{{"_meta":{{"{key}":"a","{key}":"b"}}}}"#));
    let result = |body: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"result":{body}}}"#);
    let top = r#""jsonrpc":"2.0","id":1,"method":"x","params":{}"#;
    for (text, name) in [
        (format!(r#"{{{top},"jsonrpc":"2.0"}}"#), "jsonrpc"),
        (format!(r#"{{{top},"id":1}}"#), "id"),
        (format!(r#"{{{top},"method":"y"}}"#), "method"),
        (format!(r#"{{{top},"\u006dethod":"y"}}"#), "method"),
        (format!(r#"{{{top},"params":{{}}}}"#), "params"),
        (r#"{"jsonrpc":"2.0","id":1,"result":1,"result":2}"#.into(), "result"),
        (r#"{"jsonrpc":"2.0","id":1,"error":{},"error":{}}"#.into(), "error"),
        (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"code":2}}"#.into(), "code"),
        (tool_call(r#"{"name":"a","name":"b"}"#), "name"),
        (tool_call(r#"{"name":"a","n\u0061me":"b"}"#), "name"),
        (tool_call(r#"{"uri":"a","uri":"b"}"#), "uri"),
        (tool_call(r#"{"taskId":"a","taskId":"b"}"#), "taskId"),
        (tool_call(r#"{"arguments":{},"arguments":{}}"#), "arguments"),
        (tool_call(r#"{"_meta":{},"_meta":{}}"#), "_meta"),
        (tool_call(r#"{"requestId":1,"requestId":2}"#), "requestId"),
        (tool_call(r#"{"progressToken":1,"progressToken":2}"#), "progressToken"),
        (tool_call(r#"{"protocolVersion":1,"protocolVersion":2}"#), "protocolVersion"),
        (result(r#"{"_meta":{},"_meta":{}}"#), "_meta"),
        (result(r#"{"resultType":"a","resultType":"b"}"#), "resultType"),
        (result(r#"{"isError":true,"isError":false}"#), "isError"),
        (meta("progressToken"), "progressToken"),
        (meta("io.modelcontextprotocol/logLevel"), "io.modelcontextprotocol/logLevel"),
        (
            meta("io.modelcontextprotocol/protocolVersion"),
            "io.modelcontextprotocol/protocolVersion",
        ),
    ] {
        refuses(&text, E::Duplicate(name));
    }
    // Names that nobody acts on are the application's, as are other spellings and other depths.
    for params in [
        r#"{"x":1,"x":2}"#,
        r#"{"name":"a","Name":"b","NAME":"c"}"#,
        r#"{"arguments":{"name":1,"name":2,"_meta":1,"_meta":2}}"#,
        r#"{"_meta":{"traceparent":"a","traceparent":"b"}}"#,
    ] {
        good(&tool_call(params));
    }
}

#[test]
fn a_refused_message_still_gives_its_id() {
    let id_of = |text: &str| parse(text).unwrap_err().id.map(|id| id.to_string());
    let after = r#""params":{"name":1,"name":2},"method":"x","jsonrpc":"2.0","id":"q""#;
    assert_eq!(id_of(&format!("{{{after}}}")).as_deref(), Some("\"q\""));
    assert_eq!(id_of(r#"{"id":5,"method":"x"}"#).as_deref(), Some("5"));
    assert_eq!(id_of(r#"{"jsonrpc":"2.0","id":5,"method":5}"#).as_deref(), Some("5"));
    // Not from bytes that are no JSON, nor where the id itself is in doubt.
    assert_eq!(id_of(r#"{"jsonrpc":"2.0","id":5,"method":"x""#), None);
    assert_eq!(id_of(r#"{"jsonrpc":"2.0","id":5,"id":6,"method":"x"}"#), None);
    assert_eq!(id_of(r#"{"jsonrpc":"2.0","id":1.5,"method":"x"}"#), None);
}

#[test]
fn errors_say_what_and_where() {
    let error = parse(r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"name":"a","name":1}}"#);
    assert_eq!(error.unwrap_err().to_string(), "duplicate `name` at byte 58");
    let error = parse(r#"{"jsonrpc":"2.0","id":1.5,"method":"x"}"#).unwrap_err();
    assert_eq!(error.offset, 22);
    // The grammar outranks the meaning, wherever they fail.
    let error = parse(r#"{"id":1,"id":2,"jsonrpc":"#).unwrap_err();
    assert_eq!((error.kind, error.code()), (E::Truncated, code::PARSE_ERROR));
}

#[test]
fn nesting_is_limited_without_recursion() {
    let nested =
        |depth: usize| tool_call(&format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth)));
    good(&nested(62));
    refuses(&nested(63), E::TooDeep);
    let objects = format!("{}1{}", r#"{"a":"#.repeat(70), "}".repeat(70));
    refuses(&objects, E::TooDeep);
    for bomb in ["[", "{\"a\":", "{\"params\":", "[{\"a\":"] {
        refuses(&bomb.repeat(4_000_000), E::TooDeep);
    }
    let parse_at = |max_depth, text: &str| {
        Envelope::parse_with(Bytes::copy_from_slice(text.as_bytes()), &Limits { max_depth })
    };
    for (max_depth, fits) in [(0, false), (1, false), (2, false), (3, true), (4, true)] {
        let text = tool_call(r#"{"_meta":{}}"#);
        assert_eq!(parse_at(max_depth, &text).is_ok(), fits, "{max_depth}");
    }
    // The configured limit has a limit too.
    assert!(parse_at(u16::MAX, &nested(126)).is_ok());
    assert_eq!(parse_at(u16::MAX, &nested(127)).unwrap_err().kind, E::TooDeep);
}

#[test]
fn the_parts_of_a_modern_call_are_found() {
    let text = r#"{"jsonrpc":"2.0","id":"a\u002d1","method":"tools\/call","params":{
        "arguments":{"name":"decoy","_meta":{"progressToken":9}},
        "_meta":{"progressToken":"t","io.modelcontextprotocol/protocolVersion":"2026-07-28",
          "io.modelcontextprotocol/clientCapabilities":{"extensions":{}},
          "io.modelcontextprotocol/logLevel":"debug"},
        "name":"se\u0061rch","uri":"file:///x"},"extra":[1,{"id":2}]}"#;
    let call = good(text);
    assert_eq!(call.id(), Some(Id::from_str("a-1")));
    assert_eq!(call.method().as_deref(), Some("tools/call"));
    assert_eq!(call.name().as_deref(), Some("search"));
    assert_eq!(call.uri().as_deref(), Some("file:///x"));
    assert_eq!(call.progress_token(), Some(Id::from_str("t")));
    assert_eq!(call.meta_version().as_deref(), Some("2026-07-28"));
    assert!(call.has_client_capabilities());
    assert_eq!(call.client_capabilities(), Some(&br#"{"extensions":{}}"#[..]));
    assert_eq!(call.log_level().as_deref(), Some("debug"));
    assert!(call.arguments().unwrap().starts_with(br#"{"name":"decoy""#));
    assert!(call.meta().unwrap().starts_with(br#"{"progressToken":"t""#));
    assert_eq!(call.bytes(), text.as_bytes());
    assert_eq!((call.result(), call.error(), call.notified_progress()), (None, None, None));
}

#[test]
fn the_name_depends_on_the_method() {
    for (method, name) in [
        ("tools/call", Some("n")),
        ("prompts/get", Some("n")),
        ("resources/read", Some("u")),
        ("tasks/get", Some("t")),
        ("tasks/cancel", Some("t")),
        ("tools/list", None),
        ("resources/subscribe", None),
        ("completion/complete", None),
    ] {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"params":{{"name":"n","uri":"u","taskId":"t"}},"method":"{method}"}}"#
        );
        assert_eq!(good(&text).name().as_deref(), name, "{method}");
    }
    assert_eq!(good(&tool_call(r#"{"name":7}"#)).name(), None);
    assert_eq!(good(&tool_call("{}")).name(), None);
}

#[test]
fn tokens_count_only_where_they_mean_something() {
    let note = |method: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"requestId":1,"progressToken":"1"}}}}"#
        )
    };
    let progress = good(&note("notifications/progress"));
    assert_eq!(progress.notified_progress(), Some(Id::from_str("1")));
    assert_eq!(progress.cancelled_request(), None);
    let cancelled = good(&note("notifications/cancelled"));
    assert_eq!(cancelled.cancelled_request(), Some(Id::from_u64(1)));
    assert_eq!(cancelled.notified_progress(), None);
    let other = good(&note("notifications/other"));
    assert_eq!((other.cancelled_request(), other.notified_progress()), (None, None));

    let with = |method: &str, name: &str, value: &str| {
        format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"{name}":{value}}}}}"#)
    };
    for odd in ["1.0", "true", "{}", "[]"] {
        refuses(
            &with("notifications/progress", "progressToken", odd),
            E::BadShape("progressToken"),
        );
        refuses(&with("notifications/cancelled", "requestId", odd), E::BadShape("requestId"));
        refuses(
            &tool_call(&format!(r#"{{"_meta":{{"progressToken":{odd}}}}}"#)),
            E::BadShape("progressToken"),
        );
        good(&with("notifications/other", "progressToken", odd));
    }
    let absent = good(&with("notifications/cancelled", "requestId", "null"));
    assert_eq!(absent.cancelled_request(), None);
}

#[test]
fn nulls_count_as_absent() {
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":null}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":null}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"progressToken":null}}}"#,
    ] {
        assert_eq!(good(text).progress_token(), None);
    }
    assert_eq!(good(r#"{"jsonrpc":"2.0","method":"x","params":null}"#).params(), None);
}

#[test]
fn answers_are_read() {
    let done = good(
        r#"{"jsonrpc":"2.0","id":1,"result":{"isError":true,"resultType":"complete","protocolVersion":"2025-06-18",
        "_meta":{"io.modelcontextprotocol/subscriptionId":4,"progressToken":1.5}}}"#,
    );
    assert!(done.is_tool_error());
    assert_eq!(done.result_type().as_deref(), Some("complete"));
    assert_eq!(done.result_version().as_deref(), Some("2025-06-18"));
    assert_eq!(done.subscription_id(), Some(Id::from_u64(4)));
    assert_eq!((done.progress_token(), done.param_version()), (None, None));
    for (value, fails) in [("false", false), ("\"true\"", false), ("1", false), ("true", true)] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"isError":{value}}}}}"#);
        assert_eq!(good(&text).is_tool_error(), fails);
    }
    for (code, expected) in [
        ("-32601", Some(-32601)),
        ("7", Some(7)),
        ("1.5", None),
        ("\"1\"", None),
        ("99999999999999999999", None),
    ] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"message":"","code":{code}}}}}"#);
        assert_eq!(good(&text).error_code(), expected, "{code}");
    }
}

#[test]
fn edits_touch_only_their_tokens() {
    let call = good(
        r#"{ "params" : {"_meta":{"progressToken" : 1, "x":12345678901234567890},"name":"a"},  "id": "1" , "method":"tools/call","jsonrpc":"2.0"}"#,
    );
    let edited = call.edit(&[
        (Field::Id, b"900"),
        (Field::ProgressToken, br#""longer token""#),
        (Field::CancelledRequest, b"5"),
    ]);
    assert_eq!(
        edited.bytes(),
        &br#"{ "params" : {"_meta":{"progressToken" : "longer token", "x":12345678901234567890},"name":"a"},  "id": 900 , "method":"tools/call","jsonrpc":"2.0"}"#[..]
    );
    assert_eq!(edited.name().as_deref(), Some("a"));
    assert_eq!(edited.method().as_deref(), Some("tools/call"));
    assert_eq!(edited.progress_token(), Some(Id::from_str("longer token")));
    let restored =
        edited.edit(&[(Field::ProgressToken, b"1"), (Field::Id, b"7"), (Field::Id, br#""1""#)]);
    assert_eq!(restored.bytes(), call.bytes());
}

#[test]
fn an_edit_that_finds_nothing_shares_the_bytes() {
    let note = good(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    let same = note.edit(&[(Field::Id, b"1"), (Field::SubscriptionId, b"2")]);
    assert_eq!(same.bytes().as_ptr(), note.bytes().as_ptr());
}

#[test]
fn batches_are_cut_into_slices() {
    let split = |text: &str, max| {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        split_batch(&bytes, &Limits::default(), max)
    };
    let items = split(" [ {\"a\":[1]} ,\n2,\"]\" ] ", 3).unwrap();
    assert_eq!(items, [&b"{\"a\":[1]}"[..], b"2", b"\"]\""]);
    for (text, kind) in [
        ("[]", E::EmptyBatch),
        (" [ ] ", E::EmptyBatch),
        ("[1,2,3,4]", E::BatchTooLong),
        ("{}", E::NotArray),
        ("7", E::NotArray),
        ("", E::Empty),
        ("[1,2", E::Truncated),
        ("[1,]", E::Syntax),
        ("[1][2]", E::TrailingData),
        ("[1 2]", E::Syntax),
    ] {
        assert_eq!(split(text, 3).unwrap_err().kind, kind, "{text}");
    }
    assert_eq!(split(&"[".repeat(4_000_000), 3).unwrap_err().kind, E::TooDeep);
}

#[test]
fn an_answer_is_seen_alone_and_in_a_batch() {
    let note = r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#;
    let ask = r#"{"jsonrpc":"2.0","id":9,"method":"roots/list"}"#;
    let result = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}"#;
    for (data, expected) in [
        (result.to_owned(), true),
        (error.to_owned(), true),
        (format!(" [ {note} , {result} ] "), true),
        (format!("[{error}]"), true),
        (note.to_owned(), false),
        (ask.to_owned(), false),
        (format!("[{note},{ask}]"), false),
        (format!("[{result}"), false),
        (String::new(), false),
        ("{{{".to_owned(), false),
    ] {
        assert_eq!(holds_answer(&Bytes::from(data.clone())), expected, "{data}");
    }
}

#[test]
fn debug_shows_no_contents() {
    let call = good(&tool_call(r#"{"name":"a","arguments":{"password":"hunter2"}}"#));
    assert!(!format!("{call:?}").contains("hunter2"));
}

#[test]
fn a_progress_token_is_put_where_it_belongs_and_nothing_else_moves() {
    let cases = [
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"n":12345678901234567890}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToken":"t"},"n":12345678901234567890}}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{ }}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToken":"t"} }}"#,
        ),
        (
            r#"{"params":{"a":1,"_meta":{"x":2}},"jsonrpc":"2.0","id":1,"method":"m"}"#,
            r#"{"params":{"a":1,"_meta":{"progressToken":"t","x":2}},"jsonrpc":"2.0","id":1,"method":"m"}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToken":"t"}}}"#,
        ),
        (
            r#"{"method":"m","jsonrpc":"2.0","id":1}"#,
            r#"{"method":"m","params":{"_meta":{"progressToken":"t"}},"jsonrpc":"2.0","id":1}"#,
        ),
    ];
    for (given, expected) in cases {
        let request = Envelope::parse(given.into()).unwrap();
        let asking = request.with_progress_token(br#""t""#).unwrap();
        assert_eq!(asking.bytes(), expected);
        assert_eq!(asking.progress_token().unwrap().token(), br#""t""#);
    }
    for none in [
        // It has one.
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToken":1}}}"#,
        // It has something there that is none.
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToken":null}}}"#,
        // There is no place for one.
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[1]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":7}}"#,
        // Nobody answers it.
        r#"{"jsonrpc":"2.0","method":"m","params":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
    ] {
        // Some are no valid messages for this scan, and then there is nothing to ask either.
        let asking = Envelope::parse(none.into())
            .ok()
            .and_then(|request| request.with_progress_token(br#""t""#));
        assert!(asking.is_none(), "{none}");
    }
}
