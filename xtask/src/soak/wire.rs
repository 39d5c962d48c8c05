//! HTTP/1.1 and event streams, as much as the two ends of a soak need of them. Written by hand,
//! because both ends have to break off in the middle of anything.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// A connection, and what was read from it and not used.
pub(super) struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

/// The first lines of a request or a response.
pub(super) struct Head {
    text: String,
}

/// One event, or what stands in the place of one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) id: Option<String>,
    pub(super) data: Option<String>,
}

/// An event stream in pieces.
#[derive(Debug, Default)]
pub(super) struct Events {
    text: Vec<u8>,
}

impl Wire {
    pub(super) const fn new(stream: TcpStream) -> Self {
        Self { stream, read: Vec::new() }
    }

    /// Connects. A reader with a small `window` is one that a sender soon has to wait for.
    pub(super) async fn open(address: SocketAddr, window: Option<u32>) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(window) = window {
            socket.set_recv_buffer_size(window)?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::new(stream))
    }

    /// # Cancel safety
    ///
    /// Some of it may have been written.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Closes with a reset.
    pub(super) fn reset(self) {
        // A connection that is gone already cannot be told.
        self.stream.set_zero_linger().ok();
    }

    /// The next head; `None` when the peer has nothing more to say.
    ///
    /// # Cancel safety
    ///
    /// What was read is kept.
    pub(super) async fn head(&mut self) -> io::Result<Option<Head>> {
        let end = loop {
            if let Some(end) = position(&self.read, b"\r\n\r\n") {
                break end + 4;
            }
            if self.fill().await? == 0 {
                return match self.read.is_empty() {
                    true => Ok(None),
                    false => Err(ErrorKind::UnexpectedEof.into()),
                };
            }
        };
        let head: Vec<u8> = self.read.drain(..end).collect();
        Ok(Some(Head { text: String::from_utf8_lossy(&head).into_owned() }))
    }

    /// So many bytes.
    ///
    /// # Cancel safety
    ///
    /// What was read is kept.
    pub(super) async fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.read.len() < length {
            self.fill_some().await?;
        }
        Ok(self.read.drain(..length).collect())
    }

    /// The next chunk; `None` at the end of the body.
    ///
    /// # Cancel safety
    ///
    /// What was read is kept, and a chunk is taken as a whole.
    pub(super) async fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some((start, size)) = chunk_size(&self.read)? {
                let end = start + size;
                if self.read.len() >= end + 2 {
                    let chunk = self.read.get(start..end).unwrap_or_default().to_vec();
                    self.read.drain(..end + 2);
                    return Ok(if size == 0 { None } else { Some(chunk) });
                }
            }
            self.fill_some().await?;
        }
    }

    /// Returns when the peer has gone.
    ///
    /// # Cancel safety
    ///
    /// What was read is kept.
    pub(super) async fn gone(&mut self) {
        while matches!(self.fill().await, Ok(length) if length > 0) {}
    }

    async fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 4 << 10];
        let length = self.stream.read(&mut piece).await?;
        self.read.extend_from_slice(piece.get(..length).unwrap_or_default());
        Ok(length)
    }

    async fn fill_some(&mut self) -> io::Result<()> {
        match self.fill().await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl Head {
    /// The word of the first line at this place.
    pub(super) fn word(&self, at: usize) -> &str {
        self.text.lines().next().and_then(|line| line.split(' ').nth(at)).unwrap_or_default()
    }

    pub(super) fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or_default()
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.text.lines().skip(1).filter_map(|line| line.split_once(':'));
        let found = fields.find(|(each, _)| each.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    }

    pub(super) fn length(&self) -> usize {
        self.field("content-length").and_then(|length| length.parse().ok()).unwrap_or_default()
    }

    pub(super) fn is_chunked(&self) -> bool {
        self.field("transfer-encoding").is_some()
    }
}

impl Events {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
    }

    /// The next whole event. Comments are skipped.
    pub(super) fn next(&mut self) -> Option<Event> {
        loop {
            let end = position(&self.text, b"\n\n")? + 2;
            let block: Vec<u8> = self.text.drain(..end).collect();
            let block = String::from_utf8_lossy(&block);
            let mut event = Event::default();
            for (name, value) in block.lines().filter_map(|line| line.split_once(':')) {
                let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
                match name {
                    "id" => event.id = Some(value),
                    "data" => event.data = Some(value),
                    _ => (),
                }
            }
            if event != Event::default() {
                return Some(event);
            }
        }
    }
}

/// Where the data of the first chunk begins, and how long it is.
fn chunk_size(bytes: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let Some(end) = position(bytes, b"\r\n") else { return Ok(None) };
    let line = bytes.get(..end).and_then(|line| std::str::from_utf8(line).ok());
    let size = line.and_then(|line| usize::from_str_radix(line.trim(), 16).ok());
    let size = size.ok_or_else(|| io::Error::other("no chunk size"))?;
    Ok(Some((end + 2, size)))
}

pub(super) fn chunk_of(bytes: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

fn position(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::{Event, Events, chunk_of, chunk_size};

    #[test]
    fn events_come_out_whole_wherever_they_were_cut() {
        let text = ": hello\n\nid: a_1\ndata: {\"x\":1}\n\nretry: 5\n\nid: a_2\ndata:\n\n";
        let event = |id: &str, data: &str| Event { id: Some(id.into()), data: Some(data.into()) };
        for cut in 0..text.len() {
            let mut events = Events::default();
            let mut found = Vec::new();
            for piece in [&text[..cut], &text[cut..]] {
                events.push(piece.as_bytes());
                found.extend(std::iter::from_fn(|| events.next()));
            }
            assert_eq!(found, [event("a_1", "{\"x\":1}"), event("a_2", "")], "{cut}");
        }
    }

    #[test]
    fn a_chunk_reads_back() {
        let chunk = chunk_of(&[b'x'; 300]);
        assert_eq!(chunk_size(&chunk).unwrap(), Some((5, 300)));
        assert_eq!(chunk_size(b"12").unwrap(), None);
        assert!(chunk_size(b"xyz\r\n").is_err());
    }
}
