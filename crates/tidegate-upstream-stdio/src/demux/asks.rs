//! The server's own requests, which only legacy servers may make.

use tidegate_protocol::{Bytes, Envelope, Field, Id, rpc};
use tokio::time::Instant;

use super::{Demux, Effects, Item, Mailbox, Mode, Need};

/// How many questions one server may have open. A client answers a handful.
const MAX_ASKS: usize = 256;

/// A server's request that has no answer yet.
#[derive(Debug)]
pub(super) struct Ask {
    /// The server's id.
    server_id: Id,
    place: Place,
}

/// Where a message for the client goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Onto the stream of this request.
    Call(u64),
    /// Onto a stream for what comes unasked, the newest where there are several.
    Listener,
    /// Nowhere yet.
    Outbox,
}

impl Demux {
    /// The process asks something.
    pub(super) fn asked(&mut self, message: &Envelope, now: Instant, fx: &mut Effects) {
        let Some(server_id) = message.id().map(|id| id.detach()) else { return };
        match self.mode {
            Mode::Session => (),
            Mode::Common => return self.asked_by_common(message, &server_id, fx),
            Mode::Modern => return self.forbid(&server_id, "a modern server cannot ask", fx),
        }
        let place = self.place_of_ask(message);
        if place == Place::Outbox && message.is_method("ping") {
            fx.lines.push(rpc::result(&server_id, "{}"));
            return;
        }
        let id = self.last_ask + 1;
        self.last_ask = id;
        let token = id.to_string();
        let envelope = message.edit(&[(Field::Id, token.as_bytes())]);
        let full = self.asks.len() >= MAX_ASKS;
        self.asks.insert(id, Ask { server_id, place });
        if full {
            return self.refuse(Some(id), fx);
        }
        self.place(place, Item { message: envelope, ask: Some(id), since: now }, fx);
    }

    /// A process of many sessions asks, though its client can do nothing.
    fn asked_by_common(&mut self, message: &Envelope, server_id: &Id, fx: &mut Effects) {
        let method = message.method();
        match method.as_deref().unwrap_or_default() {
            "ping" => fx.lines.push(rpc::result(server_id, "{}")),
            method => {
                fx.need = fx.need.or_else(|| Some(Need::of_method(method)));
                self.forbid(server_id, "the client has no such capability", fx);
            }
        }
    }

    fn forbid(&mut self, server_id: &Id, message: &str, fx: &mut Effects) {
        self.counters.violations.increment();
        let code = rpc::code::METHOD_NOT_FOUND;
        fx.lines.push(rpc::error(Some(server_id), code, message, None));
    }

    /// The process takes back one of its requests. The news follows the request.
    pub(super) fn ask_cancelled(&mut self, note: &Envelope, now: Instant, fx: &mut Effects) {
        let Some(server_id) = note.cancelled_request() else { return };
        let matching = self.asks.iter().filter(|(_, ask)| ask.server_id == server_id);
        let Some(id) = matching.map(|(id, _)| *id).max() else {
            self.counters.notifications_dropped.increment();
            return;
        };
        // An answer that comes all the same is a stray one from here on.
        let Some(ask) = self.asks.remove(&id) else { return };
        let place = match ask.place {
            Place::Call(call) if self.reads(call) => ask.place,
            Place::Call(_) | Place::Listener | Place::Outbox => self.unasked(),
        };
        let token = id.to_string();
        let envelope = note.edit(&[(Field::CancelledRequest, token.as_bytes())]);
        self.place(place, Item { message: envelope, ask: None, since: now }, fx);
    }

    /// A client answers a server's request. Returns the line for the process, or `None`, counted,
    /// if there is no such request or it has its answer.
    pub(crate) fn client_answers(&mut self, answer: &Envelope, now: Instant) -> Option<Bytes> {
        let id = answer.id().and_then(|id| id.as_u64());
        let Some(ask) = id.and_then(|id| self.asks.remove(&id)) else {
            self.counters.stray_client_answers.increment();
            return None;
        };
        if let Place::Call(call) = ask.place
            && let Some(call) = self.calls.get_mut(&call)
        {
            // From here on it is the server's turn again.
            call.touched = now;
        }
        Some(answer.edit(&[(Field::Id, ask.server_id.token())]).into_bytes())
    }

    /// Whether the server waits for a client's answer on behalf of this request.
    pub(super) fn owes_client_answer(&self, call: u64) -> bool {
        self.asks.values().any(|ask| ask.place == Place::Call(call))
    }

    /// Tells the process that nobody can take its request.
    pub(super) fn refuse(&mut self, ask: Option<u64>, fx: &mut Effects) {
        let Some(ask) = ask.and_then(|id| self.asks.remove(&id)) else { return };
        self.counters.asks_refused.increment();
        let code = rpc::code::INTERNAL_ERROR;
        let message = "no client took the request in time";
        fx.lines.push(rpc::error(Some(&ask.server_id), code, message, None));
    }

    /// Puts a message where it belongs. A request that finds no room there goes where it can be
    /// read; a notification is dropped and counted.
    pub(super) fn place(&mut self, place: Place, item: Item, fx: &mut Effects) {
        if let Some(ask) = item.ask.and_then(|id| self.asks.get_mut(&id)) {
            ask.place = place;
        }
        match place {
            Place::Call(call) => match self.put(call, item, fx) {
                Some(item) if item.ask.is_some() => self.place(self.unasked(), item, fx),
                Some(_) => self.counters.notifications_dropped.increment(),
                None => (),
            },
            Place::Listener => self.put_listener(item, fx),
            Place::Outbox => self.put_outbox(item, fx),
        }
    }

    /// Finds another reader for what a reader left behind.
    pub(super) fn put_elsewhere(&mut self, mut unread: Mailbox, fx: &mut Effects) {
        while let Some(item) = unread.pop() {
            if item.ask.is_some() {
                self.place(self.unasked(), item, fx);
            } else {
                self.counters.notifications_dropped.increment();
            }
        }
    }

    /// Where messages go that belong to no request.
    pub(super) fn unasked(&self) -> Place {
        if self.listeners.is_empty() { Place::Outbox } else { Place::Listener }
    }

    /// The request that the message names as the one it serves.
    pub(super) fn related(&self, message: &Envelope) -> Option<u64> {
        const KEY: &str = "io.modelcontextprotocol/related-task";
        let meta = message.meta()?;
        memchr::memmem::find(meta, KEY.as_bytes())?;
        let meta: serde_json::Value = serde_json::from_slice(meta).ok()?;
        let task = meta.get(KEY)?.get("taskId")?.as_str()?;
        let waiting = self
            .calls
            .iter()
            .filter(|(_, call)| call.takes_messages() && call.task.as_deref() == Some(task));
        waiting.map(|(id, _)| *id).max()
    }

    fn place_of_ask(&self, message: &Envelope) -> Place {
        let related = self.related(message).or_else(|| self.sole_reader());
        match related {
            Some(call) => Place::Call(call),
            None if !self.listeners.is_empty() => Place::Listener,
            // One of the requests must be meant; a client of one session has them all.
            None => self.latest_reader().map_or(Place::Outbox, Place::Call),
        }
    }

    fn reads(&self, call: u64) -> bool {
        self.calls.get(&call).is_some_and(super::Call::takes_messages)
    }
}
