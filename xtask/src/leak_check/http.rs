//! A blocking HTTP/1.1 client that can leave in the middle of anything.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A response, its body de-chunked.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) session: Option<String>,
    pub(super) body: Vec<u8>,
}

/// One connection.
pub(super) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, read: Vec::new() })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Says that nothing more will come, which the proxy takes for a departure.
    pub(super) fn leave(self) {
        // It may have left before us.
        self.stream.shutdown(Shutdown::Both).ok();
    }

    /// Reads one response to its end.
    pub(super) fn answer(&mut self) -> io::Result<Answer> {
        let (mut answer, framing) = self.head()?;
        match framing {
            Framing::Length(length) => answer.body = self.take(length)?,
            Framing::Chunked => loop {
                let chunk = self.chunk()?;
                if chunk.is_empty() {
                    break;
                }
                answer.body.extend(chunk);
            },
        }
        Ok(answer)
    }

    /// Reads the head of a stream, and its first piece if there `is_greeted`.
    pub(super) fn stream(&mut self, is_greeted: bool) -> io::Result<Answer> {
        let (mut answer, framing) = self.head()?;
        if is_greeted && matches!(framing, Framing::Chunked) {
            answer.body = self.chunk()?;
        }
        Ok(answer)
    }

    fn head(&mut self) -> io::Result<(Answer, Framing)> {
        let end = loop {
            if let Some(end) = position(&self.read, b"\r\n\r\n") {
                break end;
            }
            self.fill()?;
        };
        let head: Vec<u8> = self.take(end + 4)?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let field = |name: &str| {
            let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
            let mut found = fields.filter(|(each, _)| each.eq_ignore_ascii_case(name));
            found.next().map(|(_, value)| value.trim().to_owned())
        };
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let framing = match field("transfer-encoding") {
            Some(_) => Framing::Chunked,
            None => Framing::Length(
                field("content-length").and_then(|length| length.parse().ok()).unwrap_or_default(),
            ),
        };
        let answer = Answer {
            status: status.unwrap_or_default(),
            session: field("mcp-session-id"),
            body: Vec::new(),
        };
        Ok((answer, framing))
    }

    /// The next chunk of a stream; an empty one is its end.
    pub(super) fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let end = loop {
            if let Some(end) = position(&self.read, b"\r\n") {
                break end;
            }
            self.fill()?;
        };
        let line = self.take(end + 2)?;
        let size = std::str::from_utf8(&line).ok();
        let size = size.and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
        let size = size.ok_or_else(|| io::Error::other("no chunk size"))?;
        let mut chunk = self.take(size + 2)?;
        chunk.truncate(size);
        Ok(chunk)
    }

    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.read.len() < length {
            self.fill()?;
        }
        Ok(self.read.drain(..length).collect())
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 << 10];
        let count = self.stream.read(&mut piece)?;
        self.read.extend(piece.iter().take(count));
        if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

enum Framing {
    Length(usize),
    Chunked,
}

fn position(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// A request with these headers.
pub(super) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// Gets a page on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut connection = Connection::open(address)?;
    connection.send(&request("GET", path, &[], ""))?;
    let answer = connection.answer()?;
    if answer.status != 200 {
        return Err(io::Error::other(format!("{path}: status {}", answer.status)));
    }
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}
