//! Addresses to listen on, and who may speak to them.

use std::net::{IpAddr, SocketAddr};

use http::uri::Authority;

use super::section::Section;
use crate::{
    decode::{Context, Field, Text},
    key::Key,
    model::{Listener, Ops, Security},
    problem::Mismatch,
    raw::{List, RawListener, RawOps, RawSecurity},
};

const ADDRESS_HELP: &str = "write IP:PORT, for example 127.0.0.1:8080 or [::1]:8080";

pub(super) fn listeners(
    context: &Context<'_>,
    raw: Field<List<RawListener>>,
) -> Option<Vec<Listener>> {
    let key = Key::of(&["listeners"]);
    let raw = Section::root(context).need("listeners", raw, "write at least one address")?;
    if raw.is_empty() {
        let mismatch = Mismatch::new("there is no listener", "write at least one address");
        context.refuse(&key, mismatch);
        return None;
    }
    let mut seen: Vec<(Key, SocketAddr)> = Vec::new();
    let mut listeners = Some(Vec::new());
    for (index, field) in raw.into_iter().enumerate() {
        let section = Section::new(context, key.item(index));
        let address = field
            .optional()
            .flatten()
            .and_then(|raw| address(&section, raw.address))
            .filter(|address| is_free(&section, *address, &seen));
        match (address, &mut listeners) {
            (Some(address), Some(listeners)) => listeners.push(Listener { address }),
            _ => listeners = None,
        }
        seen.extend(address.map(|address| (section.key.child("address"), address)));
    }
    listeners
}

pub(super) fn ops(
    context: &Context<'_>,
    raw: Field<Option<RawOps>>,
    listeners: &[Listener],
) -> Option<Option<Ops>> {
    let section = Section::new(context, Key::of(&["ops"]));
    let Some(raw) = raw.optional()?.flatten() else { return Some(None) };
    let address = address(&section, raw.address)?;
    let seen: Vec<(Key, SocketAddr)> = listeners
        .iter()
        .enumerate()
        .map(|(index, listener)| {
            (Key::of(&["listeners"]).item(index).child("address"), listener.address)
        })
        .collect();
    is_free(&section, address, &seen).then_some(Some(Ops { address }))
}

pub(super) fn security(context: &Context<'_>, raw: Field<RawSecurity>) -> Option<Security> {
    let section = Section::new(context, Key::of(&["security"]));
    let raw = raw.optional()?.unwrap_or_default();
    let allowed_hosts = texts(&section, "allowed_hosts", raw.allowed_hosts, host);
    let allowed_origins = texts(&section, "allowed_origins", raw.allowed_origins, origin);
    Some(Security { allowed_hosts: allowed_hosts?, allowed_origins: allowed_origins? })
}

fn address(section: &Section<'_>, field: Field<Text>) -> Option<SocketAddr> {
    let text = section.text("address", field, ADDRESS_HELP)?;
    let text = text.trim();
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let help = match text.rsplit_once(':') {
        Some(("localhost", port)) => format!("write 127.0.0.1:{port} or [::1]:{port}"),
        Some(("" | "*", port)) => format!("write 127.0.0.1:{port}, or 0.0.0.0:{port} for all"),
        _ if text.parse::<IpAddr>().is_ok() => "write a port behind it, IP:PORT".to_owned(),
        _ => ADDRESS_HELP.to_owned(),
    };
    section.refuse("address", Mismatch::new("not an IP address with a port", help))
}

/// Whether nobody before takes this address. Port 0 is a different port each time.
fn is_free(section: &Section<'_>, address: SocketAddr, seen: &[(Key, SocketAddr)]) -> bool {
    let taken = seen.iter().find(|(_, other)| overlap(address, *other));
    if let Some((key, _)) = taken {
        let mismatch = Mismatch::new(
            format!("the address is taken by {key}"),
            "give each its own port, or remove one",
        );
        section.context.refuse(&section.key.child("address"), mismatch);
    }
    taken.is_none()
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_family = one.is_ipv4() == other.is_ipv4();
    let everything = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || (same_family && everything))
}

/// Every item of a list of texts, each through `read`.
fn texts(
    section: &Section<'_>,
    name: &str,
    field: Field<List<Text>>,
    read: fn(&str) -> Result<String, Mismatch>,
) -> Option<Vec<String>> {
    let items = field.optional()?.unwrap_or_default();
    let key = section.key.child(name);
    let read: Vec<Option<String>> = items
        .into_iter()
        .enumerate()
        .map(|(index, item)| {
            let Text(text) = item.optional()??;
            read(text.trim())
                .map_err(|mismatch| section.context.refuse(&key.item(index), mismatch))
                .ok()
        })
        .collect();
    read.into_iter().collect()
}

fn host(text: &str) -> Result<String, Mismatch> {
    let mismatch = || {
        Mismatch::new(
            "not a host name",
            "write the name alone or with a port, for example mcp.example or mcp.example:8443",
        )
    };
    let authority: Authority = text.parse().map_err(|_| mismatch())?;
    let bare = authority.host() == text;
    let port_is_good = bare || authority.port_u16().is_some_and(|port| port > 0);
    let plain = !text.contains(['@', '*']) && !authority.host().is_empty();
    if plain && port_is_good { Ok(text.to_ascii_lowercase()) } else { Err(mismatch()) }
}

fn origin(text: &str) -> Result<String, Mismatch> {
    let mismatch = || {
        Mismatch::new(
            "not an origin",
            "write scheme and host as browsers do, for example https://app.example, without a \
             path and a slash at the end",
        )
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(mismatch)?;
    let scheme = scheme.to_ascii_lowercase();
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let rest = host(rest).map_err(|_| mismatch())?;
    if !is_scheme {
        return Err(mismatch());
    }
    // Browsers leave the default port out.
    let default_port = match scheme.as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => "\n",
    };
    Ok(format!("{scheme}://{}", rest.strip_suffix(default_port).unwrap_or(&rest)))
}

#[cfg(test)]
mod tests {
    use super::{host, origin, overlap};

    #[test]
    fn hosts_are_names_with_or_without_port() {
        for (text, read) in [
            ("Mcp.Example", Some("mcp.example")),
            ("mcp.example:8443", Some("mcp.example:8443")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("[::1]:80", Some("[::1]:80")),
            ("", None),
            ("*", None),
            ("*.example", None),
            ("http://mcp.example", None),
            ("mcp.example/", None),
            ("user@mcp.example", None),
            ("mcp.example:", None),
            ("mcp.example:99999", None),
            ("a b", None),
        ] {
            assert_eq!(host(text).ok().as_deref(), read, "{text}");
        }
    }

    #[test]
    fn origins_are_as_browsers_write_them() {
        for (text, read) in [
            ("https://App.example", Some("https://app.example")),
            ("https://app.example:443", Some("https://app.example")),
            ("http://app.example:80", Some("http://app.example")),
            ("http://app.example:8080", Some("http://app.example:8080")),
            ("vscode-webview://abc", Some("vscode-webview://abc")),
            ("app.example", None),
            ("https://app.example/", None),
            ("https://", None),
            ("null", None),
            ("*", None),
        ] {
            assert_eq!(origin(text).ok().as_deref(), read, "{text}");
        }
    }

    #[test]
    fn addresses_overlap_with_themselves_and_with_everything() {
        let overlap =
            |one: &str, other: &str| overlap(one.parse().unwrap(), other.parse().unwrap());
        assert!(overlap("127.0.0.1:80", "127.0.0.1:80"));
        assert!(overlap("127.0.0.1:80", "0.0.0.0:80"));
        assert!(!overlap("127.0.0.1:0", "127.0.0.1:0"));
        assert!(!overlap("127.0.0.1:80", "127.0.0.2:80"));
        assert!(!overlap("[::]:80", "127.0.0.1:80"));
    }
}
