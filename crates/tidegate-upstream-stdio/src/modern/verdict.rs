//! Whether a server is modern, judged by its answer to `server/discover`. Pure.

use serde_json::Value;
use tidegate_protocol::{Envelope, Era, Kind, Version, rpc};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Modern,
    /// It speaks these versions instead.
    Legacy(Vec<String>),
}

/// The request that tells. Its id is replaced on the way.
pub(super) fn question() -> Option<Envelope> {
    own("server/discover", "")
}

/// The request for a page of tools.
pub(super) fn listing(cursor: Option<&str>) -> Option<Envelope> {
    let cursor = cursor.map(|cursor| format!(r#""cursor":{},"#, rpc::quote(cursor)));
    own("tools/list", &cursor.unwrap_or_default())
}

/// A modern request of our own.
fn own(method: &str, params: &str) -> Option<Envelope> {
    let params = format!(
        concat!(
            r#"{{{}"_meta":{{"io.modelcontextprotocol/protocolVersion":"{}","#,
            r#""io.modelcontextprotocol/clientInfo":{{"name":"tidegate","version":"{}"}},"#,
            r#""io.modelcontextprotocol/clientCapabilities":{{}}}}}}"#
        ),
        params,
        Version::LATEST,
        env!("CARGO_PKG_VERSION")
    );
    let id = tidegate_protocol::Id::from_u64(1);
    Envelope::parse(rpc::request(&id, method, &params)).ok()
}

/// Judges an answer. A legacy server may say anything to a method that it does not know, so that
/// only what no legacy server says makes a modern one.
pub(super) fn judge(answer: &Envelope) -> Verdict {
    if answer.kind() == Kind::Response {
        return match strings(answer.result(), |result| result.get("supportedVersions")) {
            Some(versions) => among(versions),
            None => Verdict::Legacy(legacy_versions()),
        };
    }
    match answer.error_code() {
        Some(rpc::code::HEADER_MISMATCH | rpc::code::MISSING_CLIENT_CAPABILITY) => Verdict::Modern,
        Some(rpc::code::UNSUPPORTED_VERSION) => {
            let list = strings(answer.error(), |error| error.get("data")?.get("supported"));
            list.map_or_else(|| Verdict::Legacy(legacy_versions()), among)
        }
        Some(_) | None => Verdict::Legacy(legacy_versions()),
    }
}

/// What a server speaks that did not say.
pub(super) fn legacy_versions() -> Vec<String> {
    let legacy = Version::ALL.into_iter().rev().filter(|version| version.era() == Era::Legacy);
    legacy.map(|version| version.as_str().to_owned()).collect()
}

/// The versions as a JSON array.
pub(super) fn supported_list(versions: &[String]) -> String {
    let quoted: Vec<String> = versions.iter().map(|version| rpc::quote(version)).collect();
    format!("[{}]", quoted.join(","))
}

fn among(versions: Vec<String>) -> Verdict {
    let is_modern = |version: &String| {
        Version::parse(version).is_some_and(|version| version.era() == Era::Modern)
    };
    if versions.iter().any(is_modern) {
        Verdict::Modern
    } else if versions.is_empty() {
        Verdict::Legacy(legacy_versions())
    } else {
        Verdict::Legacy(versions)
    }
}

fn strings(
    raw: Option<&[u8]>,
    find: impl for<'v> Fn(&'v Value) -> Option<&'v Value>,
) -> Option<Vec<String>> {
    let value: Value = serde_json::from_slice(raw?).ok()?;
    let items = find(&value)?.as_array()?;
    Some(items.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::{Bytes, Envelope};

    use super::{Verdict, judge, legacy_versions, question, supported_list};

    #[test]
    fn only_what_a_modern_server_says_makes_one() {
        let legacy = || Verdict::Legacy(legacy_versions());
        let named = |name: &str| Verdict::Legacy(vec![name.to_owned()]);
        let cases = [
            (r#""result":{"supportedVersions":["2026-07-28"]}"#, Verdict::Modern),
            (r#""result":{"supportedVersions":["2025-11-25","2026-07-28"]}"#, Verdict::Modern),
            (r#""result":{"supportedVersions":["2025-11-25"]}"#, named("2025-11-25")),
            (r#""result":{"supportedVersions":[]}"#, legacy()),
            (r#""result":{}"#, legacy()),
            (r#""error":{"code":-32601,"message":"?"}"#, legacy()),
            (r#""error":{"code":-32600,"message":"not initialized"}"#, legacy()),
            (r#""error":{"code":-32020,"message":"?"}"#, Verdict::Modern),
            (r#""error":{"code":-32021,"message":"?"}"#, Verdict::Modern),
            (r#""error":{"code":-32022,"message":"?"}"#, legacy()),
            (
                r#""error":{"code":-32022,"message":"?","data":{"supported":["2025-06-18"]}}"#,
                named("2025-06-18"),
            ),
        ];
        for (body, expected) in cases {
            let json = format!(r#"{{"jsonrpc":"2.0","id":1,{body}}}"#);
            let answer = Envelope::parse(Bytes::from(json)).unwrap();
            assert_eq!(judge(&answer), expected, "{body}");
        }
    }

    #[test]
    fn the_question_is_a_valid_modern_request() {
        let question = question().unwrap();
        assert_eq!(question.meta_version().as_deref(), Some("2026-07-28"));
        assert!(question.has_client_capabilities());
    }

    #[test]
    fn what_a_server_says_stays_data() {
        let odd = ["2025-06-18".to_owned(), "a\"],\"b".to_owned()];
        assert_eq!(supported_list(&odd), r#"["2025-06-18","a\"],\"b"]"#);
    }
}
