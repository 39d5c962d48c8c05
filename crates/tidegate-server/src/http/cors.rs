//! Cross-origin requests from browser clients whose origin is welcome.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::OutBody;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE");
const EXPOSED: HeaderValue =
    HeaderValue::from_static("mcp-session-id, mcp-protocol-version, www-authenticate, retry-after");
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const VARY: HeaderValue = HeaderValue::from_static("origin");

/// Answers a preflight; `None` if it is not one. The origin was checked before.
pub(super) fn preflight(headers: &HeaderMap) -> Option<Response<OutBody>> {
    headers.get(header::ORIGIN)?;
    headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    let mut response = Response::new(OutBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let answer = response.headers_mut();
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    // Patterns such as `Mcp-Param-*` cannot be listed, so what was asked for is allowed: the
    // origin is the gate, not the header names.
    if let Some(wanted) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    Some(response)
}

/// Lets a page of a welcome origin read the response.
pub(super) fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(header::VARY, VARY);
}
