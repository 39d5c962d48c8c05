//! What there is right now. When a gateway has stopped, nothing may be left of any of it.

use std::sync::Arc;

use tidegate_server::Front;
use tidegate_service::{
    Tasks,
    slow::{Backlog, SlowClients},
};
use tidegate_session::{Account, Store};

use crate::{processes::Processes, stack::Leaf};

/// A count of everything that can leak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Tasks that have not ended.
    pub tasks: usize,
    /// Client connections.
    pub connections: usize,
    /// Response streams.
    pub streams: usize,
    /// Legacy sessions.
    pub sessions: usize,
    /// Logs of streams that clients may come back to.
    pub logs: usize,
    /// Bytes of the events in them.
    pub log_bytes: usize,
    /// Bytes of messages that wait for clients which do not read.
    pub backlog_bytes: usize,
    /// Bytes of request bodies.
    pub body_bytes: usize,
    /// Child processes.
    pub children: usize,
    /// Calls that upstreams have not answered.
    pub in_flight: usize,
    /// Upstream connections that carry a call.
    pub leases: usize,
    /// Upstream connections kept for the next call.
    pub idle_connections: usize,
}

impl Census {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Everything that can be counted.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) front: Front,
    pub(crate) store: Store,
    pub(crate) logs: Account,
    /// How the routes treat clients that do not read, and what waits for those.
    pub(crate) slow: Arc<[Arc<SlowClients>]>,
    pub(crate) backlog: Backlog,
    pub(crate) leaves: Arc<[(Arc<str>, Leaf)]>,
    pub(crate) processes: Processes,
    pub(crate) tasks: Vec<Tasks>,
}

impl Counted {
    pub(crate) fn census(&self) -> Census {
        let front = self.front.stats();
        let logs = self.logs.stats();
        let mut census = Census {
            tasks: self.tasks.iter().map(Tasks::alive).sum(),
            connections: front.connections_open,
            streams: front.streams_open,
            sessions: self.store.stats().open,
            logs: logs.logs,
            log_bytes: logs.bytes,
            backlog_bytes: self.backlog.bytes(),
            body_bytes: front.body_bytes,
            children: usize::try_from(self.processes.stats().running).unwrap_or(usize::MAX),
            ..Census::default()
        };
        for (_, leaf) in &*self.leaves {
            leaf.count_into(&mut census);
        }
        census
    }
}
