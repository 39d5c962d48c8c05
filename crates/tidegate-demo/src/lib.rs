//! A small MCP server of both eras, over stdio and HTTP, to try and test a proxy with.
