//! JSON objects whose values stay raw until somebody asks.
//!
//! Raw values keep what a client sent byte for byte: integers beyond 64 bits, key order inside a
//! value, escapes. Nothing here goes through a lossy number.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned, ser::SerializeMap as _};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use crate::message::RpcError;

/// A received object.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Object(BTreeMap<String, Box<RawValue>>);

impl Object {
    /// The member as it was sent; an explicit `null` is a member.
    pub(crate) fn raw(&self, key: &str) -> Option<&RawValue> {
        self.0.get(key).map(AsRef::as_ref)
    }

    /// The member as a `T`; `null` and absence are the same.
    ///
    /// # Errors
    ///
    /// Invalid params, if the member is of another type.
    pub(crate) fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, RpcError> {
        let Some(raw) = self.raw(key) else { return Ok(None) };
        serde_json::from_str(raw.get())
            .map_err(|_| RpcError::invalid_params(format!("`{key}` has the wrong type")))
    }

    /// The member as a `T`, which must be there.
    ///
    /// # Errors
    ///
    /// Invalid params, if the member is missing or of another type.
    pub(crate) fn need<T: DeserializeOwned>(&self, key: &str) -> Result<T, RpcError> {
        self.get(key)?.ok_or_else(|| RpcError::invalid_params(format!("`{key}` is missing")))
    }

    /// All members, by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(key, raw)| (key.as_str(), raw.as_ref()))
    }
}

/// An object being built: a result or the params of a notification. Keeps insertion order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Payload(Vec<(&'static str, Box<RawValue>)>);

impl Payload {
    /// Adds a member.
    pub(crate) fn with(self, key: &'static str, value: &impl Serialize) -> Self {
        match to_raw_value(value) {
            Ok(raw) => self.with_raw(key, raw),
            // Only a map with non-string keys fails to serialize, and none is built here.
            Err(_) => self,
        }
    }

    /// Adds a member that is JSON already.
    pub(crate) fn with_raw(mut self, key: &'static str, raw: Box<RawValue>) -> Self {
        self.0.push((key, raw));
        self
    }

    /// Adds a member if there is one.
    pub(crate) fn with_some(self, key: &'static str, value: Option<&impl Serialize>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Whether there is a member of that name.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| *name == key)
    }

    /// Takes a member away.
    pub(crate) fn without(mut self, key: &str) -> Self {
        self.0.retain(|(name, _)| *name != key);
        self
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, raw) in &self.0 {
            map.serialize_entry(key, raw)?;
        }
        map.end()
    }
}

/// A tool result of one text block.
pub(crate) fn text(text: &str) -> Payload {
    Payload::default().with("content", &[text_block(text)])
}

/// A text block, as tools and prompts return it.
pub(crate) fn text_block(text: &str) -> Value {
    serde_json::json!({ "type": "text", "text": text })
}
