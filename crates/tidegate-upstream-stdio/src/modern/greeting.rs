//! What a process is asked before it serves modern calls: whether it is modern at all, and what its
//! tools want repeated in headers.

use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_protocol::{Envelope, Id, rpc};
use tidegate_service::Error;
use tokio::time::{Duration, Instant};
use tracing::info;

use super::{
    Known,
    mirrored::Mirrored,
    verdict::{Verdict, judge, legacy_versions, listing, question},
};
use crate::{
    child::Child,
    demux::Mode,
    exchange::{Caller, Exchange, Patience, Received},
    legacy::{gone, unstarted},
    params::Params,
    single::{Greeted, Greeting},
};

/// The longest that a server may think about `server/discover`; those that do not know it often
/// say nothing at all.
const LONGEST_PROBE: Duration = Duration::from_secs(10);

/// The longest that a server may think about its tools, and the most pages of them.
const LONGEST_LISTING: Duration = Duration::from_secs(5);
const MAX_PAGES: usize = 64;

/// How long a server is taken for a legacy one after it has behaved like one.
const VERDICT_LASTS: Duration = Duration::from_secs(600);

/// The questions, and what the server said last.
#[derive(Debug)]
pub(crate) struct Discovery {
    params: Arc<Params>,
    /// The tools that it listed last, whichever process was asked.
    tools: Mutex<Arc<Mirrored>>,
}

impl Discovery {
    pub(super) fn new(params: Arc<Params>) -> Self {
        Self { params, tools: Mutex::default() }
    }

    /// Asks what the server's tools want repeated in headers. Where it does not say, what it said
    /// last holds.
    pub(super) async fn learn(&self, child: &Arc<Child>) -> Known {
        let listed = self.list(child).await;
        let at = Instant::now();
        let mut last = self.tools.lock();
        let complete = match listed {
            Some((mirrored, complete)) => {
                *last = Arc::new(mirrored);
                complete
            }
            None => false,
        };
        Known { mirrored: Arc::clone(&last), complete, at }
    }

    /// The tools, and whether these are all.
    async fn list(&self, child: &Arc<Child>) -> Option<(Mirrored, bool)> {
        let mut mirrored = Mirrored::default();
        let until = Instant::now() + self.params.start_timeout.min(LONGEST_LISTING);
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let request = listing(cursor.as_deref())?;
            let answer = answer_to(child, &request, until).await?.ok()?;
            match (answer.result(), answer.error_code()) {
                (Some(page), _) => cursor = mirrored.learn(page),
                // A server without tools.
                (None, Some(rpc::code::METHOD_NOT_FOUND)) if cursor.is_none() => (),
                (None, _) => return None,
            }
            if cursor.is_none() {
                return Some((mirrored, true));
            }
        }
        Some((mirrored, false))
    }

    async fn ask(&self, child: &Arc<Child>) -> Result<Verdict, Error> {
        let Some(question) = question() else { return Ok(Verdict::Legacy(legacy_versions())) };
        let until = Instant::now() + self.params.start_timeout.min(LONGEST_PROBE);
        match answer_to(child, &question, until).await {
            Some(Ok(answer)) => Ok(judge(&answer)),
            Some(Err(error)) if child.host.is_modern() => {
                child.blame();
                Err(unstarted(error, child))
            }
            // It was gone before it could be asked.
            None if child.host.is_modern() => {
                child.blame();
                Err(unstarted(gone(), child))
            }
            Some(Err(_)) | None => Ok(Verdict::Legacy(legacy_versions())),
        }
    }
}

impl Greeting for Discovery {
    type Facts = Arc<Known>;
    /// The versions it speaks instead.
    type Unfit = Arc<[String]>;
    const MODE: Mode = Mode::Modern;

    async fn greet(&self, child: &Arc<Child>) -> Greeted<Arc<Known>, Arc<[String]>> {
        match self.ask(child).await {
            Ok(Verdict::Modern) => {
                child.host.found_modern();
                child.answered();
                Greeted::Ready(Arc::new(self.learn(child).await))
            }
            Ok(Verdict::Legacy(supported)) => {
                let name = &self.params.name;
                info!(upstream = %name, ?supported, "the server is not a modern one");
                Greeted::Unfit(supported.into(), VERDICT_LASTS)
            }
            Err(error) => Greeted::Failed(error),
        }
    }
}

/// The answer to a request of our own; `None` if the process would not take it, or talks of
/// something else first.
async fn answer_to(
    child: &Arc<Child>,
    request: &Envelope,
    until: Instant,
) -> Option<Result<Envelope, Error>> {
    let silence = until.saturating_duration_since(Instant::now());
    let patience = Patience::with_silence(silence, Some(until));
    let caller = Caller::modern(Id::from_u64(0), None).uncounted();
    let asked = Exchange::start(Arc::clone(child), request, caller, patience).await;
    match asked.ok()?.first().await? {
        Ok(Received::Answer(answer)) => Some(Ok(answer)),
        Ok(Received::Message(_)) => None,
        Err(error) => Some(Err(error)),
    }
}
