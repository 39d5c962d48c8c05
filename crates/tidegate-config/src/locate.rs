//! Where each key of a file stands: an index from key to line and column, per notation.
//!
//! The values themselves are parsed by serde, which forgets positions and lets the last of two
//! equal keys win in silence. This second, light pass over the same text brings both back.

mod json;
mod toml;
mod yaml;

use std::collections::HashMap;

use crate::{
    key::Key,
    layer::Notation,
    problem::{Mismatch, Position},
};

/// Positions of the keys and values of one file.
#[derive(Debug, Default)]
pub(crate) struct Index {
    spots: HashMap<Key, Spot>,
    /// Keys that stand twice in one mapping, with both positions.
    pub(crate) duplicates: Vec<Duplicate>,
}

/// Where one member of a mapping, or one item of a list, stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    /// The key; for an item of a list the item itself.
    pub(crate) key: Position,
    pub(crate) value: Position,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Duplicate {
    pub(crate) key: Key,
    pub(crate) first: Position,
    pub(crate) second: Position,
}

/// A text that this pass cannot follow.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) position: Option<Position>,
    pub(crate) why: Mismatch,
}

impl Index {
    /// Reads `text`, which serde has already accepted.
    pub(crate) fn of(text: &str, notation: Notation) -> Result<Self, Lost> {
        match notation {
            Notation::Yaml => yaml::index(text),
            Notation::Toml => toml::index(text),
            Notation::Json => json::index(text),
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Spot> {
        self.spots.get(key).copied()
    }

    /// Notes a member, before what is in it. A second one of the same key is a duplicate; what is in
    /// it then stands twice as well, which is not worth a word.
    fn note(&mut self, key: Key, spot: Spot) {
        let first = self.spots.insert(key.clone(), spot);
        if let Some(first) = first
            && !self.duplicates.iter().any(|known| known.key.covers(&key) && known.key != key)
        {
            self.duplicates.push(Duplicate { key, first: first.key, second: spot.key });
        }
    }
}

#[cfg(test)]
mod tests;
