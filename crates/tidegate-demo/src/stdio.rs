//! The stdio transport: one JSON-RPC message per line, both eras on one pipe.
//!
//! Owns the process's one legacy session, the running calls and the one writer. Requests are
//! registered in the order of their lines and then run side by side.

use std::{io, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    Options,
    calls::Ticket,
    legacy::{Begun, Session},
    message::{self, Incoming, Malformed, Parsed, Request, RpcError},
    modern::{self, Envelope},
    server::Server,
    sink::{Item, Sink},
    version::Version,
};

/// How many messages wait for the pipe before calls have to wait.
const QUEUE: usize = 256;

/// How long calls may go on after the client closed its end, so that piped input is answered.
const GRACE: Duration = Duration::from_secs(1);

/// Serves one client over a pair of byte streams until `stdin` ends.
///
/// Calls that run when it ends get a moment to finish; those that wait for the client fail.
///
/// # Errors
///
/// What reading `stdin` or writing `stdout` failed with.
///
/// # Cancel safety
///
/// Dropping the future ends every call; a message that was being written may be cut.
pub async fn serve_stdio(
    options: Options,
    stdin: impl AsyncRead + Send,
    stdout: impl AsyncWrite + Send,
) -> io::Result<()> {
    let (queue, items) = mpsc::channel(QUEUE);
    let (stdin, stdout) = (pin!(stdin), pin!(stdout));
    let mut reader = pin!(read(Server::new(options), stdin, queue));
    let mut writer = pin!(write(items, stdout));
    tokio::select! {
        read = &mut reader => read?,
        written = &mut writer => return written,
    }
    writer.await
}

/// Writes what is queued, and flushes when there is nothing more to write.
async fn write(
    mut items: mpsc::Receiver<Item>,
    mut stdout: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    while let Some(item) = items.recv().await {
        let Item::Message(bytes) = item else { continue };
        stdout.write_all(&bytes).await?;
        stdout.write_all(b"\n").await?;
        if items.is_empty() {
            stdout.flush().await?;
        }
    }
    stdout.flush().await
}

async fn read(
    server: Arc<Server>,
    stdin: impl AsyncRead + Unpin,
    queue: mpsc::Sender<Item>,
) -> io::Result<()> {
    let session = Session::new(Arc::clone(&server));
    let watching = server.hub.watch({
        let (session, queue) = (Arc::downgrade(&session), queue.clone());
        move |change| {
            if let Some(notice) = session.upgrade().and_then(|session| session.notice(change)) {
                // A full pipe loses the notice: the client is not reading anyway.
                drop(queue.try_send(Item::Message(notice)));
            }
        }
    });
    let mut lines = Lines::new(stdin, server.options.max_message);
    let mut clock = interval(server.options.clock_period);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tasks = JoinSet::new();
    let peer = Pipe { server: Arc::clone(&server), session: Arc::clone(&session), queue };
    loop {
        tokio::select! {
            line = lines.next() => match line? {
                Some(line) => peer.take(&line, &mut tasks).await,
                None => break,
            },
            Some(_) = tasks.join_next() => (),
            _ = clock.tick() => server.tick(),
        }
    }
    drop(watching);
    server.stop();
    session.hang_up();
    // What is left after the grace is aborted when the set is dropped.
    drop(timeout(GRACE, async { while tasks.join_next().await.is_some() {} }).await);
    Ok(())
}

/// One request that has to run.
enum Work {
    Legacy(Request, Ticket),
    Modern(Request, Ticket, Envelope),
}

/// The client at the other end.
#[derive(Clone)]
struct Pipe {
    server: Arc<Server>,
    session: Arc<Session>,
    queue: mpsc::Sender<Item>,
}

impl Pipe {
    /// Acts on one line.
    async fn take(&self, line: &Line, tasks: &mut JoinSet<()>) {
        let parsed = match line {
            Line::TooLong => Err(RpcError::invalid_request("the message is too long").into()),
            Line::Message(bytes) if bytes.trim_ascii().is_empty() => return,
            Line::Message(bytes) => message::parse(bytes),
        };
        match parsed {
            Ok(Parsed::One(incoming)) => match self.begin(Ok(incoming)) {
                Some(Ok(work)) => {
                    let peer = self.clone();
                    tasks.spawn(async move {
                        if let Some(answer) = peer.run(work).await {
                            peer.send(answer).await;
                        }
                    });
                }
                Some(Err(answer)) => self.send(answer).await,
                None => (),
            },
            Ok(Parsed::Batch(batch)) => self.take_batch(batch, tasks).await,
            Err(refused) => self.send(refuse(&refused)).await,
        }
    }

    /// Acts on a batch, which only 2025-03-26 has. Its answers go back as one array.
    async fn take_batch(&self, batch: Vec<Result<Incoming, Malformed>>, tasks: &mut JoinSet<()>) {
        if !self.session.is_initialized() || self.session.version() != Version::V2025_03_26 {
            let error = RpcError::invalid_request("batches exist in 2025-03-26 only");
            return self.send(message::error(None, &error)).await;
        }
        let begun: Vec<_> = batch.into_iter().filter_map(|item| self.begin(item)).collect();
        let peer = self.clone();
        tasks.spawn(async move {
            let answers = begun.into_iter().map(|work| async {
                match work {
                    Ok(work) => peer.run(work).await,
                    Err(answer) => Some(answer),
                }
            });
            let answers: Vec<Bytes> = join_all(answers).await.into_iter().flatten().collect();
            if !answers.is_empty() {
                peer.send(message::array(&answers)).await;
            }
        });
    }

    /// Takes a message in: nothing more to do, an answer at once, or work.
    fn begin(&self, item: Result<Incoming, Malformed>) -> Option<Result<Work, Bytes>> {
        match item {
            Ok(Incoming::Request(request)) => Some(self.begin_request(request)),
            Ok(Incoming::Notification(notification)) => {
                self.session.notified(&notification);
                None
            }
            Ok(Incoming::Answer(answer)) => {
                self.session.answered(answer);
                None
            }
            Err(refused) => Some(Err(refuse(&refused))),
        }
    }

    fn begin_request(&self, request: Request) -> Result<Work, Bytes> {
        let refuse = |error| message::error(Some(&request.id), &error);
        if modern::named_version(&request.params).map_err(refuse)?.is_none() {
            return match self.session.begin(&request) {
                Begun::Answered(answer) => Err(answer),
                Begun::Running(ticket) => Ok(Work::Legacy(request, ticket)),
            };
        }
        let envelope = Envelope::parse(&request.params).map_err(refuse)?;
        if !modern::is_method(&request.method) {
            return Err(refuse(RpcError::method_not_found(&request.method)));
        }
        let ticket = self.session.calls.begin(&request.id).map_err(refuse)?;
        Ok(Work::Modern(request, ticket, envelope))
    }

    /// Runs one request to its answer; nothing if it was cancelled.
    async fn run(&self, work: Work) -> Option<Bytes> {
        let sink = Sink::Queue(self.queue.clone());
        match work {
            Work::Legacy(request, ticket) => {
                Arc::clone(&self.session).run(request, ticket, sink).await
            }
            Work::Modern(request, ticket, envelope) => {
                let run = modern::run(Arc::clone(&self.server), request, envelope, sink);
                ticket.run(run).await.map(|answered| answered.bytes)
            }
        }
    }

    async fn send(&self, bytes: Bytes) {
        // The receiver is gone only when the whole server is being dropped.
        drop(self.queue.send(Item::Message(bytes)).await);
    }
}

fn refuse(refused: &Malformed) -> Bytes {
    message::error(refused.id.as_ref(), &refused.error)
}

/// One line of input.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Message(Vec<u8>),
    /// Longer than the limit; its bytes are gone.
    TooLong,
}

/// Lines of bounded length.
struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    limit: usize,
    skipping: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(input: R, limit: usize) -> Self {
        Self { input: BufReader::new(input), line: Vec::new(), limit, skipping: false }
    }

    /// The next line, without its end; none after the last. A last line needs no newline.
    ///
    /// # Cancel safety
    ///
    /// What was read stays in the buffer; the next call goes on there.
    async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let bytes = self.input.fill_buf().await?;
            if bytes.is_empty() {
                return Ok((!self.line.is_empty() || self.skipping).then(|| self.take()));
            }
            let end = memchr::memchr(b'\n', bytes);
            let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
            if self.skipping || self.line.len() + part.len() > self.limit {
                self.skipping = true;
                self.line = Vec::new();
            } else {
                self.line.extend_from_slice(part);
            }
            let used = end.map_or(bytes.len(), |end| end + 1);
            self.input.consume(used);
            if end.is_some() {
                return Ok(Some(self.take()));
            }
        }
    }

    fn take(&mut self) -> Line {
        if std::mem::take(&mut self.skipping) {
            return Line::TooLong;
        }
        Line::Message(std::mem::take(&mut self.line))
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, Lines};

    #[tokio::test]
    async fn lines_are_cut_and_bounded() {
        let mut lines = Lines::new(&b"one\n\ntoo long a line\r\ntwo\nlast"[..], 8);
        let mut got = Vec::new();
        while let Some(line) = lines.next().await.expect("reading memory") {
            got.push(line);
        }
        let message = |text: &str| Line::Message(text.as_bytes().to_vec());
        let expected =
            [message("one"), message(""), Line::TooLong, message("two"), message("last")];
        assert_eq!(got, expected);
    }
}
