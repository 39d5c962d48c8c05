//! Standard output, shared by whoever answers, and the answers that come later.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{self, Write as _},
    sync::{
        Arc, Mutex,
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    thread,
    time::Duration,
};

use serde_json::Value;

#[expect(clippy::disallowed_types, reason = "a process of its own, without a runtime")]
type Moment = std::time::Instant;

/// Writes lines. Clones share the buffer.
#[derive(Clone)]
pub(crate) struct Pipe {
    buffer: Arc<Mutex<Vec<u8>>>,
    later: SyncSender<Due>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Moment,
    lines: Vec<u8>,
}

impl Pipe {
    pub(crate) fn start() -> Self {
        let (later, dues) = mpsc::sync_channel(65_536);
        let pipe = Self { buffer: Arc::default(), later };
        let writer = pipe.clone();
        thread::spawn(move || writer.run(&dues));
        pipe
    }

    /// Queues a message. It leaves at the next flush.
    pub(crate) fn send(&self, message: &Value) {
        if let Ok(mut buffer) = self.buffer.lock() {
            append(&mut buffer, message);
        }
    }

    /// Queues messages that leave by themselves after a while.
    pub(crate) fn send_later(&self, delay: Duration, messages: &[Value]) {
        let mut lines = Vec::new();
        for message in messages {
            append(&mut lines, message);
        }
        if delay.is_zero() {
            self.raw(&lines);
        } else {
            // The queue is gone only when the process is ending.
            drop(self.later.send(Due { at: Moment::now() + delay, lines }));
        }
    }

    /// Writes bytes as they are, at once.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        if let Ok(mut buffer) = self.buffer.lock() {
            buffer.extend_from_slice(bytes);
        }
        self.flush();
    }

    /// Writes out what is queued. The peer may have gone: then nothing is left to do.
    pub(crate) fn flush(&self) {
        let Ok(mut buffer) = self.buffer.lock() else { return };
        if !buffer.is_empty() {
            let mut stdout = io::stdout().lock();
            drop(stdout.write_all(&buffer).and_then(|()| stdout.flush()));
            buffer.clear();
        }
    }

    fn run(&self, dues: &mpsc::Receiver<Due>) {
        let mut heap = BinaryHeap::new();
        loop {
            let wait =
                heap.peek().map_or(Duration::from_secs(600), |Reverse(due): &Reverse<Due>| {
                    due.at.saturating_duration_since(Moment::now())
                });
            match dues.recv_timeout(wait) {
                Ok(due) => heap.push(Reverse(due)),
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while heap.peek().is_some_and(|Reverse(due)| due.at <= Moment::now()) {
                if let Some(Reverse(due)) = heap.pop() {
                    self.raw(&due.lines);
                }
            }
        }
    }
}

fn append(buffer: &mut Vec<u8>, message: &Value) {
    // A `Value` always serializes.
    if serde_json::to_writer(&mut *buffer, message).is_ok() {
        buffer.push(b'\n');
    }
}
