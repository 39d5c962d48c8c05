//! The thread that forks, for as long as its children live.
//!
//! Linux delivers the signal for a parent's death when the *thread* that forked ends. Threads of a
//! runtime come and go: one that was lent to blocking work ends after ten idle seconds, and takes
//! the servers along that it started. This thread ends after the last process that it started.

use std::{
    io,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
};

use tokio::sync::{oneshot, watch};

use crate::{
    desk::{Born, Desk},
    process::Process,
    registry,
    spawner::{Handle, enter_thread},
    tree::Tree,
};

/// How many starts may lie in line. One that hangs, say on a dead file system, holds up all that
/// come after it: beyond this they fail at once.
const LINE: usize = 256;

/// What callers hear if the thread has ended before their turn.
const GONE: &str = "the thread that forks is gone";

/// What the caller gets.
type Answer = io::Result<(Process, Ends)>;

/// A process to start.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) number: u64,
    pub(crate) command: Command,
    pub(crate) desk: Arc<Desk>,
    pub(crate) handle: Arc<Handle>,
    reply: oneshot::Sender<Answer>,
}

/// Our ends of the pipes.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

/// Callers' end of the line.
#[derive(Clone, Debug)]
pub(crate) struct Forker(SyncSender<Job>);

impl Forker {
    /// Starts the thread. It ends when the last clone of this is dropped.
    pub(crate) fn start() -> io::Result<(Self, JoinHandle<()>)> {
        let (line, jobs) = sync_channel(LINE);
        let thread = thread::Builder::new().name("process-fork".to_owned());
        let thread = thread.spawn(move || serve(&jobs))?;
        Ok((Self(line), thread))
    }

    /// Has the thread start a process.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its turn, the start is not made; while it is under way, the process is ended
    /// as soon as it is there.
    pub(crate) async fn fork(
        &self,
        number: u64,
        command: Command,
        desk: Arc<Desk>,
        handle: Arc<Handle>,
    ) -> Answer {
        let (reply, answer) = oneshot::channel();
        let job = Job { number, command, desk, handle, reply };
        if let Err(refused) = self.0.try_send(job) {
            let (job, why) = match refused {
                TrySendError::Full(job) => (job, "too many processes wait for their start"),
                TrySendError::Disconnected(job) => (job, GONE),
            };
            job.fail();
            return Err(io::Error::other(why));
        }
        answer.await.unwrap_or_else(|_| Err(io::Error::other(GONE)))
    }
}

fn serve(jobs: &Receiver<Job>) {
    enter_thread();
    for job in jobs {
        if job.reply.is_closed() {
            job.handle.shared().forget(job.number);
            continue;
        }
        let (reply, born) = job.run();
        // If the caller has given up, this drops the process, which ends it.
        reply.send(born).ok();
    }
}

impl Job {
    /// Nothing of the job is left here when it returns: a caller that has its answer and drops
    /// everything is the last owner then, and gets what is promised to it.
    fn run(mut self) -> (oneshot::Sender<Answer>, Answer) {
        let born = self.fork();
        if born.is_err() {
            self.fail();
        }
        (self.reply, born)
    }

    /// Takes note that there is no process.
    fn fail(&self) {
        let shared = self.handle.shared();
        shared.counters.spawn_failed.increment();
        shared.forget(self.number);
    }

    fn fork(&mut self) -> Answer {
        let mut child = self.command.spawn()?;
        registry::add(child.id());
        let Some(tree) = Tree::new(self.number, child.id()) else {
            return Err(io::Error::other("the system returned no process"));
        };
        self.handle.shared().born(self.number, tree.leader);
        let tree = Arc::new(tree);
        let (exit, exited) = watch::channel(None);
        self.desk.post(|inbox| inbox.born.push(Born { tree: Arc::clone(&tree), exit }));
        // From here on a drop ends the tree.
        let process = Process::new(tree, exited, Arc::clone(&self.desk), Arc::clone(&self.handle));
        Ok((process, ends(&mut child)?))
    }
}

fn ends(child: &mut Child) -> io::Result<Ends> {
    let missing = || io::Error::other("the process has no pipes");
    Ok(Ends {
        stdin: child.stdin.take().ok_or_else(missing)?,
        stdout: child.stdout.take().ok_or_else(missing)?,
        stderr: child.stderr.take().ok_or_else(missing)?,
    })
}
