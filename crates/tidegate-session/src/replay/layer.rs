//! The layer: gives the streams of one route our ids, and clients what they missed.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tidegate_protocol::{Era, Id, Kind as MessageKind, Version, header::LAST_EVENT_ID};
use tidegate_service::{Body, Call, Error, EventStream, Operation, Reply, Session};
use tokio::time::{Sleep, sleep};
use tower::{Layer, Service, ServiceExt as _};

use super::{
    Account, ReplayParams,
    id::EventId,
    journal::Journal,
    reader::Reader,
    source::{Head, Source, Stage},
};

/// Puts replay in front of one upstream. It must stand behind session resolution.
#[derive(Clone, Debug)]
pub struct ReplayLayer {
    account: Account,
    params: ReplayParams,
}

/// A service whose streams can be resumed.
#[derive(Clone, Debug)]
pub struct Replay<S> {
    inner: S,
    account: Account,
    params: ReplayParams,
}

impl ReplayLayer {
    /// Makes the layer; its logs are paid for by `account`.
    pub fn new(account: &Account, params: ReplayParams) -> Self {
        Self { account: account.clone(), params }
    }
}

impl<S> Layer<S> for ReplayLayer {
    type Service = Replay<S>;

    fn layer(&self, inner: S) -> Replay<S> {
        Replay { inner, account: self.account.clone(), params: self.params }
    }
}

/// What the layer needs to know to keep the streams of one session.
#[derive(Clone)]
struct Keeping {
    session: Session,
    journal: Arc<Journal>,
    params: ReplayParams,
    /// Whether the client knows the event that only carries an id.
    primes: bool,
}

impl<S> Service<Call> for Replay<S>
where
    S: Service<Call, Response = Reply, Error = Error> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Reply;
    type Error = Error;
    type Future = Replaying<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Some(keeping) = self.keeping(&call) else {
            return Replaying::Passed { reply: self.inner.call(call) };
        };
        match &call.operation {
            Operation::Send(message) => {
                let asked = message.id().filter(|_| message.kind() == MessageKind::Request);
                // A large request must not live as long as the log of its answer.
                let asked = asked.map(|id| if message.len() > 4096 { id.detach() } else { id });
                if asked.is_none() {
                    return Replaying::Passed { reply: self.inner.call(call) };
                }
                Replaying::Called {
                    prime: keeping.primes.then(|| sleep(self.params.prime_after)),
                    head: Some((Box::pin(self.inner.call(call)), keeping, asked)),
                }
            }
            Operation::Listen { last_event_id } => {
                let cursor = last_event_id.as_ref().and_then(EventId::parse);
                // The one that is ready is called, and its clone takes its place.
                let clone = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, clone);
                let reply: Head = match cursor {
                    Some(cursor) => Box::pin(keeping.resume(inner, call, cursor)),
                    None => Box::pin(keeping.listen(inner, call)),
                };
                Replaying::Listening { reply }
            }
            Operation::EndSession => Replaying::Passed { reply: self.inner.call(call) },
        }
    }
}

impl<S> Replay<S> {
    /// `None` for calls whose streams nobody can resume. Members of a batch are among them: their
    /// streams become one, which no single id can stand for.
    fn keeping(&self, call: &Call) -> Option<Keeping> {
        let session = call.cx.session.as_ref()?;
        let version = session.version()?;
        if call.cx.era != Era::Legacy || call.cx.batched || version < Version::V2025_03_26 {
            return None;
        }
        Some(Keeping {
            session: session.clone(),
            journal: Journal::of(session, &self.account)?,
            params: self.params,
            primes: version >= Version::V2025_11_25,
        })
    }
}

impl Keeping {
    /// A new stream, read from its beginning.
    fn begin(self, asked: Option<Id>, stage: Stage) -> EventStream {
        let source = Source { asked, stage };
        let line = self.journal.open(source, self.primes, &self.params);
        EventStream::new(Reader::first(line, self.session))
    }

    /// The reply has begun; if it is a stream, it is kept.
    fn begun(self, asked: Option<Id>, reply: Reply) -> Reply {
        if !reply.status.is_success() {
            return reply;
        }
        reply.map_stream(|frames| self.begin(asked, Stage::Frames(frames)))
    }

    /// What the server says unasked. An id of somebody else's is for the server.
    async fn listen<S>(self, mut inner: S, call: Call) -> Result<Reply, Error>
    where
        S: Service<Call, Response = Reply, Error = Error>,
    {
        Ok(self.begun(None, inner.call(call).await?))
    }

    /// What followed on `cursor`, and then what comes.
    async fn resume<S>(self, inner: S, mut call: Call, cursor: EventId) -> Result<Reply, Error>
    where
        S: Service<Call, Response = Reply, Error = Error>,
    {
        let line = self.journal.find(cursor)?;
        let reader = Reader::resumed(line, self.session, cursor.event)?;
        if let Some(last_event_id) = reader.wanted() {
            // Ours means nothing to the server.
            call.cx.headers.remove(LAST_EVENT_ID);
            call.operation = Operation::Listen { last_event_id };
            let frames = match inner.oneshot(call).await?.body {
                Body::Stream(frames) => Some(frames),
                Body::Empty | Body::One(_) => None,
            };
            if frames.as_ref().is_some_and(|frames| frames.missed() > 0) {
                return Err(reader.skip());
            }
            reader.attach(frames);
        }
        let is_answer = reader.is_answer();
        let frames = EventStream::new(reader);
        Ok(Reply::stream(if is_answer { frames.answering() } else { frames }))
    }
}

pin_project! {
    /// The reply of a [`Replay`].
    #[project = Projected]
    #[expect(missing_docs, reason = "an unnamed future would cost each call an allocation")]
    pub enum Replaying<F> {
        /// Nothing that could be resumed.
        Passed {
            #[pin]
            reply: F,
        },
        /// A request. If its answer takes long, the client is given an id to come back with.
        Called {
            head: Option<(Head, Keeping, Option<Id>)>,
            #[pin]
            prime: Option<Sleep>,
        },
        /// A GET.
        Listening { reply: Head },
    }
}

impl<F: Future<Output = Result<Reply, Error>>> Future for Replaying<F> {
    type Output = Result<Reply, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Projected::Passed { reply } => reply.poll(cx),
            Projected::Listening { reply } => reply.as_mut().poll(cx),
            Projected::Called { head, prime } => {
                if let Some((reply, ..)) = head
                    && let Poll::Ready(reply) = reply.as_mut().poll(cx)
                {
                    let kept = head.take();
                    return Poll::Ready(match (reply, kept) {
                        (Ok(reply), Some((_, keeping, asked))) => Ok(keeping.begun(asked, reply)),
                        (reply, _) => reply,
                    });
                }
                let Some(prime) = prime.as_pin_mut() else { return Poll::Pending };
                ready!(prime.poll(cx));
                match head.take() {
                    Some((reply, keeping, asked)) => {
                        let stream = keeping.begin(asked, Stage::Head(reply));
                        Poll::Ready(Ok(Reply::stream(stream)))
                    }
                    // Polled after its end.
                    None => Poll::Pending,
                }
            }
        }
    }
}

impl<F> fmt::Debug for Replaying<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replaying").finish_non_exhaustive()
    }
}
