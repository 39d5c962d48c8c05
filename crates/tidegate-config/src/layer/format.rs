//! The notations of a file, as figment formats, and their syntax errors with positions.

use std::path::Path;

use figment::{
    providers::Format,
    value::{Dict, Value},
};
use serde::de::DeserializeOwned;

use crate::{
    locate::Lost,
    problem::{Lines, Mismatch, Position},
};

/// A notation, told by the file's extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notation {
    Yaml,
    Toml,
    Json,
}

impl Notation {
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "yaml" | "yml" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    /// Reads a whole file. An empty YAML document is an empty mapping.
    pub(crate) fn parse(self, text: &str) -> Result<Dict, Lost> {
        match self {
            Self::Yaml => Yaml::from_str::<Option<Dict>>(text)
                .map(Option::unwrap_or_default)
                .map_err(|error| lost_yaml(&error)),
            Self::Toml => Toml::from_str(text).map_err(|error| lost_toml(text, &error)),
            Self::Json => Json::from_str(text).map_err(|error| lost_json(&error)),
        }
    }
}

/// Reads one value written as YAML inside a variable, such as `[a, b]`.
pub(crate) fn inline(text: &str) -> Option<Value> {
    Yaml::from_str(text).ok()
}

struct Yaml;

impl Format for Yaml {
    type Error = yaml_serde::Error;
    const NAME: &'static str = "YAML";

    fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Self::Error> {
        yaml_serde::from_str(text)
    }
}

struct Toml;

impl Format for Toml {
    type Error = toml::de::Error;
    const NAME: &'static str = "TOML";

    fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Self::Error> {
        toml::from_str(text)
    }
}

struct Json;

impl Format for Json {
    type Error = serde_json::Error;
    const NAME: &'static str = "JSON";

    fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Self::Error> {
        serde_json::from_str(text)
    }
}

fn lost_yaml(error: &yaml_serde::Error) -> Lost {
    let place = error.location();
    let message = error.to_string();
    // The message ends with the position, which the report puts in front.
    let message = message.split(" at line ").next().unwrap_or_default();
    Lost {
        position: place.map(|at| Position { line: at.line(), column: at.column() }),
        why: Mismatch::new(
            format!("not valid YAML: {message}"),
            "check the indentation and the quotes around this place",
        ),
    }
}

fn lost_toml(text: &str, error: &toml::de::Error) -> Lost {
    Lost {
        position: error.span().map(|span| Lines::of(text).position(span.start)),
        why: Mismatch::new(
            format!("not valid TOML: {}", error.message()),
            "see https://toml.io for the notation",
        ),
    }
}

fn lost_json(error: &serde_json::Error) -> Lost {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    Lost {
        position: Some(Position { line: error.line(), column: error.column().max(1) }),
        why: Mismatch::new(
            format!("not valid JSON: {message}"),
            "JSON has no comments and no trailing commas; YAML and TOML have comments",
        ),
    }
}
