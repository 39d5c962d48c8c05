//! From merged values to the file's shape (`raw`), collecting every problem on the way.
//!
//! serde stops at the first error. Here each value is decoded by a [`Node`] that knows its key and
//! reports for itself; [`Field`] then swallows the error, so that its neighbours are still looked
//! at. The types in `raw` stay ordinary serde types.

mod field;
mod leaf;
mod node;

use std::{cell::RefCell, path::Path};

use serde::Deserialize as _;

pub(crate) use self::{
    field::Field,
    leaf::{Account, Count, Size, Span, Text, Toggle},
};
use crate::{
    environment::Environment,
    key::Key,
    problem::{Mismatch, Place, Problem},
    raw::RawConfig,
    sources::{Part, Sources},
};

/// What decoding and checking look at and write to.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) sources: &'a Sources,
    pub(crate) around: &'a Environment,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Context<'a> {
    pub(crate) const fn new(sources: &'a Sources, around: &'a Environment) -> Self {
        Self { sources, around, problems: RefCell::new(Vec::new()) }
    }

    /// Reads the merged values.
    pub(crate) fn decode(&self) -> Option<RawConfig> {
        let node = node::Node::new(self, &self.sources.merged.root, Key::default());
        RawConfig::deserialize(node).ok()
    }

    /// The value at `key` is wrong.
    pub(crate) fn refuse(&self, key: &Key, mismatch: Mismatch) {
        let place = self.sources.place(key, Part::Value);
        self.push(place, key, mismatch, self.sources.found(key));
    }

    /// The key itself is wrong, or something is missing below it.
    pub(crate) fn refuse_key(&self, key: &Key, mismatch: Mismatch) {
        self.push(self.sources.place(key, Part::Key), key, mismatch, None);
    }

    /// Something is wrong at a known place.
    pub(crate) fn refuse_at(&self, place: Place, key: &Key, mismatch: Mismatch) {
        self.push(place, key, mismatch, None);
    }

    /// All problems so far, in the order of a report.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort();
        problems.dedup();
        problems
    }

    /// Whether somebody has set `key`; what is only a default was set by nobody.
    pub(crate) fn is_set(&self, key: &Key) -> bool {
        self.sources.origin(key) != crate::layer::Origin::Default
    }

    /// Where relative paths below `key` start: at the file that gave them, else where we run.
    pub(crate) fn directory(&self, key: &Key) -> &Path {
        match (self.sources.origin(key), &self.sources.file) {
            (crate::layer::Origin::File, Some(file)) => &file.directory,
            _ => self.around.directory(),
        }
    }

    fn push(&self, place: Place, key: &Key, mismatch: Mismatch, found: Option<String>) {
        let Mismatch { what, help } = mismatch;
        let problem = Problem { place, key: key.to_string(), what, found, help };
        self.problems.borrow_mut().push(problem);
    }
}
