//! Replacing tokens in a message without touching anything else.

use bytes::Bytes;

use super::{Envelope, Kind, head::Head, span::Span};

/// A token that a hop may have to replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// [`Envelope::id`].
    Id,
    /// [`Envelope::progress_token`].
    ProgressToken,
    /// [`Envelope::notified_progress`].
    NotifiedProgress,
    /// [`Envelope::cancelled_request`].
    CancelledRequest,
    /// [`Envelope::subscription_id`].
    SubscriptionId,
}

const FIELDS: usize = 5;

impl Envelope {
    /// A copy with other tokens in the given fields, which must be JSON strings or integers such
    /// as [`crate::Id::token`] yields. Fields that the message lacks are left out; of several edits
    /// of one field the last counts. Nothing is scanned again.
    #[must_use]
    pub fn edit(&self, edits: &[(Field, &[u8])]) -> Self {
        let splices = Splices::new(&self.head, edits);
        let Some(bytes) = self.spliced(splices.present()) else { return self.clone() };
        let mut head = self.head;
        for span in head.spans_mut() {
            *span = shifted(*span, splices.present());
        }
        Self { bytes, head }
    }

    /// The bytes of [`Self::edit`], at half its cost.
    #[must_use]
    pub fn edited_bytes(&self, edits: &[(Field, &[u8])]) -> Bytes {
        let splices = Splices::new(&self.head, edits);
        self.spliced(splices.present()).unwrap_or_else(|| self.bytes.clone())
    }

    /// A copy of a request that asks for progress under this token, a JSON string or integer;
    /// `None` where there is no place for it: the message has a token, or its parameters are no
    /// object. Nothing else changes.
    #[must_use]
    pub fn with_progress_token(&self, token: &[u8]) -> Option<Self> {
        if self.kind() != Kind::Request || self.progress_token().is_some() {
            return None;
        }
        let (at, before, after) = match (self.head.meta, self.head.params) {
            (meta, _) if !meta.is_absent() => (meta.start + 1, "\"progressToken\":", ""),
            (_, params) if !params.is_absent() => {
                (params.start + 1, "\"_meta\":{\"progressToken\":", "}")
            }
            _ => (self.head.method.end, ",\"params\":{\"_meta\":{\"progressToken\":", "}}"),
        };
        let (head, tail) = self.bytes.split_at_checked(at as usize)?;
        let is_member = before.starts_with('"');
        let is_alone = tail.trim_ascii_start().starts_with(b"}");
        if is_member && !head.ends_with(b"{") {
            return None;
        }
        let comma = if is_member && !is_alone { "," } else { "" };
        let parts = [head, before.as_bytes(), token, after.as_bytes(), comma.as_bytes(), tail];
        // A member that the scan took for no token would now be there twice.
        Self::parse(parts.concat().into()).ok()
    }

    /// The bytes with the splices made; `None` if there are none.
    fn spliced(&self, splices: &[Splice<'_>]) -> Option<Bytes> {
        if splices.is_empty() {
            return None;
        }
        let grown = |length, (span, token): &Splice<'_>| length + token.len() - span.len();
        // Exact, since `Bytes` takes over a full vector without another allocation.
        let mut out = Vec::with_capacity(splices.iter().fold(self.bytes.len(), grown));
        let mut copied = 0;
        for (span, token) in splices {
            out.extend_from_slice(self.bytes.get(copied..span.start as usize).unwrap_or_default());
            out.extend_from_slice(token);
            copied = span.end as usize;
        }
        out.extend_from_slice(self.bytes.get(copied..).unwrap_or_default());
        Some(Bytes::from(out))
    }
}

/// What to put in the place of what.
type Splice<'a> = (Span, &'a [u8]);

/// At most one splice per field, in the order of the message.
struct Splices<'a> {
    all: [Splice<'a>; FIELDS],
    present: usize,
}

impl<'a> Splices<'a> {
    fn new(head: &Head, edits: &[(Field, &'a [u8])]) -> Self {
        let mut all: [Splice<'a>; FIELDS] = [(Span::default(), b""); FIELDS];
        let mut present = 0;
        for &(field, token) in edits {
            debug_assert!(
                crate::Id::parse(Bytes::copy_from_slice(token)).is_some(),
                "an edit must keep the message valid"
            );
            let span = head.field(field);
            if span.is_absent() {
                continue;
            }
            // Spans of two fields differ, so that an equal one is an earlier edit of this field.
            let at = all.iter().take(present).position(|(known, _)| known.start == span.start);
            if let Some(slot) = all.get_mut(at.unwrap_or(present)) {
                *slot = (span, token);
                present += usize::from(at.is_none());
            }
        }
        all.get_mut(..present).unwrap_or_default().sort_unstable_by_key(|(span, _)| span.start);
        Self { all, present }
    }

    fn present(&self) -> &[Splice<'a>] {
        self.all.get(..self.present).unwrap_or_default()
    }
}

/// Where a span lies after the splices. Both ends move by what changed before them, so that a
/// span around a splice grows with it.
fn shifted(span: Span, splices: &[Splice<'_>]) -> Span {
    if span.is_absent() {
        return span;
    }
    let shift = |at: u32| {
        let mut moved = at;
        for (splice, token) in splices {
            if splice.end <= at {
                moved = moved + token.len() as u32 - splice.len() as u32;
            }
        }
        moved
    };
    Span { start: shift(span.start), end: shift(span.end) }
}

impl Head {
    const fn field(&self, field: Field) -> Span {
        match field {
            Field::Id => self.id,
            Field::ProgressToken => self.progress_token,
            Field::NotifiedProgress => self.notified_progress,
            Field::CancelledRequest => self.cancelled_request,
            Field::SubscriptionId => self.subscription_id,
        }
    }

    /// Every span, so that none is forgotten when the bytes move.
    const fn spans_mut(&mut self) -> [&mut Span; 22] {
        let Self {
            kind: _,
            name_source: _,
            id,
            method,
            params,
            result,
            error,
            error_code,
            meta,
            name,
            uri,
            task_id,
            arguments,
            cancelled_request,
            notified_progress,
            param_version,
            result_version,
            result_type,
            is_error,
            progress_token,
            meta_version,
            capabilities,
            log_level,
            subscription_id,
        } = self;
        [
            id,
            method,
            params,
            result,
            error,
            error_code,
            meta,
            name,
            uri,
            task_id,
            arguments,
            cancelled_request,
            notified_progress,
            param_version,
            result_version,
            result_type,
            is_error,
            progress_token,
            meta_version,
            capabilities,
            log_level,
            subscription_id,
        ]
    }
}
