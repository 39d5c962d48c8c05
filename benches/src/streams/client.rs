//! One open stream as its client has it, over HTTP/1.1 or as one of many on an HTTP/2 connection.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, sleep},
};
use tokio_util::task::TaskTracker;

use super::check::{Check, Chunks};
use crate::{
    client::{Client, Head, Target},
    wire::{self, Era},
};

/// As much as all streams together may have on the way, so that the client holds nothing up.
const WINDOW: u32 = 16 << 20;
/// How many streams share a connection where the protocol lets them.
pub const STREAMS_PER_CONNECTION: usize = 100;
/// The pause before a stream is opened.
const REST: Duration = Duration::from_millis(1);
const READ_SIZE: usize = 256 << 10;

/// What streams are opened through.
#[derive(Debug)]
pub struct Opener {
    target: Target,
    era: Era,
    is_http2: bool,
    tracker: TaskTracker,
    /// The connection that further streams share, and how many it has.
    shared: Option<(SendRequest<Full<Bytes>>, usize)>,
    /// Only borrowed between two awaits, so one is enough for all.
    buffer: Rc<RefCell<Vec<u8>>>,
}

/// An open stream that has had its first event.
#[derive(Debug)]
pub struct Stream {
    source: Source,
    check: Check,
}

#[derive(Debug)]
enum Source {
    Http1 { stream: TcpStream, chunks: Chunks, buffer: Rc<RefCell<Vec<u8>>> },
    Http2(Incoming),
}

/// How many events came, on all streams and on each.
#[derive(Debug, Default)]
pub struct Counts {
    /// On all together.
    pub events: Cell<u64>,
    /// On each.
    pub each: RefCell<Vec<u64>>,
    /// Why the first of those ended that ended.
    pub failed: RefCell<Option<String>>,
}

impl Opener {
    /// Opens streams at `target`; `tracker` has the connections' tasks.
    #[must_use]
    pub fn new(target: Target, era: Era, is_http2: bool, tracker: TaskTracker) -> Self {
        let buffer = Rc::new(RefCell::new(vec![0; READ_SIZE]));
        Self { target, era, is_http2, tracker, shared: None, buffer }
    }

    /// Opens a stream, and says how long its first event took from the request on. A legacy session
    /// is opened before that.
    ///
    /// # Errors
    ///
    /// When it is no stream.
    pub async fn open(&mut self) -> anyhow::Result<(Stream, Duration)> {
        let session = match self.era {
            // Its connection closes again: what is measured is the stream.
            Era::Legacy => {
                let client = Client::open(&self.target, Era::Legacy, "").await?;
                Some(client.session().context("no session")?.to_owned())
            }
            Era::Modern => None,
        };
        // All who have seen it close, and the fixture, have come to rest when the clock starts.
        sleep(REST).await;
        if self.is_http2 { self.open_http2(session).await } else { self.open_http1(session).await }
    }

    async fn open_http1(&self, session: Option<String>) -> anyhow::Result<(Stream, Duration)> {
        let stream = TcpStream::connect(self.target.address).await.context("connect")?;
        stream.set_nodelay(true)?;
        let (method, headers, body) = self.request(session);
        let Target { address, path } = &self.target;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n");
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        head += "\r\n";
        let start = Instant::now();
        let mut stream = stream;
        stream.write_all(&[head.as_bytes(), &body].concat()).await?;
        let mut read = Vec::new();
        let head = loop {
            stream.readable().await?;
            match stream.try_read_buf(&mut read) {
                Ok(0) => bail!("closed by the peer"),
                Ok(_) => (),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            if let Some(head) = Head::parse(&read)? {
                break head;
            }
        };
        ensure!(head.status == 200 && head.events, "no stream: {}", wire::excerpt(&read));
        let (mut chunks, mut check) = (Chunks::default(), Check::default());
        chunks.feed(read.get(head.length..).unwrap_or_default(), |data| check.feed(data))?;
        let source = Source::Http1 { stream, chunks, buffer: Rc::clone(&self.buffer) };
        Stream { source, check }.begun(start).await
    }

    async fn open_http2(&mut self, session: Option<String>) -> anyhow::Result<(Stream, Duration)> {
        let mut sender = self.share().await?;
        let (method, headers, body) = self.request(session);
        let Target { address, path } = &self.target;
        let mut request = Request::builder().method(method).uri(format!("http://{address}{path}"));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body))?;
        let start = Instant::now();
        let response = sender.send_request(request).await?;
        ensure!(response.status() == 200, "status {}", response.status());
        let source = Source::Http2(response.into_body());
        Stream { source, check: Check::default() }.begun(start).await
    }

    async fn share(&mut self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        if let Some((sender, taken)) = &mut self.shared
            && *taken < STREAMS_PER_CONNECTION
        {
            *taken += 1;
            return Ok(sender.clone());
        }
        let stream = TcpStream::connect(self.target.address).await.context("connect")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http2::Builder::new(Local(self.tracker.clone()))
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(TokioIo::new(stream))
            .await?;
        self.tracker.spawn_local(async move {
            // Whoever reads a stream is told.
            connection.await.ok();
        });
        self.shared = Some((sender.clone(), 1));
        Ok(sender)
    }

    /// What opens a stream.
    fn request(&self, session: Option<String>) -> (Method, Vec<(&'static str, String)>, Bytes) {
        let mut body = Vec::new();
        let mut headers = match session {
            Some(session) => vec![
                ("mcp-session-id", session),
                ("mcp-protocol-version", wire::LEGACY_VERSION.to_owned()),
                ("accept", "text/event-stream".to_owned()),
            ],
            None => {
                wire::write_listen(&mut body, 1);
                vec![
                    ("content-type", "application/json".to_owned()),
                    ("accept", "application/json, text/event-stream".to_owned()),
                    ("mcp-protocol-version", wire::MODERN_VERSION.to_owned()),
                    ("mcp-method", "subscriptions/listen".to_owned()),
                ]
            }
        };
        // As a client of the kind would have it.
        headers.push(("user-agent", "tidegate-load/0".to_owned()));
        let method = if body.is_empty() { Method::GET } else { Method::POST };
        (method, headers, body.into())
    }
}

impl Stream {
    async fn begun(mut self, start: Instant) -> anyhow::Result<(Self, Duration)> {
        while self.check.events() == 0 {
            self.read().await?;
        }
        Ok((self, start.elapsed()))
    }

    /// Reads until the stream ends, counting as number `number`.
    pub async fn follow(mut self, counts: Rc<Counts>, number: usize) {
        let failed = loop {
            let before = self.check.events();
            if let Err(error) = self.read().await {
                break error;
            }
            let came = self.check.events() - before;
            counts.events.set(counts.events.get() + came);
            if let Some(count) = counts.each.borrow_mut().get_mut(number) {
                *count += came;
            }
        };
        counts.failed.borrow_mut().get_or_insert_with(|| format!("{failed:#}"));
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        let check = &mut self.check;
        match &mut self.source {
            Source::Http1 { stream, chunks, buffer } => {
                stream.readable().await?;
                let mut buffer = buffer.borrow_mut();
                match stream.try_read(&mut buffer) {
                    Ok(0) => bail!("closed by the peer"),
                    Ok(length) => {
                        let piece = buffer.get(..length).unwrap_or_default();
                        chunks.feed(piece, |data| check.feed(data))
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
                    Err(error) => Err(error.into()),
                }
            }
            Source::Http2(body) => match body.frame().await {
                Some(frame) => frame?.data_ref().map_or(Ok(()), |data| check.feed(data)),
                None => bail!("the stream has ended"),
            },
        }
    }
}

#[derive(Clone)]
struct Local(TaskTracker);

impl<F> hyper::rt::Executor<F> for Local
where
    F: Future<Output: 'static> + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn_local(future);
    }
}
