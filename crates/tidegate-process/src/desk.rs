//! Where requests for the keeper's thread lie, and the bell that wakes it.

use std::{
    collections::BTreeSet,
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::tree::{Exit, Tree};

/// Requests to the keeper. It is bounded by the number of trees, each of which lies here at most
/// once per kind of request.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) born: Vec<Born>,
    /// Trees whose members shall be found and killed.
    pub(crate) doomed: BTreeSet<u64>,
    /// Those of the doomed whose leaders may be reaped then, since nobody holds them any more.
    pub(crate) released: BTreeSet<u64>,
    /// Look for strays, though no tree asks for it.
    pub(crate) look: bool,
    /// No request will follow.
    pub(crate) closed: bool,
}

/// A tree to watch.
#[derive(Debug)]
pub(crate) struct Born {
    pub(crate) tree: Arc<Tree>,
    pub(crate) exit: watch::Sender<Option<Exit>>,
}

#[derive(Debug)]
pub(crate) struct Desk {
    inbox: Mutex<Inbox>,
    bell: PipeWriter,
}

/// The keeper's end of the bell.
#[derive(Debug)]
pub(crate) struct Ear(PipeReader);

impl Desk {
    pub(crate) fn new() -> io::Result<(Self, Ear)> {
        let (ear, bell) = io::pipe()?;
        rustix::io::ioctl_fionbio(&ear, true)?;
        rustix::io::ioctl_fionbio(&bell, true)?;
        Ok((Self { inbox: Mutex::default(), bell }, Ear(ear)))
    }

    /// Leaves a request and wakes the keeper.
    pub(crate) fn post(&self, request: impl FnOnce(&mut Inbox)) {
        request(&mut self.inbox.lock());
        // A full pipe is a bell that rings already.
        (&self.bell).write_all(&[1]).ok();
    }

    pub(crate) fn take(&self) -> Inbox {
        std::mem::take(&mut self.inbox.lock())
    }
}

impl Ear {
    /// Takes in all that rang so far.
    pub(crate) fn hush(&self) {
        let mut rings = [0; 64];
        while matches!((&self.0).read(&mut rings), Ok(read) if read == rings.len()) {}
    }

    pub(crate) const fn pipe(&self) -> &PipeReader {
        &self.0
    }
}
