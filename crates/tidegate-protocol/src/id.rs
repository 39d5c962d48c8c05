//! Request ids and progress tokens: a JSON string or integer, kept as it was written.

use std::{
    borrow::Cow,
    fmt,
    hash::{Hash, Hasher},
};

use bytes::Bytes;

use crate::text;

/// A JSON-RPC id or token: the verbatim JSON token.
///
/// Two ids are equal when they have the same type and value, however they are spelled: `1` is not
/// `"1"`, but `"\u0031"` is. The token that was read is the token that is echoed.
///
/// An id that came out of a message shares the message's buffer; [`Id::detach`] copies it out for
/// tables that outlive the message.
#[derive(Clone)]
pub struct Id(Bytes);

/// The longest id token that is accepted, in bytes as written.
pub const MAX_LEN: usize = 256;

impl Id {
    /// Takes a JSON token; `None` unless it is a string or an integer of at most [`MAX_LEN`] bytes.
    #[must_use]
    pub fn parse(token: Bytes) -> Option<Self> {
        let valid = token.len() <= MAX_LEN
            && match token.first()? {
                b'"' => is_string(&token),
                _ => is_integer(&token),
            };
        valid.then_some(Self(token))
    }

    /// Wraps a token that the scanner has already accepted.
    pub(crate) const fn trusted(token: Bytes) -> Self {
        Self(token)
    }

    /// An integer id.
    #[must_use]
    pub fn from_u64(value: u64) -> Self {
        Self(Bytes::from(value.to_string()))
    }

    /// A string id with this text. The length is the caller's business.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "cannot fail, unlike FromStr")]
    pub fn from_str(text: &str) -> Self {
        let mut token = Vec::with_capacity(text.len() + 2);
        text::quote_into(&mut token, text);
        Self(Bytes::from(token))
    }

    /// The JSON token, as it was written.
    #[must_use]
    pub fn token(&self) -> &[u8] {
        &self.0
    }

    /// The value of an integer id that fits; `None` for strings, negative and larger numbers.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self.value() {
            Value::Integer(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
            Value::Text(_) => None,
        }
    }

    /// The text of a string id; `None` for integers.
    #[must_use]
    pub fn as_text(&self) -> Option<Cow<'_, str>> {
        match self.value() {
            Value::Integer(_) => None,
            Value::Text(text) => Some(text),
        }
    }

    /// The same id in a buffer of its own, so that keeping it does not keep a whole message.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    fn value(&self) -> Value<'_> {
        match text::unquote(&self.0) {
            Some(text) => Value::Text(text),
            // Integers have one spelling each, but for the sign of zero.
            None if self.0.as_ref() == b"-0" => Value::Integer(b"0"),
            None => Value::Integer(&self.0),
        }
    }
}

#[derive(PartialEq, Eq, Hash)]
enum Value<'a> {
    Integer(&'a [u8]),
    Text(Cow<'a, str>),
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.value() == other.value()
    }
}

impl Eq for Id {}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value().hash(state);
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({self})")
    }
}

/// Whether the token is a JSON number without fraction or exponent.
pub(crate) fn is_integer(token: &[u8]) -> bool {
    let digits = token.strip_prefix(b"-").unwrap_or(token);
    match digits.split_first() {
        Some((b'0', rest)) => rest.is_empty(),
        Some((b'1'..=b'9', rest)) => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

fn is_string(token: &[u8]) -> bool {
    // A quote inside must be escaped, which `unquote` does not check.
    let inner = token.get(1..token.len().saturating_sub(1)).unwrap_or_default();
    let mut escaped = false;
    for &byte in inner {
        if byte < 0x20 || (byte == b'"' && !escaped) {
            return false;
        }
        escaped = byte == b'\\' && !escaped;
    }
    !escaped && token.len() >= 2 && text::unquote(token).is_some()
}

#[cfg(test)]
mod tests;
