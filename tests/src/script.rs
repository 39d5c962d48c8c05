//! An HTTP upstream whose every byte the test writes itself, when it wants to.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use crate::recorder::{Recorded, next_request};

const PATIENCE: Duration = Duration::from_secs(10);

/// The upstream. Each connection carries one request, which the test takes with
/// [`Scripted::next`] and answers as it likes.
#[derive(Debug)]
pub struct Scripted {
    address: SocketAddr,
    exchanges: mpsc::Receiver<Exchange>,
    _server: JoinSet<()>,
}

/// One request, and the connection on which to answer it. Dropping it closes the connection.
#[derive(Debug)]
pub struct Exchange {
    /// What was asked.
    pub request: Recorded,
    stream: TcpStream,
}

impl Scripted {
    /// Starts on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, exchanges) = mpsc::channel(256);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let sender = sender.clone();
                connections.spawn(async move {
                    stream.set_nodelay(true).unwrap();
                    let mut read = Vec::new();
                    if let Some(request) = next_request(&mut stream, &mut read).await {
                        assert!(read.is_empty(), "a second request came unasked");
                        drop(sender.send(Exchange { request, stream }).await);
                    }
                });
            }
        });
        Self { address, exchanges, _server: server }
    }

    /// The URL of its endpoint.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// The next request, in the order of arrival.
    pub async fn next(&mut self) -> Exchange {
        let next = timeout(PATIENCE, self.exchanges.recv()).await;
        next.expect("a request in time").expect("a running server")
    }

    /// The next request, whenever it comes.
    pub async fn some_day(&mut self) -> Exchange {
        self.exchanges.recv().await.expect("a running server")
    }

    /// Whether a request has come that nobody has taken.
    pub fn has_request(&self) -> bool {
        !self.exchanges.is_empty()
    }
}

impl Exchange {
    /// Writes bytes as they are.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Writes bytes as they are, unless the proxy closes the connection in the middle.
    pub async fn write_some(&mut self, bytes: impl AsRef<[u8]>) {
        drop(self.stream.write_all(bytes.as_ref()).await);
    }

    /// Answers with the head of an event stream, whose chunks are to follow.
    pub async fn start_stream(&mut self) {
        self.write(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\
             connection: close\r\n\r\n",
        )
        .await;
    }

    /// Writes one chunk of a chunked body; an empty one is its end.
    pub async fn chunk(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.write(chunk).await;
    }

    /// Answers with one JSON body, and closes.
    pub async fn json(mut self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        self.write(format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\
             {headers}content-length: {length}\r\n\r\n{body}"
        ))
        .await;
        self.finish().await;
    }

    /// Answers with one JSON body, and keeps the connection open.
    pub async fn json_and_stay(&mut self, body: &str) {
        let length = body.len();
        self.write(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        ))
        .await;
    }

    /// Waits for the next request on the same connection.
    pub async fn again(&mut self) {
        let mut read = Vec::new();
        let next = timeout(PATIENCE, next_request(&mut self.stream, &mut read)).await;
        self.request = next.expect("a request in time").expect("an open connection");
    }

    /// Answers with a status alone, and closes.
    pub async fn status(mut self, status: &str) {
        self.write(format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"))
            .await;
        self.finish().await;
    }

    /// Closes in an orderly way, so that what was written arrives.
    pub async fn finish(mut self) {
        drop(self.stream.shutdown().await);
        drop(timeout(PATIENCE, self.stream.read(&mut [0; 1])).await);
    }

    /// Waits until the proxy closes the connection.
    pub async fn closed(&mut self) {
        let mut piece = [0; 1024];
        let read = timeout(PATIENCE, self.stream.read(&mut piece)).await;
        let read = read.expect("the proxy closes in time").unwrap_or(0);
        assert_eq!(read, 0, "the proxy sent more: {:?}", &piece[..read]);
    }

    /// Whether the proxy keeps the connection open for a while.
    pub async fn stays_open(&mut self, wait: Duration) -> bool {
        timeout(wait, self.stream.read(&mut [0; 1])).await.is_err()
    }

    /// Closes with a reset instead of a farewell.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }
}
