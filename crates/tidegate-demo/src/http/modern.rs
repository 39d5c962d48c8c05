//! The HTTP side of 2026-07-28: one POST, one call, nothing kept.
//!
//! The call is polled by its own response and lives exactly as long: when the client hangs up,
//! the response is dropped and the call with it.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Response, StatusCode};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    http::{
        mirror,
        reply::{self, Body},
    },
    message::{Request, RpcError},
    modern::{self, Answered, Envelope},
    server::Server,
    sink::{Item, Sink},
};

/// How many messages of one call wait for its connection.
const QUEUE: usize = 64;

/// Answers one request whose body names the version `named`.
pub(crate) async fn post(
    server: &Arc<Server>,
    headers: &HeaderMap,
    request: Request,
    named: &str,
) -> Response<Body> {
    let envelope = match admit(server, headers, &request, named) {
        Ok(envelope) => envelope,
        Err(error) => {
            // What is refused before it runs is refused as malformed, unknown methods aside.
            let status = status(error.code).unwrap_or(StatusCode::BAD_REQUEST);
            return reply::json(status, Answered::refused(Some(&request.id), &error).bytes);
        }
    };
    let mut exchange = Exchange::start(Arc::clone(server), request, envelope);
    let first = match exchange.next().await {
        Some(Step::Answer(answered)) => {
            let status = answered.code.and_then(status).unwrap_or(StatusCode::OK);
            return reply::json(status, answered.bytes);
        }
        Some(Step::Message(message)) => Some(reply::event(None, &message)),
        Some(Step::Open) | None => None,
    };
    let rest = stream::unfold(exchange, |mut exchange| async move {
        let event = match timeout(reply::silence(), exchange.next()).await {
            Err(_) => reply::keep_alive(),
            Ok(None) => return None,
            Ok(Some(Step::Open)) => Bytes::new(),
            Ok(Some(Step::Message(message))) => reply::event(None, &message),
            Ok(Some(Step::Answer(answered))) => reply::event(None, &answered.bytes),
        };
        Some((event, exchange))
    });
    reply::stream(stream::iter(first).chain(rest).filter(|event| {
        let keep = !event.is_empty();
        async move { keep }
    }))
}

/// Checks a request before it runs, in the order that leaves the most telling error.
fn admit(
    server: &Server,
    headers: &HeaderMap,
    request: &Request,
    named: &str,
) -> Result<Envelope, RpcError> {
    mirror::check_version(headers, named)?;
    let envelope = Envelope::parse(&request.params)?;
    mirror::check_method(headers, &request.method)?;
    if !modern::is_method(&request.method) {
        return Err(RpcError::method_not_found(&request.method));
    }
    mirror::check_params(server, headers, request)?;
    Ok(envelope)
}

/// The status that an error code prescribes.
fn status(code: i64) -> Option<StatusCode> {
    match code {
        RpcError::METHOD_NOT_FOUND => Some(StatusCode::NOT_FOUND),
        RpcError::HEADER_MISMATCH
        | RpcError::MISSING_CAPABILITY
        | RpcError::UNSUPPORTED_VERSION => Some(StatusCode::BAD_REQUEST),
        _ => None,
    }
}

/// One thing that a call sends.
enum Step {
    Open,
    Message(Bytes),
    Answer(Answered),
}

type Work = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// A running call and what it has sent.
struct Exchange {
    work: Option<Work>,
    items: mpsc::Receiver<Item>,
    answer: Option<Answered>,
}

impl Exchange {
    fn start(server: Arc<Server>, request: Request, envelope: Envelope) -> Self {
        let (queue, items) = mpsc::channel(QUEUE);
        let work = Box::pin(modern::run(server, request, envelope, Sink::Queue(queue)));
        Self { work: Some(work), items, answer: None }
    }

    /// Drives the call to its next step; nothing after the answer.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses nothing.
    async fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(work) = &mut self.work {
                tokio::select! {
                    biased;
                    Some(item) = self.items.recv() => match item {
                        Item::Open => return Some(Step::Open),
                        Item::Message(bytes) => return Some(Step::Message(bytes)),
                        // There is no coming back in this era.
                        Item::Break => continue,
                    },
                    answered = work => self.answer = Some(answered),
                }
                self.work = None;
            }
            // The answer goes out behind everything that the call sent before it.
            match self.items.try_recv() {
                Ok(Item::Message(bytes)) => return Some(Step::Message(bytes)),
                Ok(_) => (),
                Err(_) => return self.answer.take().map(Step::Answer),
            }
        }
    }
}
