//! Which of a client's headers may reach an upstream.
//!
//! Every header belongs to one [`Class`], and the class decides. What belongs to the connection or
//! to the proxy itself never passes; credentials pass only where the route says so; the rest is
//! between the two ends and passes untouched.

use std::task::{Context, Poll};

use futures_util::{TryFutureExt as _, future::MapOk};
use http::{HeaderMap, HeaderName, header};
use tidegate_service::{Call, Error, Reply};
use tower::{Layer, Service};

/// What a route lets through beyond the usual.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Forward {
    /// Pass `Authorization` on. The upstream must then be the audience of the client's token.
    pub(crate) authorization: bool,
    /// Pass `Cookie` on, and `Set-Cookie` back.
    pub(crate) cookies: bool,
}

/// Why a header may or may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Belongs to the client's connection, or describes a body that is framed anew.
    Hop,
    /// `Authorization`.
    Authorization,
    /// `Cookie`.
    Cookie,
    /// Proves something to this proxy, not to the upstream.
    ProxyCredential,
    /// Says where a request came from; a client could lie, so only the proxy may say it.
    Provenance,
    /// Speaks of the page that a browser shows.
    Browser,
    /// Everything else is for the other end.
    EndToEnd,
}

/// Puts the policy of one route in front of its upstream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderPolicyLayer(pub(crate) Forward);

/// A service that sees only the headers that may pass.
#[derive(Clone, Debug)]
pub(crate) struct HeaderPolicy<S> {
    inner: S,
    forward: Forward,
}

impl<S> Layer<S> for HeaderPolicyLayer {
    type Service = HeaderPolicy<S>;

    fn layer(&self, inner: S) -> HeaderPolicy<S> {
        HeaderPolicy { inner, forward: self.0 }
    }
}

impl<S> Service<Call> for HeaderPolicy<S>
where
    S: Service<Call, Response = Reply, Error = Error>,
    S::Future: Future<Output = Result<Reply, Error>>,
{
    type Response = Reply;
    type Error = Error;
    type Future = MapOk<S::Future, fn(Reply) -> Reply>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        self.forward.filter(&mut call.cx.headers);
        // Cookies pass both ways or neither.
        let back = if self.forward.cookies { as_it_is } else { without_cookies };
        self.inner.call(call).map_ok(back)
    }
}

const fn as_it_is(reply: Reply) -> Reply {
    reply
}

fn without_cookies(mut reply: Reply) -> Reply {
    reply.headers.remove(header::SET_COOKIE);
    reply
}

impl Forward {
    /// Takes out what may not pass.
    fn filter(self, headers: &mut HeaderMap) {
        // What `Connection` names belongs to the connection as well (RFC 9110, 7.6.1). The server
        // has refused requests that name a header of ours there.
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        let dropped: Vec<HeaderName> =
            headers.keys().filter(|name| !self.passes(name)).cloned().collect();
        for name in named.iter().chain(&dropped) {
            headers.remove(name);
        }
    }

    fn passes(self, name: &HeaderName) -> bool {
        match classify(name.as_str()) {
            Class::EndToEnd => true,
            Class::Authorization => self.authorization,
            Class::Cookie => self.cookies,
            Class::Hop | Class::ProxyCredential | Class::Provenance | Class::Browser => false,
        }
    }
}

fn classify(name: &str) -> Class {
    match name {
        "connection" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade"
        | "http2-settings" | "host" | "content-length" | "content-encoding" | "expect"
        | "accept-encoding" | "max-forwards" => Class::Hop,
        "authorization" => Class::Authorization,
        "cookie" => Class::Cookie,
        "proxy-authorization" | "proxy-connection" | "proxy-authenticate" => Class::ProxyCredential,
        "forwarded" | "via" | "x-real-ip" | "true-client-ip" | "cf-connecting-ip" => {
            Class::Provenance
        }
        "origin" | "referer" | "dnt" | "upgrade-insecure-requests" => Class::Browser,
        _ if name.starts_with("x-forwarded-") => Class::Provenance,
        _ if name.starts_with("sec-") || name.starts_with("access-control-") => Class::Browser,
        _ => Class::EndToEnd,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::Forward;

    #[track_caller]
    fn check(forward: Forward, headers: &[(&'static str, &'static str)], expected: &[&str]) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        forward.filter(&mut map);
        let mut passed: Vec<&str> = map.keys().map(HeaderName::as_str).collect();
        passed.sort_unstable();
        assert_eq!(passed, expected);
    }

    #[test]
    fn credentials_pass_only_where_the_route_says_so() {
        let sent = [("authorization", "Bearer x"), ("cookie", "a=b"), ("proxy-authorization", "y")];
        check(Forward::default(), &sent, &[]);
        let token = Forward { authorization: true, cookies: false };
        check(token, &sent, &["authorization"]);
        let cookies = Forward { authorization: false, cookies: true };
        check(cookies, &sent, &["cookie"]);
    }

    #[test]
    fn the_protocol_and_the_unknown_pass_and_the_connection_does_not() {
        let sent = [
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-param-region", "eu"),
            ("traceparent", "00-0-0-00"),
            ("x-tenant", "one"),
            ("user-agent", "test"),
            ("host", "localhost"),
            ("content-length", "2"),
            ("te", "trailers"),
            ("keep-alive", "timeout=5"),
            ("connection", "close, x-private"),
            ("x-private", "1"),
            ("accept-encoding", "gzip"),
        ];
        let expected = [
            "mcp-method",
            "mcp-param-region",
            "mcp-protocol-version",
            "traceparent",
            "user-agent",
            "x-tenant",
        ];
        check(Forward::default(), &sent, &expected);
    }

    #[test]
    fn nobody_else_says_where_a_request_came_from() {
        let sent = [
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-host", "internal"),
            ("forwarded", "for=10.0.0.1"),
            ("via", "1.1 other"),
            ("origin", "http://localhost"),
            ("sec-fetch-mode", "cors"),
        ];
        check(Forward { authorization: true, cookies: true }, &sent, &[]);
    }
}
