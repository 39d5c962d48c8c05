//! What a response head means, decided before its body is read. Pure.

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
};

use crate::fault::Fault;

/// What was asked of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To take a message.
    Send,
    /// To take a message whose answer comes on another stream.
    Post,
    /// To open a stream of what it says unasked.
    Listen,
    /// To end a session.
    End,
}

/// What to do with the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// There is nothing in it to read.
    Skip,
    /// It has no type, so there must be nothing in it.
    MustBeEmpty,
    /// One message. `or` is for an error whose body may be some other JSON.
    Json {
        /// Whether a body that is no message leaves the bare status.
        or_bare: bool,
    },
    /// Events.
    Events,
    /// Only the status counts.
    Bare,
    /// The operation succeeded, whatever the status.
    Done,
}

/// Decides by status and headers what the body is. An error means that the connection cannot be
/// trusted or that the answer is none.
pub fn plan(status: StatusCode, headers: &HeaderMap, asked: Asked) -> Result<Plan, Fault> {
    let head = Head::read(headers);
    head.check_framing(status)?;
    if status.is_redirection() {
        return Err(Fault::Bare(status));
    }
    if head.encoding.is_some_and(|coding| !is(coding, "identity")) {
        return Err(Fault::Encoded);
    }
    match asked {
        Asked::End if is_ended(status) => return Ok(Plan::Done),
        Asked::Listen if status == StatusCode::METHOD_NOT_ALLOWED => return Ok(Plan::Bare),
        // What servers say here is for people, and its type is anything.
        Asked::Post if status.is_success() => return Ok(Plan::Skip),
        Asked::Send | Asked::Post | Asked::Listen | Asked::End => (),
    }
    let media = head.media.map(media);
    if !status.is_success() {
        let is_json = media == Some(Media::Json);
        return Ok(if is_json { Plan::Json { or_bare: true } } else { Plan::Bare });
    }
    match (asked, status, media) {
        (Asked::Listen, StatusCode::OK, Some(Media::Events)) => Ok(Plan::Events),
        (Asked::Listen, _, _) => Err(Fault::ContentType),
        (_, StatusCode::ACCEPTED | StatusCode::NO_CONTENT, _) => Ok(Plan::Skip),
        (_, _, Some(Media::Json)) => Ok(Plan::Json { or_bare: false }),
        (_, _, Some(Media::Events)) => Ok(Plan::Events),
        (_, _, None) => Ok(Plan::MustBeEmpty),
        (_, _, Some(Media::Other)) if head.is_empty() => Ok(Plan::Skip),
        (_, _, Some(Media::Other)) => Err(Fault::ContentType),
    }
}

/// What a status without a message means. `Ok` means that the client should see it as it is.
pub fn bare(status: StatusCode, asked: Asked, in_session: bool) -> Result<(), Fault> {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(()),
        StatusCode::NOT_FOUND if in_session => Err(Fault::SessionGone),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED if asked != Asked::Send => {
            Err(Fault::Unsupported)
        }
        other => Err(Fault::Bare(other)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    Json,
    Events,
    Other,
}

/// The headers that decide, found in one pass: a response has few, and looking each up costs more.
#[derive(Default)]
struct Head<'a> {
    length: Option<&'a HeaderValue>,
    coding: Option<&'a HeaderValue>,
    encoding: Option<&'a HeaderValue>,
    media: Option<&'a HeaderValue>,
    /// Whether a header that frames the body comes twice.
    is_framed_twice: bool,
}

impl<'a> Head<'a> {
    fn read(headers: &'a HeaderMap) -> Self {
        let mut head = Self::default();
        for (name, value) in headers {
            if name == CONTENT_LENGTH {
                head.is_framed_twice |= head.length.replace(value).is_some();
            } else if name == TRANSFER_ENCODING {
                head.is_framed_twice |= head.coding.replace(value).is_some();
            } else if name == CONTENT_TYPE {
                head.media = head.media.or(Some(value));
            } else if name == CONTENT_ENCODING {
                head.encoding = Some(value);
            }
        }
        head
    }

    /// Refuses what two readers could cut into messages differently.
    fn check_framing(&self, status: StatusCode) -> Result<(), Fault> {
        let is_number = |value: &HeaderValue| value.as_bytes().iter().all(u8::is_ascii_digit);
        let flaw = match (self.length, self.coding) {
            _ if status == StatusCode::SWITCHING_PROTOCOLS => "101 unasked",
            _ if self.is_framed_twice => "the length is given twice",
            (Some(_), Some(_)) => "content-length and transfer-encoding",
            (Some(length), None) if !is_number(length) => "a length that is no number",
            (None, Some(coding)) if !is(coding, "chunked") => "an unknown transfer-encoding",
            _ => return Ok(()),
        };
        Err(Fault::Framing(flaw))
    }

    fn is_empty(&self) -> bool {
        self.length.is_some_and(|length| length == "0")
    }
}

/// A session that is unknown or cannot be ended is as good as ended.
fn is_ended(status: StatusCode) -> bool {
    let gone = matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
    status.is_success() || gone
}

fn media(value: &HeaderValue) -> Media {
    let mut parts = value.as_bytes().split(|byte| *byte == b';');
    let essence = parts.next().unwrap_or_default().trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/json") {
        Media::Json
    } else if essence.eq_ignore_ascii_case(b"text/event-stream") {
        Media::Events
    } else {
        Media::Other
    }
}

fn is(value: &HeaderValue, word: &str) -> bool {
    value.as_bytes().trim_ascii().eq_ignore_ascii_case(word.as_bytes())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
    use tidegate_service::Kind;

    use super::{Asked, Plan, bare, plan};

    /// The plan, or the kind of the fault.
    fn decide(asked: Asked, status: u16, lines: &str) -> Result<Plan, Kind> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines.split('|').filter_map(|line| line.split_once(": ")) {
            let value = HeaderValue::from_str(value).unwrap();
            headers.append(HeaderName::try_from(name).unwrap(), value);
        }
        let status = StatusCode::from_u16(status).unwrap();
        plan(status, &headers, asked).map_err(|fault| fault.verdict().0)
    }

    const JSON: &str = "content-type: application/json";
    const EVENTS: &str = "content-type: Text/Event-Stream; charset=utf-8";
    const HTML: &str = "content-type: text/html";

    #[test]
    fn the_head_decides_what_the_body_is() {
        let message = Ok(Plan::Json { or_bare: false });
        let perhaps = Ok(Plan::Json { or_bare: true });
        let broken = Err(Kind::Protocol);
        let cases = [
            (Asked::Send, 200, JSON, message),
            (Asked::Send, 200, EVENTS, Ok(Plan::Events)),
            (Asked::Send, 200, HTML, broken),
            (Asked::Send, 200, "content-type: text/plain|content-length: 0", Ok(Plan::Skip)),
            (Asked::Send, 200, "", Ok(Plan::MustBeEmpty)),
            (Asked::Send, 202, HTML, Ok(Plan::Skip)),
            (Asked::Send, 204, "", Ok(Plan::Skip)),
            (Asked::Send, 301, "location: http://elsewhere/", broken),
            (Asked::Send, 400, JSON, perhaps),
            (Asked::Send, 404, JSON, perhaps),
            (Asked::Send, 404, HTML, Ok(Plan::Bare)),
            (Asked::Send, 500, EVENTS, Ok(Plan::Bare)),
            (Asked::Post, 200, HTML, Ok(Plan::Skip)),
            (Asked::Post, 202, "", Ok(Plan::Skip)),
            (Asked::Post, 202, "content-length: 2|transfer-encoding: chunked", broken),
            (Asked::Post, 307, "location: http://elsewhere/", broken),
            (Asked::Post, 404, HTML, Ok(Plan::Bare)),
            (Asked::Send, 101, "upgrade: x", broken),
            (Asked::Send, 200, "content-type: application/json|content-encoding: gzip", broken),
            (Asked::Send, 200, "content-length: 2|transfer-encoding: chunked", broken),
            (Asked::Send, 200, "content-length: 2|content-length: 2", broken),
            (Asked::Send, 200, "content-length: 2, 2", broken),
            (Asked::Send, 200, "transfer-encoding: gzip, chunked", broken),
            (Asked::Send, 200, "transfer-encoding: chunked|transfer-encoding: chunked", broken),
            (Asked::Listen, 200, EVENTS, Ok(Plan::Events)),
            (Asked::Listen, 200, JSON, broken),
            (Asked::Listen, 202, "", broken),
            (Asked::Listen, 405, JSON, Ok(Plan::Bare)),
            (Asked::Listen, 409, JSON, perhaps),
            (Asked::End, 200, HTML, Ok(Plan::Done)),
            (Asked::End, 405, JSON, Ok(Plan::Done)),
            (Asked::End, 404, HTML, Ok(Plan::Done)),
            (Asked::End, 500, HTML, Ok(Plan::Bare)),
        ];
        for (asked, status, lines, expected) in cases {
            assert_eq!(decide(asked, status, lines), expected, "{asked:?} {status} {lines}");
        }
    }

    #[test]
    fn a_bare_status_says_what_it_can() {
        let cases = [
            (Asked::Send, 401, true, None),
            (Asked::Send, 403, false, None),
            (Asked::Send, 404, true, Some(Kind::SessionUnknown)),
            (Asked::Send, 404, false, Some(Kind::Protocol)),
            (Asked::Listen, 404, false, Some(Kind::Unsupported)),
            (Asked::Send, 405, false, Some(Kind::Protocol)),
            (Asked::Listen, 404, true, Some(Kind::SessionUnknown)),
            (Asked::Listen, 405, true, Some(Kind::Unsupported)),
            (Asked::Send, 418, true, Some(Kind::Protocol)),
            (Asked::Send, 429, true, Some(Kind::Overloaded)),
            (Asked::Send, 500, true, Some(Kind::Protocol)),
            (Asked::Send, 502, true, Some(Kind::Unreachable)),
            (Asked::Send, 503, true, Some(Kind::Unreachable)),
            (Asked::Send, 504, true, Some(Kind::Unreachable)),
        ];
        for (asked, status, in_session, expected) in cases {
            let outcome = bare(StatusCode::from_u16(status).unwrap(), asked, in_session);
            let kind = outcome.err().map(|fault| fault.verdict().0);
            assert_eq!(kind, expected, "{asked:?} {status} {in_session}");
        }
    }
}
