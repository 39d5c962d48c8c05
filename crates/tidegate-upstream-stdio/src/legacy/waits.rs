//! Calls that are with no process yet, and how their client takes them back.
//!
//! While a session's process starts, its calls wait for it. The process will know them by ids of
//! its own once it gets them; until then they are found here.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use parking_lot::Mutex;
use tidegate_protocol::{Envelope, Id};
use tidegate_service::{Error, EventStream, Frame, Reply};
use tokio::sync::SetOnce;

/// The waiting calls of one session.
#[derive(Debug, Default)]
pub(super) struct Waits(Mutex<Vec<Arc<Wait>>>);

#[derive(Debug)]
struct Wait {
    /// The client's id.
    id: Id,
    /// How the client took it back.
    note: SetOnce<Envelope>,
}

/// One call, which is found until this is dropped.
struct Waiting<'a> {
    waits: &'a Waits,
    wait: Arc<Wait>,
}

/// Nothing more to come.
struct Ended;

impl Waits {
    /// Waits for the reply to a call, or gives it up when its client takes it back, and then returns
    /// how.
    ///
    /// # Cancel safety
    /// Dropping the wait gives the call up.
    pub(super) async fn unless_cancelled(
        &self,
        id: &Id,
        reply: impl Future<Output = Result<Reply, Error>>,
    ) -> Result<Result<Reply, Error>, Envelope> {
        let waiting = self.enter(id.detach());
        let reply = pin!(reply);
        tokio::select! {
            biased;
            note = waiting.wait.note.wait() => Err(note.clone()),
            reply = reply => Ok(reply),
        }
    }

    /// The client takes back what it knows by this id.
    pub(super) fn cancel(&self, note: &Envelope) {
        let Some(id) = note.cancelled_request() else { return };
        for wait in self.0.lock().iter().filter(|wait| wait.id == id) {
            // Once is enough.
            drop(wait.note.set(note.clone()));
        }
    }

    fn enter(&self, id: Id) -> Waiting<'_> {
        let wait = Arc::new(Wait { id, note: SetOnce::new() });
        self.0.lock().push(Arc::clone(&wait));
        Waiting { waits: self, wait }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waits.0.lock().retain(|wait| !Arc::ptr_eq(wait, &self.wait));
    }
}

/// The reply to a call that was taken back: a stream that ends without an answer.
pub(super) fn taken_back() -> Reply {
    Reply::stream(EventStream::new(Ended))
}

impl Stream for Ended {
    type Item = Result<Frame, Error>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}
