//! Where a server wants messages posted: a reference that is resolved and checked. Pure.
//!
//! It must be of the origin that the stream came from. Whoever can write the first event could
//! otherwise have the client's messages, and the headers that the configuration adds, sent anywhere.

use http::{Uri, uri::PathAndQuery};

/// Why a reference is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is not a URI reference.
    Malformed,
    /// It names another scheme, host or port.
    OtherOrigin,
}

/// The request target that `reference` means in a document at `base`, which is absolute.
pub(crate) fn resolve(base: &Uri, reference: &str) -> Result<Uri, Unfit> {
    let reference = reference.trim();
    let reference = reference.split_once('#').map_or(reference, |(before, _fragment)| before);
    let path = base.path();
    let target = if reference.is_empty() {
        return Err(Unfit::Malformed);
    } else if let Some(rest) = reference.strip_prefix("//") {
        absolute(base, &format!("{}://{rest}", base.scheme_str().unwrap_or_default()))?
    } else if has_scheme(reference) {
        absolute(base, reference)?
    } else if reference.starts_with('/') {
        reference.to_owned()
    } else if reference.starts_with('?') {
        format!("{path}{reference}")
    } else {
        let folder = path.rfind('/').and_then(|end| path.get(..=end)).unwrap_or("/");
        format!("{folder}{reference}")
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target.as_str(), None),
    };
    let mut target = without_dots(path);
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    PathAndQuery::try_from(target).map(Uri::from).map_err(|_| Unfit::Malformed)
}

/// The path and query of an absolute URI, if it is of the same origin.
fn absolute(base: &Uri, reference: &str) -> Result<String, Unfit> {
    let uri: Uri = reference.parse().map_err(|_| Unfit::Malformed)?;
    let origin = |uri: &Uri| {
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let default = if scheme == "https" { 443 } else { 80 };
        let host = uri.host()?.to_ascii_lowercase();
        Some((host, uri.port_u16().unwrap_or(default), scheme))
    };
    let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if has_user || origin(&uri).is_none() || origin(&uri) != origin(base) {
        return Err(Unfit::OtherOrigin);
    }
    Ok(uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned())
}

fn has_scheme(reference: &str) -> bool {
    let before = reference.split(['/', '?']).next().unwrap_or_default();
    before.contains(':')
}

/// Dot segments mean nothing to the server (RFC 3986, 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let last = segments.len().saturating_sub(1);
    for (place, segment) in segments.iter().enumerate() {
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    kept.pop();
                }
                if place == last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::{Unfit, resolve};

    #[track_caller]
    fn check(base: &str, reference: &str, expected: Result<&str, Unfit>) {
        let resolved = resolve(&base.parse().unwrap(), reference).map(|uri| uri.to_string());
        assert_eq!(resolved, expected.map(ToOwned::to_owned), "{base} {reference}");
    }

    #[test]
    fn references_are_resolved_as_a_browser_does() {
        let base = "http://a.example/mcp/sse?key=1";
        for (reference, expected) in [
            ("/messages?sessionId=x", "/messages?sessionId=x"),
            (" /messages ", "/messages"),
            ("messages", "/mcp/messages"),
            ("./messages?x", "/mcp/messages?x"),
            ("../messages", "/messages"),
            ("../../../messages", "/messages"),
            ("/a/./b/../c?/../d", "/a/c?/../d"),
            ("/a/..", "/"),
            ("?sessionId=x", "/mcp/sse?sessionId=x"),
            ("/messages#part", "/messages"),
            ("http://a.example/m?x=http://b/", "/m?x=http://b/"),
            ("HTTP://A.Example:80/m", "/m"),
            ("//a.example/m", "/m"),
            ("http://a.example", "/"),
        ] {
            check(base, reference, Ok(expected));
        }
        check("https://a.example:443/", "https://a.example/m", Ok("/m"));
        check("http://[::1]:9/sse", "http://[::1]:9/m", Ok("/m"));
    }

    #[test]
    fn other_origins_and_nonsense_are_refused() {
        let base = "http://a.example/sse";
        for reference in [
            "http://b.example/m",
            "https://a.example/m",
            "http://a.example:81/m",
            "//b.example/m",
            "http://a.example@b.example/m",
            "http://user@a.example/m",
            "http://a.example.b.example/m",
        ] {
            check(base, reference, Err(Unfit::OtherOrigin));
        }
        for reference in ["", "#x", "/a b", "/\u{1}", "javascript:alert(1)", "http://", "http:///m"]
        {
            assert!(resolve(&base.parse().unwrap(), reference).is_err(), "{reference}");
        }
    }
}
