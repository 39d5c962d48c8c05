//! A session's stream, and the conversation on it.
//!
//! One task reads the stream, because the answers to many calls come on it, and because its end must
//! be noticed, and the session with it, while nobody is calling. The task ends with whichever ends
//! first: the stream, the session, the upstream.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use parking_lot::Mutex;
use tidegate_http_client::{
    Attempt, Errand, Fault, Lane, Wait,
    answer::{self, Asked},
    headers::Purpose,
};
use tidegate_protocol::{Bytes, Envelope, Id, rpc, sse};
use tidegate_service::{OnError, Session, slow::SlowClients};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    demux::{Demux, Effects},
    opening::Inflow,
    stats::Lasting,
    upstream::Core,
};

/// How long something may wait without a reader, where requests have no limit.
const UNREAD: Duration = Duration::from_secs(300);

/// The most messages of our own that wait to be posted; more are dropped.
const MAX_SAYINGS: usize = 256;
/// How many of them are posted at once.
const AT_ONCE: usize = 8;

/// What a session holds. Its drop ends the stream.
#[derive(Debug)]
pub(crate) struct Wire {
    talk: Arc<Talk>,
    closed: CancellationToken,
}

/// The conversation, shared by the task that reads, the calls and the GET streams.
pub(crate) struct Talk {
    core: Arc<Core>,
    /// The request target for messages.
    post_to: Uri,
    /// Those of the client's `initialize`, for what we say ourselves.
    headers: HeaderMap,
    demux: Mutex<Demux>,
    /// What we have to say ourselves.
    sayings: Mutex<Vec<Bytes>>,
    /// There is something to say, something has begun to wait, or the stream can be read again.
    changed: Notify,
    /// The session's end.
    ended: CancellationToken,
}

impl Wire {
    /// Starts reading.
    pub(crate) fn start(
        core: &Arc<Core>,
        inflow: Inflow,
        post_to: Uri,
        headers: HeaderMap,
        (session, slow): (&Session, Option<Arc<SlowClients>>),
    ) -> Self {
        let patience = core.timeouts.request.unwrap_or(UNREAD);
        let mut demux = Demux::new(Arc::clone(&core.counters), patience);
        demux.treat(slow);
        let talk = Arc::new(Talk {
            core: Arc::clone(core),
            post_to,
            headers,
            demux: Mutex::new(demux),
            sayings: Mutex::default(),
            changed: Notify::new(),
            ended: session.ended().clone(),
        });
        let closed = CancellationToken::new();
        let read = read(Arc::clone(&talk), inflow, closed.clone());
        core.tasks.spawn("upstream-sse-stream", OnError::Log, async move {
            read.await;
            Ok(())
        });
        Self { talk, closed }
    }

    pub(crate) const fn talk(&self) -> &Arc<Talk> {
        &self.talk
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl Talk {
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Changes the state and carries out what follows.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Demux, &mut Effects) -> T) -> T {
        let mut fx = Effects::default();
        let mut demux = self.demux.lock();
        let is_due = demux.due().is_some();
        let changed = change(&mut demux, &mut fx);
        let begins_to_wait = !is_due && demux.due().is_some();
        let resumes = demux.resumes();
        if resumes {
            // Until now the server could not be heard.
            demux.touch(Instant::now());
        }
        drop(demux);
        for waker in fx.wake {
            waker.wake();
        }
        for id in fx.refuse {
            let message = "no client took the request in time";
            self.say(rpc::error(Some(&id), rpc::code::INTERNAL_ERROR, message, None));
        }
        for id in fx.take_back {
            self.take_back(&id, "its client did not read");
        }
        if begins_to_wait || resumes {
            self.changed.notify_one();
        }
        changed
    }

    /// Tells the server that nobody waits for an answer any more.
    pub(crate) fn take_back(&self, id: &Id, reason: &str) {
        let id = String::from_utf8_lossy(id.token());
        let params = format!(r#"{{"requestId":{id},"reason":"{reason}"}}"#);
        self.say(rpc::notification("notifications/cancelled", &params));
    }

    /// Has a message of our own posted.
    pub(crate) fn say(&self, message: Bytes) {
        let mut sayings = self.sayings.lock();
        if sayings.len() < MAX_SAYINGS {
            sayings.push(message);
            drop(sayings);
            self.changed.notify_one();
        }
    }

    /// Posts a message of the client. Success means that the server has taken it.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes the connection it was using; the message may have arrived.
    pub(crate) async fn post(
        self: Arc<Self>,
        mut headers: HeaderMap,
        message: Bytes,
        wait: Wait,
    ) -> Result<(), Fault> {
        let client = &self.core.client;
        client.always().add_to(&mut headers, Purpose::Send, None);
        let mut request = Request::new(Full::new(message));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.post_to.clone();
        *request.headers_mut() = headers;
        let mut attempt = Attempt::new(Arc::clone(client.counters()));
        let mut errand = Errand { request: Some(request), lane: Lane::Calls, wait };
        let posted = match client.send(&mut errand).await {
            Err(fault) => Err(fault),
            Ok((head, exchange)) => match answer::plan(head.status, &head.headers, Asked::Post) {
                Err(fault) => {
                    exchange.discard();
                    Err(fault)
                }
                Ok(_) if head.status.is_success() => exchange.skip().await,
                Ok(_) => {
                    exchange.skip_now();
                    Err(match head.status {
                        StatusCode::NOT_FOUND => Fault::SessionGone,
                        status => Fault::Bare(status),
                    })
                }
            },
        };
        match &posted {
            Ok(()) => attempt.answered(),
            Err(fault) => attempt.failed(fault.verdict().0),
        }
        if matches!(posted, Err(Fault::SessionGone)) {
            self.ended.cancel();
        }
        posted
    }

    fn receive(&self, block: sse::Block) {
        if block.event.is_some_and(|name| name != "message") {
            return;
        }
        let Some(data) = block.data.filter(|data| !data.is_empty()) else { return };
        match Envelope::parse(data) {
            Ok(message) => {
                self.change(|demux, fx| demux.receive(message, Instant::now(), fx));
            }
            Err(error) => {
                debug!(upstream = %self.core.client.name(), %error, "an event that is no message");
                if let Some(id) = &error.id {
                    self.change(|demux, fx| demux.receive_broken(id, fx));
                }
            }
        }
    }

    fn to_say(&self, at_most: usize) -> Vec<Bytes> {
        let mut sayings = self.sayings.lock();
        let count = at_most.min(sayings.len());
        sayings.drain(..count).collect()
    }
}

async fn read(talk: Arc<Talk>, mut inflow: Inflow, closed: CancellationToken) {
    let _open = Lasting::new(&talk.core.counters, |counters| &counters.streams);
    let stopping = talk.core.tasks.stopping().clone();
    let mut posts = FuturesUnordered::new();
    loop {
        let (due, pauses) = {
            let mut demux = talk.demux.lock();
            (demux.due(), demux.pauses())
        };
        tokio::select! {
            block = inflow.next(), if !pauses => match block {
                Ok(Some(block)) => talk.receive(block),
                Ok(None) => break,
                Err(fault) => {
                    debug!(upstream = %talk.core.client.name(), ?fault, "a session's stream broke");
                    break;
                }
            },
            () = talk.changed.notified() => (),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                talk.change(|demux, fx| demux.expire(Instant::now(), fx));
            }
            Some(posted) = posts.next(), if !posts.is_empty() => {
                let posted: Result<(), Fault> = posted;
                if let Err(fault) = posted {
                    debug!(upstream = %talk.core.client.name(), ?fault, "not said");
                }
            }
            () = closed.cancelled() => break,
            () = talk.ended.cancelled() => break,
            () = talk.core.stopped.cancelled() => break,
            () = stopping.cancelled() => break,
        }
        for message in talk.to_say(AT_ONCE.saturating_sub(posts.len())) {
            posts.push(Arc::clone(&talk).post(talk.headers.clone(), message, Wait::default()));
        }
    }
    inflow.close();
    talk.change(Demux::die);
    // The stream is the session: there is nothing to go on with.
    talk.ended.cancel();
}

impl fmt::Debug for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Talk").field("upstream", self.core.client.name()).finish_non_exhaustive()
    }
}
