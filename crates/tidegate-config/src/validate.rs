//! From the file's shape to a [`Config`]: ranges, references between parts, the world outside.
//!
//! Every check runs, whatever the others found: parts are looked at first and joined last. A `None`
//! means that a problem is on record.

mod account;
mod address;
mod call_timeouts;
mod http_upstream;
mod limits;
mod log;
mod processes;
mod program;
mod route;
mod section;
mod state;
mod stdio_upstream;
mod upstream;
mod url;

pub(crate) use self::state::directory as state_directory;
use crate::{
    decode::{Context, Count, Field},
    key::Key,
    layer::FileLayer,
    model::Config,
    problem::{Mismatch, Place},
    raw::RawConfig,
};

/// The only version of the file there is.
const VERSION: u64 = 1;

/// Checks everything.
pub(crate) fn config(context: &Context<'_>, raw: RawConfig) -> Option<Config> {
    let version = version(context, raw.version);
    let listeners = address::listeners(context, raw.listeners);
    let ops = address::ops(context, raw.ops, listeners.as_deref().unwrap_or_default());
    let workers = section::Section::root(context).count("workers", raw.workers, 1..=1024);
    let state_dir = state::directory(context, raw.state_dir);
    let limits = limits::limits(context, raw.limits);
    let timeouts = limits::timeouts(context, raw.timeouts);
    let security = address::security(context, raw.security);
    let (names, upstreams) = upstream::upstreams(context, raw.upstreams);
    let routes = route::routes(context, raw.routes, names.as_deref(), upstreams.as_ref());
    if let (Some(limits), Some(routes)) = (&limits, &routes) {
        route::fit_into_budgets(context, routes, limits);
    }
    if let (Some(timeouts), Some(routes)) = (&timeouts, &routes) {
        route::fit_into_stall(context, routes, timeouts.write_stall);
    }
    let log = log::log(context, raw.log);
    version?;
    Some(Config {
        listeners: listeners?,
        ops: ops?,
        workers: workers?,
        state_dir: state_dir?,
        limits: limits?,
        timeouts: timeouts?,
        security: security?,
        upstreams: upstreams?,
        routes: routes?,
        log: log?,
    })
}

/// A file says which version of the notation it is in, so that a later one can still be read.
fn version(context: &Context<'_>, version: Field<Count>) -> Option<()> {
    let key = Key::of(&["version"]);
    let version = version.optional()?;
    if let Some(file) = &context.sources.file
        && !file.values.contains_key("version")
    {
        let place = Place::File { name: file.name.clone(), position: Some(FileLayer::START) };
        let mismatch = Mismatch::new(
            "the key is missing",
            format!("begin the file with `version: {VERSION}`"),
        );
        context.refuse_at(place, &key, mismatch);
        return None;
    }
    if version != Some(Count(VERSION)) {
        context.refuse(
            &key,
            Mismatch::new(
                "this version is not known",
                format!("this program reads version {VERSION}"),
            ),
        );
        return None;
    }
    Some(())
}
