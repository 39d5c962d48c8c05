//! The requests that run on one connection or session, so that a client can cancel them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::message::{Id, IdKey, RpcError};

/// How many requests of one client run at once; more are refused.
const LIMIT: usize = 1024;

/// The running requests of one client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    serial: u64,
    running: HashMap<IdKey, (u64, oneshot::Sender<()>)>,
}

impl Calls {
    /// Registers a request.
    ///
    /// # Errors
    ///
    /// That a request with this id runs already, or that too many run.
    pub(crate) fn begin(&self, id: &Id) -> Result<Ticket, RpcError> {
        let mut table = self.lock();
        if table.running.contains_key(id.key()) {
            return Err(RpcError::invalid_request("a request with this id is running"));
        }
        if table.running.len() >= LIMIT {
            return Err(RpcError::new(RpcError::INTERNAL, "too many requests are running"));
        }
        table.serial += 1;
        let serial = table.serial;
        let (cancel, cancelled) = oneshot::channel();
        table.running.insert(id.key().clone(), (serial, cancel));
        Ok(Ticket { calls: self.clone(), key: id.key().clone(), serial, cancelled })
    }

    /// Cancels a request. One that is unknown or finished is ignored.
    pub(crate) fn cancel(&self, key: &IdKey) {
        drop(self.lock().running.remove(key));
    }

    /// Cancels all.
    pub(crate) fn cancel_all(&self) {
        self.lock().running.clear();
    }

    /// How many run.
    pub(crate) fn len(&self) -> usize {
        self.lock().running.len()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One running request; its drop ends the registration.
#[derive(Debug)]
pub(crate) struct Ticket {
    calls: Calls,
    key: IdKey,
    serial: u64,
    cancelled: oneshot::Receiver<()>,
}

impl Ticket {
    /// Runs `work` until it ends or is cancelled, which drops it.
    pub(crate) async fn run<T>(mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            // Cancelling removes the sender, so this resolves with an error, never a value.
            _ = &mut self.cancelled => None,
            done = work => Some(done),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut table = self.calls.lock();
        // After a cancel the id may belong to a newer request.
        if table.running.get(&self.key).is_some_and(|(serial, _)| *serial == self.serial) {
            table.running.remove(&self.key);
        }
    }
}
