//! The stream of what a session's process says unasked.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use tidegate_service::{Error, EventStream, Frame, slow::SlowClients};

use crate::{
    child::Child,
    demux::{Opened, Owner},
};

/// One open stream. It ends with the session or the process.
struct Listen {
    child: Arc<Child>,
    key: u64,
}

/// Opens a stream; what has been waiting for one comes first. `slow` is of its route, where that is
/// not the one of the process.
pub(crate) fn listen(
    child: Arc<Child>,
    owner: Owner,
    slow: Option<Arc<SlowClients>>,
) -> EventStream {
    let Opened { key, missed } = child.look(|state| state.demux.listen(owner, slow));
    EventStream::new(Listen { child, key }).after_missing(missed)
}

impl Stream for Listen {
    type Item = Result<Frame, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.child.poll_listener(self.key, cx).map(|next| {
            next.map(|next| match next {
                Ok(message) => Ok(Frame::Message(message)),
                Err(why) => Err(why.error().at(&self.child.params.name)),
            })
        })
    }
}

impl Drop for Listen {
    fn drop(&mut self) {
        self.child.change(|state, fx| state.demux.unlisten(self.key, fx));
        // Requests that nobody listens to any more have an expiry, which the task keeps.
        self.child.work().notify_one();
    }
}
