//! A legacy client that reads one stream to its end, and leaves it and comes back on the way.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::judge::Transcript;
use super::reader::{Opened, Reader, Said, listen, open, said};
use super::run::Run;
use super::wire::Event;
use crate::dice::Dice;

/// How long a stream may bring nothing although its server has something to say. Above what one
/// restart, one stall and a few refused attempts take together on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a reader that waits looks whether it has to wait any longer.
const LOOK: Duration = Duration::from_millis(250);
/// Of a slow reader's socket, in bytes; the kernel doubles it.
const NARROW: u32 = 4 << 10;
/// Event ids that a client still knows.
const KNOWN: usize = 8;

/// When a stream is over.
pub(super) enum Goal {
    /// With the answer to the request of this id.
    Answer(Value),
    /// When so many events were read; the number is known at the end of the run.
    Total(Box<dyn Fn() -> Option<u64>>),
}

/// How a stream came to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As it should.
    Whole,
    /// With an error instead of the answer, which is in order if nothing had come yet.
    Told(String),
    /// It was given up, and there is a finding that says why.
    GivenUp,
}

/// One stream and its reader.
pub(super) struct Follower {
    pub(super) run: Rc<Run>,
    pub(super) path: &'static str,
    pub(super) session: String,
    pub(super) transcript: Transcript,
    pub(super) goal: Goal,
    dice: Dice,
    /// The last event ids, and the number of the event that had each.
    ids: VecDeque<(String, u64)>,
    /// When the client last did something that makes it wait for events itself.
    disturbed: Instant,
    /// When it came back, if no event has come since.
    back: Option<Instant>,
    /// It came back before it had an event id, and nobody owes it what came before.
    begins_anew: bool,
    /// Where the number of the last event is told.
    pub(super) heard: Option<Rc<Cell<u64>>>,
}

/// Why a connection is over.
enum Over {
    End(End),
    /// The client has left it.
    Left,
    /// The other side has closed it, in order or not.
    Broken,
}

impl Follower {
    pub(super) fn new(
        run: &Rc<Run>,
        path: &'static str,
        session: &str,
        name: &str,
        goal: Goal,
    ) -> Self {
        Self {
            run: Rc::clone(run),
            path,
            session: session.to_owned(),
            transcript: Transcript::new(name),
            goal,
            dice: Dice::of(run.seed, name),
            ids: VecDeque::new(),
            disturbed: Instant::now(),
            back: None,
            begins_anew: false,
            heard: None,
        }
    }

    /// The reader has read up to here before.
    pub(super) fn remember(&mut self, id: &str, number: u64) {
        self.ids.push_back((id.to_owned(), number));
    }

    /// Reads from what the first request got, to the end.
    pub(super) async fn follow(&mut self, first: std::io::Result<Opened>) -> End {
        let mut opened = first;
        loop {
            let over = match opened {
                Ok(Opened::Stream(reader)) => self.read(reader).await,
                // Only the first request is answered like this, see `come_back`.
                refused if self.is_answer() => return Self::told(refused),
                Ok(Opened::Other(..)) | Err(_) => Over::Broken,
            };
            match over {
                Over::End(end) => return end,
                Over::Left => self.stay_away().await,
                Over::Broken => {
                    self.run.books.count("streams that the proxy ended early");
                    if self.ids.is_empty() && self.is_answer() {
                        return End::Told("cut before the first event id".to_owned());
                    }
                    self.disturbed = Instant::now();
                    self.pause(500).await;
                }
            }
            opened = match self.come_back().await {
                Ok(opened) => opened,
                Err(end) => return end,
            };
        }
    }

    const fn is_answer(&self) -> bool {
        matches!(self.goal, Goal::Answer(_))
    }

    /// The first request got no stream.
    fn told(refused: std::io::Result<Opened>) -> End {
        End::Told(match refused {
            Ok(Opened::Other(status, body)) => format!("status {status}: {body}"),
            Ok(Opened::Stream(_)) => "a stream".to_owned(),
            Err(error) => error.to_string(),
        })
    }

    async fn read(&mut self, mut reader: Reader) -> Over {
        let has_cuts = self.run.has_cuts;
        let leave_after = has_cuts.then(|| 5 + self.dice.below(60));
        let rest_after = (has_cuts && self.dice.below(8) == 0).then(|| self.dice.below(20));
        let mut count = 0;
        let mut last = Instant::now();
        loop {
            let next = timeout(LOOK, reader.next()).await;
            match next {
                Err(_elapsed) => {
                    if self.is_done() {
                        return Over::End(End::Whole);
                    }
                    if last.elapsed() > PATIENCE {
                        return Over::End(self.give_up("brought nothing"));
                    }
                    continue;
                }
                Ok(Err(_) | Ok(None)) => return Over::Broken,
                Ok(Ok(Some(event))) => {
                    last = Instant::now();
                    count += 1;
                    if let Some(end) = self.take_in(&event) {
                        return Over::End(end);
                    }
                }
            }
            if self.is_done() {
                return Over::End(End::Whole);
            }
            if rest_after == Some(count) {
                self.run.books.count("pauses of slow readers");
                self.pause(6_000).await;
                self.disturbed = Instant::now();
            }
            if leave_after.is_some_and(|after| count >= after)
                && !self.ids.is_empty()
                && !self.run.is_stopping()
            {
                self.leave(reader);
                return Over::Left;
            }
        }
    }

    fn is_done(&self) -> bool {
        match &self.goal {
            Goal::Answer(_) => false,
            Goal::Total(total) => total().is_some_and(|total| self.transcript.at() >= total),
        }
    }

    fn take_in(&mut self, event: &Event) -> Option<End> {
        let books = &self.run.books;
        let (name, number) = match said(event) {
            Said::Place => {
                self.note_id(event, self.transcript.at());
                return None;
            }
            Said::Note(name, number) => (name, number),
            Said::Answer { id, name, number } => {
                let is_ours = matches!(&self.goal, Goal::Answer(ours) if *ours == id);
                // An answer with another id is somebody else's, whatever it says.
                (if is_ours { name } else { format!("{name} as {id}") }, number)
            }
            Said::Failed(code, text) => {
                return Some(match self.transcript.at() {
                    0 => End::Told(format!("{code} {text}")),
                    at => self.give_up(&format!("was told {code} {text} after event {at}")),
                });
            }
            Said::Unknown(text) => {
                books.finding(format!("{}: what is this? {text}", self.transcript.name()));
                return None;
            }
        };
        if event.id.is_none() {
            // Whoever loses the connection now has nothing to come back with.
            books.finding(format!("{}: event {number} has no id", self.transcript.name()));
        }
        books.count("events read");
        if std::mem::take(&mut self.begins_anew) && self.ids.is_empty() {
            self.transcript.begin_after(number.saturating_sub(1));
        }
        self.transcript.saw(&name, number);
        if let Some(heard) = &self.heard {
            heard.set(heard.get().max(number));
        }
        self.note_id(event, number);
        self.note_time(number);
        let is_answer = matches!((&self.goal, said(event)), (Goal::Answer(_), Said::Answer { .. }));
        (is_answer && name == self.transcript.name()).then_some(End::Whole)
    }

    fn note_id(&mut self, event: &Event, number: u64) {
        if let Some(id) = &event.id {
            self.ids.push_back((id.clone(), number));
            if self.ids.len() > KNOWN {
                self.ids.pop_front();
            }
        }
    }

    /// The first event after a break says how long it took.
    fn note_time(&mut self, number: u64) {
        if let Some(back) = self.back.take() {
            self.run.books.took("client comes back", back.elapsed());
        }
        let Some(script) = self.run.web.script(self.transcript.name()) else { return };
        let Some((when, after, what)) = script.cut.get() else { return };
        if number > after {
            script.cut.set(None);
            // Whoever was away himself has waited for himself.
            if self.disturbed < when {
                self.run.books.took(what, when.elapsed());
            }
        }
    }

    fn leave(&mut self, reader: Reader) {
        let books = &self.run.books;
        match self.dice.below(if self.is_replayed() { 3 } else { 2 }) {
            0 => {
                books.count("client closes");
                drop(reader);
            }
            1 => {
                books.count("client resets");
                reader.reset();
            }
            // To the proxy it is still there, and reads nothing.
            _ => {
                books.count("client vanishes without a word");
                let time = Duration::from_millis(1_000 + self.dice.below(8_000) as u64);
                spawn_local(async move {
                    sleep(time).await;
                    drop(reader);
                });
            }
        }
    }

    /// Whether the proxy has the log. Where the server has it, one that has not noticed a departure
    /// would see two readers of one stream.
    fn is_replayed(&self) -> bool {
        self.path != "/web"
    }

    async fn stay_away(&mut self) {
        let most = match self.dice.below(12) {
            0..=3 => 1,
            4..=10 => 1_500,
            _ => 10_000,
        };
        self.pause(most).await;
        self.disturbed = Instant::now();
        if self.dice.below(6) == 0 {
            // What it had read did not reach its memory.
            let keep = 1 + self.dice.below(self.ids.len());
            let goes_back = keep < self.ids.len();
            self.ids.truncate(keep);
            if let Some((_, number)) = self.ids.back().filter(|_| goes_back) {
                self.run.books.count("clients that went back");
                self.transcript.go_back_to(*number);
            }
        }
    }

    async fn pause(&mut self, most: usize) {
        sleep(Duration::from_millis(self.dice.below(most) as u64)).await;
    }

    /// Asks for what follows on the last event, until there is a stream.
    async fn come_back(&mut self) -> Result<std::io::Result<Opened>, End> {
        let began = Instant::now();
        let last = self.ids.back().map(|(id, _)| id.clone());
        let request = listen(self.path, &self.session, last.as_deref());
        self.back = Some(Instant::now());
        self.begins_anew = last.is_none();
        // A slow reader is slow because its window is small.
        let window = (self.dice.below(4) == 0).then_some(NARROW);
        loop {
            let what = match open(self.run.address, &request, window).await {
                Ok(Opened::Stream(reader)) => {
                    self.run.books.count("clients that came back");
                    return Ok(Ok(Opened::Stream(reader)));
                }
                Ok(Opened::Other(410, body)) => {
                    self.run.books.count("gaps told (-31010)");
                    return Err(self.give_up(&format!("a gap is told: {body}")));
                }
                Ok(Opened::Other(status @ (409 | 429 | 500..), _)) => format!("status {status}"),
                Ok(Opened::Other(status, body)) => {
                    return Err(self.give_up(&format!("cannot be resumed: {status} {body}")));
                }
                Err(error) => error.to_string(),
            };
            self.run.books.count("attempts to come back that were refused");
            if began.elapsed() > PATIENCE {
                return Err(self.give_up(&format!("cannot be resumed: {what}")));
            }
            self.pause(1_000).await;
        }
    }

    fn give_up(&self, why: &str) -> End {
        let (name, path, at) = (self.transcript.name(), self.path, self.transcript.at());
        self.run.books.finding(format!("{path} {name} {why} (at event {at})"));
        End::GivenUp
    }
}
