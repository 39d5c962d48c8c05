//! Replacing tokens in a message without touching anything else.

use bytes::Bytes;

use super::{Envelope, head::Head, span::Span};

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
        let mut splices: [(Span, &[u8]); FIELDS] = [(Span::default(), b""); FIELDS];
        for &(field, token) in edits {
            debug_assert!(
                crate::Id::parse(Bytes::copy_from_slice(token)).is_some(),
                "an edit must keep the message valid"
            );
            if let Some(slot) = splices.get_mut(field as usize) {
                *slot = (self.head.field(field), token);
            }
        }
        // Absent spans sort first and are skipped.
        splices.sort_unstable_by_key(|(span, _)| span.start);
        let mut out = Vec::with_capacity(self.len_after(&splices));
        let mut copied = 0;
        for (span, token) in splices.into_iter().filter(|(span, _)| !span.is_absent()) {
            out.extend_from_slice(self.bytes.get(copied..span.start as usize).unwrap_or_default());
            out.extend_from_slice(token);
            copied = span.end as usize;
        }
        if copied == 0 {
            return self.clone();
        }
        out.extend_from_slice(self.bytes.get(copied..).unwrap_or_default());
        let mut head = self.head;
        for span in head.spans_mut() {
            *span = shifted(*span, &splices);
        }
        Self { bytes: Bytes::from(out), head }
    }

    /// Exact, since `Bytes` takes over a full vector without another allocation.
    fn len_after(&self, splices: &[(Span, &[u8])]) -> usize {
        let present = splices.iter().filter(|(span, _)| !span.is_absent());
        present.fold(self.bytes.len(), |len, (span, token)| len + token.len() - span.len())
    }
}

/// Where a span lies after the splices. Both ends move by what changed before them, so that a
/// span around a splice grows with it.
fn shifted(span: Span, splices: &[(Span, &[u8])]) -> Span {
    if span.is_absent() {
        return span;
    }
    let shift = |at: u32| {
        let mut moved = at;
        for (splice, token) in splices {
            if !splice.is_absent() && splice.end <= at {
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
