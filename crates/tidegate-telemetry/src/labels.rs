//! The closed sets that label values come from.
//!
//! Nothing a peer says becomes a label: methods and reasons are looked up here and fall to `other`,
//! so the number of series depends on the configuration alone.

use tidegate_protocol::{Envelope, Era, Kind as MessageKind};
use tidegate_service::{Body, Kind, Operation, Reply};

/// The values of the label `method`: what MCP defines for the way from client to server, most
/// frequent first because the search is linear, then words for what has no method.
pub const METHODS: [&str; 33] = [
    "tools/call",
    "tools/list",
    "initialize",
    "notifications/initialized",
    "ping",
    "resources/read",
    "resources/list",
    "prompts/list",
    "prompts/get",
    "server/discover",
    "subscriptions/listen",
    "notifications/cancelled",
    "notifications/progress",
    "completion/complete",
    "resources/templates/list",
    "resources/subscribe",
    "resources/unsubscribe",
    "logging/setLevel",
    "notifications/roots/list_changed",
    "tasks/get",
    "tasks/update",
    "tasks/result",
    "tasks/list",
    "tasks/cancel",
    "notifications/tasks/status",
    "sampling/createMessage",
    "elicitation/create",
    "roots/list",
    "notifications/message",
    // From here on: no methods of MCP.
    "response",
    "listen",
    "end_session",
    "other",
];

const NAMED: usize = METHODS.len() - 4;

/// An index into [`METHODS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Method(u8);

impl Method {
    pub(crate) const RESPONSE: Self = Self(NAMED as u8);
    pub(crate) const LISTEN: Self = Self(NAMED as u8 + 1);
    pub(crate) const END_SESSION: Self = Self(NAMED as u8 + 2);
    pub(crate) const OTHER: Self = Self(NAMED as u8 + 3);

    pub(crate) fn of(operation: &Operation) -> Self {
        match operation {
            Operation::Send(envelope) => Self::of_message(envelope),
            Operation::Listen { .. } => Self::LISTEN,
            Operation::EndSession => Self::END_SESSION,
        }
    }

    fn of_message(envelope: &Envelope) -> Self {
        if matches!(envelope.kind(), MessageKind::Response | MessageKind::Error) {
            return Self::RESPONSE;
        }
        let known = envelope.method_among(METHODS.split_at(NAMED).0);
        known.and_then(|index| u8::try_from(index).ok()).map_or(Self::OTHER, Self)
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The values of the label `outcome`.
///
/// The first six say how an answered or abandoned call ended: `ok`; `tool_error`, a result with
/// `isError`; `rpc_error`, a JSON-RPC error; `http_error`, a bare HTTP error status; `failed`, an
/// answer that began and broke off; `cancelled`, dropped before its end. The others are
/// [`Kind::as_str`] of the error that came instead of a reply. `other` is a kind this crate does
/// not know yet.
pub const OUTCOMES: [&str; 23] = [
    "ok",
    "tool_error",
    "rpc_error",
    "http_error",
    "failed",
    "cancelled",
    Kind::BadRequest.as_str(),
    Kind::SessionMissing.as_str(),
    Kind::SessionUnknown.as_str(),
    Kind::NotRouted.as_str(),
    Kind::Unsupported.as_str(),
    Kind::PoolExhausted.as_str(),
    Kind::Timeout.as_str(),
    Kind::Unreachable.as_str(),
    Kind::Overloaded.as_str(),
    Kind::Died.as_str(),
    Kind::Protocol.as_str(),
    Kind::TooLarge.as_str(),
    Kind::Draining.as_str(),
    Kind::Internal.as_str(),
    Kind::StreamGap.as_str(),
    Kind::SlowClient.as_str(),
    "other",
];

/// An index into [`OUTCOMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome(u8);

impl Outcome {
    pub(crate) const OK: Self = Self(0);
    pub(crate) const TOOL_ERROR: Self = Self(1);
    pub(crate) const RPC_ERROR: Self = Self(2);
    pub(crate) const HTTP_ERROR: Self = Self(3);
    pub(crate) const FAILED: Self = Self(4);
    pub(crate) const CANCELLED: Self = Self(5);

    pub(crate) const fn of(kind: Kind) -> Self {
        Self(match kind {
            Kind::BadRequest => 6,
            Kind::SessionMissing => 7,
            Kind::SessionUnknown => 8,
            Kind::NotRouted => 9,
            Kind::Unsupported => 10,
            Kind::PoolExhausted => 11,
            Kind::Timeout => 12,
            Kind::Unreachable => 13,
            Kind::Overloaded => 14,
            Kind::Died => 15,
            Kind::Protocol => 16,
            Kind::TooLarge => 17,
            Kind::Draining => 18,
            Kind::Internal => 19,
            Kind::StreamGap => 20,
            Kind::SlowClient => 21,
            _ => 22,
        })
    }

    /// The outcome of a call that this message answers; `None` for what is no answer.
    pub(crate) fn of_answer(message: &Envelope) -> Option<Self> {
        match message.kind() {
            MessageKind::Error => Some(Self::RPC_ERROR),
            MessageKind::Response if message.is_tool_error() => Some(Self::TOOL_ERROR),
            MessageKind::Response => Some(Self::OK),
            MessageKind::Request | MessageKind::Notification => None,
        }
    }

    /// The outcome of a reply without a stream.
    pub(crate) fn of_whole(reply: &Reply) -> Self {
        match &reply.body {
            Body::One(message) => Self::of_answer(message).unwrap_or(Self::OK),
            Body::Empty if reply.status.is_client_error() || reply.status.is_server_error() => {
                Self::HTTP_ERROR
            }
            Body::Empty | Body::Stream(_) => Self::OK,
        }
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The values of the label `era`, in the order of [`era`].
pub(crate) const ERAS: [&str; 2] = ["legacy", "modern"];

pub(crate) const fn era(era: Era) -> usize {
    match era {
        Era::Legacy => 0,
        Era::Modern => 1,
    }
}

#[cfg(test)]
mod tests {
    use tidegate_service::Kind;

    use tidegate_protocol::Envelope;

    use super::{METHODS, Method, NAMED, OUTCOMES, Outcome};

    #[test]
    fn the_named_indices_point_at_their_words() {
        let pseudo = [
            (Method::RESPONSE, "response"),
            (Method::LISTEN, "listen"),
            (Method::END_SESSION, "end_session"),
            (Method::OTHER, "other"),
        ];
        for (method, word) in pseudo {
            assert_eq!(METHODS[method.index()], word);
        }
        let outcomes = [
            (Outcome::OK, "ok"),
            (Outcome::TOOL_ERROR, "tool_error"),
            (Outcome::RPC_ERROR, "rpc_error"),
            (Outcome::HTTP_ERROR, "http_error"),
            (Outcome::FAILED, "failed"),
            (Outcome::CANCELLED, "cancelled"),
        ];
        for (outcome, word) in outcomes {
            assert_eq!(OUTCOMES[outcome.index()], word);
        }
    }

    #[test]
    fn a_kind_is_counted_under_its_own_word() {
        let kinds = [
            Kind::BadRequest,
            Kind::SessionMissing,
            Kind::SessionUnknown,
            Kind::NotRouted,
            Kind::Unsupported,
            Kind::PoolExhausted,
            Kind::Timeout,
            Kind::Unreachable,
            Kind::Overloaded,
            Kind::Died,
            Kind::Protocol,
            Kind::TooLarge,
            Kind::Draining,
            Kind::Internal,
            Kind::StreamGap,
            Kind::SlowClient,
        ];
        for kind in kinds {
            assert_eq!(OUTCOMES[Outcome::of(kind).index()], kind.as_str());
        }
    }

    #[test]
    fn a_client_cannot_name_its_own_label() {
        let named = |method: &str| {
            let call = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#);
            Method::of_message(&Envelope::parse(call.into()).unwrap())
        };
        for (index, method) in METHODS.into_iter().enumerate().take(NAMED) {
            assert_eq!(named(method).index(), index, "{method}");
        }
        assert_eq!(named(r"resources\/re\u0061d").index(), 5, "escapes stand for the same name");
        for hostile in ["listen", "end_session", "other", "response", "tools/Call", "", r#"a\"{}"#]
        {
            assert_eq!(named(hostile), Method::OTHER, "{hostile:?}");
        }
    }
}
