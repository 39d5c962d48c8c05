//! What a scripted server says on one stream, and when. Events are numbered, and each is a function
//! of its stream and its number: that is the event store, which no restart can lose.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::dice::Dice;

/// A mistake that a server makes on purpose, once a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    Loses,
    Doubles,
    Swaps,
    Strays,
    /// Comes back one event too late.
    Skips,
    /// Ends a stream without the answer.
    Stops,
}

/// Where in the stream a mistake is made.
const MISTAKEN: u64 = 5;

/// One stream.
pub(super) struct Script {
    pub(super) name: String,
    /// The upstream's session; `None` in the modern era.
    pub(super) session: Option<String>,
    pub(super) start: Instant,
    pub(super) every: Duration,
    /// How many events come before the answer; `None` where nothing is answered.
    pub(super) count: Option<u64>,
    /// The id of the request.
    pub(super) id: Value,
    pub(super) padding: usize,
    pub(super) has_ids: bool,
    pub(super) dice: RefCell<Dice>,
    pub(super) mistake: Option<Mistake>,
    /// Which connection carries the stream; a newer one takes it over.
    pub(super) turn: Cell<u64>,
    pub(super) bell: Notify,
    /// The last cut: when, after which event, and what it was.
    pub(super) cut: Cell<Option<(Instant, u64, &'static str)>>,
    /// Whether a server ever cut it.
    pub(super) was_cut: Cell<bool>,
    /// Whether the reader was seen to leave.
    pub(super) was_left: Cell<bool>,
    /// How many attempts to come back are refused next.
    pub(super) refusals: Cell<u32>,
    /// The last event that was written.
    pub(super) written: Cell<u64>,
}

impl Script {
    /// The number of the last event at `now`, of a stream that is over or else may be told so.
    pub(super) fn due(&self, now: Instant, stopped: Option<Instant>) -> u64 {
        let until = stopped.unwrap_or(now).saturating_duration_since(self.start);
        let due =
            u64::try_from(until.as_nanos() / self.every.as_nanos().max(1)).unwrap_or(u64::MAX);
        match self.count {
            // Nobody wants to wait for the rest.
            Some(count) if stopped.is_some() => count + 1,
            Some(count) => due.min(count + 1),
            None => due,
        }
    }

    pub(super) fn due_at(&self, number: u64) -> Instant {
        self.start + self.every * u32::try_from(number).unwrap_or(u32::MAX)
    }

    pub(super) fn is_answer(&self, number: u64) -> bool {
        self.count.is_some_and(|count| number == count + 1)
    }

    /// The bytes of the events up to `number`, mistakes included.
    pub(super) fn event(&self, number: u64) -> Vec<u8> {
        let say = |name: &str, number| self.one(name, number);
        match self.mistake {
            Some(Mistake::Loses) if number == MISTAKEN => Vec::new(),
            Some(Mistake::Doubles) if number == MISTAKEN => {
                [say(&self.name, number), say(&self.name, number)].concat()
            }
            Some(Mistake::Swaps) if number == MISTAKEN => say(&self.name, number + 1),
            Some(Mistake::Swaps) if number == MISTAKEN + 1 => say(&self.name, number - 1),
            Some(Mistake::Strays) if number == MISTAKEN => {
                [say("somebody-else", 1), say(&self.name, number)].concat()
            }
            _ => say(&self.name, number),
        }
    }

    fn one(&self, name: &str, number: u64) -> Vec<u8> {
        let message = match self.is_answer(number) {
            true => answer(&self.id, name, number),
            false => note(name, number, self.padding),
        };
        match self.has_ids {
            true => format!("id: {name}_{number}\ndata: {message}\n\n").into_bytes(),
            false => format!("data: {message}\n\n").into_bytes(),
        }
    }

    /// The place from which a reader goes on that has seen up to `number`.
    pub(super) fn resumed_from(&self, number: u64) -> u64 {
        let skips = u64::from(self.mistake == Some(Mistake::Skips));
        number + skips
    }

    /// Where the stream ends too early.
    pub(super) fn stops_at(&self) -> Option<u64> {
        (self.mistake == Some(Mistake::Stops)).then_some(MISTAKEN)
    }
}

fn note(name: &str, number: u64, padding: usize) -> String {
    let padding = "x".repeat(padding);
    let data = json!({"stream": name, "event": number, "padding": padding});
    let params = json!({"level": "info", "data": data});
    json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params}).to_string()
}

pub(super) fn answer(id: &Value, name: &str, number: u64) -> String {
    let content = json!({"stream": name, "event": number});
    let result = json!({"content": [], "structuredContent": content, "resultType": "complete"});
    json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
}

/// The stream and the place that an event id names.
pub(super) fn place(id: &str) -> Option<(&str, u64)> {
    let (name, number) = id.rsplit_once('_')?;
    Some((name, number.parse().ok()?))
}
