//! Scripted MCP servers for tests, misbehaving ones included. Development only.
//!
//! The servers are binaries, so that what is tested against them is what runs in production:
//! processes, pipes and signals. This library finds and builds them ([`stdio_bin`]) and looks at
//! the process table ([`procs`]). It must not know Tidegate: a fault in the code under test must
//! not be able to hide in the tool that looks for it.
//!
//! ```
//! use std::{
//!     io::{BufRead as _, BufReader, Write as _},
//!     process::{Command, Stdio},
//! };
//!
//! let mut server = Command::new(tidegate_testkit::stdio_bin())
//!     .stdin(Stdio::piped())
//!     .stdout(Stdio::piped())
//!     .spawn()?;
//! let mut stdin = server.stdin.take().ok_or("no stdin")?;
//! stdin.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n")?;
//! drop(stdin);
//! let mut line = String::new();
//! BufReader::new(server.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
//! assert_eq!(line, "{\"id\":1,\"jsonrpc\":\"2.0\",\"result\":{}}\n");
//! assert!(server.wait()?.success());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The map: [`stdio_bin`] is in [`build`], starts that hang are in [`hang`]; what the server can be told to do is in the doc of
//! `bin/testkit-stdio/main.rs`.

pub mod build;
pub mod hang;
pub mod procs;

pub use crate::build::stdio_bin;
