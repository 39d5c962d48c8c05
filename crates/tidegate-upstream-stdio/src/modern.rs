//! Modern calls: one process for everybody, started when it is first needed.
//!
//! Before a process serves anybody it is asked whether it is modern at all ([`verdict`]). One that
//! is not is stopped, and the verdict is kept for a while: modern requests are then told which
//! versions to use instead, so that their clients fall back to `initialize`.

mod greeting;
mod listens;
mod mirrored;
mod verdict;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode};
use tidegate_protocol::{Envelope, Kind as MessageKind, Refusal, rpc};
use tidegate_service::{Body, Cx, Error, Kind, Operation, Origin, Reply, Retry};
use tokio::time::Instant;

use self::{greeting::Discovery, mirrored::Mirrored, verdict::supported_list};
use crate::{
    child::Child,
    exchange::{Caller, Exchange, Patience},
    host::Host,
    legacy::try_next,
    single::{Found, Single},
    spares::Spares,
};

/// The server is asked for its tools no more often than this.
const RELEARN_AFTER: Duration = Duration::from_secs(1);

/// The server as modern clients see it.
#[derive(Debug)]
pub(crate) struct Modern(Arc<Single<Discovery>>);

/// What is known of the server's tools.
#[derive(Debug)]
pub(crate) struct Known {
    mirrored: Arc<Mirrored>,
    /// These are all its tools: it listed them, to the end, when it was asked last.
    complete: bool,
    /// When it was asked last.
    at: Instant,
}

impl Modern {
    pub(crate) fn new(spares: Arc<Spares>) -> Self {
        let discovery = Discovery::new(Arc::clone(&spares.host.params));
        Self(Arc::new(Single::new(spares, discovery)))
    }

    /// Forgets a process that is gone.
    pub(crate) fn tidy(&self) {
        self.0.tidy();
    }

    fn host(&self) -> &Host {
        self.0.host()
    }

    /// Serves one operation of a modern client.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        operation: Operation,
        cx: Cx,
    ) -> Result<Reply, Error> {
        let refuse =
            |kind, message| Err(Error::refused(kind, message).at(&self.host().params.name));
        match operation {
            Operation::Send(message) => match message.kind() {
                MessageKind::Request => self.call(message, cx).await,
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

    async fn call(self: &Arc<Self>, request: Envelope, cx: Cx) -> Result<Reply, Error> {
        let Some(client_id) = request.id() else { return Ok(Reply::accepted()) };
        let timeouts = cx.timeouts.as_deref();
        let patience = Patience::with_call(&self.host().params, timeouts, cx.deadline);
        let Cx { headers, slow, .. } = cx;
        let caller = Caller::modern(client_id, slow);
        if request.is_method("subscriptions/listen") {
            return listens::lasting(self, request, caller, patience).await;
        }
        // Once for all rounds, however many processes go before one takes the call.
        let until = patience.until(Instant::now());
        loop {
            let (child, known) = match self.0.find(until).await? {
                Found::Ready(child, known) => (child, known),
                Found::Unfit(supported) => return Ok(decline(&request, &supported)),
            };
            if let Some(refusal) = self.check(&child, known, &headers, &request).await? {
                return Ok(refuse(&request, &refusal));
            }
            match Exchange::start(child, &request, caller.clone(), patience).await {
                Ok(exchange) => {
                    // From here on the message is with the process.
                    drop(request);
                    return exchange.reply().await;
                }
                Err(refused) => try_next(refused, self.host())?,
            }
        }
    }

    /// Checks the headers of a tool call against its arguments. What is known of the tools may be
    /// out of date, so a call is refused only by what the server says now, or by what it said last
    /// if it says nothing now.
    ///
    /// # Errors
    /// When there is nothing to check by.
    async fn check(
        &self,
        child: &Arc<Child>,
        mut known: Arc<Known>,
        headers: &HeaderMap,
        request: &Envelope,
    ) -> Result<Option<Refusal>, Error> {
        if !request.is_method("tools/call") {
            return Ok(None);
        }
        let mut checked = known.check(headers, request);
        // Not too often, so that calls of tools that do not exist cost the server no more than that.
        if !matches!(checked, Checked::True) && known.at.elapsed() >= RELEARN_AFTER {
            known = self.relearn(child).await;
            checked = known.check(headers, request);
        }
        match checked {
            Checked::True | Checked::NoTool => Ok(None),
            Checked::False(refusal) => Ok(Some(refusal)),
            // It takes no call, which will go to the next one and be checked there.
            Checked::Unlisted if !child.is_up() => Ok(None),
            Checked::Unlisted => {
                let message = "the server did not list its tools, \
                               so that the headers of the call cannot be checked";
                let error = Error::new(Kind::Protocol, Origin::Upstream, Retry::NotSent, message);
                Err(error.at(&self.host().params.name))
            }
        }
    }

    /// Asks for the tools again and notes them for all.
    async fn relearn(&self, child: &Arc<Child>) -> Arc<Known> {
        let known = Arc::new(self.0.greeting.learn(child).await);
        self.0.note(child, Arc::clone(&known));
        known
    }

    /// Modern clients have nothing to notify a server of, and over HTTP not even a cancellation,
    /// since another client may have made that up.
    fn notify(&self, note: &Envelope) {
        if note.is_method("notifications/cancelled") {
            return;
        }
        if let Some((child, _)) = self.0.up() {
            child.change(|state, fx| {
                if state.queue.has_room(note.len()) {
                    fx.lines.push(note.bytes().clone());
                }
            });
        }
    }
}

/// What the headers of a tool call are, by what is known of the tools.
enum Checked {
    True,
    False(Refusal),
    /// There is no such tool, as the server will say itself.
    NoTool,
    /// Nobody knows what the tool wants repeated.
    Unlisted,
}

impl Known {
    fn check(&self, headers: &HeaderMap, call: &Envelope) -> Checked {
        match self.mirrored.check(headers, call) {
            Some(Ok(())) => Checked::True,
            Some(Err(refusal)) => Checked::False(refusal),
            None if self.complete => Checked::NoTool,
            None => Checked::Unlisted,
        }
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
