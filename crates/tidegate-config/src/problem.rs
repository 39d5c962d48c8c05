//! What is wrong, where, and what to do about it; and the report of all of it at once.

use std::fmt;

/// Everything that is wrong with a configuration. Never empty.
///
/// `Display` prints all of it, one problem after the other, each in the form
/// `file:line:column: key: what is wrong` and an indented line that says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Report {
    pub(crate) problems: Vec<Problem>,
}

impl Report {
    /// The problems: those of the file first, in its order, then environment and flags.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => writeln!(f, "the configuration has 1 problem")?,
            count => writeln!(f, "the configuration has {count} problems")?,
        }
        for problem in &self.problems {
            write!(f, "\n{problem}")?;
        }
        Ok(())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where: a file with line and column, a variable or a flag.
    pub place: Place,
    /// The dotted key, such as `routes[0].upstream`; empty for the whole file.
    pub key: String,
    /// What is wrong: a lowercase fragment.
    pub what: String,
    /// The value as it was written, shortened, before any `${…}` was filled in.
    pub found: Option<String>,
    /// What would be accepted, or what to do next.
    pub help: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What nobody set anywhere has no place to point at.
        if self.place != Place::Default {
            write!(f, "{}: ", self.place)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}", self.what)?;
        if let Some(found) = &self.found {
            write!(f, "; found {found}")?;
        }
        writeln!(f, "\n    {}", self.help)
    }
}

/// Where a value came from. Orders files first, then by line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A file, with the position where it is known.
    File {
        /// As it was named on the command line.
        name: String,
        /// Line and column.
        position: Option<Position>,
    },
    /// An environment variable, by name.
    Env(String),
    /// A flag, such as `--listen`.
    Flag(&'static str),
    /// Nobody set it.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, position: Some(Position { line, column }) } => {
                write!(f, "{name}:{line}:{column}")
            }
            Self::File { name, position: None } => f.write_str(name),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// A text and where its lines begin, to turn byte offsets into positions.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(newline, _)| newline + 1);
        Self { text, starts: std::iter::once(0).chain(after_newlines).collect() }
    }

    pub(crate) const fn text(&self) -> &'a str {
        self.text
    }

    /// The position of the byte at `offset`.
    pub(crate) fn position(&self, offset: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or_default();
        Position { line, column: before.chars().count() + 1 }
    }
}

/// Why a value cannot be used, before it is known where it came from.
///
/// Never holds the value itself: it may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) what: String,
    pub(crate) help: String,
}

impl Mismatch {
    pub(crate) fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into() }
    }

    /// The same, where `off` would be taken too.
    pub(crate) fn or_off(self) -> Self {
        Self { help: format!("{}; or off", self.help), ..self }
    }
}

/// The candidate that `word` was probably meant to be.
pub(crate) fn closest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| {
            let plain = candidate.to_ascii_lowercase().replace('-', "_");
            (strsim::damerau_levenshtein(&word, &plain), candidate)
        })
        // A third of the letters may be wrong; more than that is a guess.
        .filter(|(distance, candidate)| distance * 3 <= candidate.chars().count().max(3))
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::{Lines, Position, closest};

    #[test]
    fn positions_count_characters() {
        let text = "ä: 1\nöb: 2\n";
        let offset = text.find('b').unwrap();
        assert_eq!(Lines::of(text).position(offset), Position { line: 2, column: 2 });
        assert_eq!(Lines::of(text).position(0), Position { line: 1, column: 1 });
    }

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let known = ["max_body", "max_uri", "url", "cwd"];
        assert_eq!(closest("max_boddy", known), Some("max_body"));
        assert_eq!(closest("maxbody", known), Some("max_body"));
        assert_eq!(closest("MAX-BODY", known), Some("max_body"));
        assert_eq!(closest("uri", known), Some("url"));
        assert_eq!(closest("replicas", known), None);
    }
}
