//! The configuration file: layers, model, validation. Plain data out.

mod model;
mod secret;

pub use crate::{
    model::{
        Config, Forward, HttpUpstream, Limits, Listener, Log, LogFormat, Ops, Route, Security,
        StdioUpstream, Timeouts, Upstream,
    },
    secret::Secret,
};
