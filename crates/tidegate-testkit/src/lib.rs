//! Scripted MCP servers and clients for tests, misbehaving ones included.
