//! A server over HTTP: URL, certificates, headers.

mod reconnect;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::{
    section::{Section, Zero},
    url,
};
use crate::{
    decode::{Field, Text},
    layer::{MAX_FILE, read_text, reason},
    model::{CallTimeouts, Http2, HttpUpstream, Transport},
    problem::Mismatch,
    raw::{Named, RawHttp},
};

const URL_HELP: &str = "write `url: http://HOST:PORT/PATH`";

/// Headers that describe the connection, the message or the session: those are the proxy's to set.
const RESERVED: [&str; 13] = [
    "accept",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "last-event-id",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// `outer` is the upstream; `url` is the short form beside or instead of `http`.
pub(super) fn check(
    outer: &Section<'_>,
    http: Field<RawHttp>,
    short: Field<Text>,
    timeouts: Option<CallTimeouts>,
) -> Option<HttpUpstream> {
    let section = Section::new(outer.context, outer.key.child("http"));
    let raw = http.optional().map(Option::unwrap_or_default);
    let Some(raw) = raw else {
        // Its problems are known; the URL beside it is still looked at.
        read_url(outer, short);
        return None;
    };
    let url = match (raw.url, short) {
        (Field::Missing, Field::Missing) => section.need("url", Field::Missing, URL_HELP),
        (Field::Missing, short) => read_url(outer, short),
        (long, Field::Missing) => read_url(&section, long),
        (_, _) => outer.refuse(
            "url",
            Mismatch::new("`http.url` is set too", "keep one of `url` and `http.url`"),
        ),
    };
    let choices = [("http", Transport::Http), ("sse", Transport::Sse)];
    let transport = section.choice("transport", raw.transport, "not a transport", &choices);
    let ca_pem = certificates(&section, raw.ca_file);
    let headers = headers(&section, raw.headers);
    let pool_idle = section.duration("pool_idle", raw.pool_idle, Zero::Refused);
    let max_connections = section.count("max_connections", raw.max_connections, 1..=1_000_000);
    let max_waiting = section.count("max_waiting", raw.max_waiting, 0..=1_000_000);
    let acquire_timeout = section.duration("acquire_timeout", raw.acquire_timeout, Zero::Refused);
    let max_connection_age =
        section.unless_off("max_connection_age", raw.max_connection_age, |section, name, field| {
            section.duration(name, field, Zero::Refused)
        });
    let max_connection_requests = section.unless_off(
        "max_connection_requests",
        raw.max_connection_requests,
        |section, name, field| section.count(name, field, 1..=1_000_000_000_000),
    );
    let min_idle = section.count("min_idle_connections", raw.min_idle_connections, 0..=1_000_000);
    let min_idle_connections = spares(&section, min_idle, max_connections);
    let choices = [("off", Http2::Off), ("auto", Http2::Auto), ("always", Http2::Always)];
    let http2 = section.choice("http2", raw.http2, "not a use of HTTP/2", &choices);
    let reconnect = reconnect::check(
        &section,
        reconnect::Fields {
            on: raw.reconnect,
            stall: raw.reconnect_stall,
            attempts: raw.reconnect_attempts,
            base: raw.reconnect_base,
            max: raw.reconnect_max,
            window: raw.reconnect_for,
            at_once: raw.reconnect_at_once,
            rate: raw.reconnect_rate,
        },
    );
    let reconnect = match (transport, reconnect) {
        (Some(Transport::Sse), Some(Some(_))) => reconnect::without(&section),
        (_, reconnect) => reconnect,
    };
    let max_response = section.size("max_response", raw.max_response, 1024..=1 << 30);
    Some(HttpUpstream {
        url: url?,
        transport: transport?,
        timeouts: timeouts?,
        max_connections: max_connections?,
        max_waiting: max_waiting?,
        acquire_timeout: acquire_timeout?,
        min_idle_connections: min_idle_connections?,
        pool_idle: pool_idle?,
        max_connection_age: max_connection_age?,
        max_connection_requests: max_connection_requests?.map(|requests| requests as u64),
        max_response: max_response?,
        http2: http2?,
        reconnect: reconnect?,
        ca_pem: ca_pem?,
        headers: headers?,
    })
}

/// Connections kept open are connections.
fn spares(section: &Section<'_>, min_idle: Option<usize>, max: Option<usize>) -> Option<usize> {
    match (min_idle?, max) {
        (min_idle, Some(max)) if min_idle > max => section.refuse(
            "min_idle_connections",
            Mismatch::new(
                format!("it is larger than max_connections, which is {max}"),
                "lower min_idle_connections or raise max_connections",
            ),
        ),
        (min_idle, _) => Some(min_idle),
    }
}

fn read_url(section: &Section<'_>, field: Field<Text>) -> Option<Uri> {
    let text = section.text("url", field, URL_HELP)?;
    url::parse(&text).map_or_else(|mismatch| section.refuse("url", mismatch), Some)
}

/// The content of `ca_file`. Whether each certificate is sound is for the TLS library to say.
fn certificates(section: &Section<'_>, field: Field<Text>) -> Option<Option<Vec<u8>>> {
    const HELP: &str = "give a PEM file with at least one `-----BEGIN CERTIFICATE-----`";
    let Some(Text(text)) = field.optional()? else { return Some(None) };
    let key = section.key.child("ca_file");
    let path = section.context.directory(&key).join(text);
    let pem = match read_text(&path, MAX_FILE) {
        Ok(pem) => pem,
        Err(error) => {
            let what = format!("cannot read {}: {}", path.display(), reason(&error));
            return section.refuse("ca_file", Mismatch::new(what, HELP));
        }
    };
    if pem.contains("-----BEGIN CERTIFICATE-----") && pem.contains("-----END CERTIFICATE-----") {
        return Some(Some(pem.into_bytes()));
    }
    section.refuse("ca_file", Mismatch::new("there is no certificate in it", HELP))
}

fn headers(section: &Section<'_>, field: Field<Named<Text>>) -> Option<HeaderMap> {
    let key = section.key.child("headers");
    let members = section.need("headers", field, "write `name: value` pairs")?;
    let mut headers = HeaderMap::with_capacity(members.len());
    let mut all_good = true;
    for (name, value) in members {
        let key = key.child(&name);
        let name =
            header_name(&name).map_err(|mismatch| section.context.refuse_key(&key, mismatch)).ok();
        let value = value.optional().flatten().and_then(|Text(value)| {
            header_value(&value).map_err(|mismatch| section.context.refuse(&key, mismatch)).ok()
        });
        match (name, value) {
            (Some(name), Some(value)) => {
                if headers.insert(name, value).is_some() {
                    all_good = false;
                    let help = "upper and lower case are the same in header names; keep one";
                    let mismatch = Mismatch::new("the header is set twice", help);
                    section.context.refuse_key(&key, mismatch);
                }
            }
            _ => all_good = false,
        }
    }
    all_good.then_some(headers)
}

fn header_name(text: &str) -> Result<HeaderName, Mismatch> {
    let name = HeaderName::try_from(text).map_err(|_| {
        Mismatch::new("not a header name", "use letters, digits and -, for example x-api-key")
    })?;
    let name_text = name.as_str();
    if RESERVED.contains(&name_text)
        || name_text.starts_with("mcp-")
        || name_text.starts_with("proxy-")
    {
        return Err(Mismatch::new("this header is set by the proxy itself", "leave it out"));
    }
    Ok(name)
}

fn header_value(text: &str) -> Result<HeaderValue, Mismatch> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Mismatch::new(
            "not a header value",
            "it cannot contain line breaks, control characters and letters outside ASCII",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}
