//! The service as others see it: set up, call, look at, stop.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use http::{HeaderMap, StatusCode, Uri};
use tidegate_http_client::{Client, Params, SetupError, Wait};
use tidegate_protocol::{Envelope, Era, Kind as MessageKind, Version, rpc};
use tidegate_service::{
    Body, Call, Cx, Error, EventStream, Frame, Kind, Operation, Origin, Reply, Retry, Session,
    Tasks, Timeouts,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::{
    demux::Unopened,
    exchange::Exchange,
    opening::{self, Opened},
    stats::{Counters, Stats},
    wire::{Talk, Wire},
};

/// An MCP server over HTTP+SSE (2024-11-05). Clones share its connections.
#[derive(Clone)]
pub struct SseUpstream(Arc<Core>);

/// What all clones of an upstream share.
pub(crate) struct Core {
    pub(crate) client: Client,
    /// Where streams are opened.
    pub(crate) url: Uri,
    pub(crate) counters: Arc<Counters>,
    pub(crate) timeouts: Timeouts,
    pub(crate) max_response: usize,
    pub(crate) tasks: Tasks,
    pub(crate) stopped: CancellationToken,
}

/// A session's GET stream.
struct Unasked {
    talk: Arc<Talk>,
    key: u64,
}

impl SseUpstream {
    /// Sets an upstream up; the URL is where its streams are opened. No connection is made before
    /// the first session, unless some are to be kept ready.
    ///
    /// One task for each session reads its stream, and one looks after connections that nobody uses;
    /// all of them run under `tasks`.
    ///
    /// # Errors
    ///
    /// [`SetupError`] says which parameter cannot work.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(params: Params, tasks: Tasks) -> Result<Self, SetupError> {
        Ok(Self(Arc::new(Core {
            client: Client::new(&params, tasks.clone())?,
            url: params.url,
            counters: Arc::default(),
            timeouts: params.timeouts,
            max_response: params.max_response,
            tasks,
            stopped: CancellationToken::new(),
        })))
    }

    /// What the upstream has open and has done.
    pub fn stats(&self) -> Stats {
        self.0.counters.snapshot(self.0.client.stats())
    }

    /// Ends every stream, and every session with it, refuses calls from now on, and waits until all
    /// connections are free.
    ///
    /// # Cancel safety
    ///
    /// The refusal stands even if the wait is dropped; waiting again resumes it.
    pub async fn stop(&self) {
        self.0.stopped.cancel();
        self.0.client.stop().await;
    }
}

impl Service<Call> for SseUpstream {
    type Response = Reply;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let core = Arc::clone(&self.0);
        Box::pin(async move { core.serve(call).await })
    }
}

impl Core {
    async fn serve(self: Arc<Self>, call: Call) -> Result<Reply, Error> {
        let Call { operation, cx } = call;
        if cx.era == Era::Modern {
            return self.decline(&operation);
        }
        let Some(session) = cx.session.clone() else {
            let message = "the request names no session";
            return Err(self.refused(Kind::SessionMissing, message));
        };
        match operation {
            Operation::Send(message) if is_initialize(&message) => {
                self.initialize(message, &session, cx).await
            }
            Operation::Send(message) => {
                let talk = self.talk(&session)?;
                self.send(talk, message, cx).await
            }
            Operation::Listen { .. } => {
                let talk = self.talk(&session)?;
                let opened = talk.change(|demux, _| demux.listen());
                let unasked = EventStream::new(Unasked { talk, key: opened.key });
                Ok(Reply::stream(unasked.after_missing(opened.missed)))
            }
            Operation::EndSession => {
                self.talk(&session)?;
                session.end();
                Ok(Reply::with(StatusCode::OK, Body::Empty))
            }
        }
    }

    /// Opens a stream for the session and sends the handshake.
    async fn initialize(
        self: &Arc<Self>,
        request: Envelope,
        session: &Session,
        cx: Cx,
    ) -> Result<Reply, Error> {
        if self.stopped.is_cancelled() {
            return Err(Error::new(Kind::Draining, Origin::Gateway, Retry::NotSent, STOPPING)
                .at(self.client.name()));
        }
        if session.is_ended() {
            return Err(self.refused(Kind::SessionUnknown, "the session has ended"));
        }
        if session.is_bound() {
            return Err(self.refused(Kind::BadRequest, INITIALIZED));
        }
        let headers = cx.headers.clone();
        let wait = Wait::of(&cx);
        let opened = Box::pin(opening::open(self, headers.clone(), wait)).await?;
        let (inflow, post_to) = match opened {
            Opened::Stream(inflow, post_to) => (inflow, post_to),
            Opened::Refused(status, headers) => {
                return Ok(Reply { status, headers, body: Body::Empty });
            }
        };
        let wire =
            Arc::new(Wire::start(self, inflow, post_to, headers, (session, cx.slow.clone())));
        let reply = self.send(Arc::clone(wire.talk()), request, cx).await?;
        let agreed = matches!(&reply.body, Body::One(one) if one.kind() == MessageKind::Response);
        // Without an agreement there is no session; the stream goes with the wire.
        if agreed && !session.bind(wire) {
            return Err(self.refused(Kind::BadRequest, INITIALIZED));
        }
        Ok(reply)
    }

    async fn send(&self, talk: Arc<Talk>, message: Envelope, cx: Cx) -> Result<Reply, Error> {
        let wait = Wait::of(&cx);
        let headers = cx.headers;
        let id = message.id().filter(|_| message.kind() == MessageKind::Request);
        let Some(id) = id else { return self.note(talk, message, headers, wait).await };
        let opened = talk.change(|demux, _| demux.open(&message, &id, Instant::now()));
        opened.map_err(|why| self.unopened(why))?;
        let is_handshake = is_initialize(&message);
        let id = id.detach();
        let limits = *wait.timeouts.as_deref().unwrap_or(&self.timeouts);
        let deadline = wait.deadline;
        let post = Arc::clone(&talk).post(headers, message.into_bytes(), wait);
        let name = Arc::clone(self.client.name());
        let post = Box::pin(async move { post.await.map_err(|fault| fault.at(&name)) });
        Exchange::new(talk, id, is_handshake, post, limits, deadline).reply().await
    }

    /// Sends what has no answer.
    async fn note(
        &self,
        talk: Arc<Talk>,
        message: Envelope,
        headers: HeaderMap,
        wait: Wait,
    ) -> Result<Reply, Error> {
        match message.kind() {
            MessageKind::Response | MessageKind::Error => {
                let now = Instant::now();
                if !talk.change(|demux, _| demux.client_answers(&message, now)) {
                    return Ok(Reply::accepted());
                }
            }
            MessageKind::Notification
                if message.method().as_deref() == Some("notifications/cancelled") =>
            {
                talk.change(|demux, fx| demux.client_cancels(&message, fx));
            }
            MessageKind::Notification | MessageKind::Request => (),
        }
        let posted = talk.post(headers, message.into_bytes(), wait).await;
        posted.map(|()| Reply::accepted()).map_err(|fault| fault.at(self.client.name()))
    }

    /// The conversation of a session that is alive.
    fn talk(&self, session: &Session) -> Result<Arc<Talk>, Error> {
        let wire = session.binding::<Wire>().filter(|_| !session.is_ended());
        let talk = wire.map(|wire| Arc::clone(wire.talk()));
        talk.ok_or_else(|| {
            self.refused(Kind::SessionUnknown, "the session has ended or is not known")
        })
    }

    /// The server knows nothing of the modern era.
    fn decline(&self, operation: &Operation) -> Result<Reply, Error> {
        let Operation::Send(request) = operation else {
            return Err(self.refused(Kind::Unsupported, "the server has no such operation"));
        };
        let Some(id) = request.id().filter(|_| request.kind() == MessageKind::Request) else {
            return Ok(Reply::accepted());
        };
        let legacy = Version::ALL.into_iter().rev().filter(|version| version.era() == Era::Legacy);
        let supported: Vec<String> = legacy.map(|version| rpc::quote(version.as_str())).collect();
        let requested = rpc::quote(&request.meta_version().unwrap_or_default());
        let data = format!(r#"{{"supported":[{}],"requested":{requested}}}"#, supported.join(","));
        let message = "the server speaks earlier protocol versions only";
        let body = rpc::error(Some(&id), rpc::code::UNSUPPORTED_VERSION, message, Some(&data));
        let body = Envelope::parse(body).map_or(Body::Empty, Body::One);
        Ok(Reply::with(StatusCode::BAD_REQUEST, body))
    }

    fn unopened(&self, why: Unopened) -> Error {
        match why {
            Unopened::SameId => {
                let message = "a request with this id is under way already in this session";
                self.refused(Kind::BadRequest, message)
            }
            Unopened::Full => {
                let message = "the client has too many requests under way already";
                Error::new(Kind::Overloaded, Origin::Gateway, Retry::NotSent, message)
                    .at(self.client.name())
            }
            Unopened::Over => self.refused(Kind::SessionUnknown, "the session has ended"),
        }
    }

    fn refused(&self, kind: Kind, message: &'static str) -> Error {
        Error::refused(kind, message).at(self.client.name())
    }
}

const STOPPING: &str = "the upstream is shutting down";
const INITIALIZED: &str = "the session is initialized already";

fn is_initialize(message: &Envelope) -> bool {
    message.kind() == MessageKind::Request && message.method().as_deref() == Some("initialize")
}

impl Stream for Unasked {
    type Item = Result<Frame, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.talk.change(|demux, _| demux.poll_listener(self.key, cx));
        next.map(|next| {
            next.map(|next| match next {
                Ok(message) => Ok(Frame::Message(message)),
                Err(why) => Err(why.error().at(self.talk.core().client.name())),
            })
        })
    }
}

impl Drop for Unasked {
    fn drop(&mut self) {
        self.talk.change(|demux, fx| demux.unlisten(self.key, fx));
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.stopped.cancel();
    }
}

impl fmt::Debug for SseUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseUpstream").field("name", self.0.client.name()).finish_non_exhaustive()
    }
}
