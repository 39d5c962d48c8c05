//! Modern calls: one process for everybody, started when it is first needed.
//!
//! Before a process serves anybody it is asked whether it is modern at all ([`verdict`]). One that
//! is not is stopped, and the verdict is kept for a while: modern requests are then told which
//! versions to use instead, so that their clients fall back to `initialize`.

mod backoff;
mod mirrored;
mod start;
mod verdict;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, StatusCode};
use tidegate_protocol::{Envelope, Era, Kind as MessageKind, Refusal, rpc};
use tidegate_service::{Body, Cx, Error, Kind, OnError, Operation, Origin, Reply, Retry};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use self::{backoff::Backoff, mirrored::Mirrored, start::Failure, verdict::supported_list};
use crate::{
    child::{Child, Host, Refused},
    exchange::{Exchange, Patience, waited},
    session::{Lease, explain},
};

/// How long a server is taken for a legacy one after it has behaved like one.
const VERDICT_LASTS: Duration = Duration::from_secs(600);

/// The server is asked for its tools no more often than this.
const RELEARN_AFTER: Duration = Duration::from_secs(1);

/// The one process that modern calls share, or what is known about why there is none.
#[derive(Debug)]
pub(crate) struct Share {
    host: Arc<Host>,
    state: watch::Sender<State>,
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the last start.
    attempt: u64,
    backoff: Backoff,
    phase: Phase,
}

#[derive(Debug, Default)]
enum Phase {
    /// Nothing was tried, or the last try failed.
    #[default]
    Down,
    Failed(Failure),
    Starting,
    Up {
        lease: Lease,
        since: Instant,
        known: Arc<Known>,
    },
    Legacy {
        supported: Arc<[String]>,
        until: Instant,
    },
}

/// What is known of the server's tools, and since when.
#[derive(Debug)]
struct Known {
    mirrored: Mirrored,
    at: Instant,
}

/// What a modern call finds.
enum Found {
    Modern(Arc<Child>, Arc<Known>),
    Legacy(Arc<[String]>),
}

/// What a caller does next.
enum Next {
    Use(Found),
    Fail(Failure),
    Wait(u64),
    Start(u64),
}

/// A caller who waits for a start; counted so that their number is bounded.
struct Waiting<'a>(&'a AtomicUsize);

impl Share {
    pub(crate) fn new(host: Arc<Host>) -> Self {
        Self { host, state: watch::Sender::default(), waiting: AtomicUsize::new(0) }
    }

    /// Serves one operation of a modern client.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        operation: Operation,
        cx: Cx,
    ) -> Result<Reply, Error> {
        let refuse = |kind, message| Err(Error::refused(kind, message).at(&self.host.params.name));
        match operation {
            Operation::Send(message) => match message.kind() {
                MessageKind::Request => self.call(message, &cx.headers, cx.deadline).await,
                MessageKind::Notification => {
                    self.notify(&message);
                    Ok(Reply::accepted())
                }
                MessageKind::Response | MessageKind::Error => {
                    refuse(Kind::BadRequest, "a modern client has nothing to answer")
                }
            },
            Operation::Listen { .. } | Operation::EndSession => {
                refuse(Kind::Unsupported, "modern servers have no sessions")
            }
        }
    }

    async fn call(
        self: &Arc<Self>,
        request: Envelope,
        headers: &HeaderMap,
        deadline: Option<Instant>,
    ) -> Result<Reply, Error> {
        let Some(client_id) = request.id() else { return Ok(Reply::accepted()) };
        let patience = Patience { silence: self.host.params.request_timeout, deadline };
        let until = patience.until(Instant::now());
        loop {
            let (child, known) = match self.find(until).await? {
                Found::Modern(child, known) => (child, known),
                Found::Legacy(supported) => return Ok(decline(&request, &supported)),
            };
            if let Err(refusal) = self.check(&child, known, headers, &request).await {
                return Ok(refuse(&request, &refusal));
            }
            let id = client_id.clone();
            match Exchange::start(child, &request, id, Era::Modern, patience).await {
                Ok(exchange) => {
                    // From here on the message is with the process.
                    drop(request);
                    return exchange.reply().await;
                }
                // It ended before it took the call, which therefore may go to the next process.
                Err(Refused::Gone) if !self.host.closing.is_cancelled() => (),
                Err(Refused::Gone) => return Err(self.draining()),
                Err(refused) => return Err(explain(refused, &self.host)),
            }
        }
    }

    /// Checks the headers of a tool call against its arguments. What is known of the tools may be
    /// out of date, so a call is refused only by what the server says now.
    async fn check(
        &self,
        child: &Arc<Child>,
        known: Arc<Known>,
        headers: &HeaderMap,
        request: &Envelope,
    ) -> Result<(), Refusal> {
        if request.method().as_deref() != Some("tools/call") {
            return Ok(());
        }
        match known.mirrored.check(headers, request) {
            Ok(()) if known.mirrored.knows(request) => Ok(()),
            // So that calls of tools that do not exist cost the server no more than that.
            checked if known.at.elapsed() < RELEARN_AFTER => checked,
            Ok(()) | Err(_) => self.relearn(child).await.mirrored.check(headers, request),
        }
    }

    /// Asks for the tools again and notes them for all.
    async fn relearn(&self, child: &Arc<Child>) -> Arc<Known> {
        let learned = Arc::new(self.learn(child).await);
        self.state.send_if_modified(|state| {
            if let Phase::Up { lease, known, .. } = &mut state.phase
                && Arc::ptr_eq(lease.child(), child)
            {
                *known = Arc::clone(&learned);
            }
            // Nobody waits for this.
            false
        });
        learned
    }

    /// Modern clients have nothing to notify a server of, and over HTTP not even a cancellation,
    /// since another client may have made that up.
    fn notify(&self, note: &Envelope) {
        if note.method().as_deref() == Some("notifications/cancelled") {
            return;
        }
        let state = self.state.borrow();
        if let Phase::Up { lease, .. } = &state.phase {
            lease.child().change(|state, fx| {
                if state.queue.has_room(note.len()) {
                    fx.lines.push(note.bytes().clone());
                }
            });
        }
    }

    /// The process, once it is up, or the verdict that there will be none.
    async fn find(self: &Arc<Self>, until: Instant) -> Result<Found, Error> {
        if let Phase::Up { lease, known, .. } = &self.state.borrow().phase
            && lease.child().is_up()
        {
            return Ok(Found::Modern(Arc::clone(lease.child()), Arc::clone(known)));
        }
        let name = &self.host.params.name;
        let began = Instant::now();
        let _waiting = Waiting::start(self)?;
        let mut changes = self.state.subscribe();
        let mut joined = None;
        loop {
            changes.mark_unchanged();
            match self.next(joined) {
                Next::Use(found) => return Ok(found),
                Next::Fail(failure) => return Err(failure.error(name)),
                Next::Wait(attempt) => joined = Some(attempt),
                Next::Start(attempt) => {
                    joined = Some(attempt);
                    let share = Arc::clone(self);
                    self.host.tasks.spawn("stdio start", OnError::Log, async move {
                        share.start(attempt).await;
                        Ok(())
                    });
                }
            }
            if timeout_at(until, changes.changed()).await.is_err() {
                let message = waited(Instant::now() - began, "for the server process to start");
                let retry = Retry::NotSent;
                return Err(Error::new(Kind::Timeout, Origin::Upstream, retry, message).at(name));
            }
        }
    }

    /// Decides what a caller does, and notes if it is to start a process.
    fn next(&self, joined: Option<u64>) -> Next {
        if self.host.closing.is_cancelled() {
            return Next::Fail(Failure::draining());
        }
        let now = Instant::now();
        let mut next = None;
        self.state.send_if_modified(|state| {
            let answer = match &state.phase {
                Phase::Up { lease, known, .. } if lease.child().is_up() => {
                    let found = Found::Modern(Arc::clone(lease.child()), Arc::clone(known));
                    Some(Next::Use(found))
                }
                Phase::Legacy { supported, until } if now < *until => {
                    Some(Next::Use(Found::Legacy(Arc::clone(supported))))
                }
                Phase::Failed(failure) if joined == Some(state.attempt) => {
                    Some(Next::Fail(failure.clone()))
                }
                Phase::Starting => Some(Next::Wait(state.attempt)),
                Phase::Up { since, .. } => {
                    state.backoff.ended(now - *since);
                    None
                }
                Phase::Legacy { .. } | Phase::Failed(_) | Phase::Down => None,
            };
            let starts = answer.is_none();
            next = Some(answer.unwrap_or_else(|| {
                state.attempt += 1;
                state.phase = Phase::Starting;
                Next::Start(state.attempt)
            }));
            starts
        });
        // The closure always runs and always answers.
        next.unwrap_or(Next::Wait(0))
    }

    fn draining(&self) -> Error {
        Failure::draining().error(&self.host.params.name)
    }
}

impl<'a> Waiting<'a> {
    fn start(share: &'a Share) -> Result<Self, Error> {
        let waiting = Self(&share.waiting);
        let limit = share.host.params.max_in_flight;
        if waiting.0.fetch_add(1, Ordering::Relaxed) >= limit {
            // The drop takes it back.
            return Err(explain(Refused::Full, &share.host));
        }
        Ok(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The answer to a request whose headers lie.
fn refuse(request: &Envelope, refusal: &Refusal) -> Reply {
    let body = Envelope::parse(refusal.body(request.id().as_ref()));
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    Reply::with(status, body.map_or(Body::Empty, Body::One))
}

/// The answer to a modern request for a legacy server.
fn decline(request: &Envelope, supported: &[String]) -> Reply {
    let requested = request.meta_version().unwrap_or_default();
    let data = format!(
        r#"{{"supported":{},"requested":{}}}"#,
        supported_list(supported),
        rpc::quote(&requested)
    );
    let code = rpc::code::UNSUPPORTED_VERSION;
    let message = "the server speaks earlier protocol versions only";
    let body = rpc::error(request.id().as_ref(), code, message, Some(&data));
    let body = Envelope::parse(body).map_or(Body::Empty, Body::One);
    Reply::with(StatusCode::BAD_REQUEST, body)
}
