//! What a server cannot do without a client of its own. Pure.
//!
//! Where sessions share a process, the process is told that its client can do nothing. A server
//! that asks all the same, or whose tools fail for want of it, belongs into a process per session.

use tidegate_protocol::{Envelope, Kind};

/// The ability that a server looked for in its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Sampling,
    Elicitation,
    Roots,
    /// It asked something else.
    Other,
}

impl Need {
    /// The need behind a server's request.
    pub(super) fn of_method(method: &str) -> Self {
        match method {
            "sampling/createMessage" => Self::Sampling,
            "elicitation/create" => Self::Elicitation,
            "roots/list" => Self::Roots,
            _ => Self::Other,
        }
    }

    /// The need that a failed call tells of, in the words that the official SDKs use when a
    /// server wants to ask and the client declared nothing.
    pub(super) fn told_by(answer: &Envelope) -> Option<Self> {
        if answer.kind() == Kind::Response && !answer.is_tool_error() {
            return None;
        }
        let said = answer.error().or_else(|| answer.result())?;
        let text = std::str::from_utf8(said).ok()?.to_ascii_lowercase();
        let (_, missing) = text.split_once("client does not support ")?;
        let words: [(&str, Self); 3] = [
            ("sampling", Self::Sampling),
            ("elicitation", Self::Elicitation),
            ("roots", Self::Roots),
        ];
        // `form elicitation`, `listing roots`: the word comes soon or it is about something else.
        let near = missing.get(..32.min(missing.len())).unwrap_or_default();
        words.into_iter().find(|(word, _)| near.contains(word)).map(|(_, need)| need)
    }

    /// What the server did, for people.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Sampling => "it needs a client for sampling",
            Self::Elicitation => "it needs a client for elicitation",
            Self::Roots => "it needs a client for roots",
            Self::Other => "it asks its client",
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::{Bytes, Envelope};

    use super::Need;

    #[test]
    fn only_a_failure_that_names_an_ability_is_a_need() {
        let result = |text: &str, is_error: bool| {
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"{text}"}}],"isError":{is_error}}}}}"#
            )
        };
        let error = |text: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-32600,"message":"{text}"}}}}"#)
        };
        let sampling = "Client does not support sampling (required for sampling/createMessage)";
        let cases = [
            (error(sampling), Some(Need::Sampling)),
            (result(sampling, true), Some(Need::Sampling)),
            (result(sampling, false), None),
            (result("Client does not support form elicitation.", true), Some(Need::Elicitation)),
            (error("Client does not support listing roots"), Some(Need::Roots)),
            (
                error("client does not support gzip; see the notes about sampling rates of audio"),
                None,
            ),
            (error("the file does not exist"), None),
        ];
        for (json, expected) in cases {
            let answer = Envelope::parse(Bytes::from(json.clone())).unwrap();
            assert_eq!(Need::told_by(&answer), expected, "{json}");
        }
    }
}
