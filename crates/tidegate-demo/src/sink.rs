//! Where the messages of one call go.
//!
//! A handler does not know its transport. It puts [`Item`]s into a [`Sink`]; stdio and the modern
//! HTTP path use a bounded channel, the legacy HTTP path a replayable log.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::log::Log;

/// What a call sends before its answer.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// This will take a while: answer with a stream from now on. Means nothing on stdio.
    Open,
    /// A notification, or a request to a legacy client.
    Message(Bytes),
    /// Drop the connection but go on: the client is meant to come back and poll (2025-11-25).
    Break,
}

/// The way to the client for one call.
#[derive(Clone, Debug)]
pub(crate) enum Sink {
    /// A bounded queue; a full one makes the call wait.
    Queue(mpsc::Sender<Item>),
    /// A replayable stream; a full one forgets its oldest event.
    Log(Arc<Log>),
}

impl Sink {
    /// Sends an item, waiting for room. A client that is gone is no error: its call is about to
    /// be dropped, or its answer is kept for when it comes back.
    pub(crate) async fn put(&self, item: Item) {
        match self {
            Self::Queue(queue) => drop(queue.send(item).await),
            Self::Log(log) => log.push(item),
        }
    }

    /// Sends an item if there is room for it now.
    pub(crate) fn try_put(&self, item: Item) {
        match self {
            Self::Queue(queue) => drop(queue.try_send(item)),
            Self::Log(log) => log.push(item),
        }
    }
}
