//! Names of the HTTP headers that MCP defines.

use http::HeaderName;

/// Names the session of a legacy client. Visible ASCII only.
pub const MCP_SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// Names the protocol revision of the request.
pub const MCP_PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// Mirrors `method` of a modern request.
pub const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");

/// Mirrors the tool, prompt, resource or task that a modern request names.
pub const MCP_NAME: HeaderName = HeaderName::from_static("mcp-name");

/// Names the event after which a legacy client resumes a stream.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// How the headers begin that mirror tool arguments. Lower case, as `http` stores names.
pub const MCP_PARAM_PREFIX: &str = "mcp-param-";
