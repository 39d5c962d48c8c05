//! Where processes start, and the threads behind that.

use std::{
    cell::Cell,
    io,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::runtime;

use crate::{
    cookie::Instance,
    desk::Desk,
    forker::Forker,
    keeper::Keeper,
    ledger::{self, Folder, Ledger, Recovered},
    process::{Pipes, Process},
    shared::Shared,
    spec::Spec,
    stats::Stats,
    strays,
};

/// How long the last owner waits for what it has killed to be gone.
const FAREWELL: Duration = Duration::from_secs(1);

/// Starts processes and sees them out. Clones are the same spawner; a gateway has one.
///
/// Two threads come with the first process and go after the last one, when the spawner is dropped
/// too. That drop waits for what is left to be gone, a second at most.
#[derive(Clone, Debug)]
pub struct Spawner {
    handle: Arc<Handle>,
}

/// Keeps the threads alive; held by every spawner and every process.
#[derive(Debug)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
    threads: Mutex<Option<Threads>>,
}

#[derive(Debug)]
struct Threads {
    forker: Forker,
    desk: Arc<Desk>,
    /// Hangs up when the keeper has ended.
    keeper: Receiver<()>,
    forking: JoinHandle<()>,
    keeping: JoinHandle<()>,
}

impl Spawner {
    /// A spawner that keeps no ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Shared::new(Instance::new(), None))
    }

    /// A spawner that writes its processes down in a file of its own in this folder, so that the
    /// next one can end them if we cannot. This is that next one as well: it first ends what dead
    /// ones have left, which takes a few milliseconds. Those that live are not touched.
    ///
    /// The folder is made if it is missing, and must be ours alone.
    ///
    /// # Errors
    ///
    /// When the folder cannot be used, or belongs to or is open to others.
    pub fn with_ledger(folder: &Path) -> io::Result<(Self, Recovered)> {
        let folder = Folder::open(folder)?;
        let recovered = ledger::recover(&folder)?;
        let (instance, ledger) = Ledger::create(folder)?;
        Ok((Self::with(Shared::new(instance, Some(ledger))), recovered))
    }

    fn with(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        Self { handle: Arc::new(Handle { shared, threads: Mutex::new(None) }) }
    }

    /// Starts a process. That takes about a millisecond, unless the program or its working folder
    /// is on a disk that does not answer: then it takes until that does, for this process and for
    /// those that are to start after it. Starts are made one after the other, on a thread of their
    /// own.
    ///
    /// # Errors
    ///
    /// When the program cannot be run, a limit or user cannot be set, too many others wait for
    /// their start, or the caller is outside of a Tokio runtime. No process is left then.
    ///
    /// # Panics
    ///
    /// In a Tokio runtime without IO.
    ///
    /// # Cancel safety
    ///
    /// A start that is given up is not made if its turn has not come. If it is under way it is not
    /// broken off, since nobody can do that: the process is ended as soon as it is there.
    pub async fn spawn(&self, spec: &Spec) -> io::Result<(Process, Pipes)> {
        runtime::Handle::try_current().map_err(io::Error::other)?;
        let (forker, desk) = self.handle.threads()?;
        let shared = &self.handle.shared;
        let number = shared.announce();
        let command = spec.command(&shared.instance.cookie(number));
        let (process, ends) = forker
            .fork(number, command, desk, Arc::clone(&self.handle))
            .await
            .map_err(|error| spec.limits.explain(error))?;
        Ok((process, Pipes::new(ends)?))
    }

    /// Makes this program the parent of every process below it that loses its own, so that strays
    /// are found without their cookie and none is left a zombie. The future reaps them, for ever.
    /// Best before the first process starts: what is left of a tree is then looked for among our own
    /// children, and otherwise among all processes of the machine.
    ///
    /// It is for a program whose other children, if any, are there before this call or stay in its
    /// process group: the rest is taken for a stray. A stray is ended with the tree that it belongs
    /// to. If nothing tells which one that is, it is ended when all are gone that lived when it was
    /// first seen; but never if it may come from elsewhere, since there were children before this
    /// call, or since this program is the first of a container.
    ///
    /// # Errors
    ///
    /// When the system has no such thing (only Linux does), or the caller is outside of a Tokio
    /// runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the reaping and nothing else.
    pub fn adopt_orphans(&self) -> io::Result<impl Future<Output = ()> + Send + use<>> {
        runtime::Handle::try_current().map_err(io::Error::other)?;
        strays::adopt(&self.handle)
    }

    /// Waits until no process is left: all are dropped or buried, and what they left is reaped.
    ///
    /// # Cancel safety
    ///
    /// It only waits.
    pub async fn settled(&self) {
        // It fails only without a sender, which lives as long as this.
        self.handle.shared.count().wait_for(|count| *count == 0).await.ok();
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.handle.shared.counters.stats()
    }
}

impl Default for Spawner {
    fn default() -> Self {
        Self::new()
    }
}

impl Handle {
    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Has the keeper look for strays. Without a keeper there was no process, hence no stray.
    pub(crate) fn look(&self) {
        if let Some(threads) = &*self.threads.lock() {
            threads.desk.post(|inbox| inbox.look = true);
        }
    }

    /// Starts the threads, if they do not run yet.
    fn threads(&self) -> io::Result<(Forker, Arc<Desk>)> {
        let mut threads = self.threads.lock();
        let threads = match &mut *threads {
            Some(threads) => threads,
            none => none.insert(Threads::start(&self.shared)?),
        };
        Ok((threads.forker.clone(), Arc::clone(&threads.desk)))
    }
}

impl Threads {
    fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let (desk, ear) = Desk::new()?;
        let desk = Arc::new(desk);
        let (done, keeper) = sync_channel(0);
        let keeping = Keeper::new(Arc::clone(shared), Arc::clone(&desk), ear, done);
        let thread = thread::Builder::new().name("process-keep".to_owned());
        let keeping = thread.spawn(move || keeping.run())?;
        let started = Forker::start();
        if started.is_err() {
            desk.post(|inbox| inbox.closed = true);
        }
        let (forker, forking) = started?;
        Ok(Self { forker, desk, keeper, forking, keeping })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.get_mut().take() {
            let Threads { forker, desk, keeper, forking, keeping } = threads;
            desk.post(|inbox| inbox.closed = true);
            drop(forker);
            join(forking);
            // Every process is dropped, hence killed, so this is short. Without it the strays of
            // the last one would survive an owner that exits right away.
            if keeper.recv_timeout(FAREWELL) != Err(RecvTimeoutError::Timeout) {
                join(keeping);
            }
        }
    }
}

thread_local! {
    /// Whether this is a thread of a spawner, which cannot wait for its own end.
    static IS_OURS: Cell<bool> = const { Cell::new(false) };
}

/// Says that this is a thread of a spawner.
pub(crate) fn enter_thread() {
    IS_OURS.set(true);
}

/// Waits for the end of a thread that has nothing left to do.
fn join(thread: JoinHandle<()>) {
    if !IS_OURS.get() {
        // A panic of it has been printed.
        thread.join().ok();
    }
}
