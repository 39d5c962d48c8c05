//! The environment layer: `TIDEGATE__LIMITS__MAX_BODY=4MiB` sets `limits.max_body`.
//!
//! A value is text, so a header value `007` stays as it is, unless the default of its key is a number
//! or truth value. What begins with `[` or `{` is read as YAML, for lists and mappings.

use std::collections::BTreeMap;

use figment::value::{Dict, Value};

use super::{defaults, inline};
use crate::{environment::Environment, key::Key, problem::Mismatch};

const PREFIX: &str = "TIDEGATE__";

/// What the environment says, and which variable said it.
#[derive(Debug, Default)]
pub(crate) struct EnvLayer {
    pub(crate) values: Dict,
    pub(crate) names: BTreeMap<Key, String>,
    /// Variables that cannot be placed.
    pub(crate) bad: Vec<(String, Mismatch)>,
}

impl EnvLayer {
    /// Takes all variables with the prefix. `file` has the names that a variable, which is in
    /// capitals and cannot hold `-`, may mean: `SEARCH_API` is also `search-api`.
    pub(crate) fn read(around: &Environment, file: &Dict) -> Self {
        let mut layer = Self::default();
        for (name, value) in around.iter() {
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
                continue;
            };
            if let Err(mismatch) = layer.put(rest, value.to_str(), file) {
                layer.bad.push((format!("{PREFIX}{rest}"), mismatch));
            }
        }
        layer
    }

    fn put(&mut self, rest: &str, value: Option<&str>, file: &Dict) -> Result<(), Mismatch> {
        let value = value.ok_or_else(|| {
            Mismatch::new("the value is not UTF-8", "values of the configuration are UTF-8 text")
        })?;
        let path = path(rest, file);
        if path.iter().any(String::is_empty) {
            return Err(Mismatch::new(
                "a part of the name is empty",
                "write sections and key with two underscores between them, for example \
                 TIDEGATE__LIMITS__MAX_BODY",
            ));
        }
        let value = read(&path, value);
        insert(&mut self.values, &path, value)?;
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        self.names.insert(Key::of(&names), format!("{PREFIX}{rest}"));
        Ok(())
    }
}

/// Text, unless the key wants something else and the text is that.
fn read(path: &[String], text: &str) -> Value {
    let names = names(path);
    let free_text = matches!(
        names.as_slice(),
        ["upstreams", _, "stdio", "env", _] | ["upstreams", _, "http", "headers", _]
    );
    if free_text {
        return text.into();
    }
    let wanted = defaults::of(&names);
    match (wanted, inline(text)) {
        (Some(Value::Num(..)), Some(value @ Value::Num(..)))
        | (Some(Value::Bool(..)), Some(value @ Value::Bool(..))) => value,
        // What is off by default may want a number; whether it does is for decoding to say.
        (Some(Value::String(_, off)), Some(value @ Value::Num(..))) if off == "off" => value,
        (_, Some(value @ (Value::Array(..) | Value::Dict(..)))) if text.starts_with(['[', '{']) => {
            value
        }
        _ => text.into(),
    }
}

/// The key that a variable sets.
fn path(rest: &str, file: &Dict) -> Vec<String> {
    let parts: Vec<&str> = rest.split("__").collect();
    let mut path: Vec<String> = parts.iter().map(|part| part.to_ascii_lowercase()).collect();
    let upstreams = file.get("upstreams").and_then(Value::as_dict);
    if let ["upstreams", name, ..] = names(&path).as_slice()
        && let Some(known) = spelled_like(name, upstreams)
    {
        replace(&mut path, 1, known);
    }
    match names(&path).as_slice() {
        // The name of a variable for a child keeps its case, and may hold two underscores itself.
        ["upstreams", _, "stdio", "env", _, ..] => {
            let name = parts.get(4..).unwrap_or_default().join("__");
            path.truncate(4);
            path.push(name);
        }
        ["upstreams", upstream, "http", "headers", name] => {
            let headers = upstreams
                .and_then(|all| all.get(*upstream)?.as_dict()?.get("http")?.as_dict())
                .and_then(|http| http.get("headers")?.as_dict());
            let name = spelled_like(name, headers).unwrap_or_else(|| name.replace('_', "-"));
            replace(&mut path, 4, name);
        }
        _ => {}
    }
    path
}

fn replace(path: &mut [String], position: usize, name: String) {
    if let Some(part) = path.get_mut(position) {
        *part = name;
    }
}

/// The name in the file that `name`, in lower case and without `-`, stands for.
fn spelled_like(name: &str, known: Option<&Dict>) -> Option<String> {
    let plain = |name: &str| name.to_ascii_lowercase().replace('-', "_");
    known?.keys().find(|known| plain(known) == plain(name)).cloned()
}

fn names(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

fn insert(dict: &mut Dict, path: &[String], value: Value) -> Result<(), Mismatch> {
    let Some((first, rest)) = path.split_first() else { return Ok(()) };
    if rest.is_empty() {
        return match (dict.get_mut(first), value) {
            (None, value) => {
                dict.insert(first.clone(), value);
                Ok(())
            }
            // `TIDEGATE__LOG='{level: warn}'` beside `TIDEGATE__LOG__FORMAT=json`.
            (Some(Value::Dict(_, old)), Value::Dict(_, new)) => {
                for (name, value) in new {
                    old.entry(name).or_insert(value);
                }
                Ok(())
            }
            _ => Err(clash()),
        };
    }
    match dict.entry(first.clone()).or_insert_with(|| Value::from(Dict::new())) {
        Value::Dict(_, inner) => insert(inner, rest, value),
        _ => Err(clash()),
    }
}

fn clash() -> Mismatch {
    Mismatch::new(
        "another variable sets the same key, or one above or below it",
        "keep one of them",
    )
}
