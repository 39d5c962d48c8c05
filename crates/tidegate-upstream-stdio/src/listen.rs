//! The stream of what a session's process says unasked.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use tidegate_service::{Error, EventStream, Frame};

use crate::{child::Child, demux::Owner};

/// One open stream. It ends with the session or the process.
struct Listen {
    child: Arc<Child>,
    key: u64,
}

/// Opens a stream; what has been waiting for one comes first.
pub(crate) fn listen(child: Arc<Child>, owner: Owner) -> EventStream {
    let key = child.look(|state| state.demux.listen(owner));
    EventStream::new(Listen { child, key })
}

impl Stream for Listen {
    type Item = Result<Frame, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.child.look(|state| state.demux.poll_listener(self.key, cx));
        next.map(|next| next.map(|message| Ok(Frame::Message(message))))
    }
}

impl Drop for Listen {
    fn drop(&mut self) {
        self.child.change(|state, fx| state.demux.unlisten(self.key, fx));
        // Requests that nobody listens to any more have an expiry, which the task keeps.
        self.child.work().notify_one();
    }
}
