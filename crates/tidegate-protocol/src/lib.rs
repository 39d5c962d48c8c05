//! MCP and JSON-RPC on the wire: envelopes, ids, eras, headers, SSE and line codecs.
