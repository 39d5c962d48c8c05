//! URLs of upstreams.

use http::Uri;

use crate::problem::Mismatch;

const HELP: &str = "write http://HOST:PORT/PATH or https://HOST/PATH";

/// An absolute `http` or `https` URL with a host, without credentials and fragment.
pub(super) fn parse(text: &str) -> Result<Uri, Mismatch> {
    let text = text.trim();
    // The parser drops a fragment in silence.
    if text.contains('#') {
        return Err(Mismatch::new("the URL has a fragment", "leave the # and what follows out"));
    }
    if !text.contains("://") {
        let help = format!("{HELP}, for example http://{}", text.trim_start_matches('/'));
        return Err(Mismatch::new("the URL has no scheme", hide_credentials(&help)));
    }
    // The parser takes more than a URL may have.
    let stray = |b: u8| !b.is_ascii_graphic() || b"\"<>\\^`{|}".contains(&b);
    if text.bytes().any(stray) {
        return Err(Mismatch::new(
            "the URL has a character that URLs do not have",
            "write it percent-encoded",
        ));
    }
    let uri: Uri = text.parse().map_err(|_| Mismatch::new("not a URL", HELP))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        _ => return Err(Mismatch::new("the scheme is neither http nor https", HELP)),
    }
    let authority = uri.authority().ok_or_else(|| Mismatch::new("the URL has no host", HELP))?;
    if authority.as_str().contains('@') {
        return Err(Mismatch::new(
            "the URL has credentials in it",
            "leave them out and set `http.headers.authorization` from ${ENV} or ${file:…}",
        ));
    }
    if authority.host().is_empty() {
        return Err(Mismatch::new("the URL has no host", HELP));
    }
    let bare_host = authority.as_str() == authority.host();
    if !bare_host && authority.port_u16().is_none_or(|port| port == 0) {
        return Err(Mismatch::new("the port is not a number from 1 to 65535", HELP));
    }
    Ok(uri)
}

/// A suggestion never repeats what may be a password.
fn hide_credentials(help: &str) -> String {
    if help.contains('@') { HELP.to_owned() } else { help.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn good_urls_are_taken_as_they_are() {
        for text in [
            "http://127.0.0.1:9000/mcp",
            "https://mcp.example",
            "http://[::1]:9000/mcp?tenant=a",
            "HTTP://mcp.example/",
        ] {
            assert!(parse(text).unwrap().host().is_some(), "{text}");
        }
    }

    #[test]
    fn bad_urls_are_refused_with_their_fault() {
        for (text, what) in [
            ("", "the URL has no scheme"),
            ("mcp.example/mcp", "the URL has no scheme"),
            ("ftp://mcp.example", "the scheme is neither http nor https"),
            ("ws://mcp.example", "the scheme is neither http nor https"),
            ("http://", "not a URL"),
            ("http:///mcp", "not a URL"),
            ("http://:8080/mcp", "the URL has no host"),
            ("http://user:pw@mcp.example", "the URL has credentials in it"),
            ("http://mcp.example/#top", "the URL has a fragment"),
            ("http://mcp.example:99999/", "the port is not a number from 1 to 65535"),
            ("http://mcp.example:0/", "the port is not a number from 1 to 65535"),
            ("http://mcp.example:/", "the port is not a number from 1 to 65535"),
            ("http://mcp example/", "the URL has a character that URLs do not have"),
            ("http://mcp.example/{x}", "the URL has a character that URLs do not have"),
            ("http://mcp.example/ä", "the URL has a character that URLs do not have"),
        ] {
            assert_eq!(parse(text).unwrap_err().what, what, "{text}");
        }
    }
}
