//! Opening a session's stream: a GET, and its first event.

use std::{future::poll_fn, time::Duration};

use http::{HeaderMap, Method, Request, StatusCode, Uri};
use tidegate_http_client::{
    Attempt, Errand, Exchange, Fault, Lane, Wait,
    answer::{self, Asked, Plan},
    headers::{Purpose, end_to_end},
};
use tidegate_protocol::sse;
use tidegate_service::{Error, Kind, Origin, Retry};
use tokio::time::{Instant, timeout_at};

use crate::{
    endpoint::{self, Unfit},
    upstream::Core,
};

/// How long a server may take to open a stream and to say where to post.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of an attempt to open a stream.
#[expect(clippy::large_enum_variant, reason = "lives for one match")]
pub(crate) enum Opened {
    Stream(Inflow, Uri),
    /// What the client should see as it is: it may have to authenticate.
    Refused(StatusCode, HeaderMap),
}

/// What comes from the server.
pub(crate) struct Inflow {
    exchange: Exchange,
    decoder: sse::Decoder,
}

/// Opens a stream and waits for its first event.
///
/// # Cancel safety
///
/// Dropped, it closes the connection.
pub(crate) async fn open(core: &Core, mut headers: HeaderMap, wait: Wait) -> Result<Opened, Error> {
    let timeouts = wait.timeouts.as_deref().unwrap_or(&core.timeouts);
    let patience = timeouts.request.map_or(PATIENCE, |request| PATIENCE.min(request));
    let due = Instant::now() + patience;
    let due = wait.deadline.map_or(due, |deadline| deadline.min(due));
    core.client.always().add_to(&mut headers, Purpose::Listen(None), None);
    let mut attempt = Attempt::new(core.client.counters().clone());
    let opened = match timeout_at(due, within(core, headers, wait)).await {
        Ok(opened) => opened,
        Err(_elapsed) => {
            let message = format!("waited {patience:?} for the server to say where to post");
            Err(Error::new(Kind::Timeout, Origin::Upstream, Retry::NotSent, message)
                .at(core.client.name()))
        }
    };
    match &opened {
        Ok(_) => attempt.answered(),
        Err(error) => attempt.failed(error.kind),
    }
    // Whatever went wrong, the client's message has not been sent yet.
    opened.map_err(|mut error| {
        error.retry = Retry::NotSent;
        error
    })
}

async fn within(core: &Core, headers: HeaderMap, wait: Wait) -> Result<Opened, Error> {
    let name = core.client.name();
    let mut request = Request::new(Default::default());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = core.client.target().path.clone();
    *request.headers_mut() = headers;
    let mut errand = Errand { request: Some(request), lane: Lane::Streams, wait };
    let (head, exchange) = core.client.send(&mut errand).await.map_err(|fault| fault.at(name))?;
    match answer::plan(head.status, &head.headers, Asked::Listen) {
        Ok(Plan::Events) => (),
        Ok(_) => {
            exchange.skip_now();
            answer::bare(head.status, Asked::Listen, false)
                .map_err(|fault| not_served(fault).at(name))?;
            return Ok(Opened::Refused(head.status, end_to_end(head.headers)));
        }
        Err(fault) => {
            exchange.discard();
            return Err(fault.at(name));
        }
    }
    // The caller's patience is about its call, not about the stream.
    let mut inflow = Inflow::new(exchange.without_limits(), core.max_response);
    loop {
        let block = match inflow.next().await {
            Ok(Some(block)) => block,
            Ok(None) => return Err(Fault::Cut(None).at(name)),
            Err(fault) => return Err(fault.at(name)),
        };
        if block.event.as_deref() != Some(b"endpoint") {
            continue;
        }
        let data = block.data.unwrap_or_default();
        let reference = std::str::from_utf8(&data).unwrap_or_default();
        return match endpoint::resolve(&core.url, reference) {
            Ok(post_to) => Ok(Opened::Stream(inflow, post_to)),
            Err(unfit) => {
                let message = match unfit {
                    Unfit::Malformed => "the server did not say where to post",
                    Unfit::OtherOrigin => "the server wants messages posted to another origin",
                };
                Err(Error::new(Kind::Protocol, Origin::Upstream, Retry::NotSent, message).at(name))
            }
        };
    }
}

/// For a server that has no such stream there is no session at all.
fn not_served(fault: Fault) -> Fault {
    match fault {
        Fault::Unsupported => Fault::ContentType,
        other => other,
    }
}

impl Inflow {
    fn new(exchange: Exchange, max_event: usize) -> Self {
        Self { exchange, decoder: sse::Decoder::new(max_event) }
    }

    /// The next event; `None` at the end.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if it is dropped; it can be asked again.
    pub(crate) async fn next(&mut self) -> Result<Option<sse::Block>, Fault> {
        loop {
            if let Some(block) = self.decoder.next().map_err(Fault::EventTooLarge)? {
                return Ok(Some(block));
            }
            match poll_fn(|cx| self.exchange.poll_data(cx)).await {
                Some(data) => self.decoder.push(data?),
                None => return Ok(None),
            }
        }
    }

    /// Closes the connection.
    pub(crate) fn close(self) {
        self.exchange.discard();
    }
}
