//! An MCP server in a child process: supervise, frame, demultiplex.
