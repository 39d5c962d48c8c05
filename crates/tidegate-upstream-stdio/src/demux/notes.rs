//! The server's notifications.

use tidegate_protocol::{Envelope, Field, Id, rpc};
use tokio::time::Instant;

use super::{Demux, Effects, Item, Mode, Nature, Phase, Step, asks::Place};

impl Demux {
    pub(super) fn notified(&mut self, message: Envelope, now: Instant, fx: &mut Effects) {
        match self.mode {
            Mode::Session => self.session_note(message, now, fx),
            Mode::Common => self.common_note(message, now, fx),
            Mode::Modern => self.modern_note(message, now, fx),
        }
    }

    /// Sessions that share a process all hear that a list has changed. What else the server says
    /// is one session's business, and reaches it only where it is certain whose.
    fn common_note(&mut self, message: Envelope, now: Instant, fx: &mut Effects) {
        let method = message.method();
        let owner = match method.as_deref().unwrap_or_default() {
            "notifications/progress" => return self.progress(&message, now, fx),
            "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed" => {
                drop(method);
                return self.tell_all(&Item { message, ask: None, since: now }, fx);
            }
            "notifications/message" => {
                self.forget_echoes(now);
                self.sole_reader().filter(|_| self.echoes.is_empty())
            }
            _ => None,
        };
        drop(method);
        match owner {
            Some(id) => {
                self.place(Place::Call(id), Item { message, ask: None, since: now }, fx);
            }
            None => self.counters.notifications_dropped.increment(),
        }
    }

    fn session_note(&mut self, message: Envelope, now: Instant, fx: &mut Effects) {
        let method = message.method();
        let place = match method.as_deref().unwrap_or_default() {
            "notifications/progress" => return self.progress(&message, now, fx),
            "notifications/cancelled" => return self.ask_cancelled(&message, now, fx),
            // News about the server concern no request, even if one is in flight.
            "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed"
            | "notifications/resources/updated"
            | "notifications/tasks/status" => match self.unasked() {
                Place::Outbox => self.sole_reader().map_or(Place::Outbox, Place::Call),
                place => place,
            },
            _ => {
                let related = self.related(&message).or_else(|| self.sole_reader());
                related.map_or_else(|| self.unasked(), Place::Call)
            }
        };
        drop(method);
        self.place(place, Item { message, ask: None, since: now }, fx);
    }

    fn modern_note(&mut self, message: Envelope, now: Instant, fx: &mut Effects) {
        if let Some(subscription) = message.subscription_id() {
            return self.subscribed(&message, &subscription, now, fx);
        }
        let owner = match message.method().as_deref().unwrap_or_default() {
            "notifications/progress" => return self.progress(&message, now, fx),
            "notifications/cancelled" => return self.listen_cancelled(&message, fx),
            "notifications/message" => self.sole_logger(now),
            _ => None,
        };
        match owner {
            Some(id) => {
                self.place(Place::Call(id), Item { message, ask: None, since: now }, fx);
            }
            // Many clients share the process: what is nobody's is not everybody's.
            None => self.counters.notifications_dropped.increment(),
        }
    }

    fn progress(&mut self, message: &Envelope, now: Instant, fx: &mut Effects) {
        let owner = message.notified_progress().and_then(|token| self.by_token(&token));
        let token = owner.and_then(|id| self.calls.get(&id)).and_then(|call| call.token.as_ref());
        let (Some(id), Some(token)) = (owner, token) else {
            self.counters.notifications_dropped.increment();
            return;
        };
        let envelope = message.edit(&[(Field::NotifiedProgress, token.token())]);
        // The answer to a handshake is its whole reply.
        let place = match self.calls.get(&id) {
            Some(call) if call.takes_messages() => Place::Call(id),
            _ if self.mode == Mode::Session => self.unasked(),
            _ => {
                self.counters.notifications_dropped.increment();
                return;
            }
        };
        self.place(place, Item { message: envelope, ask: None, since: now }, fx);
    }

    fn subscribed(&mut self, message: &Envelope, ours: &Id, now: Instant, fx: &mut Effects) {
        let listen = ours.as_u64().filter(|id| self.is_open_listen(*id));
        let client_id = listen.and_then(|id| self.calls.get(&id)).map(|call| &call.client_id);
        let (Some(id), Some(client_id)) = (listen, client_id) else {
            self.counters.notifications_dropped.increment();
            return;
        };
        let envelope = message.edit(&[(Field::SubscriptionId, client_id.token())]);
        self.place(Place::Call(id), Item { message: envelope, ask: None, since: now }, fx);
    }

    /// The other of the two ways in which a server may end a subscription. Clients get the one way
    /// that HTTP has, which is the result.
    fn listen_cancelled(&mut self, note: &Envelope, fx: &mut Effects) {
        let id = note.cancelled_request().and_then(|id| id.as_u64());
        let Some(id) = id.filter(|id| self.is_open_listen(*id)) else {
            self.counters.notifications_dropped.increment();
            return;
        };
        let result = format!(
            r#"{{"resultType":"complete","_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}"#
        );
        let end = match Envelope::parse(rpc::result(&Id::from_u64(id), &result)) {
            Ok(answer) => Step::Answer(answer),
            Err(_) => Step::Broken,
        };
        self.end(id, end, fx);
    }

    pub(super) fn is_open_listen(&self, id: u64) -> bool {
        let open =
            |call: &super::Call| call.nature == Nature::Listen && matches!(call.phase, Phase::Open);
        self.calls.get(&id).is_some_and(open)
    }

    fn forget_echoes(&mut self, now: Instant) {
        self.echoes.retain(|(until, _)| now < *until);
    }

    /// The one request that can be logging, if there is exactly one.
    fn sole_logger(&mut self, now: Instant) -> Option<u64> {
        self.forget_echoes(now);
        if !self.echoes.is_empty() {
            return None;
        }
        let mut loggers =
            self.calls.iter().filter(|(_, call)| call.logs && matches!(call.phase, Phase::Open));
        let sole = loggers.next().map(|(id, _)| *id);
        sole.filter(|_| loggers.next().is_none())
    }
}
