//! The merged values and where each of them came from.

use figment::value::{Dict, Num, Value};

use crate::{
    environment::Environment,
    key::{Key, Step},
    layer::{EnvLayer, FileLayer, FlagLayer, Merged, Origin},
    locate::Spot,
    problem::{Mismatch, Place, Position},
};

/// Longest value that a report repeats, in characters.
const MAX_FOUND: usize = 60;

/// All layers and what came of them.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) merged: Merged,
    pub(crate) file: Option<FileLayer>,
    env: EnvLayer,
    flags: FlagLayer,
}

/// Which end of `key: value` is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Key,
    Value,
}

impl Sources {
    pub(crate) fn merge(file: Option<FileLayer>, flags: FlagLayer, around: &Environment) -> Self {
        let empty = Dict::new();
        let values = file.as_ref().map_or(&empty, |file| &file.values);
        let env = EnvLayer::read(around, values);
        Self { merged: Merged::of(values, &env.values, &flags.values, around), file, env, flags }
    }

    /// Variables that could not be placed.
    pub(crate) fn bad_variables(&self) -> &[(String, Mismatch)] {
        &self.env.bad
    }

    /// The value at `key`.
    pub(crate) fn value(&self, key: &Key) -> Option<&Value> {
        key.steps().iter().try_fold(&self.merged.root, |value, step| match (step, value) {
            (Step::Name(name), Value::Dict(_, members)) => members.get(name),
            (Step::Index(index), Value::Array(_, items)) => items.get(*index),
            _ => None,
        })
    }

    /// The layer of the value at `key`.
    pub(crate) fn origin(&self, key: &Key) -> Origin {
        self.value(key).map_or(Origin::Default, |value| self.merged.origin(value))
    }

    /// Where `key` was set, or else the closest thing around it that was.
    pub(crate) fn place(&self, key: &Key, part: Part) -> Place {
        let origin = match self.value(key) {
            Some(Value::Dict(_, members)) if !members.is_empty() => None,
            None => None,
            Some(value) => Some(self.merged.origin(value)),
        };
        let found = match origin {
            Some(Origin::File) => self.in_file(key, part),
            Some(Origin::Env) => self.in_env(key),
            Some(Origin::Flag) => self.flags.name(key).map(Place::Flag),
            Some(Origin::Default) => Some(Place::Default),
            // A mapping may be of several layers, and what is missing is of none.
            None => self
                .in_file(key, part)
                .or_else(|| self.in_env(key))
                .or_else(|| self.flags.name(key).map(Place::Flag)),
        };
        found.or_else(|| self.place_around(key)).unwrap_or(Place::Default)
    }

    fn place_around(&self, key: &Key) -> Option<Place> {
        match key.parent() {
            Some(parent) if !parent.steps().is_empty() => Some(self.place(&parent, Part::Key)),
            _ => self.file.as_ref().map(|file| place_in(file, Some(FileLayer::START))),
        }
    }

    fn in_file(&self, key: &Key, part: Part) -> Option<Place> {
        let file = self.file.as_ref()?;
        let Spot { key, value } = file.index.get(key)?;
        let position = match part {
            Part::Key => key,
            Part::Value => value,
        };
        Some(place_in(file, Some(position)))
    }

    fn in_env(&self, key: &Key) -> Option<Place> {
        let names = &self.env.names;
        let exact = names.get(key).or_else(|| {
            names.iter().find(|(set, _)| set.covers(key) || key.covers(set)).map(|(_, name)| name)
        });
        exact.map(|name| Place::Env(name.clone()))
    }

    /// The value at `key` as it was written, shortened, for a report or for `config show`.
    pub(crate) fn found(&self, key: &Key) -> Option<String> {
        let text = match self.value(key)? {
            Value::Dict(..) => return Some("a mapping".to_owned()),
            Value::Array(..) => return Some("a list".to_owned()),
            Value::Empty(..) => return Some("nothing".to_owned()),
            value => {
                self.hidden(key).unwrap_or_else(|| format!("`{}`", without_login(text(value))))
            }
        };
        Some(if text.chars().count() > MAX_FOUND {
            text.chars().take(MAX_FOUND).chain("…`".chars()).collect()
        } else {
            text
        })
    }

    /// What to print in place of a literal value that is likely a credential.
    pub(crate) fn hidden(&self, key: &Key) -> Option<String> {
        let name = match key.names()?.as_slice() {
            ["upstreams", _, "stdio", "env", name] | ["upstreams", _, "http", "headers", name] => {
                (*name).to_owned()
            }
            _ => return None,
        };
        match (self.origin(key), self.place(key, Part::Value)) {
            (Origin::Env, Place::Env(variable)) => Some(format!("<secret from {variable}>")),
            _ if names_a_secret(&name) => Some("<hidden>".to_owned()),
            _ => None,
        }
    }
}

fn place_in(file: &FileLayer, position: Option<Position>) -> Place {
    Place::File { name: file.name.clone(), position }
}

/// A scalar as text.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(_, text) => text.clone(),
        Value::Char(_, character) => character.to_string(),
        Value::Bool(_, truth) => truth.to_string(),
        Value::Num(_, number) => number_text(*number),
        Value::Empty(..) | Value::Dict(..) | Value::Array(..) => String::new(),
    }
}

fn number_text(number: Num) -> String {
    match (number.to_u128(), number.to_i128(), number.to_f64()) {
        (Some(whole), ..) => whole.to_string(),
        (_, Some(whole), _) => whole.to_string(),
        (.., Some(real)) => real.to_string(),
        _ => String::new(),
    }
}

/// A URL without `user:password@`.
fn without_login(text: String) -> String {
    match text.split_once("://").map(|(scheme, rest)| (scheme, rest.rsplit_once('@'))) {
        Some((scheme, Some((_, host)))) => format!("{scheme}://<hidden>@{host}"),
        _ => text,
    }
}

fn names_a_secret(name: &str) -> bool {
    const PARTS: [&str; 8] =
        ["auth", "cookie", "credential", "key", "pass", "private", "secret", "token"];
    let name = name.to_ascii_lowercase();
    PARTS.iter().any(|part| name.contains(part))
}
