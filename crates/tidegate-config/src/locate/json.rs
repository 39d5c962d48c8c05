//! Positions in JSON: raw values are slices of the text, so their address tells their place.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Index, Lost, Spot};
use crate::{
    key::Key,
    problem::{Lines, Mismatch, Position},
};

pub(super) fn index(text: &str) -> Result<Index, Lost> {
    let mut index = Index::default();
    descend(&Lines::of(text), text, &Key::default(), &mut index).map_err(|error| Lost {
        position: Some(Position { line: error.line(), column: error.column() }),
        why: Mismatch::new(error.to_string(), "see https://www.json.org for the notation"),
    })?;
    Ok(index)
}

/// Notes what is in `raw`, a slice of `text`. Its depth was bounded when serde parsed it.
fn descend(lines: &Lines<'_>, raw: &str, key: &Key, index: &mut Index) -> serde_json::Result<()> {
    let text = lines.text();
    let raw = raw.trim_start();
    if raw.starts_with('{') {
        let mut after = offset(text, raw) + 1;
        for (name, value) in serde_json::from_str::<Members<'_>>(raw)?.0 {
            let value = value.get();
            // Between the end of one value and the next key stand only a comma and blanks.
            let quote = text.get(after..).and_then(|rest| rest.find('"')).unwrap_or(0);
            let spot = Spot {
                key: lines.position(after + quote),
                value: lines.position(offset(text, value)),
            };
            after = offset(text, value) + value.len();
            let key = key.child(&name);
            index.note(key.clone(), spot);
            descend(lines, value, &key, index)?;
        }
    } else if raw.starts_with('[') {
        for (position, item) in serde_json::from_str::<Vec<&RawValue>>(raw)?.iter().enumerate() {
            let at = lines.position(offset(text, item.get()));
            let key = key.item(position);
            index.note(key.clone(), Spot { key: at, value: at });
            descend(lines, item.get(), &key, index)?;
        }
    }
    Ok(())
}

/// How far into `text` its slice `part` begins.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr().addr().saturating_sub(text.as_ptr().addr())
}

/// The members of an object in order, doubles included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}
