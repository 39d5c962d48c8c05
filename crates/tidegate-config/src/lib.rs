//! The configuration: files, layers, validation. Plain data comes out.
//!
//! Layers are merged in the order defaults < file < `TIDEGATE__…` variables < flags, decoded, and
//! checked; every problem found on the way is reported at once, with file, line and key. This is the
//! only crate that reads files and environment. It must not know any other crate of the workspace:
//! the gateway turns a [`Config`] into what each of them needs.
//!
//! ```
//! use tidegate_config::{Environment, Flags, Upstream, load_in};
//!
//! // `load` does the same with the real environment.
//! let around = Environment::new([("TIDEGATE__LIMITS__MAX_BODY", "1MiB")], "/");
//! let flags = Flags { upstream: Some("http://127.0.0.1:9000/mcp".into()), ..Flags::default() };
//! let loaded = load_in(&flags, &around).unwrap();
//! assert_eq!(loaded.config.limits.max_body, 1 << 20);
//! assert!(matches!(loaded.config.upstreams["default"], Upstream::Http(_)));
//! assert!(loaded.show().contains("max_body: 1MiB"));
//!
//! let flags = Flags { upstream: Some("ftp://x".into()), ..Flags::default() };
//! let report = load_in(&flags, &around).unwrap_err();
//! assert_eq!(report.problems()[0].place.to_string(), "flag --upstream");
//! ```
//!
//! # The way of a value
//!
//! 1. `layer` reads a layer into plain values: `file` (YAML, TOML or JSON, by extension), `env`,
//!    `flags`, `defaults`. figment merges them; `sources` knows where each value came from, down to
//!    line and column (`locate`).
//! 2. `decode` reads the merged values into the file's shape (`raw`) and puts every unknown key and
//!    wrong type on record. It fills in `${NAME}` and `${file:PATH}` (`interpolate`) and reads
//!    `units`.
//! 3. `validate` checks ranges, references and the world outside, and builds the `model`.
//! 4. `load` does all of this once; `show` prints what came of it; `problem` is how faults look.
//!
//! # Paths
//!
//! In a file, `state_dir`, `cwd`, `ca_file` and `${file:…}` start at the directory of the file; from flags and
//! variables they start at the working directory. A program with a `/` in its name starts at the
//! working directory of its child, any other is looked up in the child's `PATH`.

mod decode;
mod environment;
mod interpolate;
mod key;
mod layer;
mod load;
mod locate;
mod model;
mod problem;
mod raw;
mod secret;
mod show;
mod sources;
mod units;
mod validate;

pub use crate::{
    environment::Environment,
    layer::Flags,
    load::{Loaded, load, load_in, state_dir, state_dir_in},
    model::{
        CallTimeouts, Config, Forward, Http2, HttpUpstream, Limits, Listener, Log, LogFormat, Ops,
        Processes, Progress, Reconnect, Replay, ReplayMode, Rlimits, Route, Security, Sharing,
        SlowClient, SlowPolicy, SsePaths, StdioUpstream, Timeouts, Transport, Upstream,
    },
    problem::{Place, Position, Problem, Report},
    secret::Secret,
};
