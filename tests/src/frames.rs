//! An HTTP/2 client that sends exactly the frames it is given, for what no library would send.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(15);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (RFC 9113, section 6).
pub mod kind {
    /// A piece of a body.
    pub const DATA: u8 = 0;
    /// The head of a message.
    pub const HEADERS: u8 = 1;
    /// The end of a stream before its time.
    pub const RST_STREAM: u8 = 3;
    /// Parameters of the connection.
    pub const SETTINGS: u8 = 4;
    /// A sign of life.
    pub const PING: u8 = 6;
    /// The end of the connection.
    pub const GOAWAY: u8 = 7;
    /// More of a head.
    pub const CONTINUATION: u8 = 9;
}

/// The flag of the last frame of a stream.
pub const END_STREAM: u8 = 1;
/// The flag of the last frame of a head.
pub const END_HEADERS: u8 = 4;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// One of [`kind`].
    pub kind: u8,
    /// The flags.
    pub flags: u8,
    /// The stream; 0 for the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl RawFrame {
    /// A frame.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// The frame as it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], self.kind, self.flags];
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

/// Header fields as literals that are neither compressed nor remembered (RFC 7541, 6.2.2).
pub fn literal(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for part in [name.as_bytes(), value] {
            length(&mut block, part.len());
            block.extend_from_slice(part);
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541, 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
        return;
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// A connection.
#[derive(Debug)]
pub struct Frames {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Frames {
    /// Connects and sends the preface with these settings.
    pub async fn open(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        stream.write_all(PREFACE).await.unwrap();
        let settings = RawFrame::new(kind::SETTINGS, 0, 0, payload);
        stream.write_all(&settings.bytes()).await.unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Sends bytes; `false` if the peer has closed.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        matches!(timeout(PATIENCE, self.stream.write_all(bytes)).await, Ok(Ok(())))
    }

    /// The next frame; `None` if the peer closes. What asks for an answer by the protocol, settings
    /// and pings, is answered.
    pub async fn next(&mut self) -> Option<RawFrame> {
        loop {
            if let Some(frame) = self.take() {
                if matches!(frame.kind, kind::SETTINGS | kind::PING) && frame.flags & 1 == 0 {
                    let payload = if frame.kind == kind::PING { frame.payload } else { Vec::new() };
                    let answer = RawFrame::new(frame.kind, 1, 0, payload);
                    self.send(&answer.bytes()).await;
                    continue;
                }
                return Some(frame);
            }
            let mut piece = vec![0; 64 << 10];
            let read = timeout(PATIENCE, self.stream.read(&mut piece)).await;
            match read.expect("a frame in time") {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.read.extend_from_slice(&piece[..count]),
            }
        }
    }

    /// The first frame that answers for a stream, or ends the connection; `None` if it just closes.
    pub async fn verdict(&mut self, stream: u32) -> Option<RawFrame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind::GOAWAY || frame.stream == stream && stream != 0 {
                return Some(frame);
            }
        }
    }

    fn take(&mut self) -> Option<RawFrame> {
        let [a, b, c, kind, flags, rest @ ..] = &*self.read else { return None };
        let stream = u32::from_be_bytes(*rest.first_chunk()?) & 0x7fff_ffff;
        let end = 9 + u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let (kind, flags) = (*kind, *flags);
        let payload = self.read.get(9..end)?.to_vec();
        self.read.drain(..end);
        Some(RawFrame { kind, flags, stream, payload })
    }
}
