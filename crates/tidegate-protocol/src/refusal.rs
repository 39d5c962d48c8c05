//! Why the proxy turns an HTTP request away before it becomes a call.

use std::borrow::Cow;

use bytes::Bytes;

use crate::{id::Id, rpc};

/// A refusal, ready to be told: the HTTP status and the JSON-RPC error of its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The JSON-RPC error code, one of [`rpc::code`].
    pub code: i64,
    /// What is wrong, for people.
    pub message: Cow<'static, str>,
    /// The error's `data` as raw JSON.
    pub data: Option<String>,
}

impl Refusal {
    /// A refusal without data.
    pub(crate) fn new(status: u16, code: i64, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), data: None }
    }

    /// The JSON-RPC error that tells it to the sender of `id`.
    #[must_use]
    pub fn body(&self, id: Option<&Id>) -> Bytes {
        rpc::error(id, self.code, &self.message, self.data.as_deref())
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Refusal {}
