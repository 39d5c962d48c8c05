//! Which headers cross the hop.
//!
//! What the client may say to the server at all was decided by the route's policy before. Here
//! goes what belongs to one connection, and what this side says itself.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, HOST},
};
use tidegate_protocol::header::{LAST_EVENT_ID, MCP_SESSION_ID};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const JSON_OR_EVENTS: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// The same value in memory of its own. A value that came in a head shares the buffer which the head
/// was read into, and keeps all of it.
#[must_use]
pub fn detached(value: &HeaderValue) -> HeaderValue {
    match HeaderValue::from_bytes(value.as_bytes()) {
        Ok(mut own) => {
            own.set_sensitive(value.is_sensitive());
            own
        }
        // What is a value is one in other memory too.
        Err(_) => value.clone(),
    }
}

/// What every request to one server carries.
#[derive(Debug)]
pub struct Always {
    /// The value of `Host`.
    pub host: HeaderValue,
    /// What the configuration adds.
    pub configured: HeaderMap,
}

/// What a request says about itself.
#[derive(Debug)]
pub enum Purpose {
    /// It brings a message.
    Send,
    /// It opens a stream, perhaps where another one ended.
    Listen(Option<HeaderValue>),
    /// It ends a session.
    End,
}

impl Always {
    /// Turns the client's headers into those of the request.
    pub fn add_to(&self, headers: &mut HeaderMap, purpose: Purpose, session: Option<HeaderValue>) {
        strip(headers, is_of_request_hop);
        headers.insert(HOST, self.host.clone());
        headers.insert(ACCEPT_ENCODING, IDENTITY);
        match purpose {
            Purpose::Send => {
                headers.insert(CONTENT_TYPE, JSON);
                headers.insert(ACCEPT, JSON_OR_EVENTS);
            }
            Purpose::Listen(last_event_id) => {
                headers.remove(CONTENT_TYPE);
                headers.insert(ACCEPT, EVENTS);
                if let Some(id) = last_event_id {
                    headers.insert(LAST_EVENT_ID, id);
                }
            }
            Purpose::End => {
                headers.remove(CONTENT_TYPE);
                headers.remove(ACCEPT);
            }
        }
        if let Some(id) = session {
            headers.insert(MCP_SESSION_ID, id);
        }
        for name in self.configured.keys() {
            headers.remove(name);
        }
        for (name, value) in &self.configured {
            headers.append(name, value.clone());
        }
    }
}

/// The server's headers that are meant for the client.
pub fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    if headers.keys().all(|name| is_of_response_hop(name.as_str())) {
        // Most responses have nothing more to say.
        return HeaderMap::new();
    }
    strip(&mut headers, is_of_response_hop);
    headers
}

/// Removes the headers that `is_ours` names, and those that `Connection` names.
fn strip(headers: &mut HeaderMap, is_ours: fn(&str) -> bool) {
    if headers.contains_key(CONNECTION) {
        strip_nominated(headers);
    }
    // Few are left to remove, so looking first is cheaper than trying every name.
    while let Some(name) = headers.keys().find(|name| is_ours(name.as_str())).cloned() {
        headers.remove(name);
    }
}

fn strip_nominated(headers: &mut HeaderMap) {
    let lines: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
    let names = lines.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    for name in names.filter_map(|name| HeaderName::try_from(name.trim()).ok()) {
        // MCP's headers are end to end, whatever a peer says.
        if !name.as_str().starts_with("mcp-") {
            headers.remove(name);
        }
    }
}

fn is_of_any_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "content-length"
            | "content-encoding"
            | "mcp-session-id"
    )
}

/// What is set anew for every request is not among these: to overwrite is cheaper than to remove.
fn is_of_request_hop(name: &str) -> bool {
    is_of_any_hop(name) || matches!(name, "expect" | "last-event-id")
}

fn is_of_response_hop(name: &str) -> bool {
    is_of_any_hop(name)
        || matches!(name, "content-type" | "server" | "date" | "alt-svc")
        || name.starts_with("access-control-")
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{Always, Purpose, detached, end_to_end};

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static(value));
            headers.append(name, value);
        }
        headers
    }

    fn sorted(headers: &HeaderMap) -> Vec<String> {
        let lines =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        let mut lines: Vec<_> = lines.collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_detached_value_is_the_same_and_shares_no_memory() {
        let head = bytes::Bytes::from_static(b"a value");
        let mut value = HeaderValue::from_maybe_shared(head.clone()).unwrap();
        assert_eq!(value.as_bytes().as_ptr(), head.as_ptr());
        value.set_sensitive(true);
        let own = detached(&value);
        assert_eq!((&own, own.is_sensitive()), (&value, true));
        assert_ne!(own.as_bytes().as_ptr(), head.as_ptr());
    }

    #[test]
    fn a_request_carries_ours_the_routes_and_nothing_of_the_other_hop() {
        let always = Always {
            host: HeaderValue::from_static("a.example"),
            configured: map(&[("x-key", "one"), ("x-key", "two")]),
        };
        let client = [
            ("connection", "close, x-secret, mcp-protocol-version"),
            ("x-secret", "1"),
            ("x-key", "of the client"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("content-length", "7"),
            ("host", "other.example"),
            ("accept-encoding", "gzip"),
            ("mcp-session-id", "of the client"),
            ("mcp-protocol-version", "2025-06-18"),
            ("mcp-name", "=?base64?eA==?="),
            ("last-event-id", "9"),
            ("expect", "100-continue"),
        ];
        let mut headers = map(&client);
        let session = HeaderValue::from_static("of the server");
        always.add_to(&mut headers, Purpose::Send, Some(session));
        let expected = [
            "accept-encoding: identity",
            "accept: application/json, text/event-stream",
            "content-type: application/json",
            "host: a.example",
            "mcp-name: =?base64?eA==?=",
            "mcp-protocol-version: 2025-06-18",
            "mcp-session-id: of the server",
            "x-key: one",
            "x-key: two",
        ];
        assert_eq!(sorted(&headers), expected);

        let mut headers = map(&client);
        let id = Some(HeaderValue::from_static("12"));
        always.add_to(&mut headers, Purpose::Listen(id), None);
        let lines = sorted(&headers);
        assert!(lines.contains(&"accept: text/event-stream".to_owned()), "{lines:?}");
        assert!(lines.contains(&"last-event-id: 12".to_owned()), "{lines:?}");
        assert!(!lines.iter().any(|line| line.starts_with("content-type")), "{lines:?}");
    }

    #[test]
    fn a_response_keeps_what_is_end_to_end() {
        let server = [
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("content-type", "application/json"),
            ("content-length", "2"),
            ("date", "now"),
            ("server", "x"),
            ("set-cookie", "a=b"),
            ("access-control-allow-origin", "*"),
            ("alt-svc", "h3"),
            ("mcp-session-id", "s"),
            ("www-authenticate", "Bearer"),
            ("x-request-id", "7"),
            ("x-request-id", "8"),
        ];
        let kept = end_to_end(map(&server));
        assert_eq!(
            sorted(&kept),
            ["set-cookie: a=b", "www-authenticate: Bearer", "x-request-id: 7", "x-request-id: 8"]
        );
    }
}
