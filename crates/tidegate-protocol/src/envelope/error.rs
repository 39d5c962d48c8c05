//! Why bytes are no message.

use std::fmt;

use crate::{id::Id, rpc::code};

/// Why bytes are no message, and where it shows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// How many bytes precede the place where it shows.
    pub offset: usize,
    /// The id of the message where it could be told, for the answer. Never set for bytes that are
    /// no JSON, whose answer has a null id by the rules of JSON-RPC.
    pub id: Option<Id>,
}

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// Another byte was expected.
    Syntax,
    /// The bytes end within the message.
    Truncated,
    /// A control character stands in a string unescaped.
    Control,
    /// An escape that JSON does not have.
    Escape,
    /// Half of a surrogate pair is escaped without the other.
    Surrogate,
    /// A number that does not follow the grammar.
    Number,
    /// The bytes are not UTF-8.
    Utf8,
    /// There is nothing but white space.
    Empty,
    /// Something follows the message.
    TrailingData,
    /// Arrays and objects nest deeper than the limit.
    TooDeep,
    /// The message is longer than 4 GiB.
    TooLong,
    /// The message is an array, which is a batch.
    Array,
    /// The message is neither an object nor an array.
    NotObject,
    /// A batch was expected, and the message is none.
    NotArray,
    /// The batch has no elements.
    EmptyBatch,
    /// The batch has more elements than allowed.
    BatchTooLong,
    /// The named member occurs twice in one object.
    Duplicate(&'static str),
    /// The id is missing where one must be, or no string or integer, or longer than 256 bytes.
    BadId,
    /// The named member is missing, out of place, or of the wrong type.
    BadShape(&'static str),
}

impl ParseError {
    /// The JSON-RPC code: -32700 for bytes that are no JSON, -32600 for JSON that is no message.
    #[must_use]
    pub const fn code(&self) -> i64 {
        self.kind.code()
    }
}

impl ParseErrorKind {
    /// The JSON-RPC code: -32700 for bytes that are no JSON, -32600 for JSON that is no message.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::Syntax
            | Self::Truncated
            | Self::Control
            | Self::Escape
            | Self::Surrogate
            | Self::Number
            | Self::Utf8
            | Self::Empty
            | Self::TrailingData => code::PARSE_ERROR,
            Self::TooDeep
            | Self::TooLong
            | Self::Array
            | Self::NotObject
            | Self::NotArray
            | Self::EmptyBatch
            | Self::BatchTooLong
            | Self::Duplicate(_)
            | Self::BadId
            | Self::BadShape(_) => code::INVALID_REQUEST,
        }
    }
}

impl fmt::Display for ParseErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax => f.write_str("unexpected byte"),
            Self::Truncated => f.write_str("message cut off"),
            Self::Control => f.write_str("unescaped control character in a string"),
            Self::Escape => f.write_str("invalid escape in a string"),
            Self::Surrogate => f.write_str("lone surrogate in a string"),
            Self::Number => f.write_str("malformed number"),
            Self::Utf8 => f.write_str("invalid UTF-8"),
            Self::Empty => f.write_str("no message"),
            Self::TrailingData => f.write_str("data after the message"),
            Self::TooDeep => f.write_str("nesting too deep"),
            Self::TooLong => f.write_str("message too long"),
            Self::Array => f.write_str("a batch where one message is expected"),
            Self::NotObject => f.write_str("neither an object nor a batch"),
            Self::NotArray => f.write_str("a batch is expected"),
            Self::EmptyBatch => f.write_str("empty batch"),
            Self::BatchTooLong => f.write_str("too many messages in the batch"),
            Self::Duplicate(name) => write!(f, "duplicate `{name}`"),
            Self::BadId => f.write_str("id must be a string or integer of at most 256 bytes"),
            Self::BadShape(name) => write!(f, "missing, misplaced or malformed `{name}`"),
        }
    }
}
