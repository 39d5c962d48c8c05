//! What the proxy reads in a message is what servers read in it (battery D03): the parsers of
//! JavaScript and Python are asked, in one process each, about names that only look alike, members
//! that come twice and ids of every spelling.
#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use serde_json::{Value, json};
use tidegate_protocol::envelope::Envelope;
use tidegate_tests::{
    Dice, Proxy, Recorder,
    client::META,
    http::{self, Connection},
    modern_headers,
    parsers::{self, Reading},
};

/// Whether a text that the proxy reads, or does not find, is the one that a server reads there.
fn is_text(ours: Option<&str>, theirs: &Value) -> bool {
    match ours {
        Some(text) => *theirs == json!(["string", text]),
        None => theirs[0] != "string",
    }
}

/// The same of an id. What JavaScript would round is an integer to the proxy all the same.
fn is_id(ours: Option<&str>, theirs: &Value) -> bool {
    let Some(token) = ours else { return theirs.is_null() };
    match (serde_json::from_str(token).unwrap(), token.parse::<i64>()) {
        (Value::String(text), _) => is_text(Some(&text), theirs),
        (_, Ok(number)) if number.abs() < 1 << 53 => {
            *theirs == json!(["integer", number.to_string()])
        }
        _ => *theirs == json!(["other"]),
    }
}

/// Whether the proxy takes the message. If so, servers have to read in it what the proxy reads.
fn is_taken_alike(text: &str, [node, python]: [&Option<Reading>; 2]) -> bool {
    let Ok(envelope) = Envelope::parse(Bytes::copy_from_slice(text.as_bytes())) else {
        return false;
    };
    for (parser, reading) in [("node", node), ("python", python)] {
        let Some([method, name, uri, id]) = reading else {
            panic!("{parser} does not take what the proxy takes: {text}");
        };
        assert!(is_text(envelope.method().as_deref(), method), "{parser}: {method} in {text}");
        if matches!(envelope.method().as_deref(), Some("tools/call" | "prompts/get")) {
            assert!(is_text(envelope.name().as_deref(), name), "{parser}: {name} in {text}");
        }
        assert!(is_text(envelope.uri().as_deref(), uri), "{parser}: {uri} in {text}");
        let ours = envelope.id();
        let ours = ours.as_ref().map(|id| std::str::from_utf8(id.token()).unwrap());
        assert!(is_id(ours, id), "{parser}: {id} in {text}");
    }
    true
}

/// Spellings of a member's name: the name itself, with escapes, and names that look like it.
fn spellings(name: &str) -> Vec<String> {
    let (head, tail) = name.split_at(1);
    let first = u32::from(head.as_bytes()[0]);
    let last = tail.chars().last().unwrap();
    let but_last = &name[..name.len() - 1];
    vec![
        name.to_owned(),
        // The same name to any parser.
        format!("\\u{first:04x}{tail}"),
        format!("\\u{first:04X}{tail}"),
        format!("{but_last}\\u{:04x}", u32::from(last)),
        name.chars().map(|each| format!("\\u{:04x}", u32::from(each))).collect(),
        // Other names to any parser that does not guess.
        format!("{}{tail}", head.to_uppercase()),
        name.to_uppercase(),
        format!("{name} "),
        format!(" {name}"),
        format!("{name}\\u0000"),
        format!("\\u0000{name}"),
        format!("\\ufeff{name}"),
        format!("{name}\u{200b}"),
        format!("\\\\u{first:04x}{tail}"),
        format!("\\uff{:02x}{tail}", first - 0x20),
        format!("{but_last}\u{301}{last}"),
        but_last.to_owned(),
        // Not a name, or not one that all take for the same.
        format!("\\u{first:x}{tail}"),
        format!("\\x{first:02x}{tail}"),
        format!("\\ud83d{name}"),
        format!("{name}\n"),
        "__proto__".to_owned(),
        "constructor".to_owned(),
    ]
}

/// Values of every kind that a member might have.
const VALUES: [&str; 26] = [
    r#""tools/call""#,
    r#""tools\/call""#,
    r#""\u0074ools/call""#,
    r#""Tools/Call""#,
    r#""ping""#,
    r#""a""#,
    r#""\u0061""#,
    r#""\\u0061""#,
    r#""a\u0000b""#,
    r#""\ud83d\ude00""#,
    r#""\ud83d""#,
    r#""\ude00\ud83d""#,
    r#""""#,
    "\"\u{e9}\"",
    "1",
    "-0",
    "01",
    "1.0",
    "1e0",
    "9007199254740991",
    "9007199254740993",
    "-123456789012345678901234567890",
    "null",
    "NaN",
    r#"["a"]"#,
    r#"{"name":"a","method":"b"}"#,
];

/// A member with a spelling of this name, mostly the usual one.
fn member(dice: &mut Dice, name: &str, value: &str) -> String {
    let spellings = spellings(name);
    let spelling = if dice.below(3) > 0 { name } else { dice.pick(&spellings) };
    format!("\"{spelling}\":{value}")
}

/// A message that is nearly one: each member may have another spelling, another value, or come
/// twice.
fn message(dice: &mut Dice) -> String {
    let any = |dice: &mut Dice, usual: &'static str| match dice.below(3) {
        0 => *dice.pick(&VALUES),
        _ => usual,
    };
    let mut inner = Vec::new();
    let mut outer = vec![r#""jsonrpc":"2.0""#.to_owned()];
    for (name, usual) in [("name", r#""a""#), ("uri", r#""a""#)] {
        let value = any(dice, usual);
        inner.push(member(dice, name, value));
    }
    for (name, usual) in [("id", "1"), ("method", r#""tools/call""#)] {
        let value = any(dice, usual);
        outer.push(member(dice, name, value));
    }
    // The second one of a member, which may come before the first.
    for members in [&mut inner, &mut outer] {
        while dice.below(3) == 0 {
            let name = *dice.pick(&["name", "uri", "id", "method"]);
            let value = any(dice, r#""b""#);
            let again = member(dice, name, value);
            let place = dice.below(members.len() + 1);
            members.insert(place, again);
        }
    }
    let params = format!("{{{}}}", inner.join(","));
    let place = dice.below(outer.len() + 1);
    outer.insert(place, member(dice, "params", &params));
    format!("{{{}}}", outer.join(","))
}

#[tokio::test]
async fn javascript_and_python_read_what_the_proxy_reads() {
    let mut dice = Dice::new();
    let mut texts: Vec<String> = (0..20_000).map(|_| message(&mut dice)).collect();
    // Each spelling and each value once more for sure, alone and after the usual one.
    for name in ["method", "id", "name", "uri", "params"] {
        let usual = r#""jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}"#;
        for spelling in spellings(name) {
            for value in VALUES {
                texts.push(format!(r#"{{{usual},"{spelling}":{value}}}"#));
                texts.push(format!(
                    r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"{spelling}":{value}}}}}"#
                ));
            }
        }
    }
    let [node, python] = parsers::read(&texts).await;
    let mut taken = 0;
    for ((text, node), python) in texts.iter().zip(&node).zip(&python) {
        taken += usize::from(is_taken_alike(text, [node, python]));
    }
    assert!(taken > texts.len() / 20, "{taken} of {} are taken", texts.len());
    assert!(taken < texts.len() * 19 / 20, "{taken} of {} are taken", texts.len());
}

#[tokio::test]
async fn headers_are_compared_with_what_servers_read() {
    let mut texts = Vec::new();
    let decoy = r#""tools/list""#;
    for spelling in spellings("method") {
        for (first, second) in [("method", &*spelling), (&*spelling, "method")] {
            let (call, list) = (r#""tools/call""#, decoy);
            texts.push(format!(
                r#"{{"jsonrpc":"2.0","id":1,"{first}":{call},"{second}":{list},"params":{{"name":"a","arguments":{{}},{META}}}}}"#
            ));
        }
    }
    for spelling in spellings("name") {
        for (first, second) in [("name", &*spelling), (&*spelling, "name")] {
            texts.push(format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"{first}":"a","{second}":"b","arguments":{{}},{META}}}}}"#
            ));
        }
    }
    let readings = parsers::read(&texts).await;
    let upstream = Recorder::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let mut connection = Connection::open(proxy.address()).await;
    let mut taken = 0;
    for (index, text) in texts.iter().enumerate() {
        for (method, name) in
            [("tools/call", Some("a")), ("tools/call", Some("b")), ("tools/list", None)]
        {
            let is_read = readings.each_ref().map(|each| {
                each[index].as_ref().is_some_and(|[is_method, is_name, ..]| {
                    is_text(Some(method), is_method)
                        && name.is_none_or(|name| is_text(Some(name), is_name))
                })
            });
            upstream.clear();
            let headers = modern_headers(method, name);
            connection.send(&http::post_bytes(&headers, text.as_bytes())).await;
            let answer = connection.response().await;
            // A server that reads another message than the headers say must never see it.
            if answer.status == 200 {
                assert_eq!(is_read, [true; 2], "{method} {name:?} {text}");
                assert_eq!(upstream.requests()[0].body, text.as_bytes());
                taken += 1;
                continue;
            }
            assert_eq!(answer.status, 400, "{text}: {}", answer.text());
            assert!(upstream.requests().is_empty());
            // It may be refused as ambiguous, but not since the proxy reads another message.
            let is_ambiguous = matches!(answer.code(), -32600 | -32700);
            assert!(is_ambiguous || is_read != [true; 2], "{method} {name:?} {text}");
        }
    }
    assert!(taken >= texts.len() / 4, "{taken} of {} are taken", texts.len());
    drop(connection);
    proxy.assert_alive().await;
    proxy.stop().await;
}
