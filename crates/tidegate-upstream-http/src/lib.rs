//! An MCP server over Streamable HTTP.
