//! An HTTP/1.1 client that sends exactly the bytes it is given.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// No answer takes longer in a test that works.
const PATIENCE: Duration = Duration::from_secs(30);

/// A response, with its body de-chunked.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code; 0 if the connection was closed without an answer.
    pub status: u16,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the body ended as its framing says.
    pub is_whole: bool,
}

impl Response {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {self:?} {}", self.text()))
    }

    /// The JSON-RPC error code of the body.
    pub fn code(&self) -> i64 {
        self.message()["error"]["code"].as_i64().unwrap_or_default()
    }

    /// The one message of a JSON body, or the last one of an event stream.
    pub fn message(&self) -> serde_json::Value {
        if self.header("content-type") == Some("text/event-stream") {
            assert!(self.is_whole, "the stream was cut: {}", self.text());
            return self.events().pop().expect("a message");
        }
        self.json()
    }

    /// The messages of an event stream.
    pub fn events(&self) -> Vec<serde_json::Value> {
        self.text()
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .filter(|data| !data.is_empty())
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }
}

/// A POST of a message to `/mcp` with the usual headers and more.
pub fn post_bytes(headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    post_to("/mcp", headers, body)
}

/// A POST of a message with the usual headers and more.
pub fn post_to(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let mut bytes = request.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Posts a message on a fresh connection.
pub async fn post(address: SocketAddr, headers: &[(&str, &str)], body: &str) -> Response {
    raw(address, &post_bytes(headers, body.as_bytes())).await
}

/// Gets a path on a fresh connection.
pub async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    method(address, "GET", path, headers).await
}

/// A request without a body on a fresh connection.
pub async fn method(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Response {
    raw(address, &request(method, path, headers)).await
}

/// A request without a body.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// Sends bytes on a fresh connection and reads one response.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> Response {
    let mut connection = Connection::open(address).await;
    connection.send(bytes).await;
    connection.response().await
}

/// A connection that stays open.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Self {
        Self::try_open(address).await.unwrap()
    }

    /// Connects, where somebody may or may not listen.
    pub async fn try_open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::new() })
    }

    /// Sends bytes. A peer that has closed already is no error here; the response will tell.
    /// Returns whether they could be sent.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = timeout(PATIENCE, self.stream.write_all(bytes)).await;
        sent.expect("the peer takes bytes").is_ok()
    }

    /// Connects with so small a buffer that what is not read soon waits on the other side.
    pub async fn open_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        Self { stream: socket.connect(address).await.unwrap(), read: Vec::new() }
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Closes with a reset instead of a farewell.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Reads one response.
    pub async fn response(&mut self) -> Response {
        let Some((status, headers)) = self.head().await else {
            return Response { status: 0, headers: Vec::new(), body: Vec::new(), is_whole: false };
        };
        let find = |name: &str| headers.iter().find(|(each, _)| each == name);
        let length = find("content-length").map(|(_, value)| value.parse::<usize>().unwrap());
        let (body, is_whole) = if find("transfer-encoding").is_some() {
            self.chunks().await
        } else if let Some(length) = length {
            while self.read.len() < length && self.more().await {}
            let is_whole = self.read.len() >= length;
            (self.read.drain(..length.min(self.read.len())).collect(), is_whole)
        } else {
            (Vec::new(), true)
        };
        Response { status, headers, body, is_whole }
    }

    /// Reads responses until the peer closes the connection.
    pub async fn responses(&mut self) -> Vec<Response> {
        let mut responses = Vec::new();
        loop {
            let response = self.response().await;
            if response.status == 0 {
                return responses;
            }
            responses.push(response);
        }
    }

    /// Reads the head of a response; `None` if the connection closes first.
    pub async fn head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let end = loop {
            if let Some(end) = find(&self.read, b"\r\n\r\n") {
                break end;
            }
            if !self.more().await {
                return None;
            }
        };
        let head: Vec<u8> = self.read.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        Some((status, headers))
    }

    /// Reads one chunk of a chunked body; `None` at its clean end, an error if it is cut.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, &'static str> {
        let end = loop {
            if let Some(end) = find(&self.read, b"\r\n") {
                break end;
            }
            if !self.more().await {
                return Err("cut");
            }
        };
        let line: Vec<u8> = self.read.drain(..end + 2).collect();
        let line = String::from_utf8_lossy(&line);
        let size = usize::from_str_radix(line.trim(), 16).map_err(|_| "no chunk size")?;
        while self.read.len() < size + 2 {
            if !self.more().await {
                return Err("cut");
            }
        }
        let chunk = self.read.drain(..size + 2).take(size).collect::<Vec<u8>>();
        Ok((size > 0).then_some(chunk))
    }

    /// Whether the peer closes the connection without sending anything more.
    pub async fn is_closed_by_peer(&mut self) -> bool {
        self.read.is_empty() && !self.more().await
    }

    /// Whether anything comes within this time.
    pub async fn hears_something(&mut self, within: Duration) -> bool {
        !self.read.is_empty() || timeout(within, self.more()).await.is_ok()
    }

    /// Forgets what has been read.
    pub fn skip(&mut self) {
        self.read.clear();
    }

    async fn chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            match self.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return (body, true),
                Err(_) => return (body, false),
            }
        }
    }

    async fn more(&mut self) -> bool {
        let mut piece = vec![0; 64 << 10];
        let read = timeout(PATIENCE, self.stream.read(&mut piece)).await;
        let read = read.expect("an answer in time").unwrap_or(0);
        self.read.extend_from_slice(&piece[..read]);
        read > 0
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
