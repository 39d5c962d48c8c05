//! The one task of a process: it moves bytes, watches the clock, and sees the process out.
//!
//! What comes from the process is handed to [`crate::demux`], which keeps it within bounds and says
//! when the process is to stand still with a client that does not read. What goes to the process
//! was admitted before it was queued.

mod input;
mod stderr;

use std::{io::Result as IoResult, process::ExitStatus, sync::Arc, time::Duration};

use bytes::{Buf as _, BytesMut};
use tidegate_process::{Pipes, Process};
use tokio::{
    io::AsyncWriteExt as _,
    process::{ChildStderr, ChildStdin, ChildStdout},
    task::yield_now,
    time::{self, Instant},
};
use tracing::{debug, warn};

use self::{
    input::{Input, Pipe},
    stderr::Log,
};
use crate::{
    child::{Child, Death, Escalation, EscalationStep, Stage, describe},
    demux::Mode,
    host::Alive,
    stats::Failure,
    upkeep,
};

/// How long the exit status may lag behind the end of a pipe, or the last output behind the exit.
const LAG: Duration = Duration::from_millis(50);

/// A moment that does not come.
const NEVER: Duration = Duration::from_secs(86_400 * 365);

/// The task's state. Dropping it kills the process and its tree.
#[derive(Debug)]
pub(crate) struct Io {
    child: Arc<Child>,
    pid: u32,
    process: Process,
    stdin: Option<ChildStdin>,
    stdout: Pipe<ChildStdout>,
    stderr: Pipe<ChildStderr>,
    writing: BytesMut,
    input: Input,
    log: Log,
    escalation: Escalation,
    /// Something is wrong that an exit would explain better: when to wait no longer, and what.
    fault: Option<(Instant, Death)>,
    /// When to look how much the tree uses.
    measure_at: Instant,
    /// Everybody was told of the end.
    seen_out: bool,
    // Last: whoever waits for zero may rely on everything above being gone.
    _alive: Alive,
}

impl Io {
    pub(crate) fn new(child: Arc<Child>, process: Process, pipes: Pipes, alive: Alive) -> Self {
        let escalation = Escalation::new(child.params.stop_grace);
        Self {
            pid: child.pid(),
            process,
            stdin: Some(pipes.stdin),
            stdout: Pipe::new(pipes.stdout),
            stderr: Pipe::new(pipes.stderr),
            writing: BytesMut::new(),
            input: Input::new(child.params.max_line),
            log: Log::default(),
            escalation,
            fault: None,
            measure_at: Instant::now() + upkeep::FIRST_LOOK,
            seen_out: false,
            child,
            _alive: alive,
        }
    }

    /// Serves until the process is gone.
    pub(crate) async fn run(mut self) {
        debug!(upstream = %self.child.params.name, pid = self.pid, "server process started");
        let status = self.converse().await;
        self.see_out(status).await;
    }

    async fn converse(&mut self) -> IoResult<ExitStatus> {
        let child = Arc::clone(&self.child);
        let mut stop = std::pin::pin!(child.stopping().cancelled());
        // Made once: most rounds of the loop are about something else.
        let mut exited = std::pin::pin!(self.process.exited());
        // Of the session, once there is one.
        let mut over = std::pin::pin!(session_over(&child));
        let mut timer = std::pin::pin!(time::sleep(NEVER));
        let mut armed = None;
        loop {
            let (due, held) = self.prepare();
            if due != armed {
                timer.as_mut().reset(due.unwrap_or_else(|| Instant::now() + NEVER));
                armed = due;
            }
            let asked = self.escalation.has_begun();
            tokio::select! {
                status = &mut exited => return status,
                written = write(&mut self.stdin, &self.writing), if !self.writing.is_empty() => {
                    self.wrote(written);
                }
                () = child.work().notified(), if self.writing.is_empty() => (),
                read = self.stdout.read(), if self.stdout.is_open() && (asked || !held) => {
                    if !read {
                        self.suspect(Death::Silent);
                    } else if self.digest() {
                        // A process that talks without a pause would keep readers from their turn.
                        yield_now().await;
                    }
                }
                () = child.resumed().notified(), if held => (),
                read = self.stderr.read(), if self.stderr.is_open() => {
                    if read { self.note_stderr() }
                }
                () = &mut stop, if !asked => self.ask_to_end(),
                () = &mut over, if !asked => self.ask_to_end(),
                () = &mut timer, if armed.is_some() => self.tick(Instant::now()),
            }
        }
    }

    /// Takes the next thing to write, and tells when something is due and whether the process is not
    /// to be read.
    fn prepare(&mut self) -> (Option<Instant>, bool) {
        let (mut due, mut held) = (None, false);
        let (child, writing) = (&self.child, &mut self.writing);
        let mut took = false;
        child.look(|state| {
            if writing.is_empty()
                && let Some(next) = state.queue.take()
            {
                state.queue.recycle(std::mem::replace(writing, next));
                took = true;
            }
            due = state.demux.due();
            held = state.demux.holds();
        });
        if took {
            child.made_room();
        } else if self.escalation.has_begun() && self.writing.is_empty() {
            // All that was queued is written: this is the end of what it can read.
            self.stdin = None;
        }
        let fault = self.fault.as_ref().map(|(due, _)| *due);
        let due = due.into_iter().chain([self.measure_at]).chain(fault);
        (due.chain(self.escalation.due()).min(), held)
    }

    fn wrote(&mut self, written: IoResult<usize>) {
        match written {
            Ok(length) => self.writing.advance(length.min(self.writing.len())),
            Err(error) => {
                debug!(upstream = %self.child.params.name, pid = self.pid, %error, "stdin closed");
                self.stdin = None;
                self.writing.clear();
                self.suspect(Death::Deaf);
            }
        }
    }

    /// Hands over what was read. Says whether much waits for some reader now.
    fn digest(&mut self) -> bool {
        let digested = self.input.digest(self.stdout.take(), &self.child, self.pid);
        if digested.is_err() {
            // Nobody knows where the next message begins.
            self.child.die(&Arc::new(Death::Oversized(self.child.params.max_line)));
            self.child.close();
            self.escalation.kill();
            self.process.kill();
        }
        digested.unwrap_or(false)
    }

    fn note_stderr(&mut self) {
        let bytes = self.stderr.take();
        let (name, pid) = (&self.child.params.name, self.pid);
        self.log.take(&bytes, Instant::now(), self.child.counters(), |line| {
            tracing::info!(target: "tidegate::stderr", upstream = %name, pid, "{line}");
        });
    }

    /// Something ended that should not have. Most likely the process did, which says more.
    fn suspect(&mut self, death: Death) {
        self.fault.get_or_insert_with(|| (Instant::now() + LAG, death));
    }

    fn ask_to_end(&mut self) {
        self.child.close();
        self.escalation.begin(Instant::now());
    }

    fn tick(&mut self, now: Instant) {
        self.child.change(|state, fx| state.demux.tick(now, fx));
        if self.measure_at <= now {
            self.measure_at = now + upkeep::measuring(&self.child.params);
            self.measure();
            if self.child.is_healthy() {
                self.child.lived_well();
            }
        }
        if self.fault.as_ref().is_some_and(|(due, _)| *due <= now)
            && let Some((_, death)) = self.fault.take()
        {
            if !self.escalation.has_begun() {
                self.child.die(&Arc::new(death));
                self.end_session();
            }
            self.ask_to_end();
        }
        match self.escalation.step(now) {
            Some(EscalationStep::Terminate) => {
                debug!(upstream = %self.child.params.name, pid = self.pid, "sending SIGTERM");
                self.stdin = None;
                self.writing.clear();
                self.process.terminate();
            }
            Some(EscalationStep::Kill) => {
                debug!(upstream = %self.child.params.name, pid = self.pid, "sending SIGKILL");
                self.process.kill();
            }
            None => (),
        }
    }

    /// The process is gone and reaped. Ends its group, reads what it left, and tells everybody.
    async fn see_out(&mut self, status: IoResult<ExitStatus>) {
        let stopped = self.escalation.has_begun();
        self.process.bury();
        self.stdin = None;
        let until = Instant::now() + LAG;
        while let Ok(true) = time::timeout_at(until, self.stdout.read_open()).await {
            self.digest();
        }
        while let Ok(true) = time::timeout_at(until, self.stderr.read_open()).await {
            self.note_stderr();
        }
        self.input.finish(&self.child);
        let death = match &status {
            Ok(status) if !stopped => Death::Ended(*status),
            Ok(_) | Err(_) => Death::Stopped,
        };
        self.child.keep_last_words(&self.log.tail());
        self.child.die(&Arc::new(death));
        self.end_session();
        self.judge(&status, stopped);
        self.report(status, stopped);
        self.seen_out = true;
    }

    /// The task ends before the process, which dies with it: the runtime is gone, or there is a
    /// mistake in here. Nobody may wait for what does not come any more.
    fn give_up(&self) {
        let child = &self.child;
        child.close();
        child.die(&Arc::new(Death::Stopped));
        self.end_session();
        child.host.abandoned(child.ordinal);
        child.counters().exit_stopped.increment();
        warn!(upstream = %child.params.name, pid = self.pid, "server process given up");
    }

    fn measure(&self) {
        if self.escalation.has_begun() {
            return;
        }
        if let Some(usage) = self.process.usage() {
            self.child.measured(usage.resident, usage.cpu);
        }
    }

    fn end_session(&self) {
        if let Some(session) = self.child.session() {
            session.cancel();
        }
    }

    /// Tells what the end says about the server.
    fn judge(&self, status: &IoResult<ExitStatus>, stopped: bool) {
        let child = &self.child;
        let broken = status.is_err() || !stopped;
        let in_order = !broken && child.death().as_deref() == Some(&Death::Stopped);
        if (broken || child.is_blamed()) && child.died_young() {
            let reason = match (broken, child.has_answered()) {
                (false, false) => "it did not answer in time",
                (true, false) => "it ended before it answered",
                (_, true) => "it ended soon after it had answered",
            };
            child.host.failed(child.ordinal, Failure::now(reason, child.last_words()));
        } else if !child.has_answered() {
            child.host.abandoned(child.ordinal);
        } else if child.is_healthy() || in_order && child.mode() == Mode::Session {
            // A session is as long as its client wants, and its start was a good one.
            child.lived_well();
        }
    }

    fn report(&self, status: IoResult<ExitStatus>, stopped: bool) {
        let (name, pid) = (&self.child.params.name, self.pid);
        let counters = self.child.counters();
        let broken = matches!(
            self.child.death().as_deref(),
            Some(Death::Oversized(_) | Death::Silent | Death::Deaf)
        );
        let ended = match &status {
            Ok(status) => describe(*status),
            Err(error) => error.to_string(),
        };
        let counter = match &status {
            _ if broken => &counters.exit_broken,
            Ok(_) | Err(_) if stopped => &counters.exit_stopped,
            Ok(status) if status.success() => &counters.exit_finished,
            Ok(status) if status.code().is_some() => &counters.exit_failed,
            Ok(_) | Err(_) => &counters.exit_signaled,
        };
        counter.increment();
        if stopped && !broken && !self.child.is_blamed() {
            debug!(upstream = %name, pid, ended, "server process stopped");
        } else {
            let stderr = self.log.tail();
            warn!(upstream = %name, pid, ended, broken, ?stderr, "server process ended");
        }
    }
}

/// Ends when the session does that the process serves alone; not before there is one.
async fn session_over(child: &Child) {
    child.bound().await.cancelled().await;
}

impl Drop for Io {
    fn drop(&mut self) {
        if !self.seen_out {
            self.give_up();
        }
        self.child.enter(Stage::Gone);
    }
}

async fn write(stdin: &mut Option<ChildStdin>, bytes: &[u8]) -> IoResult<usize> {
    match stdin {
        Some(stdin) => stdin.write(bytes).await,
        // Nobody reads it: count it as written.
        None => Ok(bytes.len()),
    }
}
