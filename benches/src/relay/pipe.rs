//! HTTP to pipe: hyper's server in front of one child that all connections share.
//!
//! Request ids are replaced by numbers of the relay's own and put back on the way out; whatever
//! is queued for the child when its pipe can take more goes out in one write.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    ffi::OsString,
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    rc::Rc,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, unix::pipe},
    sync::{mpsc, oneshot},
};

use crate::{serve, wire};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const QUEUE: usize = 1024;
const READ_SIZE: usize = 64 * 1024;

/// Starts `command` and relays to it until the process ends; `ready` is told the bound address.
///
/// There is one child and therefore one worker.
///
/// # Errors
///
/// When the port cannot be bound or the child cannot be started.
pub fn run(
    address: SocketAddr,
    command: Vec<OsString>,
    ready: impl FnOnce(SocketAddr),
) -> io::Result<()> {
    serve::run(
        address,
        1,
        move |_, tracker| {
            let (program, arguments) =
                command.split_first().ok_or_else(|| io::Error::other("no command"))?;
            let mut child = Command::new(program)
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let (stdin, stdout) = pipes(&mut child)?;
            let (lines, queue) = mpsc::channel(QUEUE);
            let shared = Rc::new(Pending::default());
            tracker.spawn_local(write(queue, stdin));
            tracker.spawn_local(read(Rc::clone(&shared), stdout));
            Ok(Shared { lines, pending: shared, _child: child })
        },
        |shared, _, stream| connection(shared, stream),
        ready,
    )
}

fn pipes(child: &mut Child) -> io::Result<(pipe::Sender, pipe::Receiver)> {
    let missing = || io::Error::other("the child has no pipes");
    let stdin = OwnedFd::from(child.stdin.take().ok_or_else(missing)?);
    let stdout = OwnedFd::from(child.stdout.take().ok_or_else(missing)?);
    Ok((pipe::Sender::from_owned_fd(stdin)?, pipe::Receiver::from_owned_fd(stdout)?))
}

struct Shared {
    lines: mpsc::Sender<Vec<u8>>,
    pending: Rc<Pending>,
    _child: Child,
}

#[derive(Default)]
struct Pending {
    next: Cell<u64>,
    waiting: RefCell<HashMap<u64, oneshot::Sender<Answer>>>,
}

/// A line from the child, cut where its id stood.
struct Answer {
    before: Vec<u8>,
    after: Vec<u8>,
}

/// Only the id is looked at; `RawValue` keeps its place and its exact spelling.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
}

/// Where the id stands in a message, and how it is spelled.
struct Id<'a> {
    before: &'a [u8],
    text: &'a str,
    after: &'a [u8],
}

impl<'a> Id<'a> {
    fn find(message: &'a [u8]) -> Option<Self> {
        let head: Head<'a> = serde_json::from_slice(message).ok()?;
        let text = head.id?.get();
        // The raw value borrows from the message, so the difference is its offset.
        let start = (text.as_ptr() as usize).checked_sub(message.as_ptr() as usize)?;
        let (before, rest) = message.split_at_checked(start)?;
        Some(Self { before, text, after: rest.get(text.len()..)? })
    }
}

async fn connection(shared: Rc<Shared>, stream: TcpStream) {
    let service = service_fn(|request| exchange(&shared, request));
    // A client that goes away mid-request has nobody left to tell.
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn exchange(
    shared: &Shared,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    if request.method() != Method::POST {
        return Ok(status(StatusCode::METHOD_NOT_ALLOWED));
    }
    let body = request.into_body().collect().await?.to_bytes();
    let Some(id) = Id::find(&body) else {
        let mut line = body.to_vec();
        line.push(b'\n');
        let sent = shared.lines.send(line).await;
        return Ok(status(sent.map_or(StatusCode::BAD_GATEWAY, |()| StatusCode::ACCEPTED)));
    };
    let number = shared.pending.next.get();
    shared.pending.next.set(number + 1);
    let mut line = Vec::with_capacity(body.len() + 16);
    line.extend_from_slice(id.before);
    wire::write_number(&mut line, number);
    line.extend_from_slice(id.after);
    line.push(b'\n');
    let (answered, answer) = oneshot::channel();
    shared.pending.waiting.borrow_mut().insert(number, answered);
    if shared.lines.send(line).await.is_err() {
        return Ok(status(StatusCode::BAD_GATEWAY));
    }
    let Ok(answer) = answer.await else { return Ok(status(StatusCode::BAD_GATEWAY)) };
    let mut out = answer.before;
    out.extend_from_slice(id.text.as_bytes());
    out.extend_from_slice(&answer.after);
    let mut response = Response::new(Full::new(Bytes::from(out)));
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    Ok(response)
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}

async fn write(mut queue: mpsc::Receiver<Vec<u8>>, mut stdin: pipe::Sender) {
    let mut lines = Vec::new();
    let mut out = Vec::new();
    while queue.recv_many(&mut lines, QUEUE).await > 0 {
        out.clear();
        lines.drain(..).for_each(|line| out.extend_from_slice(&line));
        if stdin.write_all(&out).await.is_err() {
            return;
        }
    }
}

async fn read(pending: Rc<Pending>, mut stdout: pipe::Receiver) {
    let mut buffer = Vec::with_capacity(READ_SIZE);
    while let Ok(1..) = stdout.read_buf(&mut buffer).await {
        let mut done = 0;
        for end in memchr::memchr_iter(b'\n', &buffer) {
            let line = buffer.get(done..end).unwrap_or_default();
            done = end + 1;
            let Some(id) = Id::find(line) else { continue };
            let Ok(number) = id.text.parse::<u64>() else { continue };
            if let Some(waiting) = pending.waiting.borrow_mut().remove(&number) {
                let mut before = Vec::with_capacity(line.len() + id.text.len());
                before.extend_from_slice(id.before);
                // The client may have gone; then nobody wants the answer.
                waiting.send(Answer { before, after: id.after.to_vec() }).ok();
            }
        }
        buffer.drain(..done);
        buffer.reserve(READ_SIZE.saturating_sub(buffer.len()));
    }
    // The child has gone: dropping the senders tells everyone who still waits.
    pending.waiting.borrow_mut().clear();
}
