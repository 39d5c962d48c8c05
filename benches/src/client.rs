//! One keep-alive HTTP/1.1 connection that speaks just enough MCP to load a server.
//!
//! It reads answers with a length, in chunks, as JSON and as server-sent events, because proxies
//! differ in which of these they send. It is written by hand so that the client's share of the
//! machine is small and the same for every peer.

use std::{io, net::SocketAddr};

use anyhow::{Context as _, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::wire::{self, Era};

const MAX_HEADERS: usize = 48;
/// More than any run sends.
const IDS_PER_CONNECTION: u64 = 1_000_000_000;

/// Where a server listens.
#[derive(Debug, Clone)]
pub struct Target {
    /// The socket to connect to.
    pub address: SocketAddr,
    /// The path of the MCP endpoint, with its slash.
    pub path: String,
}

/// A connection, its legacy session if it has one, and its buffers.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    era: Era,
    target: Target,
    /// Everything of a request that does not change, up to and including `Content-Length: `.
    head: Vec<u8>,
    session: Option<String>,
    /// The tool that modern heads name.
    tool: &'static str,
    /// Whether another connection opened the session and will end it.
    is_guest: bool,
    sequence: u64,
    out: Vec<u8>,
    body: Vec<u8>,
    buffer: Vec<u8>,
    answer: Vec<u8>,
}

impl Client {
    /// Connects, and in the legacy era opens a session. `tool` is what will be called.
    ///
    /// # Errors
    ///
    /// When the server does not answer as MCP says.
    pub async fn open(target: &Target, era: Era, tool: &'static str) -> anyhow::Result<Self> {
        let mut client = Self::connect(target, era, tool).await?;
        if era == Era::Legacy {
            client.initialize().await.context("initialize")?;
        }
        Ok(client)
    }

    /// Connects as one more connection of a session that another has opened. `number` keeps the
    /// ids of the session's connections apart.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached.
    pub async fn join(target: &Target, session: &str, number: usize) -> anyhow::Result<Self> {
        let mut client = Self::connect(target, Era::Legacy, "").await?;
        client.session = Some(session.to_owned());
        client.is_guest = true;
        client.sequence = (number as u64 + 1) * IDS_PER_CONNECTION;
        client.write_head("POST");
        Ok(client)
    }

    /// The session's id, if the server gave one.
    #[must_use]
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    async fn connect(target: &Target, era: Era, tool: &'static str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target.address).await.context("connect")?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            era,
            target: target.clone(),
            head: Vec::new(),
            session: None,
            tool,
            is_guest: false,
            sequence: 0,
            out: Vec::new(),
            body: Vec::new(),
            buffer: Vec::new(),
            answer: Vec::new(),
        };
        client.write_head("POST");
        Ok(client)
    }

    async fn initialize(&mut self) -> anyhow::Result<()> {
        self.sequence += 1;
        self.body.clear();
        wire::write_initialize(&mut self.body, self.sequence);
        let head = self.exchange().await?;
        ensure!(head.status == 200, "status {}", head.status);
        self.unwrap_event(&head, self.sequence)?;
        wire::check_result(&self.answer, self.sequence)?;
        self.session = head.session;
        self.write_head("POST");
        self.body.clear();
        self.body.extend_from_slice(wire::INITIALIZED);
        let head = self.exchange().await?;
        ensure!(head.status == 202, "status {} for notifications/initialized", head.status);
        Ok(())
    }

    /// Sends one echo call and checks its answer: status 200, this id, this text.
    ///
    /// # Errors
    ///
    /// When the answer is any other, or the connection ends.
    pub async fn call(&mut self, number: usize) -> anyhow::Result<()> {
        self.sequence += 1;
        let text = wire::unique_text(number, self.sequence);
        self.body.clear();
        wire::write_call(&mut self.body, self.era, self.sequence, &text);
        let head = self.exchange().await?;
        if head.status != 200 {
            bail!("status {}: {}", head.status, wire::excerpt(&self.answer));
        }
        self.unwrap_event(&head, self.sequence)?;
        wire::check_echo(&self.answer, self.sequence, &text)?;
        Ok(())
    }

    /// Calls for a stream of `events` notifications and checks it: every event, then the result.
    ///
    /// # Errors
    ///
    /// As [`Self::call`].
    pub async fn stream(&mut self, events: u32) -> anyhow::Result<()> {
        self.sequence += 1;
        self.body.clear();
        wire::write_stream_call(&mut self.body, self.era, self.sequence, events);
        let head = self.exchange().await?;
        if head.status != 200 || !head.events {
            bail!("status {}, no stream: {}", head.status, wire::excerpt(&self.answer));
        }
        wire::check_stream(&self.answer, self.sequence, events)?;
        Ok(())
    }

    /// Ends the session, so that the server can free what it holds, and closes the connection.
    ///
    /// # Errors
    ///
    /// When the connection breaks; any status will do.
    pub async fn close(mut self) -> anyhow::Result<()> {
        if self.session.is_some() && !self.is_guest {
            self.write_head("DELETE");
            self.body.clear();
            self.exchange().await.context("DELETE")?;
        }
        self.stream.shutdown().await?;
        Ok(())
    }

    fn write_head(&mut self, method: &str) {
        let Target { address, path } = &self.target;
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\n"
        );
        if let Some(session) = &self.session {
            head += &format!(
                "Mcp-Session-Id: {session}\r\nMCP-Protocol-Version: {}\r\n",
                wire::LEGACY_VERSION
            );
        }
        if self.era == Era::Modern {
            head += &format!(
                "MCP-Protocol-Version: {}\r\nMcp-Method: tools/call\r\nMcp-Name: {}\r\n",
                wire::MODERN_VERSION,
                self.tool
            );
        }
        head += "Content-Length: ";
        self.head = head.into_bytes();
    }

    /// Sends `self.body` and reads one response, its body into `self.answer`.
    async fn exchange(&mut self) -> anyhow::Result<Head> {
        ensure!(self.buffer.is_empty(), "bytes after the last answer");
        self.out.clear();
        self.out.extend_from_slice(&self.head);
        wire::write_number(&mut self.out, self.body.len() as u64);
        self.out.extend_from_slice(b"\r\n\r\n");
        self.out.extend_from_slice(&self.body);
        self.stream.write_all(&self.out).await.context("write")?;
        let head = loop {
            self.fill().await?;
            if let Some(head) = Head::parse(&self.buffer)? {
                break head;
            }
        };
        self.consume(head.length);
        self.answer.clear();
        match head.framing {
            Framing::Length(length) => self.take(length).await?,
            Framing::Chunked => self.read_chunks().await?,
        }
        Ok(head)
    }

    async fn read_chunks(&mut self) -> anyhow::Result<()> {
        loop {
            let line = loop {
                if let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                    break end;
                }
                self.fill().await?;
            };
            let size = self.buffer.get(..line).unwrap_or_default().trim_ascii_end();
            let size = std::str::from_utf8(size).ok().and_then(|hex| {
                usize::from_str_radix(hex.split(';').next().unwrap_or_default(), 16).ok()
            });
            let size = size.context("bad chunk size")?;
            self.consume(line + 1);
            self.take(size).await?;
            let kept = self.answer.len();
            // The line end after a chunk; after the last one the (empty) trailer.
            self.take(2).await?;
            self.answer.truncate(kept);
            if size == 0 {
                return Ok(());
            }
        }
    }

    /// Moves exactly `length` bytes of the stream to `self.answer`.
    async fn take(&mut self, mut length: usize) -> anyhow::Result<()> {
        loop {
            let ready = length.min(self.buffer.len());
            self.answer.extend_from_slice(self.buffer.get(..ready).unwrap_or_default());
            self.consume(ready);
            length -= ready;
            if length == 0 {
                return Ok(());
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        self.buffer.reserve(4096);
        if self.stream.read_buf(&mut self.buffer).await.context("read")? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof)).context("closed by peer");
        }
        Ok(())
    }

    fn consume(&mut self, length: usize) {
        if length >= self.buffer.len() {
            self.buffer.clear();
        } else {
            self.buffer.drain(..length);
        }
    }

    /// Replaces an event stream in `self.answer` by the one message in it that is a response.
    fn unwrap_event(&mut self, head: &Head, id: u64) -> anyhow::Result<()> {
        if !head.events {
            return Ok(());
        }
        let found = self
            .answer
            .split(|byte| *byte == b'\n')
            .filter_map(|line| line.strip_prefix(b"data:"))
            .map(<[u8]>::trim_ascii)
            .find(|data| wire::check_result(data, id).is_ok())
            .map(<[u8]>::to_vec);
        match found {
            Some(found) => self.answer = found,
            None => bail!("no response among the events: {}", wire::excerpt(&self.answer)),
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
}

/// What a response head says that matters here.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) length: usize,
    pub(crate) status: u16,
    framing: Framing,
    pub(crate) events: bool,
    session: Option<String>,
}

impl Head {
    pub(crate) fn parse(buffer: &[u8]) -> anyhow::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = response.parse(buffer)? else {
            return Ok(None);
        };
        let mut head = Self {
            length,
            status: response.code.unwrap_or_default(),
            framing: Framing::Length(0),
            events: false,
            session: None,
        };
        for header in response.headers.iter() {
            let value = header.value.trim_ascii();
            if header.name.eq_ignore_ascii_case("content-length") {
                let length = std::str::from_utf8(value)?.parse().context("content-length")?;
                head.framing = Framing::Length(length);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                head.framing = Framing::Chunked;
            } else if header.name.eq_ignore_ascii_case("content-type") {
                head.events = value.starts_with(b"text/event-stream");
            } else if header.name.eq_ignore_ascii_case("mcp-session-id") {
                head.session = Some(String::from_utf8_lossy(value).into_owned());
            }
        }
        Ok(Some(head))
    }
}
