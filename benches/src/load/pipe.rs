//! The same load on the pipe of a child, without anything in between: what a stdio server can do.
//!
//! It blocks and has no runtime, so that nothing but the pipe is measured. As a good client would,
//! it sends with one write whatever one read has made due.

use std::{
    collections::HashMap,
    ffi::OsString,
    io::{Read as _, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use serde::Deserialize;
use tokio::time::Instant;

use super::{FINISH_WITHIN, Outcome};
use crate::{
    cpu,
    wire::{self, Era},
};

const READ_SIZE: usize = 64 * 1024;

/// What to start and how to load it.
#[derive(Debug, Clone)]
pub struct PipeLoad {
    /// The stdio server.
    pub command: Vec<OsString>,
    /// Which requests.
    pub era: Era,
    /// Calls that are unanswered at any time.
    pub in_flight: usize,
    /// Sent but not counted.
    pub warm_up: Duration,
    /// The counted window.
    pub window: Duration,
}

/// Starts the server, loads it, and ends it.
///
/// # Errors
///
/// When it cannot be started or does not answer as MCP says. A wrong answer to a call is part of
/// the outcome.
pub fn run(load: &PipeLoad) -> anyhow::Result<Outcome> {
    let (program, arguments) = load.command.split_first().context("no command")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program:?}"))?;
    let stdin = child.stdin.take().context("no stdin")?;
    let stdout = child.stdout.take().context("no stdout")?;
    let (over, is_over) = mpsc::channel::<()>();
    let limit = load.warm_up + load.window + FINISH_WITHIN;
    // A read has no time limit, but it ends when the child does.
    let watch = thread::spawn(move || watch(&mut child, &is_over, limit));
    let outcome = Loop::new(stdin, stdout, load).and_then(Loop::run);
    drop(over);
    watch.join().map_err(|_| anyhow::anyhow!("the watch panicked"))??;
    outcome
}

/// Waits for the end of the load and of the child, and ends a child that hangs.
fn watch(child: &mut Child, over: &mpsc::Receiver<()>, limit: Duration) -> anyhow::Result<()> {
    if over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
        child.kill()?;
    }
    child.wait()?;
    Ok(())
}

struct Loop<'a> {
    load: &'a PipeLoad,
    stdin: ChildStdin,
    stdout: ChildStdout,
    waiting: HashMap<u64, Instant>,
    last: u64,
    out: Vec<u8>,
    input: Vec<u8>,
    histogram: Histogram<u64>,
}

#[derive(Deserialize)]
struct Head {
    id: u64,
}

impl<'a> Loop<'a> {
    fn new(stdin: ChildStdin, stdout: ChildStdout, load: &'a PipeLoad) -> anyhow::Result<Self> {
        Ok(Self {
            load,
            stdin,
            stdout,
            waiting: HashMap::new(),
            last: 0,
            out: Vec::new(),
            input: Vec::with_capacity(READ_SIZE),
            histogram: Histogram::new_with_bounds(1, 120_000_000_000, 3)?,
        })
    }

    fn run(mut self) -> anyhow::Result<Outcome> {
        if self.load.era == Era::Legacy {
            self.initialize().context("initialize")?;
        }
        let own = std::process::id();
        let spent = cpu::Snapshot::take(own);
        (0..self.load.in_flight).for_each(|_| self.queue());
        let begin = Instant::now() + self.load.warm_up;
        let end = begin + self.load.window;
        let result = self.calls(begin, end);
        let spent = cpu::Snapshot::take(own).since(&spent);
        let us = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
        let histogram = &self.histogram;
        Ok(Outcome {
            calls: histogram.len(),
            errors: u64::from(result.is_err()),
            first_error: result.err().map(|error| format!("{error:#}")),
            seconds: self.load.window.as_secs_f64(),
            p50_us: us(histogram.value_at_quantile(0.50)),
            p95_us: us(histogram.value_at_quantile(0.95)),
            p99_us: us(histogram.value_at_quantile(0.99)),
            max_us: us(histogram.max()),
            proxy: cpu::Spent::default(),
            proxy_children: 0,
            asked: Default::default(),
            client_s: spent.own_s,
        })
    }

    fn initialize(&mut self) -> anyhow::Result<()> {
        wire::write_initialize(&mut self.out, 0);
        self.out.push(b'\n');
        self.flush()?;
        while !self.input.contains(&b'\n') {
            self.read()?;
        }
        wire::check_result(self.input.trim_ascii(), 0)?;
        self.input.clear();
        self.out.extend_from_slice(wire::INITIALIZED);
        self.out.push(b'\n');
        Ok(())
    }

    /// Answers are counted from `begin` to `end`; then nothing is sent any more, and the loop ends
    /// with the last answer.
    fn calls(&mut self, begin: Instant, end: Instant) -> anyhow::Result<()> {
        while !self.waiting.is_empty() {
            self.flush()?;
            self.read()?;
            let now = Instant::now();
            let input = std::mem::take(&mut self.input);
            let mut done = 0;
            for line_end in memchr::memchr_iter(b'\n', &input) {
                let line = input.get(done..line_end).unwrap_or_default();
                done = line_end + 1;
                let sent = self.check(line)?;
                if (begin..end).contains(&now) {
                    let nanoseconds = u64::try_from((now - sent).as_nanos()).unwrap_or(u64::MAX);
                    self.histogram.saturating_record(nanoseconds);
                }
                if now < end {
                    self.queue();
                }
            }
            self.input = input;
            self.input.drain(..done);
        }
        Ok(())
    }

    fn queue(&mut self) {
        self.last += 1;
        wire::write_call(&mut self.out, self.load.era, self.last, &wire::unique_text(0, self.last));
        self.out.push(b'\n');
        self.waiting.insert(self.last, Instant::now());
    }

    /// When the call that `line` answers was sent.
    fn check(&mut self, line: &[u8]) -> anyhow::Result<Instant> {
        let Head { id } = serde_json::from_slice(line).context("not an answer")?;
        wire::check_echo(line, id, &wire::unique_text(0, id))?;
        let Some(sent) = self.waiting.remove(&id) else { bail!("nobody asked with id {id}") };
        Ok(sent)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.stdin.write_all(&self.out).context("write")?;
        self.out.clear();
        Ok(())
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let kept = self.input.len();
        self.input.resize(kept + READ_SIZE, 0);
        let count = self.stdout.read(self.input.get_mut(kept..).unwrap_or_default())?;
        self.input.truncate(kept + count);
        ensure!(count > 0, "the server has ended");
        Ok(())
    }
}
