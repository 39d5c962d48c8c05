//! The grammar of JSON: given where a part starts, where it ends.
//!
//! Iterative throughout; what is open is a bit each. Positions are passed and returned instead of
//! being kept, so that they stay in registers. The bytes are known to be UTF-8.

use super::{Limits, ParseErrorKind, plain::plain_len};
use crate::text;

/// The bytes do not follow the grammar; the reason is in [`Grammar::fault`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop;

pub(super) type Step<T> = Result<T, Stop>;

/// What was found wrong, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) kind: ParseErrorKind,
    pub(super) offset: usize,
}

/// One document, and what was found wrong with it.
pub(super) struct Grammar<'a> {
    bytes: &'a [u8],
    max_depth: u16,
    /// The first thing that is wrong.
    fault: Option<Fault>,
}

impl<'a> Grammar<'a> {
    pub(super) fn new(bytes: &'a [u8], limits: &Limits) -> Self {
        Self { bytes, max_depth: limits.max_depth.min(Limits::DEPTH_CAP), fault: None }
    }

    pub(super) const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) const fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Notes that the document is JSON but not what was wanted, so that the rest is still checked.
    pub(super) fn note(&mut self, kind: ParseErrorKind, offset: usize) {
        self.fault.get_or_insert(Fault { kind, offset });
    }

    /// Refuses the document. A fault in the grammar outranks what was noted before.
    #[cold]
    pub(super) fn stop<T>(&mut self, kind: ParseErrorKind, offset: usize) -> Step<T> {
        self.fault = Some(Fault { kind, offset });
        Err(Stop)
    }

    /// Refuses the byte at `at`, or that there is none.
    #[cold]
    pub(super) fn unexpected<T>(&mut self, at: usize) -> Step<T> {
        self.refuse(ParseErrorKind::Syntax, at, at)
    }

    #[cold]
    fn refuse<T>(&mut self, kind: ParseErrorKind, from: usize, at: usize) -> Step<T> {
        match self.bytes.get(at) {
            Some(_) => self.stop(kind, from),
            None => self.stop(ParseErrorKind::Truncated, self.bytes.len()),
        }
    }

    /// Checks that one more container may open where `level` are open with it.
    #[inline]
    pub(super) fn check_depth(&mut self, level: u16, at: usize) -> Step<()> {
        if level > self.max_depth {
            return self.stop(ParseErrorKind::TooDeep, at);
        }
        Ok(())
    }

    /// Where the value ends that starts at `at`, with `depth` containers open around it.
    pub(super) fn value_end(&mut self, mut at: usize, depth: u16) -> Step<usize> {
        let bytes = self.bytes;
        // One bit for each container opened here, the innermost lowest; set for objects.
        let mut objects: u128 = 0;
        let mut level = depth;
        loop {
            match bytes.get(at) {
                Some(b'"') => at = self.string_end(at)?,
                Some(open @ (b'{' | b'[')) => {
                    level += 1;
                    self.check_depth(level, at)?;
                    let in_object = *open == b'{';
                    objects = objects << 1 | u128::from(in_object);
                    at = space_end(bytes, at + 1);
                    // ASCII puts each closing bracket two behind its opening one.
                    if bytes.get(at) != Some(&(open + 2)) {
                        if in_object {
                            at = self.key_end(at)?;
                        }
                        continue;
                    }
                    at += 1;
                    objects >>= 1;
                    level -= 1;
                }
                Some(b'-' | b'0'..=b'9') => at = self.number_end(at)?,
                Some(b't') => at = self.literal_end(at, b"true")?,
                Some(b'f') => at = self.literal_end(at, b"false")?,
                Some(b'n') => at = self.literal_end(at, b"null")?,
                _ => return self.unexpected(at),
            }
            // A value has ended; so may the containers around it.
            loop {
                if level == depth {
                    return Ok(at);
                }
                at = space_end(bytes, at);
                let in_object = objects & 1 == 1;
                match bytes.get(at) {
                    Some(b',') => {
                        at = space_end(bytes, at + 1);
                        if in_object {
                            at = self.key_end(at)?;
                        }
                        break;
                    }
                    Some(b'}') if in_object => {}
                    Some(b']') if !in_object => {}
                    _ => return self.unexpected(at),
                }
                at += 1;
                objects >>= 1;
                level -= 1;
            }
        }
    }

    /// Where the value starts whose key starts at `at`.
    #[inline]
    pub(super) fn key_end(&mut self, at: usize) -> Step<usize> {
        if self.bytes.get(at) != Some(&b'"') {
            return self.unexpected(at);
        }
        let end = self.string_end(at)?;
        self.colon_end(end)
    }

    /// Where the value starts that belongs to the key that ends at `at`.
    #[inline]
    pub(super) fn colon_end(&mut self, at: usize) -> Step<usize> {
        let colon = space_end(self.bytes, at);
        if self.bytes.get(colon) != Some(&b':') {
            return self.unexpected(colon);
        }
        Ok(space_end(self.bytes, colon + 1))
    }

    /// Where the string ends whose opening quote is at `at`.
    #[inline]
    pub(super) fn string_end(&mut self, at: usize) -> Step<usize> {
        let start = at + 1;
        let end = start + plain_len(self.bytes.get(start..).unwrap_or_default());
        if self.bytes.get(end) == Some(&b'"') { Ok(end + 1) } else { self.odd_string_end(end) }
    }

    /// The same, from a byte that is no plain text.
    fn odd_string_end(&mut self, mut at: usize) -> Step<usize> {
        let bytes = self.bytes;
        loop {
            match bytes.get(at) {
                Some(b'"') => return Ok(at + 1),
                Some(b'\\') => match bytes.get(at + 1) {
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                    _ => at = self.escape_end(at)?,
                },
                _ => return self.refuse(ParseErrorKind::Control, at, at),
            }
            at += plain_len(bytes.get(at..).unwrap_or_default());
        }
    }

    /// Where the escape ends whose backslash is at `at`.
    fn escape_end(&mut self, at: usize) -> Step<usize> {
        let tail = self.bytes.get(at + 1..).unwrap_or_default();
        match text::escaped_char(tail) {
            Some((_, length)) => Ok(at + 1 + length),
            None => self.stop(bad_escape(tail), at),
        }
    }

    fn literal_end(&mut self, at: usize, word: &[u8]) -> Step<usize> {
        let rest = self.bytes.get(at..).unwrap_or_default();
        if rest.starts_with(word) {
            return Ok(at + word.len());
        }
        let same = rest.iter().zip(word).take_while(|(a, b)| a == b).count();
        self.unexpected(at + same)
    }

    fn number_end(&mut self, start: usize) -> Step<usize> {
        let bytes = self.bytes;
        let mut at = start + usize::from(bytes.get(start) == Some(&b'-'));
        at = match bytes.get(at) {
            Some(b'0') => at + 1,
            Some(b'1'..=b'9') => digits_end(bytes, at),
            _ => return self.refuse(ParseErrorKind::Number, start, at),
        };
        if bytes.get(at) == Some(&b'.') {
            let end = digits_end(bytes, at + 1);
            if end == at + 1 {
                return self.refuse(ParseErrorKind::Number, start, end);
            }
            at = end;
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            let end = digits_end(bytes, at);
            if end == at {
                return self.refuse(ParseErrorKind::Number, start, end);
            }
            at = end;
        }
        Ok(at)
    }
}

/// Where the white space ends that may start at `at`.
#[inline]
pub(super) fn space_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

#[inline]
fn digits_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b'0'..=b'9') = bytes.get(at) {
        at += 1;
    }
    at
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
