//! Which transport an HTTP server speaks, where the configuration leaves that to us.
//!
//! A client that meets an unknown server posts to it, and if that fails as it does at a server of
//! HTTP+SSE, opens a stream and waits for its first event (2025-11-25, "Backwards Compatibility").
//! The same is done here. An HTTP+SSE server has looked at nothing by then, so the message may be
//! sent again, in the other way. What a server was seen to speak is believed for a while, and no
//! longer than it holds: it is drawn from messages and streams alone, never from a server that is
//! down, overloaded, or wants to know who asks.
//!
//! A session stays with the transport that it was opened over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::StatusCode;
use tidegate_protocol::{Era, Kind as MessageKind};
use tidegate_service::{Body, Call, Error, Kind, Operation, Reply, Retry, Upstream};
use tidegate_upstream_http::{HttpUpstream, is_foreign};
use tidegate_upstream_sse::SseUpstream;
use tokio::time::Instant;
use tower::{Service, service_fn};

/// How long a server is believed to speak what it spoke. After that it may have learned the newer
/// transport, and be asked for it.
const BELIEVED_FOR: Duration = Duration::from_secs(5 * 60);
/// How long a server that opened no stream is not asked for one again for a modern caller.
const QUIET_FOR: Duration = Duration::from_secs(10);

/// A transport of HTTP servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// Streamable HTTP.
    Http,
    /// HTTP+SSE of 2024-11-05.
    Sse,
}

/// What a server was seen to speak, and until when that is believed.
#[derive(Debug)]
pub(crate) struct Verdict {
    start: Instant,
    /// The end of the belief in milliseconds, then whether it is [`Spoken::Sse`]; 0 is nothing.
    seen: AtomicU64,
    /// When a stream may be asked for again, in milliseconds.
    quiet_until: AtomicU64,
}

/// Both ends of a server that may speak either.
#[derive(Clone, Debug)]
pub(crate) struct Either {
    pub(crate) http: HttpUpstream,
    /// Over the connections of the other one.
    pub(crate) sse: SseUpstream,
    /// The endpoint's name in metrics.
    pub(crate) endpoint: Arc<str>,
    pub(crate) verdict: Arc<Verdict>,
}

/// What a call may go through, layers included.
struct Ways {
    http: Upstream,
    sse: Upstream,
    verdict: Arc<Verdict>,
}

impl Verdict {
    pub(crate) fn new(now: Instant) -> Self {
        Self { start: now, seen: AtomicU64::new(0), quiet_until: AtomicU64::new(0) }
    }

    /// What the server speaks, if that is known.
    pub(crate) fn spoken(&self, now: Instant) -> Option<Spoken> {
        let seen = self.seen.load(Relaxed);
        if seen == 0 || self.since_start(now) >= seen >> 1 {
            return None;
        }
        Some(if seen & 1 == 1 { Spoken::Sse } else { Spoken::Http })
    }

    /// The server has spoken. What is believed already does not get younger by that.
    fn saw(&self, spoken: Spoken, now: Instant) {
        if self.spoken(now) != Some(spoken) {
            let until = self.since_start(now + BELIEVED_FOR);
            self.seen.store((until << 1) | u64::from(spoken == Spoken::Sse), Relaxed);
            self.quiet_until.store(0, Relaxed);
        }
    }

    /// The server did not speak what it was believed to.
    fn forget(&self) {
        self.seen.store(0, Relaxed);
    }

    /// Whether it makes sense to ask for a stream.
    fn may_ask(&self, now: Instant) -> bool {
        self.since_start(now) >= self.quiet_until.load(Relaxed)
    }

    /// The server opened no stream.
    fn saw_no_stream(&self, now: Instant) {
        self.quiet_until.store(self.since_start(now + QUIET_FOR), Relaxed);
    }

    fn since_start(&self, now: Instant) -> u64 {
        let millis = now.saturating_duration_since(self.start).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX >> 1)
    }
}

impl Either {
    /// What its calls of one route go to: `http` and `sse` are the two ends with the layers of the
    /// route around them.
    pub(crate) fn upstream(&self, http: Upstream, sse: Upstream) -> Upstream {
        let ways = Ways { http, sse, verdict: Arc::clone(&self.verdict) };
        let (ways, holder) = (Arc::new(ways), self.sse.clone());
        let asking = Arc::clone(&ways);
        let ask = Upstream::new(service_fn(move |call| ask(Arc::clone(&asking), call)));
        Upstream::chosen(move |call| {
            let session = call.cx.session.as_ref().filter(|session| session.is_bound());
            let spoken = match session {
                Some(session) if holder.holds(session) => Some(Spoken::Sse),
                Some(_) => Some(Spoken::Http),
                None => ways.verdict.spoken(Instant::now()),
            };
            let is_open = session.is_none() && opens(call, spoken);
            Ok(match spoken {
                _ if is_open => &ask,
                Some(Spoken::Sse) => &ways.sse,
                Some(Spoken::Http) | None => &ways.http,
            }
            .clone())
        })
    }

    /// The end that speaks Streamable HTTP. It notices when the server no longer does.
    pub(crate) fn http_end(
        &self,
    ) -> impl Service<Call, Response = Reply, Error = Error, Future: Send> + Clone + Send + Sync + use<>
    {
        let (http, verdict) = (self.http.clone(), Arc::clone(&self.verdict));
        service_fn(move |call: Call| {
            let in_session =
                call.cx.session.as_ref().is_some_and(tidegate_service::Session::is_bound);
            let (answer, verdict) = (http.answer(call), Arc::clone(&verdict));
            async move {
                let answered = answer.await;
                if !in_session && is_wrong_way(&answered) {
                    verdict.forget();
                }
                answered
            }
        })
    }

    /// The end that speaks HTTP+SSE. While that is not known it has modern callers' word for nothing.
    pub(crate) fn sse_end(
        &self,
    ) -> impl Service<Call, Response = Reply, Error = Error, Future: Send> + Clone + Send + Sync + use<>
    {
        let (sse, verdict) = (self.sse.clone(), Arc::clone(&self.verdict));
        service_fn(move |call: Call| {
            let mut sse = sse.clone();
            let is_known = verdict.spoken(Instant::now()) == Some(Spoken::Sse);
            async move {
                match is_known {
                    true => sse.call(call).await,
                    false => sse.verified(call).await,
                }
            }
        })
    }
}

/// Whether it is open where a call goes that belongs to no session: one that begins a session
/// always is, since whoever begins can go either way; another is if nothing is known.
fn opens(call: &Call, spoken: Option<Spoken>) -> bool {
    let Operation::Send(message) = &call.operation else { return false };
    match call.cx.era {
        Era::Legacy => message.kind() == MessageKind::Request && message.is_method("initialize"),
        Era::Modern => spoken.is_none() && message.kind() == MessageKind::Request,
    }
}

/// Finds out, by the call itself.
async fn ask(ways: Arc<Ways>, call: Call) -> Result<Reply, Error> {
    let verdict = &ways.verdict;
    let again = call.clone();
    if verdict.spoken(Instant::now()) == Some(Spoken::Sse) {
        let answered = ways.sse.answer(call).await;
        let Err(error) = &answered else { return answered };
        verdict.forget();
        if !is_no_stream(error) {
            return answered;
        }
        let answered = ways.http.answer(again).await;
        learn(verdict, &answered);
        return answered;
    }
    let is_modern = call.cx.era == Era::Modern;
    let answered = ways.http.answer(call).await;
    learn(verdict, &answered);
    if !is_wrong_way(&answered) || is_modern && !verdict.may_ask(Instant::now()) {
        return answered;
    }
    match ways.sse.answer(again).await {
        Ok(reply) => {
            if !matches!(reply.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                verdict.saw(Spoken::Sse, Instant::now());
            }
            Ok(reply)
        }
        // What the server said first says more than that it has no stream either.
        Err(error) if error.retry == Retry::NotSent => {
            verdict.saw_no_stream(Instant::now());
            answered
        }
        Err(error) => Err(error),
    }
}

/// Whether the server answered as one of HTTP+SSE does, to which nothing can be posted at the URL of
/// its streams. One that takes no POST there at all may say so in any words; 400 and 404 have other
/// meanings where JSON-RPC explains them.
fn is_wrong_way(answered: &Result<Reply, Error>) -> bool {
    match answered {
        Ok(reply) => reply.status == StatusCode::METHOD_NOT_ALLOWED,
        Err(error) => is_foreign(error),
    }
}

/// Whether the server answered, but not with a stream that says where to post.
fn is_no_stream(error: &Error) -> bool {
    error.retry == Retry::NotSent && error.kind == Kind::Protocol
}

/// A message, or a success, is a word of Streamable HTTP.
fn learn(verdict: &Verdict, answered: &Result<Reply, Error>) {
    let Ok(reply) = answered else { return };
    let is_message = matches!(reply.body, Body::One(_)) && reply.status.is_client_error();
    if reply.status.is_success() || is_message && !is_wrong_way(answered) {
        verdict.saw(Spoken::Http, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{BELIEVED_FOR, QUIET_FOR, Spoken, Verdict};

    #[tokio::test]
    async fn a_verdict_ends_and_does_not_get_younger() {
        let start = Instant::now();
        let verdict = Verdict::new(start);
        assert_eq!(verdict.spoken(start), None);
        for spoken in [Spoken::Sse, Spoken::Http] {
            verdict.saw(spoken, start);
            assert_eq!(verdict.spoken(start), Some(spoken));
        }
        let last = start + BELIEVED_FOR - Duration::from_millis(1);
        verdict.saw(Spoken::Http, last);
        assert_eq!(verdict.spoken(last), Some(Spoken::Http));
        let end = start + BELIEVED_FOR;
        assert_eq!(verdict.spoken(end), None);
        verdict.saw(Spoken::Sse, end);
        assert_eq!(verdict.spoken(end + BELIEVED_FOR / 2), Some(Spoken::Sse));
        verdict.forget();
        assert_eq!(verdict.spoken(end), None);
    }

    #[tokio::test]
    async fn a_server_without_a_stream_is_left_alone_until_it_speaks_or_time_has_passed() {
        let start = Instant::now();
        let verdict = Verdict::new(start);
        assert!(verdict.may_ask(start));
        verdict.saw_no_stream(start);
        assert!(!verdict.may_ask(start + QUIET_FOR - Duration::from_millis(1)));
        assert!(verdict.may_ask(start + QUIET_FOR));
        verdict.saw(Spoken::Http, start);
        assert!(verdict.may_ask(start));
    }
}
