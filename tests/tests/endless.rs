//! Streams without an end, which are read and written without the HTTP library: they look no
//! different for that, and when they do end, both connections go on.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use tidegate_tests::{
    Client, Exchange, Proxy, Scripted,
    client::modern,
    http::{self, Connection},
    modern_headers,
};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
                    transfer-encoding: chunked\r\n\r\n";
const NOTE: &str = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n";

/// A proxy before a scripted upstream, and a client of each era.
async fn start() -> (Proxy, Scripted, [Client; 2]) {
    let mut upstream = Scripted::start().await;
    let url = upstream.url();
    let text = format!("upstreams: {{ it: {{ http: {{ url: \"{url}\", reconnect: off }} }} }}\n");
    let proxy = Proxy::start(&text).await;
    let (older, ()) = tokio::join!(Client::legacy(&proxy, "2025-11-25"), async {
        let result = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}"#;
        upstream.next().await.json("200 OK", "mcp-session-id: theirs\r\n", result).await;
        upstream.next().await.status("202 Accepted").await;
    });
    let newer = Client::modern(&proxy);
    (proxy, upstream, [newer, older])
}

/// Stops the proxy while the upstream lets the session be ended.
async fn finish(proxy: Proxy, mut upstream: Scripted) {
    tokio::join!(proxy.stop(), async { upstream.next().await.status("200 OK").await });
}

/// What opens such a stream.
fn listen_bytes(client: &Client) -> Vec<u8> {
    if !client.headers().iter().any(|(name, _)| *name == "mcp-session-id") {
        let body = modern("7", "subscriptions/listen", r#""notifications":{},"#);
        let headers = modern_headers("subscriptions/listen", None);
        return http::post_to("/mcp", &headers, body.as_bytes());
    }
    client.listen_bytes(None)
}

/// Opens a stream; the upstream has not answered yet.
async fn asked(
    proxy: &Proxy,
    upstream: &mut Scripted,
    client: &Client,
    more: &[u8],
) -> (Connection, Exchange) {
    let mut connection = Connection::open(proxy.address()).await;
    connection.send(&[listen_bytes(client), more.to_vec()].concat()).await;
    (connection, upstream.next().await)
}

/// Reads the head of a stream.
async fn begun(connection: &mut Connection) {
    let (status, headers) = connection.head().await.unwrap();
    assert_eq!(status, 200);
    let has = |name: &str, value: &str| {
        headers.iter().any(|(each, had)| each == name && had.starts_with(value))
    };
    assert!(has("transfer-encoding", "chunked") && has("content-type", "text/event-stream"));
    assert!(has("date", ""), "{headers:?}");
}

/// Reads so many bytes of the body.
async fn read(connection: &mut Connection, count: usize) -> String {
    let mut body = Vec::new();
    while body.len() < count {
        body.extend_from_slice(&connection.chunk().await.unwrap().unwrap());
    }
    String::from_utf8(body).unwrap()
}

#[tokio::test]
async fn however_the_upstream_cuts_it_the_client_gets_the_bytes() {
    let (proxy, mut upstream, clients) = start().await;
    for client in &clients {
        let large = format!("data: \"{}\"\n\n", "x".repeat(200_000));
        let chunk = |text: &str| format!("{:X};ext=\"1\"\r\n{text}\r\n", text.len());
        let body =
            [chunk(NOTE), chunk("da"), chunk("ta: 1\n"), chunk("\n"), chunk(&large)].concat();
        let told = [NOTE, "data: 1\n\n", &large].concat();
        for size in [1, 1000, 1 << 20] {
            // The first piece of the body comes with the head.
            let whole = [HEAD, if size == 1 { &body[..400] } else { &body }].concat();
            let told = if size == 1 { &told[..NOTE.len() + 9] } else { &told };
            let (mut connection, mut exchange) = asked(&proxy, &mut upstream, client, b"").await;
            let (got, ()) = tokio::join!(
                async {
                    begun(&mut connection).await;
                    read(&mut connection, told.len()).await
                },
                async {
                    for piece in whole.as_bytes().chunks(size) {
                        exchange.write(piece).await;
                    }
                }
            );
            assert!(got == *told, "in pieces of {size}");
            drop(connection);
            exchange.closed().await;
        }
    }
    finish(proxy, upstream).await;
}

#[tokio::test]
async fn a_stream_that_ends_leaves_both_connections_of_use() {
    let (proxy, mut upstream, clients) = start().await;
    for client in &clients {
        // The client does not wait for the end before it asks for more.
        let call = client.tool_bytes("8", "x", "{}");
        let (mut connection, mut exchange) = asked(&proxy, &mut upstream, client, &call).await;
        exchange.write(HEAD).await;
        begun(&mut connection).await;
        exchange.chunk(NOTE).await;
        assert_eq!(read(&mut connection, NOTE.len()).await, NOTE);
        assert!(!upstream.has_request());
        exchange.write("0\r\nTrailer: 1\r\n\r\n").await;
        assert_eq!(connection.chunk().await, Ok(None), "a whole response");

        let mut next = upstream.next().await;
        next.json_and_stay(r#"{"jsonrpc":"2.0","id":8,"result":{}}"#).await;
        assert_eq!(connection.response().await.json()["id"], 8);
        // And it may listen again, on the same connection at both ends.
        connection.send(&listen_bytes(client)).await;
        exchange.again().await;
        exchange.write(HEAD).await;
        begun(&mut connection).await;
        exchange.chunk(NOTE).await;
        assert_eq!(read(&mut connection, NOTE.len()).await, NOTE);
        connection.finish().await;
        exchange.closed().await;
        // Its connection is kept for the next call.
        drop(next);
    }
    finish(proxy, upstream).await;
}

#[tokio::test]
async fn a_stream_that_is_framed_wrongly_or_cut_does_not_look_whole() {
    let (proxy, mut upstream, clients) = start().await;
    for client in &clients {
        for wrong in ["x\r\n", "5 5\r\n", "3\r\nabcd\r\n", "fffffffffffffffff\r\n", ""] {
            let (mut connection, mut exchange) = asked(&proxy, &mut upstream, client, b"").await;
            exchange.write(HEAD).await;
            begun(&mut connection).await;
            exchange.chunk(NOTE).await;
            assert_eq!(read(&mut connection, NOTE.len()).await, NOTE);
            exchange.write(wrong).await;
            if wrong.is_empty() {
                exchange.finish().await;
            } else {
                exchange.closed().await;
            }
            assert_eq!(connection.chunk().await, Err("cut"), "{wrong:?}");
        }
    }
    finish(proxy, upstream).await;
}

#[tokio::test]
async fn what_only_the_library_can_do_is_left_to_it() {
    let (proxy, mut upstream, clients) = start().await;
    for client in &clients {
        // A body that ends with its connection, and one in no coding that we know of.
        let (mut connection, mut exchange) = asked(&proxy, &mut upstream, client, b"").await;
        exchange.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").await;
        exchange.write(NOTE).await;
        begun(&mut connection).await;
        assert_eq!(read(&mut connection, NOTE.len()).await, NOTE);
        exchange.finish().await;
        assert_eq!(connection.chunk().await, Ok(None));

        // A client that wants its connection closed afterwards.
        let bytes = String::from_utf8(listen_bytes(client)).unwrap();
        let bytes = bytes.replacen("\r\n", "\r\nconnection: close\r\n", 1);
        let mut connection = Connection::open(proxy.address()).await;
        connection.send(bytes.as_bytes()).await;
        let mut exchange = upstream.next().await;
        exchange.write(HEAD).await;
        begun(&mut connection).await;
        exchange.chunk("").await;
        assert_eq!(connection.chunk().await, Ok(None));
        assert!(connection.is_closed_by_peer().await);
        assert!(exchange.stays_open(Duration::from_millis(20)).await, "it may be used again");
    }
    finish(proxy, upstream).await;
}
