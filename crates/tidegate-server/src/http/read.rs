//! Reading a request: what its headers must say, and its body within all limits.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{self, Instant};

use super::{JSON, error::Rejection};
use crate::{
    params::Params,
    stats::{Counters, Refused},
};

/// The most that is set aside for a body before its bytes have come.
const FIRST_CAPACITY: u64 = 64 << 10;
const BOTH: &str = "application/json, text/event-stream";

/// The memory that all request bodies share.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    limit: usize,
    counters: Arc<Counters>,
}

/// A body, and its part of the budget, given back when the request has been dealt with.
#[derive(Debug)]
pub(super) struct Held {
    bytes: usize,
    counters: Arc<Counters>,
}

impl Budget {
    pub(super) const fn new(limit: usize, counters: Arc<Counters>) -> Self {
        Self { limit, counters }
    }

    fn hold(&self) -> Held {
        Held { bytes: 0, counters: Arc::clone(&self.counters) }
    }

    fn grow(&self, held: &mut Held, more: usize) -> Result<(), Rejection> {
        let before = self.counters.body_bytes.fetch_add(more, Ordering::Relaxed);
        held.bytes += more;
        if before + more > self.limit {
            return Err(Rejection::overloaded(
                "the proxy holds as many request bodies as it may; try again later",
            ));
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.counters.body_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Checks what the headers of a POST say about its body.
pub(super) fn readable(headers: &HeaderMap) -> Result<(), Rejection> {
    let content_type = headers.get(header::CONTENT_TYPE);
    if !content_type.is_some_and(is_json) {
        return Err(Rejection::invalid(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refused::Negotiation,
            "Content-Type must be application/json",
        ));
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Rejection::invalid(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refused::Negotiation,
            "a compressed body is not accepted; send it without Content-Encoding",
        ));
    }
    Ok(())
}

/// Checks the headers of a POST.
pub(super) fn negotiable(headers: &HeaderMap) -> Result<(), Rejection> {
    readable(headers)?;
    // What every SDK sends; only other spellings are worth a closer look.
    if headers.get(header::ACCEPT).is_some_and(|value| value == BOTH)
        || accepts(headers, "application/json") && accepts(headers, "text/event-stream")
    {
        return Ok(());
    }
    Err(Rejection::invalid(
        StatusCode::NOT_ACCEPTABLE,
        Refused::Negotiation,
        "Accept must list both application/json and text/event-stream",
    ))
}

/// Checks the `Accept` of a GET.
pub(super) fn accepts_events(headers: &HeaderMap) -> Result<(), Rejection> {
    if accepts(headers, "text/event-stream") {
        return Ok(());
    }
    Err(Rejection::invalid(
        StatusCode::NOT_ACCEPTABLE,
        Refused::Negotiation,
        "Accept must list text/event-stream",
    ))
}

/// Reads a whole body.
///
/// # Cancel safety
///
/// Dropping the future gives the budget back; the rest of the body is never read.
pub(super) async fn body(
    mut body: Incoming,
    params: &Params,
    budget: &Budget,
) -> Result<(Bytes, Held), Rejection> {
    let limit = params.limits.max_body;
    let declared = body.size_hint();
    if declared.lower() > limit as u64 {
        return Err(too_large());
    }
    let mut held = budget.hold();
    let idle = params.timeouts.body_idle;
    let Some(first) = piece(&mut body, idle).await? else { return Ok((Bytes::new(), held)) };
    budget.grow(&mut held, first.len())?;
    if body.is_end_stream() {
        return if first.len() > limit { Err(too_large()) } else { Ok((first, held)) };
    }
    let capacity =
        declared.lower().clamp(first.len() as u64, FIRST_CAPACITY.max(first.len() as u64));
    let mut whole = BytesMut::with_capacity(usize::try_from(capacity).unwrap_or(first.len()));
    whole.extend_from_slice(&first);
    let began = Instant::now();
    loop {
        let due = began + idle + at_slowest(whole.len());
        let wait = idle.min(due.saturating_duration_since(Instant::now()));
        let Some(next) = piece(&mut body, wait).await? else { break };
        if whole.len() + next.len() > limit {
            return Err(too_large());
        }
        budget.grow(&mut held, next.len())?;
        whole.extend_from_slice(&next);
    }
    Ok((whole.freeze(), held))
}

fn is_json(content_type: &HeaderValue) -> bool {
    content_type == JSON
        || content_type
            .to_str()
            .is_ok_and(|value| essence(value).eq_ignore_ascii_case("application/json"))
}

/// How long a body of this length may take: a client that sends a byte now and then would otherwise
/// hold its connection for ever. 1 kB/s is slower than any network that is of use.
const fn at_slowest(length: usize) -> Duration {
    Duration::from_millis(length as u64)
}

/// The next piece of data; trailers are passed over.
async fn piece(body: &mut Incoming, wait: Duration) -> Result<Option<Bytes>, Rejection> {
    loop {
        // Most bodies are here with their heads, and need no clock.
        let frame = match body.frame().now_or_never() {
            Some(frame) => frame,
            None => time::timeout(wait, body.frame()).await.map_err(|_| too_slow())?,
        };
        match frame {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(_)) => {
                return Err(Rejection::invalid(
                    StatusCode::BAD_REQUEST,
                    Refused::Headers,
                    "the body is not framed as its headers say",
                ));
            }
        }
    }
}

/// Whether `Accept` allows a media type. No header at all allows everything (RFC 9110, 12.5.1).
fn accepts(headers: &HeaderMap, wanted: &str) -> bool {
    let mut ranges = headers.get_all(header::ACCEPT).iter().peekable();
    if ranges.peek().is_none() {
        return true;
    }
    let kind = wanted.split('/').next().unwrap_or_default();
    ranges.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|range| {
        let refused = range.split(';').skip(1).any(|param| matches!(param.trim(), "q=0" | "q=0.0"));
        let range = essence(range);
        let matches = range == "*/*"
            || range.eq_ignore_ascii_case(wanted)
            || range
                .strip_suffix("/*")
                .is_some_and(|range_kind| range_kind.eq_ignore_ascii_case(kind));
        matches && !refused
    })
}

/// A media type without its parameters.
fn essence(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

fn too_slow() -> Rejection {
    Rejection::invalid(
        StatusCode::REQUEST_TIMEOUT,
        Refused::Stalled,
        "the rest of the body did not come in time",
    )
}

fn too_large() -> Rejection {
    Rejection::invalid(
        StatusCode::PAYLOAD_TOO_LARGE,
        Refused::TooLarge,
        "the body is larger than limits.max_body allows",
    )
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::accepts;

    #[test]
    fn accept_is_read_as_a_list_of_ranges() {
        for (value, json, events) in [
            ("application/json, text/event-stream", true, true),
            ("text/event-stream;q=0.9,application/json;q=0.1", true, true),
            ("*/*", true, true),
            ("application/*, text/*", true, true),
            ("application/json", true, false),
            ("text/event-stream", false, true),
            ("application/json, text/event-stream;q=0", true, false),
            ("text/html", false, false),
            ("", false, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(value));
            assert_eq!(accepts(&headers, "application/json"), json, "{value}");
            assert_eq!(accepts(&headers, "text/event-stream"), events, "{value}");
        }
        assert!(accepts(&HeaderMap::new(), "application/json"));
    }
}
