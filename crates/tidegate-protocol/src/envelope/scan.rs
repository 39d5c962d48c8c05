//! The scanner: validates JSON in one pass, iteratively, and reports where watched members are.
//!
//! It knows JSON and nothing of JSON-RPC; which members matter is told to it.

use super::{Limits, ParseErrorKind, plain::plain_len, span::Span};
use crate::text;

/// The scan cannot go on; the reason is in [`Scanner::fault`].
#[derive(Debug)]
pub(super) struct Stop;

pub(super) type Step<T> = Result<T, Stop>;

/// What was found wrong, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) kind: ParseErrorKind,
    pub(super) offset: usize,
}

/// A cursor over one document.
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    max_depth: u16,
    /// The first thing that is wrong. A fault in meaning does not end the scan, so that the rest
    /// is still checked and the id still found.
    fault: Option<Fault>,
}

/// The members of an object that matter.
pub(super) struct Watch<const N: usize> {
    pub(super) names: [&'static str; N],
    /// The index of a name. Written as a `match`, which compiles to a few comparisons.
    pub(super) index: fn(&[u8]) -> Option<usize>,
}

/// The contents of a key, between its quotes.
#[derive(Clone, Copy)]
struct Key<'a> {
    inner: &'a [u8],
    escaped: bool,
}

impl Key<'_> {
    /// Looks the key up, after unescaping.
    #[inline]
    fn index(self, index: fn(&[u8]) -> Option<usize>) -> Option<usize> {
        if self.escaped {
            // Every name that matters fits.
            index(text::unescape_into(self.inner, &mut [0; 64])?)
        } else {
            index(self.inner)
        }
    }
}

impl<'a> Scanner<'a> {
    pub(super) fn new(bytes: &'a [u8], limits: &Limits) -> Self {
        let max_depth = limits.max_depth.min(Limits::DEPTH_CAP);
        Self { bytes, at: 0, max_depth, fault: None }
    }

    /// Checks what concerns the whole document and moves to its first token.
    pub(super) fn begin(&mut self) -> Step<u8> {
        if u32::try_from(self.bytes.len()).is_err() {
            return self.stop(ParseErrorKind::TooLong, 0);
        }
        if let Err(error) = std::str::from_utf8(self.bytes) {
            return self.stop(ParseErrorKind::Utf8, error.valid_up_to());
        }
        self.skip_space();
        match self.peek() {
            Some(first) => Ok(first),
            None => self.stop(ParseErrorKind::Empty, self.at),
        }
    }

    /// Checks that nothing but white space is left.
    pub(super) fn finish(&mut self) -> Step<()> {
        self.skip_space();
        if self.at < self.bytes.len() {
            return self.stop(ParseErrorKind::TrailingData, self.at);
        }
        Ok(())
    }

    /// What was found wrong first, where a fault in the grammar outranks one in meaning.
    pub(super) const fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Notes that the document is JSON but not what was wanted, and lets the scan go on.
    pub(super) fn note(&mut self, kind: ParseErrorKind, offset: usize) {
        self.fault.get_or_insert(Fault { kind, offset });
    }

    pub(super) const fn offset(&self) -> usize {
        self.at
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
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
        if depth > self.max_depth {
            return self.stop(ParseErrorKind::TooDeep, self.at);
        }
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(found);
        }
        loop {
            let key_at = self.at;
            let key = self.key()?;
            match key.index(watch.index) {
                None => self.skip_value(depth)?,
                Some(index) => {
                    let start = self.at;
                    visit(self, index)?;
                    self.record(&mut found, watch, index, Span::new(start, self.at), key_at);
                }
            }
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(found);
                }
                _ => return self.unexpected(),
            }
            self.skip_space();
        }
    }

    /// Reads the array that starts here, at nesting 1, and tells where each element is.
    pub(super) fn elements(&mut self, mut each: impl FnMut(Span)) -> Step<()> {
        if self.max_depth == 0 {
            return self.stop(ParseErrorKind::TooDeep, self.at);
        }
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let start = self.at;
            self.skip_value(1)?;
            each(Span::new(start, self.at));
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.unexpected(),
            }
            self.skip_space();
        }
    }

    /// Validates the value that starts here and moves behind it. `depth` containers are open
    /// around it.
    pub(super) fn skip_value(&mut self, depth: u16) -> Step<()> {
        // One bit for each container opened here, the innermost lowest; set for objects.
        let mut objects: u128 = 0;
        let mut level = depth;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.string()?;
                }
                Some(open @ (b'{' | b'[')) => {
                    level += 1;
                    if level > self.max_depth {
                        return self.stop(ParseErrorKind::TooDeep, self.at);
                    }
                    objects = objects << 1 | u128::from(open == b'{');
                    self.at += 1;
                    self.skip_space();
                    // ASCII puts each closing bracket two behind its opening one.
                    if self.peek() != Some(open + 2) {
                        if open == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                    self.at += 1;
                    objects >>= 1;
                    level -= 1;
                }
                Some(b't') => self.literal(b"true")?,
                Some(b'f') => self.literal(b"false")?,
                Some(b'n') => self.literal(b"null")?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                _ => return self.unexpected(),
            }
            // A value has ended; so may the containers around it.
            loop {
                if level == depth {
                    return Ok(());
                }
                self.skip_space();
                let in_object = objects & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.skip_space();
                        if in_object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if in_object => {}
                    Some(b']') if !in_object => {}
                    _ => return self.unexpected(),
                }
                self.at += 1;
                objects >>= 1;
                level -= 1;
            }
        }
    }

    fn record<const N: usize>(
        &mut self,
        found: &mut [Span; N],
        watch: &Watch<N>,
        index: usize,
        span: Span,
        key_at: usize,
    ) {
        let (Some(slot), Some(name)) = (found.get_mut(index), watch.names.get(index)) else {
            return;
        };
        if slot.is_absent() {
            *slot = span;
        } else {
            self.note(ParseErrorKind::Duplicate(name), key_at);
        }
    }

    /// Reads a key and its colon, and moves to the value.
    fn key(&mut self) -> Step<Key<'a>> {
        if self.peek() != Some(b'"') {
            return self.unexpected();
        }
        let start = self.at + 1;
        let escaped = self.string()?;
        let inner = self.bytes.get(start..self.at - 1).unwrap_or_default();
        self.skip_space();
        if self.peek() != Some(b':') {
            return self.unexpected();
        }
        self.at += 1;
        self.skip_space();
        Ok(Key { inner, escaped })
    }

    /// Reads the string that starts here; says whether it has escapes.
    #[inline]
    fn string(&mut self) -> Step<bool> {
        let start = self.at + 1;
        let rest = self.bytes.get(start..).unwrap_or_default();
        let at = start + plain_len(rest);
        if self.bytes.get(at) == Some(&b'"') {
            self.at = at + 1;
            return Ok(false);
        }
        self.string_from(at)
    }

    /// Reads on from a byte of a string that is no plain text.
    fn string_from(&mut self, mut at: usize) -> Step<bool> {
        loop {
            match self.bytes.get(at) {
                Some(b'\\') => at = self.escape(at)?,
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(true);
                }
                Some(_) => return self.stop(ParseErrorKind::Control, at),
                None => return self.stop(ParseErrorKind::Truncated, at),
            }
            at += plain_len(self.bytes.get(at..).unwrap_or_default());
        }
    }

    /// Checks the escape whose backslash is at `at`; returns where it ends.
    fn escape(&mut self, at: usize) -> Step<usize> {
        let tail = self.bytes.get(at + 1..).unwrap_or_default();
        if let Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') = tail.first() {
            return Ok(at + 2);
        }
        match text::escaped_char(tail) {
            Some((_, length)) => Ok(at + 1 + length),
            None => self.stop(bad_escape(tail), at),
        }
    }

    fn literal(&mut self, word: &[u8]) -> Step<()> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        self.at += rest.iter().zip(word).take_while(|(a, b)| a == b).count();
        self.unexpected()
    }

    fn number(&mut self) -> Step<()> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.bad_number(start),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                return self.bad_number(start);
            }
            self.digits();
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                return self.bad_number(start);
            }
            self.digits();
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[cold]
    fn bad_number<T>(&mut self, start: usize) -> Step<T> {
        match self.peek() {
            Some(_) => self.stop(ParseErrorKind::Number, start),
            None => self.stop(ParseErrorKind::Truncated, self.at),
        }
    }

    #[cold]
    fn unexpected<T>(&mut self) -> Step<T> {
        match self.peek() {
            Some(_) => self.stop(ParseErrorKind::Syntax, self.at),
            None => self.stop(ParseErrorKind::Truncated, self.at),
        }
    }

    #[cold]
    fn stop<T>(&mut self, kind: ParseErrorKind, offset: usize) -> Step<T> {
        self.fault = Some(Fault { kind, offset });
        Err(Stop)
    }
}

/// Why an escape was refused, for the error only.
#[cold]
fn bad_escape(tail: &[u8]) -> ParseErrorKind {
    let Some(digits) = tail.strip_prefix(b"u") else {
        return if tail.is_empty() { ParseErrorKind::Truncated } else { ParseErrorKind::Escape };
    };
    let digits = digits.get(..4).unwrap_or(digits);
    match digits {
        _ if !digits.iter().all(u8::is_ascii_hexdigit) => ParseErrorKind::Escape,
        [_, _, _, _] => ParseErrorKind::Surrogate,
        _ => ParseErrorKind::Truncated,
    }
}
