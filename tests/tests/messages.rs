//! What may stand in a body (battery D): the proxy and every upstream read the same message, and
//! what is no message of its era is refused with the code that the specification names.
#![expect(clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use tidegate_tests::{
    Client, Proxy, Recorder, Scripted,
    client::{META, initialize, legacy, modern},
    http::{self, Response},
    modern_headers,
};
use tokio::time::Instant;

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

async fn start() -> (Recorder, Proxy) {
    let upstream = Recorder::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    (upstream, proxy)
}

async fn post(proxy: &Proxy, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Response {
    http::raw(proxy.address(), &http::post_bytes(headers, body.as_ref())).await
}

/// Posts what must be refused, and asserts that no upstream hears of it.
async fn refused(
    (upstream, proxy): &(Recorder, Proxy),
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
    expected: (u16, i64),
) -> Response {
    let shown =
        String::from_utf8_lossy(&body.as_ref()[..body.as_ref().len().min(200)]).into_owned();
    let answer = post(proxy, headers, body).await;
    assert_eq!((answer.status, answer.code()), expected, "{shown}\n{}", answer.text());
    assert_eq!(upstream.requests().len(), 0, "{shown}");
    answer
}

async fn finish((_, proxy): (Recorder, Proxy)) {
    proxy.assert_alive().await;
    proxy.stop().await;
}

#[tokio::test]
async fn deep_nesting_is_refused_fast_and_harms_nobody() {
    let arena = start().await;
    let inside = |depth: usize| {
        legacy("1", "x", &format!(r#"{{"deep":{}{}}}"#, "[".repeat(depth), "]".repeat(depth)))
    };
    for (body, code) in [
        ("[".repeat(4_000_000), -32600),
        (r#"{"a":"#.repeat(1_000_000), -32600),
        ("[{\"a\":".repeat(500_000), -32600),
        (inside(63), -32600),
        (inside(100_000), -32600),
    ] {
        let began = Instant::now();
        refused(&arena, &[], &body, (400, code)).await;
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    assert_eq!(post(&arena.1, &[], inside(62)).await.status, 200, "as deep as allowed");
    finish(arena).await;
}

#[tokio::test]
async fn an_answer_nested_too_deep_does_not_reach_the_client() {
    let mut upstream = Scripted::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let client = Client::modern(&proxy);
    for depth in [65, 100_000] {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        let bomb = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"a":{open}{close}}}}}"#);
        let (answer, ()) = tokio::join!(client.tool("1", "x", "{}"), async {
            upstream.next().await.json("200 OK", "", &bomb).await;
        });
        assert_eq!((answer.status, answer.code()), (502, -31008), "{}", answer.text());
    }
    proxy.assert_alive().await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_member_that_is_acted_on_stands_once() {
    let arena = start().await;
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"a"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"a"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{},"params":{}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"a","\u006dethod":"b"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"\u006dethod":"a","m\u0065thod":"b"}"#.to_owned(),
        legacy("1", "tools/call", r#"{"name":"a","name":"b"}"#),
        legacy("1", "tools/call", r#"{"name":"a","n\u0061me":"b"}"#),
        legacy("1", "tools/call", r#"{"name":"a","arguments":{},"arguments":{}}"#),
        legacy("1", "resources/read", r#"{"uri":"a","uri":"b"}"#),
        legacy("1", "tools/call", r#"{"name":"a","_meta":{},"_meta":{}}"#),
        legacy("1", "a", r#"{"_meta":{"progressToken":1,"progressToken":2}}"#),
        modern("1", "a", &format!("{META},")),
    ] {
        refused(&arena, &[], body, (400, -32600)).await;
    }
    finish(arena).await;
}

#[tokio::test]
async fn what_goes_on_is_what_came_byte_for_byte() {
    let (upstream, proxy) = start().await;
    for body in [
        PING.to_owned(),
        r#" { "method" : "ping" , "id" : 1 , "jsonrpc" : "2.0" } "#.to_owned(),
        "\r\n\t{\"jsonrpc\":\"2.0\",\r\n\"id\":1,\t\"method\":\"ping\"}\r\n".to_owned(),
        legacy("9007199254740993", "x", r#"{"big":123456789012345678901234567890}"#),
        legacy("1", "x", r#"{"float":1.0,"exp":1E400,"small":1e-400,"neg":-0.0,"z":0.10}"#),
        legacy("1", "x", r#"{"z":1,"a":2,"Z":3,"":4,"a b":5}"#),
        legacy("1", "x", r#"{"own":1,"own":2,"deep":{"method":"y","method":"z"}}"#),
        legacy(
            "1",
            "x",
            "{\"esc\":\"\\u00e9\\/\\ud83d\\ude00\\u0000\",\"raw\":\"\u{e9}\u{1f600}\u{7f}\"}",
        ),
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"evil","METHOD":1,"unknown":[]}"#
            .to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","\u006d":1}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":"\u0031","\u006dethod":"ping"}"#.to_owned(),
        legacy("1", "tools/call", r#"{"Name":"b","name":"a","NAME":"c","arguments":{"n":1e2}}"#),
        r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"n":1.50}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":7,"result":{"x":1.50}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":7,"error":{"code":-1.0e0,"message":"m"}}"#.to_owned(),
    ] {
        upstream.clear();
        let answer = post(&proxy, &[], &body).await;
        assert!(matches!(answer.status, 200 | 202), "{body}: {}", answer.text());
        let requests = upstream.requests();
        assert_eq!(String::from_utf8_lossy(&requests[0].body), body);
        assert_eq!(requests.len(), 1);
    }
    finish((upstream, proxy)).await;
}

#[tokio::test]
async fn answers_come_back_byte_for_byte() {
    let mut upstream = Scripted::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"result":{"big":123456789012345678901234567890,"f":1.0}}"#,
        " {\"result\" : {\"z\":1,\"a\":\"\\u00e9\"},\r\n \"id\":1, \"jsonrpc\":\"2.0\", \"x\":[]} ",
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no","data":{"n":1e2}}}"#,
    ] {
        let (answer, ()) = tokio::join!(post(&proxy, &[], PING), async {
            upstream.next().await.json("200 OK", "", body).await;
        });
        assert_eq!((answer.status, &*answer.text()), (200, body));
    }
    proxy.stop().await;
}

#[tokio::test]
async fn the_id_of_an_answer_is_the_token_that_was_sent() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = Client::legacy(&proxy, "2025-11-25").await;
    let long = format!("\"{}\"", "x".repeat(254));
    for id in [
        "1",
        "0",
        "-1",
        "-0",
        "9007199254740993",
        "18446744073709551616",
        "123456789012345678901234567890",
        r#""1""#,
        r#""""#,
        r#"" ""#,
        r#""\u0031""#,
        r#""a\"b\\c\/d""#,
        "\"\u{e9}\u{1f600}\"",
        r#""\ud83d\ude00""#,
        r#""null""#,
        r#""1; DROP TABLE""#,
        &long,
    ] {
        let answer = client.tool(id, "echo", "{}").await;
        assert_eq!(answer.status, 200, "{id}: {}", answer.text());
        let text = answer.text();
        assert!(text.contains(&format!("\"id\":{id},")), "{id}: {text}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn an_id_that_is_no_string_or_integer_is_refused() {
    let arena = start().await;
    let long = format!("\"{}\"", "x".repeat(255));
    for id in ["null", "1.0", "1.5", "1e3", "1E3", "true", "[]", "[1]", "{}", &long] {
        let answer = refused(&arena, &[], legacy(id, "ping", "{}"), (400, -32600)).await;
        assert!(answer.json()["id"].is_null());
    }
    for id in ["01", "+1", "1.", ".5", "0x1", "--1", "1 2", r#""\ud800""#, r#""\x""#, "'1'", "NaN"]
    {
        refused(&arena, &[], legacy(id, "ping", "{}"), (400, -32700)).await;
    }
    finish(arena).await;
}

#[tokio::test]
async fn what_is_no_json_is_a_parse_error() {
    let arena = start().await;
    let with = |inner: &[u8]| {
        let mut body = br#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":"#.to_vec();
        body.extend_from_slice(inner);
        body.extend_from_slice(b"}}");
        body
    };
    let mut bodies = vec![
        Vec::new(),
        b" \r\n".to_vec(),
        b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}".to_vec(),
        format!("{PING}{PING}").into_bytes(),
        format!("{PING} x").into_bytes(),
        format!("{PING},").into_bytes(),
        format!("{PING}\0").into_bytes(),
        format!("[{PING},]").into_bytes(),
        format!("[{PING} {PING}]").into_bytes(),
        b"{'jsonrpc':'2.0','id':1,'method':'ping'}".to_vec(),
        b"{jsonrpc:\"2.0\",\"id\":1,\"method\":\"ping\"}".to_vec(),
        b"// x\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}".to_vec(),
        b"jsonrpc=2.0&method=ping".to_vec(),
        b"\xff\xfe{\0}\0".to_vec(),
    ];
    for inner in [
        &b"\"\xff\""[..],
        b"\"\xc3\"",
        b"\"\xc0\xaf\"",
        b"\"\xed\xa0\x80\"",
        b"\"\xf4\x90\x80\x80\"",
        b"\"\\ud800\"",
        b"\"\\ude00\\ud83d\"",
        b"\"\\ud83d\\u0041\"",
        b"\"\\u12\"",
        b"\"a\nb\"",
        b"\"\0\"",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"undefined",
        b"True",
        b"01",
        b"1.",
        b"-",
        b"1e",
        b"0x10",
        b"[1,]",
        b"[1 2]",
        b"{\"a\":1,}",
        b"{\"a\" 1}",
        b"{1:1}",
        b"\"\\'\"",
    ] {
        bodies.push(with(inner));
    }
    for body in bodies {
        let answer = refused(&arena, &[], body, (400, -32700)).await;
        assert!(answer.json()["id"].is_null());
    }
    // Every way to cut a message off.
    for end in 1..PING.len() {
        refused(&arena, &[], &PING[..end], (400, -32700)).await;
    }
    finish(arena).await;
}

#[tokio::test]
async fn json_that_is_no_message_is_an_invalid_request() {
    let arena = start().await;
    for body in [
        "1",
        "null",
        "\"x\"",
        "true",
        "{}",
        r#"{"jsonrpc":"2.0"}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#,
        r#"{"id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":null}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":"x"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":"x"}"#,
        r#"{"jsonrpc":"2.0","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":null,"result":{}}"#,
    ] {
        refused(&arena, &[], body, (400, -32600)).await;
    }
    finish(arena).await;
}

#[tokio::test]
async fn a_post_is_json_and_takes_json_and_events() {
    let arena = start().await;
    let post = |content_type: &str, accept: &str| {
        let line = |name: &str, value: &str| match value {
            "" => String::new(),
            value => format!("{name}: {value}\r\n"),
        };
        format!(
            "POST /mcp HTTP/1.1\r\nhost: localhost\r\n{}{}content-length: {}\r\n\r\n{PING}",
            line("content-type", content_type),
            line("accept", accept),
            PING.len()
        )
    };
    const BOTH: &str = "application/json, text/event-stream";
    for (content_type, accept, status) in [
        ("application/json", BOTH, 200),
        ("application/json; charset=utf-8", BOTH, 200),
        ("Application/JSON", "text/event-stream;q=0.5, application/json", 200),
        ("application/json", "*/*", 200),
        ("application/json", "application/*,text/*", 200),
        ("application/json", "", 200),
        ("", BOTH, 415),
        ("text/plain", BOTH, 415),
        ("application/json-patch+json", BOTH, 415),
        ("application/x-www-form-urlencoded", BOTH, 415),
        ("multipart/form-data", BOTH, 415),
        ("json", BOTH, 415),
        ("application/json", "application/json", 406),
        ("application/json", "text/event-stream", 406),
        ("application/json", "text/html", 406),
        ("application/json", "application/json, text/event-stream;q=0", 406),
    ] {
        arena.0.clear();
        let answer = http::raw(arena.1.address(), post(content_type, accept).as_bytes()).await;
        assert_eq!(answer.status, status, "{content_type:?} {accept:?}");
        assert_eq!(arena.0.requests().len(), usize::from(status == 200));
        if status != 200 {
            assert_eq!(answer.code(), -32600);
        }
    }
    finish(arena).await;
}

#[tokio::test]
async fn batches_belong_to_one_version() {
    let arena = start().await;
    let (upstream, proxy) = &arena;
    let version = |version| vec![("mcp-protocol-version", version)];
    let batch = |count: usize| {
        let members: Vec<String> =
            (0..count).map(|id| legacy(&id.to_string(), "tools/list", "{}")).collect();
        format!("[{}]", members.join(","))
    };
    for headers in [vec![], version("2025-03-26")] {
        for count in [1, 2, 32] {
            upstream.clear();
            let answer = post(proxy, &headers, batch(count)).await;
            assert_eq!(answer.status, 200, "{count}");
            let mut answered: Vec<u64> = answer
                .json()
                .as_array()
                .unwrap()
                .iter()
                .map(|each| each["id"].as_u64().unwrap())
                .collect();
            answered.sort_unstable();
            assert_eq!(answered, (0..count as u64).collect::<Vec<_>>());
            assert_eq!(upstream.requests().len(), count);
            assert!(upstream.requests().iter().all(|each| each.body.starts_with(b"{")));
        }
        upstream.clear();
        for odd in [batch(0), batch(33), "[[]]".into(), format!("[[{PING}]]"), "[1]".into()] {
            refused(&arena, &headers, odd, (400, -32600)).await;
        }
    }
    upstream.clear();
    for newer in ["2025-06-18", "2025-11-25", "2026-07-28", "2024-11-05", "nonsense"] {
        refused(&arena, &version(newer), batch(1), (400, -32600)).await;
    }
    finish(arena).await;
}

#[tokio::test]
async fn a_batch_is_of_one_kind_and_of_one_era() {
    let arena = start().await;
    let (upstream, proxy) = &arena;
    const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    for members in [
        format!("[{PING},{RESULT}]"),
        format!("[{},{PING}]", initialize("2025-03-26", "{}")),
        format!("[{},{PING}]", modern("1", "tools/list", "")),
        format!("[{PING},{{}}]"),
        format!("[{PING},null]"),
        format!("[{PING},{}]", legacy("null", "ping", "{}")),
    ] {
        refused(&arena, &[], members, (400, -32600)).await;
    }
    for (members, status, count) in [
        (format!("[{NOTE}]"), 202, 1),
        (format!("[{NOTE},{NOTE}]"), 202, 2),
        (format!("[{RESULT},{RESULT}]"), 202, 2),
        (format!("[{PING},{NOTE}]"), 200, 2),
        (format!(" \r\n[ {PING} , {PING} ]\n"), 200, 2),
    ] {
        upstream.clear();
        let answer = post(proxy, &[], &members).await;
        assert_eq!(answer.status, status, "{members}");
        assert_eq!(upstream.requests().len(), count, "{members}");
        let answers = if status == 200 { answer.json().as_array().unwrap().len() } else { 0 };
        assert_eq!(answers, members.matches("ping").count(), "{members}");
    }
    finish(arena).await;
}

#[tokio::test]
async fn a_batch_that_makes_streams_is_one_stream() {
    let proxy = Proxy::to_stdio(&[]).await;
    let client = Client::legacy(&proxy, "2025-03-26").await;
    let chatty =
        r#"{"name":"echo","arguments":{"progress":2,"n":1},"_meta":{"progressToken":"t"}}"#;
    let quiet = r#"{"name":"echo","arguments":{"n":2}}"#;
    let batch = format!(
        "[{},{},{}]",
        legacy("1", "tools/call", chatty),
        legacy("\"1\"", "tools/call", quiet),
        legacy("2", "nope", "{}")
    );
    let answer = client.post(&batch).await;
    assert_eq!((answer.status, answer.is_whole), (200, true), "{}", answer.text());
    let messages = if answer.header("content-type") == Some("text/event-stream") {
        answer.events()
    } else {
        answer.json().as_array().unwrap().clone()
    };
    let find = |id: serde_json::Value| {
        let mut found = messages.iter().filter(|each| each["id"] == id);
        let first = found.next().expect("an answer").clone();
        assert!(found.next().is_none(), "one answer to {id}");
        first
    };
    assert_eq!(find(1.into())["result"]["structuredContent"]["n"], 1);
    assert_eq!(find("1".into())["result"]["structuredContent"]["n"], 2);
    assert_eq!(find(2.into())["error"]["code"], -32601);
    let is_progress = |each: &&serde_json::Value| each["params"]["progressToken"] == "t";
    assert_eq!(messages.iter().filter(is_progress).count(), 2);
    // A session of another version has no batches.
    let newer = Client::legacy(&proxy, "2025-06-18").await;
    let refused = newer.post(&format!("[{PING}]")).await;
    assert_eq!((refused.status, refused.code()), (400, -32600));
    proxy.stop().await;
}

#[tokio::test]
async fn modern_headers_must_say_what_the_body_says() {
    let arena = start().await;
    let call = modern("7", "tools/call", r#""name":"add","arguments":{},"#);
    const VERSION: (&str, &str) = ("mcp-protocol-version", "2026-07-28");
    const METHOD: (&str, &str) = ("mcp-method", "tools/call");
    const NAME: (&str, &str) = ("mcp-name", "add");
    for headers in [
        vec![METHOD, NAME],
        vec![("mcp-protocol-version", "2025-11-25"), METHOD, NAME],
        vec![VERSION, VERSION, METHOD, NAME],
        vec![VERSION, NAME],
        vec![VERSION, ("mcp-method", "tools/list"), NAME],
        vec![VERSION, ("mcp-method", "TOOLS/CALL"), NAME],
        vec![VERSION, METHOD, METHOD, NAME],
        vec![VERSION, METHOD],
        vec![VERSION, METHOD, ("mcp-name", "subtract")],
        vec![VERSION, METHOD, ("mcp-name", "ADD")],
        vec![VERSION, METHOD, ("mcp-name", "")],
        vec![VERSION, METHOD, NAME, ("mcp-name", "subtract")],
        vec![VERSION, METHOD, ("mcp-name", "=?base64?YWRk")],
        vec![VERSION, METHOD, ("mcp-name", "=?base64?YWR?=")],
        vec![VERSION, METHOD, ("mcp-name", "=?base64?!!!!?=")],
    ] {
        let answer = refused(&arena, &headers, &call, (400, -32020)).await;
        assert_eq!(answer.json()["id"], 7, "{headers:?}");
    }
    for headers in [
        vec![VERSION, METHOD, NAME],
        vec![VERSION, METHOD, ("mcp-name", "=?base64?YWRk?=")],
        vec![VERSION, METHOD, ("MCP-NAME", " add ")],
    ] {
        assert_eq!(post(&arena.1, &headers, &call).await.status, 200, "{headers:?}");
    }
    finish(arena).await;
}

#[tokio::test]
async fn modern_faults_have_their_codes() {
    let arena = start().await;
    let unknown = modern("7", "tools/list", "").replace("2026-07-28", "2099-01-01");
    let headers = [("mcp-protocol-version", "2099-01-01"), ("mcp-method", "tools/list")];
    let answer = refused(&arena, &headers, unknown, (400, -32022)).await;
    let data = &answer.json()["error"]["data"];
    assert_eq!(data["requested"], "2099-01-01");
    assert_eq!(data["supported"], serde_json::json!(["2026-07-28"]));

    let headers = modern_headers("tools/list", None);
    for body in [
        legacy("7", "tools/list", "{}"),
        legacy("7", "tools/list", r#"{"_meta":{}}"#),
        legacy(
            "7",
            "tools/list",
            r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#,
        ),
    ] {
        refused(&arena, &headers, body, (400, -32602)).await;
    }
    for removed in
        ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"]
    {
        let headers = modern_headers(removed, None);
        refused(&arena, &headers, modern("7", removed, ""), (404, -32601)).await;
    }
    // A modern client is asked nothing, so it has nothing to answer.
    let result = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    refused(&arena, &modern_headers("x", None), result, (400, -32600)).await;
    finish(arena).await;
}

#[tokio::test]
async fn modern_errors_of_the_upstream_keep_status_and_body() {
    let mut upstream = Scripted::start().await;
    let proxy = Proxy::to_url(&upstream.url()).await;
    let client = Client::modern(&proxy);
    for (status, code, data) in [
        (400, -32021, r#"{"requiredCapabilities":{"elicitation":{}}}"#),
        (400, -32022, r#"{"supported":["2027-01-01"],"requested":"2026-07-28"}"#),
        (400, -32020, "null"),
        (404, -32601, "null"),
        (400, -32602, "{}"),
        (200, -32602, "{}"),
        (200, -32603, "{}"),
        (500, -32603, "{}"),
        (403, -32600, "{}"),
    ] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"m","data":{data}}}}}"#
        );
        let (answer, ()) = tokio::join!(client.tool("1", "x", "{}"), async {
            upstream.next().await.json(&format!("{status} Status"), "", &body).await;
        });
        assert_eq!((answer.status, answer.text()), (status, body));
    }
    proxy.stop().await;
}

#[tokio::test]
async fn modern_errors_of_a_process_get_the_status_of_their_code() {
    let proxy = Proxy::to_stdio(&[]).await;
    let headers = modern_headers("nothing/here", None);
    let answer = post(&proxy, &headers, modern("1", "nothing/here", "")).await;
    assert_eq!((answer.status, answer.code()), (404, -32601));
    let answer = Client::modern(&proxy).tool("1", "unknown", "{}").await;
    assert_eq!((answer.status, answer.code()), (200, -32602));
    proxy.stop().await;
}

#[tokio::test]
async fn the_modern_era_has_no_get_and_no_delete() {
    let arena = start().await;
    let version = [("mcp-protocol-version", "2026-07-28"), ("accept", "text/event-stream")];
    for (method, headers) in
        [("GET", &version[..]), ("DELETE", &version[..]), ("GET", &[]), ("DELETE", &[])]
    {
        let answer = http::method(arena.1.address(), method, "/mcp", headers).await;
        assert_eq!(answer.status, 405, "{method} {headers:?}");
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    assert_eq!(arena.0.requests().len(), 0);
    finish(arena).await;
}
