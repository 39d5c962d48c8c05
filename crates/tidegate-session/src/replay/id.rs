//! Event ids of ours.
//!
//! An id names a stream of one session and a place in it. The key stands for the session, so that
//! the ids of a client's sessions differ, and an id is of no use in any other session. It need not
//! be a secret: whoever resumes has shown the session's id.

use std::fmt::{self, Write as _};

use http::HeaderValue;

const PREFIX: &str = "tg-";

/// The place of one event: `tg-KEY-STREAM-EVENT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    /// Stands for the session.
    pub key: u64,
    /// Which stream of the session.
    pub stream: u64,
    /// Which event of the stream; 0 is the place before the first.
    pub event: u64,
}

impl EventId {
    /// The text, without an allocation.
    pub fn text(self) -> Text {
        let mut text = Text { bytes: [0; MOST], length: 0 };
        let written = write!(text, "{PREFIX}{:016x}-{}-{}", self.key, self.stream, self.event);
        debug_assert!(written.is_ok(), "the longest id fits");
        text
    }

    /// Reads an id of ours; `None` for what is somebody else's. There is one way to write each.
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        let text = value.to_str().ok()?;
        let mut parts = text.strip_prefix(PREFIX)?.split('-');
        let key = u64::from_str_radix(parts.next()?, 16).ok()?;
        let (stream, event) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let id = Self { key, stream, event };
        (id.text().as_str() == text).then_some(id)
    }
}

/// The longest id: the prefix, a key, and two numbers of twenty digits.
const MOST: usize = 3 + 16 + 2 * 21;

/// An id as text.
#[derive(Clone, Copy)]
pub struct Text {
    bytes: [u8; MOST],
    length: usize,
}

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        let written = self.bytes.get(..self.length).unwrap_or_default();
        std::str::from_utf8(written).unwrap_or_default()
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let end = self.length + more.len();
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(more.as_bytes());
        self.length = end;
        Ok(())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::EventId;

    #[test]
    fn an_id_reads_back() {
        for (key, stream, event) in [(0, 0, 0), (1, 22, 333), (u64::MAX, u64::MAX, u64::MAX)] {
            let id = EventId { key, stream, event };
            let text = id.text();
            assert!(text.as_str().len() >= 23, "{text:?}");
            let value = HeaderValue::from_str(text.as_str()).unwrap();
            assert_eq!(EventId::parse(&value), Some(id));
        }
    }

    #[test]
    fn what_is_not_ours_is_told_from_what_is() {
        let good = "tg-00000000000000ff-1-2";
        assert!(EventId::parse(&HeaderValue::from_static(good)).is_some());
        for odd in [
            "",
            "7",
            "tg-",
            "tg-00000000000000ff-1",
            "tg-00000000000000ff-1-",
            "tg-00000000000000ff-1-2-3",
            "tg-00000000000000ff-01-2",
            "tg-00000000000000ff-1-+2",
            "tg-ff-1-2",
            "tg-00000000000000FF-1-2",
            "tg-00000000000000ff-1-18446744073709551616",
            "TG-00000000000000ff-1-2",
            " tg-00000000000000ff-1-2",
        ] {
            assert_eq!(EventId::parse(&HeaderValue::from_str(odd).unwrap()), None, "{odd}");
        }
        assert_eq!(EventId::parse(&HeaderValue::from_bytes(b"tg-\xff").unwrap()), None);
    }
}
