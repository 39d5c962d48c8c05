//! One start of the shared process: wait, spawn, ask, publish.

use std::{borrow::Cow, sync::Arc, time::Duration};

use tidegate_protocol::{Envelope, Era, Id};
use tidegate_service::{Error, Kind, Origin, Retry};
use tokio::time::{self, Instant};
use tracing::{debug, info};

use super::{
    Known, Phase, Share, VERDICT_LASTS,
    mirrored::Mirrored,
    verdict::{Verdict, judge, legacy_versions, listing, question},
};
use crate::{
    child::Child,
    demux::Mode,
    exchange::{Exchange, Patience, Received},
    session::Lease,
};

/// The longest that a server may think about `server/discover`; those that do not know it often
/// say nothing at all.
const LONGEST_PROBE: Duration = Duration::from_secs(10);

/// The longest that a server may think about its tools, and the most pages of them.
const LONGEST_LISTING: Duration = Duration::from_secs(5);
const MAX_PAGES: usize = 64;

/// Why a start failed, for everybody who waited for it.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    kind: Kind,
    origin: Origin,
    message: Cow<'static, str>,
}

/// A start that is under way. Dropped before it is settled, it has failed.
struct Attempt<'a> {
    share: &'a Share,
    number: u64,
    settled: bool,
}

impl Share {
    /// Starts a process and finds out what it is.
    pub(super) async fn start(&self, number: u64) {
        let attempt = Attempt { share: self, number, settled: false };
        let delay = self.state.borrow().backoff.delay();
        let closing = self.host.closing.cancelled();
        if time::timeout(delay, closing).await.is_ok() {
            return attempt.settle(Phase::Failed(Failure::draining()));
        }
        let over = self.host.closing.child_token();
        match self.host.spawn(Mode::Shared, over) {
            Ok(child) => {
                let phase = self.probe(Lease::new(child)).await;
                attempt.settle(phase);
            }
            Err(error) => {
                let error = error.into_error(&self.host.params.name);
                debug!(error = %error.chain(), "no shared process");
                attempt.settle(Phase::Failed(Failure::from(&error)));
            }
        }
    }

    async fn probe(&self, lease: Lease) -> Phase {
        let verdict = match question() {
            Some(question) => self.ask(lease.child(), &question).await,
            None => Verdict::Legacy(legacy_versions()),
        };
        let now = Instant::now();
        match verdict {
            _ if self.host.closing.is_cancelled() => Phase::Failed(Failure::draining()),
            Verdict::Modern => {
                let known = Arc::new(self.learn(lease.child()).await);
                Phase::Up { lease, since: now, known }
            }
            Verdict::Legacy(supported) => {
                let name = &self.host.params.name;
                info!(upstream = %name, ?supported, "the server is not a modern one");
                Phase::Legacy { supported: supported.into(), until: now + VERDICT_LASTS }
            }
        }
    }

    /// What the server's tools want repeated in headers. A server that does not say has no such
    /// tools.
    pub(super) async fn learn(&self, child: &Arc<Child>) -> Known {
        let mut mirrored = Mirrored::default();
        let until = Instant::now() + self.host.params.start_timeout.min(LONGEST_LISTING);
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let Some(request) = listing(cursor.as_deref()) else { break };
            let Some(answer) = self.answer(child, &request, until).await else { break };
            cursor = answer.result().and_then(|result| mirrored.learn(result));
            if cursor.is_none() {
                break;
            }
        }
        Known { mirrored, at: Instant::now() }
    }

    /// The answer to a request of our own.
    async fn answer(
        &self,
        child: &Arc<Child>,
        request: &Envelope,
        until: Instant,
    ) -> Option<Envelope> {
        let silence = until.saturating_duration_since(Instant::now());
        let patience = Patience { silence, deadline: Some(until) };
        let id = Id::from_u64(0);
        let asked = Exchange::start(Arc::clone(child), request, id, Era::Modern, patience).await;
        match asked.ok()?.first().await? {
            Ok(Received::Answer(answer)) => Some(answer),
            Ok(Received::Message(_)) | Err(_) => None,
        }
    }

    async fn ask(&self, child: &Arc<Child>, question: &Envelope) -> Verdict {
        let until = Instant::now() + self.host.params.start_timeout.min(LONGEST_PROBE);
        // Silence and death are how servers of the other era receive it.
        let answer = self.answer(child, question, until).await;
        answer.map_or_else(|| Verdict::Legacy(legacy_versions()), |answer| judge(&answer))
    }
}

impl Attempt<'_> {
    fn settle(mut self, phase: Phase) {
        self.publish(phase);
    }

    fn publish(&mut self, phase: Phase) {
        self.settled = true;
        self.share.state.send_if_modified(|state| {
            if state.attempt != self.number {
                return false;
            }
            if matches!(phase, Phase::Failed(_)) {
                state.backoff.failed();
            }
            state.phase = phase;
            true
        });
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.publish(Phase::Failed(Failure {
                kind: Kind::Internal,
                origin: Origin::Gateway,
                message: "the start of the server process was given up".into(),
            }));
        }
    }
}

impl Failure {
    pub(super) fn draining() -> Self {
        Self {
            kind: Kind::Draining,
            origin: Origin::Gateway,
            message: "the proxy is shutting down".into(),
        }
    }

    fn from(error: &Error) -> Self {
        let message = Cow::Owned(error.message().to_owned());
        Self { kind: error.kind, origin: error.origin, message }
    }

    pub(super) fn error(self, upstream: &Arc<str>) -> Error {
        Error::new(self.kind, self.origin, Retry::NotSent, self.message).at(upstream)
    }
}
