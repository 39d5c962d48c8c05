//! What is refused before the body is looked at: framing tricks, foreign hosts and origins, and
//! heads larger than any honest client sends.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, StatusCode, Version, header, request::Parts, uri::Authority};

use super::error::Rejection;
use crate::{
    params::{Limits, Params, Security},
    stats::Refused,
};

/// The rules of one listener.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    limits: Limits,
    security: Security,
    is_loopback: bool,
    /// Spellings of `Host` that need no closer look: those that nearly every client sends.
    usual_hosts: Vec<HeaderValue>,
}

impl Guard {
    /// The rules for a listener at this address.
    pub(crate) fn new(params: &Params, address: SocketAddr) -> Self {
        let mut guard = Self {
            limits: params.limits,
            security: params.security.clone(),
            is_loopback: address.ip().is_loopback(),
            usual_hosts: Vec::new(),
        };
        let port = address.port();
        let named = params.security.allowed_hosts.iter().cloned();
        let hosts = named.chain([address.ip().to_string(), "localhost".to_owned()]);
        guard.usual_hosts = hosts
            .filter(|host| guard.serves(host))
            .flat_map(|host| [format!("{host}:{port}"), host])
            .filter_map(|host| HeaderValue::try_from(host).ok())
            .filter(|host| authority(host).is_some())
            .collect();
        guard
    }

    pub(crate) fn check(&self, head: &Parts) -> Result<(), Rejection> {
        self.sizes(head)?;
        framing(head)?;
        self.host(head)?;
        self.origin(&head.headers)
    }

    /// The value for `Access-Control-Allow-Origin`, if a browser asks from a welcome origin.
    pub(super) fn cors_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        self.is_welcome(origin).then(|| origin.clone())
    }

    fn sizes(&self, head: &Parts) -> Result<(), Rejection> {
        let target = head.uri.path_and_query().map_or(1, |target| target.as_str().len());
        if target > self.limits.max_uri {
            return Err(too_large(StatusCode::URI_TOO_LONG, "the request target is too long"));
        }
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        if head.headers.len() > self.limits.max_headers {
            return Err(too_large(status, "too many header lines"));
        }
        let mut total = 0;
        for (name, value) in &head.headers {
            total += name.as_str().len() + value.len();
            if value.len() > self.limits.max_header_value {
                return Err(too_large(status, "a header value is too long"));
            }
        }
        if total > self.limits.max_header_bytes {
            return Err(too_large(status, "the headers are too long"));
        }
        Ok(())
    }

    fn host(&self, head: &Parts) -> Result<(), Rejection> {
        let mut hosts = head.headers.get_all(header::HOST).iter();
        let (host, second) = (hosts.next(), hosts.next());
        if second.is_some() {
            return Err(malformed("more than one Host header"));
        }
        if head.uri.authority().is_none()
            && host.is_some_and(|host| self.usual_hosts.contains(host))
        {
            return Ok(());
        }
        let host = match host {
            // Required whatever the target says (RFC 9112, 3.2).
            None if head.version < Version::HTTP_2 => return Err(malformed("no Host header")),
            None => None,
            Some(host) => Some(authority(host).ok_or_else(|| malformed("invalid Host header"))?),
        };
        // In HTTP/2, and in the absolute form of HTTP/1.1, the target names the host as well.
        let host = match (head.uri.authority(), host) {
            (Some(target), Some(host)) if !same_authority(target, &host) => {
                return Err(malformed("the request target and the Host header differ"));
            }
            (Some(target), _) if !is_plain(target) => {
                return Err(malformed("the request target names no plain host"));
            }
            (Some(target), _) => target.clone(),
            (None, Some(host)) => host,
            (None, None) => return Err(malformed("no Host header")),
        };
        if self.serves(host.host()) {
            return Ok(());
        }
        Err(Rejection::invalid(
            StatusCode::FORBIDDEN,
            Refused::Host,
            "this Host is not served here; list it under security.allowed_hosts",
        ))
    }

    fn serves(&self, host: &str) -> bool {
        let listed = &self.security.allowed_hosts;
        listed.iter().any(|each| each.eq_ignore_ascii_case(host))
            || if self.is_loopback { is_loopback_name(host) } else { listed.is_empty() }
    }

    fn origin(&self, headers: &HeaderMap) -> Result<(), Rejection> {
        let refused = |origin| !self.is_welcome(origin);
        if headers.get_all(header::ORIGIN).iter().any(refused) {
            return Err(Rejection::invalid(
                StatusCode::FORBIDDEN,
                Refused::Origin,
                "this Origin is not welcome; list it under security.allowed_origins",
            ));
        }
        Ok(())
    }

    fn is_welcome(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        if self.security.allowed_origins.iter().any(|each| each.eq_ignore_ascii_case(origin)) {
            return true;
        }
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let host = rest.and_then(|rest| rest.parse::<Authority>().ok());
        self.is_loopback && host.is_some_and(|host| is_loopback_name(host.host()))
    }
}

/// Forms by which one request is smuggled inside another, or a security header is made to vanish
/// on the way. The library has refused most; these it lets through.
fn framing(head: &Parts) -> Result<(), Rejection> {
    let headers = &head.headers;
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(malformed("Transfer-Encoding must be `chunked` and nothing else"));
    }
    if headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(malformed("more than one Content-Length header"));
    }
    if head.version < Version::HTTP_2 && headers.get_all(header::CONNECTION).iter().any(hides) {
        return Err(malformed("Connection names a header that must reach the server"));
    }
    if !is_plain_path(head.uri.path()) {
        return Err(malformed("the path must be plain: no escapes, no dot segments"));
    }
    Ok(())
}

fn is_plain_path(path: &str) -> bool {
    // Nearly every path is plain by its characters alone.
    if !path.bytes().any(|byte| matches!(byte, b'%' | b'\\' | b';' | b'.')) {
        return true;
    }
    !path.contains(['%', '\\', ';']) && !path.split('/').any(|part| part == ".." || part == ".")
}

/// Whether a `Connection` value asks to drop a header that matters end to end.
fn hides(value: &HeaderValue) -> bool {
    const KEPT: [&[u8]; 5] =
        [b"authorization", b"host", b"origin", b"content-type", b"last-event-id"];
    let begins = |name: &[u8], start: &[u8]| {
        name.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
    };
    value.as_bytes().split(|byte| *byte == b',').any(|name| {
        let name = name.trim_ascii();
        KEPT.iter().any(|kept| kept.eq_ignore_ascii_case(name))
            || begins(name, b"x-forwarded-")
            || begins(name, b"mcp-")
    })
}

fn authority(value: &HeaderValue) -> Option<Authority> {
    value.to_str().ok()?.parse().ok().filter(is_plain)
}

/// Whether an authority is a host and perhaps a port. The parser also takes a user, and any text
/// in place of the port.
fn is_plain(authority: &Authority) -> bool {
    let host = authority.host();
    let port = authority.as_str().strip_prefix(host);
    !host.is_empty()
        && port.is_some_and(|port| port.is_empty() || port == ":" || authority.port_u16().is_some())
}

fn same_authority(target: &Authority, host: &Authority) -> bool {
    target.host().eq_ignore_ascii_case(host.host())
        && target.port_u16().unwrap_or(80) == host.port_u16().unwrap_or(80)
}

fn is_loopback_name(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn malformed(what: &'static str) -> Rejection {
    Rejection::invalid(StatusCode::BAD_REQUEST, Refused::Headers, what)
}

fn too_large(status: StatusCode, what: &'static str) -> Rejection {
    Rejection::invalid(status, Refused::TooLarge, what)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use http::{Request, StatusCode, request::Parts};

    use super::Guard;
    use crate::params::{Params, Security};

    fn head(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn address(is_loopback: bool) -> SocketAddr {
        let ip = if is_loopback { "127.0.0.1" } else { "192.0.2.1" };
        SocketAddr::new(ip.parse().unwrap(), 8080)
    }

    #[track_caller]
    fn check(is_loopback: bool, uri: &str, headers: &[(&str, &str)], expected: Option<u16>) {
        let security = Security {
            allowed_hosts: vec!["mcp.example".into()],
            allowed_origins: vec!["https://app.example".into()],
        };
        let guard = Guard::new(&Params { security, ..Params::default() }, address(is_loopback));
        let refused = guard.check(&head(uri, headers)).err().map(|each| each.status);
        let expected = expected.map(|code| StatusCode::from_u16(code).unwrap());
        assert_eq!(refused, expected, "{uri} {headers:?}");
    }

    #[test]
    fn hosts_on_a_loopback_listener() {
        for (host, expected) in [
            ("127.0.0.1:8080", None),
            ("localhost", None),
            ("LOCALHOST:1", None),
            ("[::1]:8080", None),
            ("mcp.example", None),
            ("evil.example", Some(403)),
            ("localhost.evil.example", Some(403)),
            ("127.0.0.1.evil.example", Some(403)),
            ("a@localhost", Some(400)),
            ("b/../", Some(400)),
            ("localhost:evil.example", Some(400)),
            ("localhost:99999", Some(400)),
            ("localhost:", None),
            ("", Some(400)),
        ] {
            check(true, "/mcp", &[("host", host)], expected);
        }
        check(true, "/mcp", &[], Some(400));
        check(true, "/mcp", &[("host", "localhost"), ("host", "localhost")], Some(400));
        check(true, "http://169.254.169.254/mcp", &[("host", "localhost")], Some(400));
        check(true, "http://localhost/mcp", &[], Some(400));
        check(true, "http://localhost:x/mcp", &[("host", "localhost")], Some(400));
        check(true, "http://user@localhost/mcp", &[("host", "localhost")], Some(400));
        check(true, "http://localhost/mcp", &[("host", "localhost")], None);
    }

    #[test]
    fn hosts_elsewhere_are_those_listed() {
        check(false, "/mcp", &[("host", "mcp.example")], None);
        check(false, "/mcp", &[("host", "localhost")], Some(403));
        let any = Guard::new(&Params::default(), address(false));
        assert!(any.check(&head("/mcp", &[("host", "anything.example")])).is_ok());
    }

    #[test]
    fn origins() {
        for (is_loopback, origin, expected) in [
            (true, "http://localhost:3000", None),
            (true, "https://127.0.0.1", None),
            (true, "https://app.example", None),
            (true, "https://evil.example", Some(403)),
            (true, "null", Some(403)),
            (true, "http://localhost.evil.example", Some(403)),
            (false, "http://localhost:3000", Some(403)),
            (false, "https://app.example", None),
        ] {
            check(is_loopback, "/mcp", &[("host", "mcp.example"), ("origin", origin)], expected);
        }
    }

    #[test]
    fn framing_that_no_honest_client_sends() {
        for header in [
            ("transfer-encoding", "gzip, chunked"),
            ("transfer-encoding", "identity"),
            ("connection", "close, authorization"),
            ("connection", "MCP-Session-Id"),
            ("connection", "keep-alive, x-forwarded-for"),
        ] {
            check(true, "/mcp", &[("host", "localhost"), header], Some(400));
        }
        let twice = [("host", "localhost"), ("content-length", "5"), ("content-length", "5")];
        check(true, "/mcp", &twice, Some(400));
        check(true, "/mcp", &[("host", "localhost"), ("connection", "keep-alive")], None);
    }

    #[test]
    fn paths_that_play_tricks() {
        for path in ["/a/%2e%2e/mcp", "/mcp/..", "/./mcp", "/mcp;x", "/mcp%00"] {
            check(true, path, &[("host", "localhost")], Some(400));
        }
    }

    #[test]
    fn sizes() {
        let long = "x".repeat(9 << 10);
        check(true, "/mcp", &[("host", "localhost"), ("mcp-name", &long)], Some(431));
        check(true, &format!("/{}", "x".repeat(5000)), &[("host", "localhost")], Some(414));
        let names: Vec<String> = (0..65).map(|each| format!("x-{each}")).collect();
        let mut many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        many.push(("host", "localhost"));
        check(true, "/mcp", &many, Some(431));
        let big = "x".repeat(8000);
        let mut large: Vec<(&str, &str)> =
            names.iter().take(5).map(|name| (name.as_str(), big.as_str())).collect();
        large.push(("host", "localhost"));
        check(true, "/mcp", &large, Some(431));
    }
}
