//! From the validated configuration to the parameters of each part.

mod server;
mod upstreams;

pub(crate) use self::{
    server::{security, server},
    upstreams::{leaves, routes},
};
