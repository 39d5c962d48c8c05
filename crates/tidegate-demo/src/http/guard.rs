//! Who may talk to this server: protection against DNS rebinding and foreign web pages.
//!
//! A page on any site can make a browser send requests to a loopback address. Its `Origin`, and
//! after rebinding its `Host`, give it away.

use std::net::IpAddr;

use http::{HeaderMap, Uri, header, uri::Authority};

/// Whether a request comes from where it may.
pub(crate) fn admits(loopback: bool, uri: &Uri, headers: &HeaderMap) -> bool {
    // HTTP/2 has the host in the URI, HTTP/1.1 in a header.
    let host = match uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => one(headers, header::HOST).and_then(|host| host.parse::<Authority>().ok()),
    };
    let Some(host) = host else { return false };
    if loopback && !is_local(host.host()) {
        return false;
    }
    if !headers.contains_key(header::ORIGIN) {
        return true;
    }
    let origin = one(headers, header::ORIGIN).and_then(|origin| origin.parse::<Uri>().ok());
    match origin.as_ref().and_then(Uri::authority) {
        Some(origin) if loopback => is_local(origin.host()),
        Some(origin) => origin.as_str().eq_ignore_ascii_case(host.as_str()),
        None => false,
    }
}

/// The only value of a header; none if it is missing, repeated or not text.
fn one(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn is_local(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Uri};

    use super::admits;

    fn check(loopback: bool, host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert("host", host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert("origin", origin.parse().unwrap());
        }
        admits(loopback, &Uri::from_static("/mcp"), &headers)
    }

    #[test]
    fn a_loopback_server_talks_to_loopback_names_only() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "[::1]:8080"] {
            assert!(check(true, host, None), "{host}");
            assert!(check(true, host, Some("http://localhost:3000")), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "10.0.0.1", "", "127.0.0.1@evil"] {
            assert!(!check(true, host, None), "{host}");
        }
        for origin in ["http://evil.example", "null", "", "http://localhost.evil.example"] {
            assert!(!check(true, "localhost", Some(origin)), "{origin}");
        }
    }

    #[test]
    fn elsewhere_an_origin_must_be_the_host() {
        assert!(check(false, "demo.example:80", None));
        assert!(check(false, "demo.example", Some("https://demo.example")));
        assert!(!check(false, "demo.example", Some("https://evil.example")));
    }
}
