//! The handle to one process and its tree, as its owner holds it.

use std::{io, process::ExitStatus, sync::Arc};

use tokio::{
    process::{ChildStderr, ChildStdin, ChildStdout},
    sync::watch,
};

use crate::{
    desk::Desk,
    forker::Ends,
    spawner::Handle,
    tree::{Exit, Tree},
    usage::{self, Usage},
};

/// A process and everything below it. Dropping it kills all of that, at any time and on any thread.
#[derive(Debug)]
pub struct Process {
    tree: Arc<Tree>,
    exited: watch::Receiver<Option<Exit>>,
    desk: Arc<Desk>,
    buried: bool,
    // Last: it may end the thread that sees the tree out.
    handle: Arc<Handle>,
}

/// The ends of the pipes. They are apart from the process, so that they can be used at once.
#[derive(Debug)]
pub struct Pipes {
    /// What the process reads.
    pub stdin: ChildStdin,
    /// What it answers.
    pub stdout: ChildStdout,
    /// What it complains of.
    pub stderr: ChildStderr,
}

impl Process {
    pub(crate) const fn new(
        tree: Arc<Tree>,
        exited: watch::Receiver<Option<Exit>>,
        desk: Arc<Desk>,
        handle: Arc<Handle>,
    ) -> Self {
        Self { tree, exited, desk, buried: false, handle }
    }

    /// The process's number, which is also its group's.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.tree.leader.pid
    }

    /// Waits until the process itself has ended. Others of its tree may live on; the process keeps
    /// its number until [`Self::bury`] or the drop.
    ///
    /// # Errors
    ///
    /// When it has ended and nobody knows how, since some other code has reaped it.
    ///
    /// # Cancel safety
    ///
    /// It may be dropped and called again, also after the end.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.exited().await
    }

    /// Like [`Self::wait`], for who looks often and does other things with the process meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    pub fn exited(&self) -> impl Future<Output = io::Result<ExitStatus>> + Send + use<> {
        let mut exited = self.exited.clone();
        async move {
            let exit = match exited.wait_for(Option::is_some).await {
                Ok(exit) => *exit,
                Err(_) => None,
            };
            let unknown = || Err(io::Error::other("nobody watches the process"));
            exit.map_or_else(unknown, Exit::into_result)
        }
    }

    /// Asks every member of the process's group to end, with SIGTERM.
    pub fn terminate(&self) {
        self.tree.terminate();
    }

    /// Kills the whole tree. What descends from the process or is in its group is dead on return,
    /// or about to be; what has left both is looked for by its cookie, which takes a moment longer.
    pub fn kill(&self) {
        if !self.buried {
            self.tree.kill();
            self.desk.post(|inbox| {
                inbox.doomed.insert(self.tree.number);
            });
        }
    }

    /// Kills and forgets what outlived the process. The handle is good for nothing afterwards.
    pub fn bury(&mut self) {
        if !std::mem::replace(&mut self.buried, true) {
            self.tree.kill();
            // Both at once: a leader that is reaped before the hunt no longer keeps its number.
            self.desk.post(|inbox| {
                inbox.doomed.insert(self.tree.number);
                inbox.released.insert(self.tree.number);
            });
        }
    }

    /// What the whole tree uses now. `None` if it is gone, or if the system does not tell.
    ///
    /// This reads the process table, unless that was done within the last 200 milliseconds, so
    /// asking for many trees costs as much as asking for one: 15 µs of processor time for each
    /// process on the machine, as measured, or for each of ours if orphans are adopted (see
    /// [`crate::Spawner::adopt_orphans`]).
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        usage::of(self.handle.shared(), &self.tree)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.bury();
    }
}

impl Pipes {
    /// Hands the pipes to the runtime of the caller.
    pub(crate) fn new(ends: Ends) -> io::Result<Self> {
        Ok(Self {
            stdin: ChildStdin::from_std(ends.stdin)?,
            stdout: ChildStdout::from_std(ends.stdout)?,
            stderr: ChildStderr::from_std(ends.stderr)?,
        })
    }
}
