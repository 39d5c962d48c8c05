//! What a server offers to sessions that share it. Pure.
//!
//! A common process keeps one log level, one set of subscriptions and one list of tasks for
//! everybody, and says nothing about whose they are. These are therefore not offered; a client that
//! does without them works as ever.

use serde_json::Value;

/// Methods that mean something only in a process of one's own.
const WITHHELD: [&str; 3] = ["logging/setLevel", "resources/subscribe", "resources/unsubscribe"];

/// The result of a handshake without what cannot be shared; as it is, if there is nothing such.
pub(super) fn shared(result: &[u8]) -> Option<String> {
    let mut result: Value = serde_json::from_slice(result).ok()?;
    let capabilities = result.get_mut("capabilities")?.as_object_mut()?;
    let mut changed = false;
    for name in ["logging", "tasks"] {
        changed |= capabilities.remove(name).is_some();
    }
    if let Some(resources) = capabilities.get_mut("resources").and_then(Value::as_object_mut) {
        changed |= resources.remove("subscribe").is_some();
    }
    changed.then(|| result.to_string())
}

/// Whether a request is refused because the process is shared.
pub(super) fn withholds(method: &str) -> bool {
    WITHHELD.contains(&method) || method.starts_with("tasks/")
}

#[cfg(test)]
mod tests {
    use super::{shared, withholds};

    #[test]
    fn only_what_cannot_be_shared_is_left_out() {
        let check = |before: &str, after: Option<&str>| {
            let result = |capabilities: &str| {
                format!(r#"{{"capabilities":{capabilities},"protocolVersion":"2025-11-25"}}"#)
            };
            let offered = shared(result(before).as_bytes());
            assert_eq!(offered, after.map(result), "{before}");
        };
        check(r#"{"tools":{"listChanged":true}}"#, None);
        check(r#"{"resources":{"listChanged":true}}"#, None);
        check(r#"{"logging":{},"tools":{}}"#, Some(r#"{"tools":{}}"#));
        check(r#"{"tasks":{"list":{}}}"#, Some("{}"));
        check(
            r#"{"resources":{"listChanged":true,"subscribe":true}}"#,
            Some(r#"{"resources":{"listChanged":true}}"#),
        );
        assert_eq!(shared(b"[]"), None);
    }

    #[test]
    fn what_is_not_offered_is_refused() {
        for method in ["logging/setLevel", "resources/subscribe", "tasks/list", "tasks/cancel"] {
            assert!(withholds(method), "{method}");
        }
        for method in ["tools/call", "resources/read", "ping", "task"] {
            assert!(!withholds(method), "{method}");
        }
    }
}
