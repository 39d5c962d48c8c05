//! A response body as a stream of events.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use tidegate_http_client::{Attempt, Exchange, Fault, OpenStream};
use tidegate_protocol::sse;
use tidegate_service::{Error, Frame};

use crate::timed::Ends;

/// Events as the server framed them, each as soon as it is complete.
///
/// Ends properly only if the body did. Dropping it closes the connection at once.
pub(crate) struct Events {
    /// `None` after the end.
    exchange: Option<Exchange>,
    decoder: sse::Decoder,
    max_event: usize,
    attempt: Attempt,
    upstream: Arc<str>,
    /// `None` after the end.
    open: Option<OpenStream>,
}

impl Events {
    pub(crate) fn new(
        exchange: Exchange,
        max_event: usize,
        attempt: Attempt,
        upstream: Arc<str>,
        open: OpenStream,
    ) -> Self {
        let decoder = sse::Decoder::new(max_event);
        Self { exchange: Some(exchange), decoder, max_event, attempt, upstream, open: Some(open) }
    }

    /// Goes on with the body of another exchange. What was left of an event is forgotten.
    pub(crate) fn go_on(&mut self, exchange: Exchange, attempt: Attempt) {
        self.exchange = Some(exchange);
        self.decoder = sse::Decoder::new(self.max_event);
        self.attempt = attempt;
    }

    /// From now on nothing may come for this long at most.
    pub(crate) const fn limit_pauses(&mut self, limit: Duration) {
        if let Some(exchange) = &mut self.exchange {
            exchange.limit_pauses(limit);
        }
    }

    /// The exchange is over, as [`Events::poll_block`] has said.
    pub(crate) fn close(&mut self, fault: Option<&Fault>) {
        match fault {
            Some(fault) => self.attempt.failed(fault.verdict().0),
            None => self.attempt.answered(),
        }
        if let Some(exchange) = self.exchange.take() {
            exchange.discard();
        }
    }

    /// There will be no more events.
    pub(crate) fn over(&mut self) {
        self.open = None;
    }

    pub(crate) fn poll_block(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<sse::Block, Fault>>> {
        let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
        loop {
            if let Some(block) = self.decoder.next().map_err(Fault::EventTooLarge).transpose() {
                return Poll::Ready(Some(block));
            }
            match exchange.poll_data(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(data))) => self.decoder.push(data),
                Poll::Ready(Some(Err(fault))) => return Poll::Ready(Some(Err(fault))),
                Poll::Ready(None) => return Poll::Ready(self.finish()),
            }
        }
    }

    /// The body has ended properly; whether the events have as well.
    fn finish(&mut self) -> Option<Result<sse::Block, Fault>> {
        let decoder = std::mem::replace(&mut self.decoder, sse::Decoder::new(0));
        if let Some(exchange) = self.exchange.take() {
            exchange.finish();
        }
        let cut = decoder.finish().is_some_and(|rest| !rest.trim_ascii().is_empty());
        cut.then_some(Err(Fault::CutEvent))
    }
}

impl Ends for Events {
    fn end(&mut self, fault: &Fault) {
        self.over();
        self.close(Some(fault));
    }
}

impl Stream for Events {
    type Item = Result<Frame, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Poll::Ready(block) = self.poll_block(cx) else { return Poll::Pending };
        Poll::Ready(match block {
            Some(Ok(block)) => Some(Ok(Frame::Block(block))),
            end => {
                let fault = end.and_then(Result::err);
                self.over();
                self.close(fault.as_ref());
                fault.map(|fault| Err(fault.at(&self.upstream)))
            }
        })
    }
}
