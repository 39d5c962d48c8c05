//! Decide by declaration: which route a call takes, how long it may, and what goes along.

mod headers;
mod progress;
mod route;
mod timeouts;

pub(crate) use self::{
    headers::{Forward, HeaderPolicyLayer},
    progress::ProgressLayer,
    route::by_path,
    timeouts::{CallLimits, TimeoutsLayer},
};
