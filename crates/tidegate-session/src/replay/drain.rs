//! Reading a stream whose client has left, so that it finds the rest in the log.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use tidegate_service::SessionUse;
use tokio::time::{self, Instant};

use super::{
    journal::DrainPlace,
    line::{Line, Seen},
};

/// How many events are taken before others may run.
const STRETCH: usize = 64;

/// The reader in place of the client. Dropped before the end of the stream, it ends it.
#[derive(Debug)]
pub(super) struct Drain {
    line: Arc<Line>,
    turn: u64,
    until: Instant,
    _place: DrainPlace,
    _in_use: SessionUse,
}

impl Drain {
    /// A reader whose turn it is, until the client has been away for too long.
    pub(super) fn new(
        (line, turn): (Arc<Line>, u64),
        until: Instant,
        place: DrainPlace,
        in_use: SessionUse,
    ) -> Self {
        Self { line, turn, until, _place: place, _in_use: in_use }
    }

    /// Reads until the stream or the session ends, or somebody takes the stream over, or it is too
    /// late for anybody.
    ///
    /// # Cancel safety
    ///
    /// The stream is over if it is dropped.
    pub(super) async fn run(self) {
        let Some(ended) = self.line.session_end() else { return };
        tokio::select! {
            () = poll_fn(|cx| self.poll(cx)) => (),
            () = time::sleep_until(self.until) => (),
            () = ended.cancelled() => (),
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..STRETCH {
            match self.line.poll_read(self.turn, self.line.next(), cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Seen::Event(..) | Seen::Aside(_)) => (),
                Poll::Ready(Seen::Failed(_) | Seen::Ended) => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.line.drained(self.turn);
    }
}
