//! Servers over HTTP whose transport nobody has told: it is found out, believed no longer than it
//! holds, and never guessed from a server that did not say it.

#![expect(clippy::indexing_slicing, reason = "tests")]

use serde_json::{Value, json};
use tidegate_tests::{
    Client, OldClient, OldServer, Proxy, Recorder, Scripted,
    client::{initialize, legacy, modern},
    http::{self, Response},
    modern_headers,
};

const LEGACY: [&str; 3] = ["2025-03-26", "2025-06-18", "2025-11-25"];

async fn to(url: &str) -> Proxy {
    let routes = "routes: [{ match: { path: /mcp }, upstream: it, sse: true }]";
    Proxy::start(&format!("{routes}\nupstreams: {{ it: {{ url: \"{url}\" }} }}\n")).await
}

/// What the proxy takes the server for.
async fn kind(proxy: &Proxy) -> Value {
    let health = http::get(proxy.ops(), "/health", &[]).await.json();
    health["upstreams"]["it"]["kind"].clone()
}

async fn discover(proxy: &Proxy) -> Response {
    let headers = modern_headers("server/discover", None);
    http::post(proxy.address(), &headers, &modern("1", "server/discover", "")).await
}

async fn hello(proxy: &Proxy) -> Response {
    http::post(proxy.address(), &[], &initialize("2025-06-18", "{}")).await
}

async fn finish(proxy: Proxy) {
    proxy.until("nothing is open", |census| census.sessions + census.leases == 0).await;
    proxy.assert_alive().await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_server_of_today_is_asked_as_if_it_were_the_only_kind() {
    let upstream = Recorder::start().await;
    let proxy = to(&upstream.url()).await;
    assert_eq!(discover(&proxy).await.status, 200);
    for version in LEGACY {
        let client = Client::legacy(&proxy, version).await;
        assert_eq!(client.tool("1", "x", "{}").await.status, 200);
        assert_eq!(client.delete().await.status, 200);
    }
    assert_eq!(kind(&proxy).await, "http");
    let requests = upstream.requests();
    // One to discover, and four in each session, the last one its end.
    assert_eq!(requests.len(), 1 + 4 * LEGACY.len());
    assert!(requests.iter().all(|request| !request.head.starts_with("GET")), "{requests:?}");
    finish(proxy).await;
}

#[tokio::test]
async fn an_old_server_is_found_out_once() {
    let server = OldServer::start().await;
    let proxy = to(&server.url()).await;
    assert_eq!(kind(&proxy).await, "http", "nobody knows better");
    for version in LEGACY {
        let client = Client::legacy(&proxy, version).await;
        assert_eq!(client.told("echo", r#"{"x":1.0}"#).await, json!({"x": 1.0}));
        // Its streams have no event ids, so they get ours.
        let params = r#"{"name":"echo","arguments":{"progress":1},"_meta":{"progressToken":1}}"#;
        let answer = client.post(&legacy("2", "tools/call", params)).await;
        assert!(answer.text().contains("id: tg-"), "{version}: {}", answer.text());
        let mut events = client.listen().await;
        let message = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
        client.tool("3", "emit", &format!(r#"{{"messages":[{message}]}}"#)).await;
        assert_eq!(events.next().await.unwrap()["method"], "notifications/x");
        assert_eq!(client.delete().await.status, 200);
        assert_eq!(client.post(&legacy("4", "ping", "{}")).await.status, 404);
        assert_eq!((kind(&proxy).await, server.misdirected()), ("sse".into(), 1), "{version}");
    }
    let mut old = OldClient::ready(&proxy).await;
    old.call("1", "echo", "{}").await;
    assert_eq!(old.next().await["id"], 1);
    drop(old);
    let told = discover(&proxy).await;
    assert_eq!((told.status, told.code()), (400, -32022), "{}", told.text());
    assert_eq!(server.misdirected(), 1);
    assert_eq!(server.messages("initialize").len(), LEGACY.len() + 1);
    finish(proxy).await;
}

#[tokio::test]
async fn a_modern_caller_finds_an_old_server_out_and_sends_it_nothing() {
    let server = OldServer::start().await;
    let proxy = to(&server.url()).await;
    for _ in 0..3 {
        let told = discover(&proxy).await;
        assert_eq!((told.status, told.code()), (400, -32022), "{}", told.text());
        assert_eq!(told.json()["error"]["data"]["supported"][3], "2024-11-05");
        assert_eq!((kind(&proxy).await, server.misdirected()), ("sse".into(), 1));
    }
    // So it knows what to do.
    let client = Client::legacy(&proxy, "2025-11-25").await;
    assert_eq!(client.told("echo", "{}").await, json!({}));
    assert_eq!((server.messages("server/discover").len(), server.misdirected()), (0, 1));
    client.delete().await;
    finish(proxy).await;
}

#[tokio::test]
async fn a_server_may_speak_something_else_after_a_restart() {
    let server = OldServer::start().await;
    let (address, proxy) = (server.address(), to(&server.url()).await);
    let before = Client::legacy(&proxy, "2025-06-18").await;
    assert_eq!(before.told("echo", "{}").await, json!({}));
    assert_eq!(kind(&proxy).await, "sse");

    // To the newer transport, by the next client that comes.
    drop(server);
    let upstream = Recorder::at(address).await;
    proxy.until("its stream has ended", |census| census.leases == 0).await;
    assert_eq!(before.post(&legacy("2", "ping", "{}")).await.status, 404);
    let client = Client::legacy(&proxy, "2025-06-18").await;
    assert_eq!(client.tool("1", "x", "{}").await.status, 200);
    assert_eq!(kind(&proxy).await, "http");
    let heads: Vec<String> =
        upstream.requests().into_iter().map(|request| request.head[..4].to_owned()).collect();
    assert_eq!(heads, ["GET ", "POST", "POST", "POST"], "a stream first, as it used to be");
    assert_eq!(discover(&proxy).await.status, 200);

    // And back. The session of the one kind is not taken to the other.
    drop(upstream);
    let server = OldServer::at(address).await;
    assert_eq!(client.tool("2", "echo", "{}").await.status, 404);
    let client = Client::legacy(&proxy, "2025-06-18").await;
    assert_eq!(client.told("echo", "{}").await, json!({}));
    assert_eq!(kind(&proxy).await, "sse");
    assert!(server.messages("tools/call").len() == 1);
    client.delete().await;
    finish(proxy).await;
}

#[tokio::test]
async fn a_modern_caller_notices_that_a_server_is_of_another_kind_now() {
    let upstream = Recorder::start().await;
    let address = upstream.url().trim_start_matches("http://").trim_end_matches("/mcp").parse();
    let proxy = to(&upstream.url().replace("/mcp", "/sse")).await;
    assert_eq!(discover(&proxy).await.status, 200);
    drop(upstream);
    let server = OldServer::at(address.unwrap()).await;
    // It was told something else, and is told so once.
    assert_eq!(discover(&proxy).await.status, 502);
    let told = discover(&proxy).await;
    assert_eq!((told.status, told.code()), (400, -32022), "{}", told.text());
    assert_eq!(server.misdirected(), 2);
    finish(proxy).await;
}

#[tokio::test]
async fn nothing_is_drawn_from_a_server_that_did_not_say_what_it_speaks() {
    let mut server = Scripted::start().await;
    let proxy = to(&server.url()).await;
    let invalid = r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32600,"message":"no"}}"#;
    let bare = "content-length: 0\r\nconnection: close\r\n\r\n";
    let json = format!(
        "content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{invalid}",
        invalid.len()
    );
    for answer in [
        format!("HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer\r\n{bare}"),
        format!("HTTP/1.1 403 Forbidden\r\n{bare}"),
        format!("HTTP/1.1 406 Not Acceptable\r\n{bare}"),
        format!("HTTP/1.1 410 Gone\r\n{bare}"),
        format!("HTTP/1.1 429 Too Many Requests\r\n{bare}"),
        format!("HTTP/1.1 500 Oh\r\n{bare}"),
        format!("HTTP/1.1 502 Oh\r\n{bare}"),
        format!("HTTP/1.1 503 Oh\r\n{bare}"),
        format!("HTTP/1.1 307 Go\r\nlocation: /elsewhere\r\n{bare}"),
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n{bare}x"),
        // It knows JSON-RPC, so it was not the wrong way to ask.
        format!("HTTP/1.1 400 Bad Request\r\n{json}"),
        format!("HTTP/1.1 404 Not Found\r\n{json}"),
        String::new(),
    ] {
        for is_modern in [false, true] {
            let asked =
                async { if is_modern { discover(&proxy).await } else { hello(&proxy).await } };
            let (told, ()) = tokio::join!(asked, async {
                let mut exchange = server.next().await;
                assert!(exchange.request.head.starts_with("POST "), "{}", exchange.request.head);
                exchange.write(&answer).await;
                exchange.finish().await;
            });
            assert!(told.status == 401 || told.status == 403 || told.code() != 0, "{answer}");
            assert!(!server.has_request(), "no stream is asked for after {answer}");
        }
    }
    finish(proxy).await;
}

#[tokio::test]
async fn a_server_that_opens_no_stream_either_is_told_by_its_first_answer() {
    let mut server = Scripted::start().await;
    let proxy = to(&server.url()).await;
    for status in ["400 Bad Request", "404 Not Found", "405 Method Not Allowed"] {
        for second in ["404 Not Found", "405 Method Not Allowed", "500 Oh", "200 OK"] {
            let (told, ()) = tokio::join!(hello(&proxy), async {
                let first = server.next().await;
                assert!(first.request.head.starts_with("POST "), "{}", first.request.head);
                first.status(status).await;
                let exchange = server.next().await;
                assert!(exchange.request.head.starts_with("GET "), "{}", exchange.request.head);
                assert_eq!(exchange.request.header("accept"), Some("text/event-stream"));
                exchange.status(second).await;
            });
            let message = told.json()["error"]["message"].to_string();
            assert!(message.contains(&format!("HTTP {}", &status[..3])), "{second}: {message}");
        }
    }
    // That nothing is posted there can be said in JSON-RPC, too.
    let no_post = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no POST"}}"#;
    let (told, ()) = tokio::join!(hello(&proxy), async {
        server.next().await.json("405 Method Not Allowed", "", no_post).await;
        server.next().await.status("404 Not Found").await;
    });
    assert_eq!((told.status, &*told.text()), (405, no_post));
    // A modern caller does not have it asked at each call.
    let (told, ()) = tokio::join!(discover(&proxy), async {
        server.next().await.status("404 Not Found").await;
    });
    assert_eq!((told.status, told.code()), (502, -31008), "{}", told.text());
    assert!(!server.has_request());
    finish(proxy).await;
}

#[tokio::test]
async fn who_has_to_say_who_it_is_for_the_stream_hears_that() {
    let mut server = Scripted::start().await;
    let proxy = to(&server.url()).await;
    for _ in 0..2 {
        for is_modern in [false, true] {
            let asked =
                async { if is_modern { discover(&proxy).await } else { hello(&proxy).await } };
            let (told, ()) = tokio::join!(asked, async {
                // Each time, since it has not said that it speaks so.
                server.next().await.status("404 Not Found").await;
                let mut exchange = server.next().await;
                assert!(exchange.request.head.starts_with("GET "), "{}", exchange.request.head);
                let head = "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer\r\n\
                            connection: close\r\ncontent-length: 0\r\n\r\n";
                exchange.write(head).await;
                exchange.finish().await;
            });
            assert_eq!((told.status, told.header("www-authenticate")), (401, Some("Bearer")));
            assert_eq!(kind(&proxy).await, "http");
        }
    }
    finish(proxy).await;
}

#[tokio::test]
async fn another_proxy_may_stand_in_front_of_an_old_server() {
    let server = OldServer::start().await;
    let inner = to(&server.url()).await;
    let outer = to(&format!("http://{}/mcp/sse", inner.address())).await;
    assert_eq!(discover(&outer).await.code(), -32022);
    let client = Client::legacy(&outer, "2025-06-18").await;
    assert_eq!(client.told("echo", r#"{"x":1}"#).await, json!({"x": 1}));
    assert_eq!((kind(&outer).await, kind(&inner).await), ("sse".into(), "sse".into()));
    client.delete().await;
    finish(outer).await;
    finish(inner).await;
}

#[tokio::test]
async fn a_stop_ends_the_streams_of_an_old_server_at_once() {
    let server = OldServer::start().await;
    let proxy = to(&server.url()).await;
    let client = Client::legacy(&proxy, "2025-06-18").await;
    let mut events = client.listen().await;
    tokio::join!(proxy.stop(), async {
        assert_eq!(events.next().await, None);
    });
}
