//! The default layer. Its fixed part is `defaults.yaml`; the rest fits what was given.

use std::thread;

use figment::{
    Figment,
    value::{Dict, Tag, Value},
};

use super::Notation;
use crate::environment::Environment;

/// The defaults that apply to what the other layers gave.
pub(super) fn fitting(given: &Figment, around: &Environment) -> Dict {
    let mut defaults = fixed();
    // A name that is no text cannot be written down; then it has to be given.
    if let Some(path) = around.state_directory().to_str() {
        defaults.insert("state_dir".to_owned(), path.into());
    }
    let Ok(Value::Dict(_, upstreams)) = given.find_value("upstreams") else { return defaults };
    if let (1, Some(name)) = (upstreams.len(), upstreams.keys().next())
        && given.find_value("routes").is_err()
    {
        defaults.insert("routes".to_owned(), vec![route_to(name)].into());
    }
    let bases = bases();
    let fitted: Dict = upstreams
        .iter()
        .filter_map(|(name, given)| Some((name.clone(), fitting_upstream(&bases, given)?)))
        .collect();
    defaults.insert("upstreams".to_owned(), fitted.into());
    defaults
}

/// The default of one key, where it has one: it tells a variable what kind of value is wanted.
pub(super) fn of(path: &[&str]) -> Option<Value> {
    let (defaults, path) = match path {
        ["upstreams", _, rest @ ..] => (bases(), rest),
        path => (fixed(), path),
    };
    let (first, rest) = path.split_first()?;
    let first = defaults.get(*first)?;
    rest.iter().try_fold(first, |value, name| value.as_dict()?.get(*name)).cloned()
}

fn fixed() -> Dict {
    let mut defaults = parse(include_str!("../defaults.yaml"));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    defaults.insert("workers".to_owned(), workers.into());
    defaults
}

fn bases() -> Dict {
    parse(include_str!("../upstream-defaults.yaml"))
}

/// The defaults of one upstream; none where its kind cannot be told.
fn fitting_upstream(bases: &Dict, given: &Value) -> Option<Value> {
    let given = given.as_dict()?;
    let stdio = given.contains_key("stdio");
    let http = given.contains_key("http") || given.contains_key("url");
    let kind = match (stdio, http) {
        (true, false) => "stdio",
        (false, true) => "http",
        (true, true) | (false, false) => return None,
    };
    let mut timeouts = bases.get("timeouts")?.as_dict()?.clone();
    if kind == "stdio" {
        timeouts.remove("connect");
    }
    let base =
        [(kind.to_owned(), bases.get(kind)?.clone()), ("timeouts".to_owned(), timeouts.into())];
    Some(Dict::from(base).into())
}

/// Fills in what the routes of the file leave out; figment does not merge into lists.
pub(super) fn complete_routes(root: &mut Value) {
    let Value::Dict(_, root) = root else { return };
    let Some(Value::Array(_, routes)) = root.get_mut("routes") else { return };
    let defaults = parse(include_str!("../route-defaults.yaml"));
    for route in routes {
        let Value::Dict(_, route) = route else { continue };
        complete_sse(route);
        fill_in(route, &defaults);
    }
}

fn fill_in(given: &mut Dict, defaults: &Dict) {
    for (name, default) in defaults {
        match (given.get_mut(name), default) {
            (None, _) => drop(given.insert(name.clone(), default.clone())),
            (Some(Value::Dict(_, given)), Value::Dict(_, defaults)) => fill_in(given, defaults),
            (Some(_), _) => (),
        }
    }
}

/// Without paths of their own, they are below that of the route.
fn complete_sse(route: &mut Dict) {
    let base = route.get("match").and_then(|found| match found.as_dict()?.get("path")? {
        Value::String(tag, path) => Some((*tag, path.trim_end_matches('/').to_owned())),
        _ => None,
    });
    let Some(sse) = route.get_mut("sse") else { return };
    match sse {
        Value::Bool(tag, true) => *sse = Value::Dict(*tag, Dict::new()),
        Value::Bool(tag, false) => *sse = Value::String(*tag, "off".to_owned()),
        _ => (),
    }
    if let (Value::Dict(_, sse), Some((tag, base))) = (sse, base) {
        // A reference is filled in only where it is known to stand in a file.
        let tag = if base.contains("${") { tag } else { Tag::Default };
        for (name, last) in [("path", "sse"), ("messages", "messages")] {
            let path = || Value::String(tag, format!("{base}/{last}"));
            sse.entry(name.to_owned()).or_insert_with(path);
        }
    }
}

fn route_to(upstream: &str) -> Value {
    let path = Dict::from([("path".to_owned(), Value::from("/mcp"))]);
    Dict::from([("match".to_owned(), path.into()), ("upstream".to_owned(), upstream.into())]).into()
}

fn parse(yaml: &str) -> Dict {
    // These texts are part of the program and a test reads them, so there is no other case.
    Notation::Yaml.parse(yaml).unwrap_or_default()
}
