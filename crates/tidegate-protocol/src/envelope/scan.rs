//! The scanner: reads one document and reports where watched members are.
//!
//! It knows JSON and nothing of JSON-RPC; which members matter is told to it.

use super::{
    Limits, ParseErrorKind,
    grammar::{Fault, Grammar, Step, space_end},
    span::Span,
};
use crate::text;

/// A cursor over one document.
pub(super) struct Scanner<'a> {
    grammar: Grammar<'a>,
    at: usize,
}

/// The members of an object that matter.
pub(super) struct Watch<const N: usize> {
    pub(super) names: [&'static str; N],
    /// The index of a name. Written as a `match`, which compiles to a few comparisons.
    pub(super) index: fn(&[u8]) -> Option<usize>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(bytes: &'a [u8], limits: &Limits) -> Self {
        Self { grammar: Grammar::new(bytes, limits), at: 0 }
    }

    /// Checks what concerns the whole document and moves to its first token.
    pub(super) fn begin(&mut self) -> Step<u8> {
        let bytes = self.grammar.bytes();
        if u32::try_from(bytes.len()).is_err() {
            return self.grammar.stop(ParseErrorKind::TooLong, 0);
        }
        if let Err(error) = std::str::from_utf8(bytes) {
            return self.grammar.stop(ParseErrorKind::Utf8, error.valid_up_to());
        }
        self.skip_space();
        match self.peek() {
            Some(first) => Ok(first),
            None => self.grammar.stop(ParseErrorKind::Empty, self.at),
        }
    }

    /// Checks that nothing but white space is left.
    pub(super) fn finish(&mut self) -> Step<()> {
        self.skip_space();
        if self.peek().is_some() {
            return self.grammar.stop(ParseErrorKind::TrailingData, self.at);
        }
        Ok(())
    }

    /// What was found wrong first, where a fault in the grammar outranks one in meaning.
    pub(super) const fn fault(&self) -> Option<Fault> {
        self.grammar.fault()
    }

    /// Notes that the document is JSON but not what was wanted, and lets the scan go on, so that
    /// the rest is still checked and the id still found.
    pub(super) fn note(&mut self, kind: ParseErrorKind, offset: usize) {
        self.grammar.note(kind, offset);
    }

    pub(super) const fn offset(&self) -> usize {
        self.at
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.grammar.bytes().get(self.at).copied()
    }

    /// Validates the value that starts here and moves behind it. `depth` containers are open
    /// around it.
    #[inline]
    pub(super) fn skip_value(&mut self, depth: u16) -> Step<()> {
        self.at = self.grammar.value_end(self.at, depth)?;
        Ok(())
    }

    /// Reads the object that starts here, at nesting `depth`, and returns where the values of the
    /// watched members are. `visit` is called at the start of each of those values, with its
    /// index, and must consume it.
    #[inline]
    pub(super) fn object<const N: usize>(
        &mut self,
        depth: u16,
        watch: &Watch<N>,
        mut visit: impl FnMut(&mut Self, usize) -> Step<()>,
    ) -> Step<[Span; N]> {
        let mut found = [Span::default(); N];
        self.grammar.check_depth(depth, self.at)?;
        if self.opens_empty(b'}') {
            return Ok(found);
        }
        loop {
            let key_at = self.at;
            let key = self.key()?;
            match watch.find(key) {
                None => self.skip_value(depth)?,
                Some(index) => {
                    let start = self.at;
                    visit(self, index)?;
                    if let (Some(slot), Some(name)) = (found.get_mut(index), watch.names.get(index))
                    {
                        if !slot.is_absent() {
                            self.note(ParseErrorKind::Duplicate(name), key_at);
                        }
                        *slot = Span::new(start, self.at);
                    }
                }
            }
            if self.ends(b'}')? {
                return Ok(found);
            }
        }
    }

    /// Reads the array that starts here, at nesting 1, and tells where each element is.
    pub(super) fn elements(&mut self, mut each: impl FnMut(Span)) -> Step<()> {
        self.grammar.check_depth(1, self.at)?;
        if self.opens_empty(b']') {
            return Ok(());
        }
        loop {
            let start = self.at;
            self.skip_value(1)?;
            each(Span::new(start, self.at));
            if self.ends(b']')? {
                return Ok(());
            }
        }
    }

    /// Moves behind the opening bracket, and behind the closing one if it follows.
    fn opens_empty(&mut self, close: u8) -> bool {
        self.at += 1;
        self.skip_space();
        let empty = self.peek() == Some(close);
        self.at += usize::from(empty);
        empty
    }

    /// Moves behind the closing bracket, or behind the comma to what follows it.
    #[inline]
    fn ends(&mut self, close: u8) -> Step<bool> {
        self.skip_space();
        let closed = match self.peek() {
            Some(b',') => false,
            Some(byte) if byte == close => true,
            _ => return self.grammar.unexpected(self.at),
        };
        self.at += 1;
        if !closed {
            self.skip_space();
        }
        Ok(closed)
    }

    /// Reads a key and its colon, and moves to the value; returns the key as it is spelled.
    #[inline]
    fn key(&mut self) -> Step<&'a [u8]> {
        if self.peek() != Some(b'"') {
            return self.grammar.unexpected(self.at);
        }
        let start = self.at + 1;
        let end = self.grammar.string_end(self.at)?;
        self.at = self.grammar.colon_end(end)?;
        Ok(self.grammar.bytes().get(start..end - 1).unwrap_or_default())
    }

    #[inline]
    fn skip_space(&mut self) {
        self.at = space_end(self.grammar.bytes(), self.at);
    }
}

impl<const N: usize> Watch<N> {
    /// Which of the names a key is, compared after unescaping.
    #[inline]
    fn find(&self, key: &[u8]) -> Option<usize> {
        match (self.index)(key) {
            None if key.contains(&b'\\') => {
                // Every name that matters fits.
                (self.index)(text::unescape_into(key, &mut [0; 64])?)
            }
            found => found,
        }
    }
}
