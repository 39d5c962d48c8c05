//! One JSON-RPC message: the bytes that came in, and where in them the parts are.
//!
//! [`Envelope::parse`] validates a message once, strictly, without recursion and without
//! allocating, and remembers the places of the members that somebody acts on. Nothing is decoded
//! until it is asked for, and what no rule touches leaves as it came.
//!
//! Stricter than JSON on purpose, because peers disagree about the rest: members that are acted on
//! may occur once (compared after unescaping, case-sensitively), ids and tokens are strings or
//! integers, lone surrogates are refused, and nesting has a limit.

mod batch;
#[cfg(test)]
mod differential;
mod edit;
mod error;
mod grammar;
mod head;
mod plain;
mod scan;
mod span;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt};

use bytes::Bytes;

pub use self::{
    batch::{holds_answer, split_batch},
    edit::Field,
    error::{ParseError, ParseErrorKind},
};
use self::{
    head::{Head, NameSource},
    span::Span,
};
use crate::{id::Id, text, version::Version};

/// One validated JSON-RPC message. Cloning shares the bytes.
#[derive(Clone)]
pub struct Envelope {
    bytes: Bytes,
    head: Head,
}

/// What a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `method` and `id`.
    #[default]
    Request,
    /// `method` without `id`.
    Notification,
    /// `id` and `result`.
    Response,
    /// `error`, with the id of its request where the sender knew it.
    Error,
}

/// What a message may cost to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How deep arrays and objects may nest, the message itself counted. At most
    /// [`Limits::DEPTH_CAP`]; larger values mean that.
    pub max_depth: u16,
}

impl Limits {
    /// The deepest nesting that can be configured. Common parsers stop there as well.
    pub const DEPTH_CAP: u16 = 128;
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_depth: 64 }
    }
}

impl Envelope {
    /// Reads one message with the default limits.
    ///
    /// # Errors
    /// Says what is wrong and where; [`ParseError::code`] is the JSON-RPC code for it.
    pub fn parse(bytes: Bytes) -> Result<Self, ParseError> {
        Self::parse_with(bytes, &Limits::default())
    }

    /// Reads one message.
    ///
    /// # Errors
    /// Says what is wrong and where; [`ParseError::code`] is the JSON-RPC code for it.
    pub fn parse_with(bytes: Bytes, limits: &Limits) -> Result<Self, ParseError> {
        let head = Head::read(&bytes, limits)?;
        Ok(Self { bytes, head })
    }

    /// The message as it is sent.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The message as it is sent.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The length of the message in bytes; never zero.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a message is never empty")]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What the message is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.head.kind
    }

    /// The id, sharing this message's buffer. `None` for notifications and for errors whose id is
    /// null.
    #[must_use]
    pub fn id(&self) -> Option<Id> {
        self.token(self.head.id)
    }

    /// The method of a request or notification.
    #[must_use]
    pub fn method(&self) -> Option<Cow<'_, str>> {
        self.text(self.head.method)
    }

    /// Whether the method is this one. Cheaper than to look at [`Self::method`].
    #[must_use]
    pub fn is_method(&self, name: &str) -> bool {
        self.method_token().is_some_and(|token| text::says(token, name))
    }

    /// Which of `names` the method is, by its index.
    #[must_use]
    pub fn method_among(&self, names: &[&str]) -> Option<usize> {
        let token = self.method_token()?;
        names.iter().position(|name| text::says(token, name))
    }

    pub(crate) fn method_token(&self) -> Option<&[u8]> {
        self.slice(self.head.method)
    }

    /// The params object as raw JSON; a null counts as absent.
    #[must_use]
    pub fn params(&self) -> Option<&[u8]> {
        self.slice(self.head.params)
    }

    /// The `_meta` object of the params or of the result, as raw JSON; a null counts as absent.
    #[must_use]
    pub fn meta(&self) -> Option<&[u8]> {
        self.slice(self.head.meta)
    }

    /// The result of a response as raw JSON, of whatever type.
    #[must_use]
    pub fn result(&self) -> Option<&[u8]> {
        self.slice(self.head.result)
    }

    /// The error object of an error response as raw JSON.
    #[must_use]
    pub fn error(&self) -> Option<&[u8]> {
        self.slice(self.head.error)
    }

    /// What the request is about, which is what `Mcp-Name` mirrors: the tool or prompt name, the
    /// resource URI of `resources/read`, the task id of `tasks/…`.
    #[must_use]
    pub fn name(&self) -> Option<Cow<'_, str>> {
        text::unquote(self.name_token()?)
    }

    pub(crate) fn name_token(&self) -> Option<&[u8]> {
        match self.head.name_source {
            NameSource::None => None,
            NameSource::Name => self.string(self.head.name),
            NameSource::Uri => self.string(self.head.uri),
            NameSource::Task => self.string(self.head.task_id),
        }
    }

    /// Whether the method is one whose requests have a [`name`](Self::name).
    pub(crate) const fn should_name(&self) -> bool {
        !matches!(self.head.name_source, NameSource::None)
    }

    /// Whether that name is the id of a task.
    pub(crate) const fn names_task(&self) -> bool {
        matches!(self.head.name_source, NameSource::Task)
    }

    /// `params.uri`, whatever the method.
    #[must_use]
    pub fn uri(&self) -> Option<Cow<'_, str>> {
        self.text(self.head.uri)
    }

    /// `params.arguments` as raw JSON, of whatever type.
    #[must_use]
    pub fn arguments(&self) -> Option<&[u8]> {
        self.slice(self.head.arguments)
    }

    /// The token under which a request asks to hear of progress.
    #[must_use]
    pub fn progress_token(&self) -> Option<Id> {
        self.token(self.head.progress_token)
    }

    /// The token that a `notifications/progress` reports on.
    #[must_use]
    pub fn notified_progress(&self) -> Option<Id> {
        self.token(self.head.notified_progress)
    }

    /// The id of the request that a `notifications/cancelled` gives up.
    #[must_use]
    pub fn cancelled_request(&self) -> Option<Id> {
        self.token(self.head.cancelled_request)
    }

    /// The id of the listen request that a modern notification or result belongs to.
    #[must_use]
    pub fn subscription_id(&self) -> Option<Id> {
        self.token(self.head.subscription_id)
    }

    /// The protocol version in `_meta`, which makes a request a modern one.
    #[must_use]
    pub fn meta_version(&self) -> Option<Cow<'_, str>> {
        self.text(self.head.meta_version)
    }

    /// The protocol version in `_meta`, if it is a revision that is known.
    #[must_use]
    pub fn known_version(&self) -> Option<Version> {
        let token = self.version_token()?;
        // The newest is asked for most.
        Version::ALL.into_iter().rev().find(|version| text::says(token, version.as_str()))
    }

    pub(crate) fn version_token(&self) -> Option<&[u8]> {
        self.string(self.head.meta_version)
    }

    /// Whether `_meta` declares the client's capabilities, as an object.
    #[must_use]
    pub fn has_client_capabilities(&self) -> bool {
        self.client_capabilities().is_some()
    }

    /// The client's capabilities in `_meta` as a raw JSON object.
    #[must_use]
    pub fn client_capabilities(&self) -> Option<&[u8]> {
        self.slice(self.head.capabilities).filter(|raw| raw.starts_with(b"{"))
    }

    /// The log level in `_meta`.
    #[must_use]
    pub fn log_level(&self) -> Option<Cow<'_, str>> {
        self.text(self.head.log_level)
    }

    /// `params.protocolVersion`, which an `initialize` asks for.
    #[must_use]
    pub fn param_version(&self) -> Option<Cow<'_, str>> {
        self.text(self.head.param_version)
    }

    /// `result.protocolVersion`, which the answer to an `initialize` settles.
    #[must_use]
    pub fn result_version(&self) -> Option<Cow<'_, str>> {
        self.text(self.head.result_version)
    }

    /// `result.resultType`, which every modern result has.
    #[must_use]
    pub fn result_type(&self) -> Option<Cow<'_, str>> {
        self.text(self.head.result_type)
    }

    /// Whether the result says that the tool failed.
    #[must_use]
    pub fn is_tool_error(&self) -> bool {
        self.slice(self.head.is_error) == Some(b"true")
    }

    /// The code of an error response, where it is an integer that fits.
    #[must_use]
    pub fn error_code(&self) -> Option<i64> {
        std::str::from_utf8(self.slice(self.head.error_code)?).ok()?.parse().ok()
    }

    fn slice(&self, span: Span) -> Option<&[u8]> {
        span.of(&self.bytes)
    }

    /// The token, if it is a string.
    fn string(&self, span: Span) -> Option<&[u8]> {
        self.slice(span).filter(|token| token.starts_with(b"\""))
    }

    fn text(&self, span: Span) -> Option<Cow<'_, str>> {
        text::unquote(self.slice(span)?)
    }

    fn token(&self, span: Span) -> Option<Id> {
        let token = self.slice(span)?;
        Some(Id::trusted(self.bytes.slice_ref(token)))
    }
}

impl fmt::Debug for Envelope {
    /// Says what the message is without its contents, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("kind", &self.kind())
            .field("id", &self.id())
            .field("method", &self.method())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
