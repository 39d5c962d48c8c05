//! What a session holds of its upstream.
//!
//! A session that shares a process moves to one of its own when the server turns out to need a
//! client: at its next message, by the handshake that its client once sent. Nothing of the session
//! lives in the common process, so nothing is lost.

use std::sync::Arc;

use tidegate_protocol::{Bytes, Envelope, Id};
use tidegate_service::{Error, EventStream, Reply, Session, slow::SlowClients};
use tokio::sync::OnceCell;

use super::{
    common::Common,
    own::Process,
    waits::{Waits, taken_back},
};
use crate::{demux::Owner, exchange::Patience, host::Host, listen::listen, spares::Spares};

/// Bound to a session.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Its share in a common process, and the handshake to leave it with.
    shared: Option<Shared>,
    own: OnceCell<Process>,
    waits: Waits,
}

#[derive(Debug)]
struct Shared {
    common: Arc<Common>,
    whose: Whose,
    handshake: Envelope,
}

/// Whose a message to a common process is.
#[derive(Clone, Debug)]
pub(crate) struct Whose {
    pub(crate) owner: Owner,
    /// How the session's route treats clients that do not read.
    pub(crate) slow: Option<Arc<SlowClients>>,
}

/// Where a message of the session goes.
pub(crate) enum Place<'a> {
    Own(&'a Process),
    Common(&'a Arc<Common>, &'a Whose),
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.common.forget(self.whose.owner);
    }
}

impl Seat {
    pub(crate) fn own(process: Process) -> Self {
        Self { shared: None, own: OnceCell::new_with(Some(process)), waits: Waits::default() }
    }

    pub(crate) fn common(
        common: Arc<Common>,
        owner: Owner,
        request: &Envelope,
        slow: Option<Arc<SlowClients>>,
    ) -> Self {
        // A copy, because the request may stand in a large buffer.
        let copy = Envelope::parse(Bytes::copy_from_slice(request.bytes()));
        let handshake = copy.unwrap_or_else(|_| request.clone());
        let shared = Some(Shared { common, whose: Whose { owner, slow }, handshake });
        Self { shared, own: OnceCell::new(), waits: Waits::default() }
    }

    /// Whether a process of its own was, or will be, introduced to the session by the proxy.
    pub(crate) const fn was_introduced(&self) -> bool {
        self.shared.is_some()
    }

    /// Whether messages can still reach the server, as far as is known.
    pub(crate) fn is_alive(&self) -> bool {
        match self.own.get() {
            Some(process) => process.is_alive(),
            None => self.shared.is_some(),
        }
    }

    /// Where messages go now. Waits where that is a process that has yet to start.
    ///
    /// # Cancel safety
    /// A start that is given up is begun anew by the next message.
    pub(crate) async fn place(
        &self,
        spares: &Arc<Spares>,
        session: &Session,
        patience: Patience,
    ) -> Result<Place<'_>, Error> {
        if let Some(process) = self.own.get() {
            return Ok(Place::Own(process));
        }
        match &self.shared {
            Some(shared) if spares.host.shares() => {
                Ok(Place::Common(&shared.common, &shared.whose))
            }
            Some(shared) => {
                let slow = &shared.whose.slow;
                let start =
                    || Process::introduce(spares, &shared.handshake, (session, slow), patience);
                let process = self.own.get_or_try_init(start).await?;
                // Its streams go on with the new process, when the client opens them again.
                shared.common.part_with(shared.whose.owner);
                Ok(Place::Own(process))
            }
            None => Err(super::explain(crate::child::Refused::Gone, &spares.host)),
        }
    }

    /// Whether messages go to a process that is there, as far as is known.
    pub(crate) fn is_ready(&self, host: &Host) -> bool {
        match (self.own.get(), &self.shared) {
            (None, Some(shared)) => host.shares() && shared.common.is_up(),
            (Some(_), _) | (None, None) => true,
        }
    }

    /// Waits for the reply to a call that may be with no process yet. The client can take it back.
    pub(crate) async fn unless_cancelled(
        &self,
        call: &Id,
        reply: impl Future<Output = Result<Reply, Error>>,
    ) -> Result<Reply, Error> {
        match self.waits.unless_cancelled(call, reply).await {
            Ok(reply) => reply,
            Err(note) => {
                // A process may have got it just then.
                self.cancel_begun(&note);
                Ok(taken_back())
            }
        }
    }

    /// The client takes a call back, wherever it is.
    pub(crate) fn cancel(&self, note: &Envelope) {
        self.cancel_begun(note);
        self.waits.cancel(note);
    }

    fn cancel_begun(&self, note: &Envelope) {
        if let Some(Shared { common, whose, .. }) = &self.shared {
            common.cancel(whose.owner, note);
        }
        if let Some(process) = self.own.get() {
            process.child().cancel(Owner::default(), note);
        }
    }

    /// The session has ended: a common process need not finish what it asked. Its calls hold the
    /// seat until they end, so that this cannot wait for the drop.
    pub(crate) fn leave(&self) {
        if let Some(Shared { common, whose, .. }) = &self.shared {
            common.forget(whose.owner);
        }
    }

    /// Opens a stream of what the server says unasked.
    pub(crate) async fn listen(
        &self,
        spares: &Arc<Spares>,
        session: &Session,
        patience: Patience,
    ) -> Result<EventStream, Error> {
        match self.place(spares, session, patience).await? {
            Place::Own(process) => Ok(listen(Arc::clone(process.child()), Owner::default(), None)),
            Place::Common(common, whose) => common.listen(whose, patience).await,
        }
    }
}
