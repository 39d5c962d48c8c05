//! Batches, which only revision 2025-03-26 has.

use bytes::Bytes;

use super::{
    Envelope, Kind, Limits, ParseError, ParseErrorKind,
    grammar::{Fault, Step},
    scan::Scanner,
};

/// The most members of a batch that [`holds_answer`] looks at.
const MAX_LOOKED_AT: usize = 1024;

/// Whether this is an answer, or a batch with one among its members, which 2025-03-26 allows in an
/// event. An empty text and what is no message hold none.
#[must_use]
pub fn holds_answer(data: &Bytes) -> bool {
    let is_answer = |message: Bytes| {
        Envelope::parse(message)
            .is_ok_and(|message| matches!(message.kind(), Kind::Response | Kind::Error))
    };
    match data.trim_ascii_start().first() {
        Some(b'[') => split_batch(data, &Limits::default(), MAX_LOOKED_AT)
            .is_ok_and(|members| members.into_iter().any(is_answer)),
        Some(_) => is_answer(data.clone()),
        None => false,
    }
}

/// Cuts a batch into its elements, which share the batch's buffer and are valid JSON but not
/// necessarily messages. Nesting counts from the batch.
///
/// # Errors
/// When the bytes are no JSON array, or one that is empty or has more than `max_items` elements.
pub fn split_batch(
    bytes: &Bytes,
    limits: &Limits,
    max_items: usize,
) -> Result<Vec<Bytes>, ParseError> {
    let mut scanner = Scanner::new(bytes, limits);
    let mut items = Vec::new();
    let scanned = scan(&mut scanner, bytes, max_items, &mut items);
    match (scanned, scanner.fault()) {
        (Ok(()), None) => Ok(items),
        (_, fault) => {
            let Fault { kind, offset } = fault.unwrap_or_else(|| Fault {
                kind: ParseErrorKind::Syntax,
                offset: scanner.offset(),
            });
            Err(ParseError { kind, offset, id: None })
        }
    }
}

fn scan(
    scanner: &mut Scanner<'_>,
    bytes: &Bytes,
    max_items: usize,
    items: &mut Vec<Bytes>,
) -> Step<()> {
    let first = scanner.begin()?;
    let start = scanner.offset();
    if first != b'[' {
        scanner.skip_value(0)?;
        scanner.finish()?;
        scanner.note(ParseErrorKind::NotArray, start);
        return Ok(());
    }
    let mut surplus = None;
    scanner.elements(|span| {
        if items.len() < max_items {
            items.push(bytes.slice(span.start as usize..span.end as usize));
        } else {
            surplus.get_or_insert(span.start as usize);
        }
    })?;
    scanner.finish()?;
    if let Some(offset) = surplus {
        scanner.note(ParseErrorKind::BatchTooLong, offset);
    } else if items.is_empty() {
        scanner.note(ParseErrorKind::EmptyBatch, start);
    }
    Ok(())
}
