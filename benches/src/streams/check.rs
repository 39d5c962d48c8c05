//! Counts the events of a stream and sees that none is lost, doubled or out of order.
//!
//! It looks at mark and number of each event only, so that it costs less than the proxy does.

use anyhow::{Context as _, bail, ensure};

use crate::wire::{EVENT_DIGITS, EVENT_MARK};

/// The check of one stream.
#[derive(Debug, Default)]
pub struct Check {
    next: u64,
    /// The end of what came, as far as it may belong to the number of the next event.
    tail: Vec<u8>,
}

impl From<u64> for Check {
    /// Expects the event of this number first.
    fn from(next: u64) -> Self {
        Self { next, tail: Vec::new() }
    }
}

impl Check {
    /// How many events the stream has had.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.next
    }

    /// Takes a piece of the stream, cut anywhere.
    ///
    /// # Errors
    ///
    /// When an event is not the next one.
    pub fn feed(&mut self, piece: &[u8]) -> anyhow::Result<()> {
        for at in memchr::memchr_iter(EVENT_MARK, piece) {
            let digits = match at.checked_sub(EVENT_DIGITS) {
                Some(start) => number(piece.get(start..at).unwrap_or_default()),
                None => {
                    self.tail.extend_from_slice(piece.get(..at).unwrap_or_default());
                    let start = self.tail.len().checked_sub(EVENT_DIGITS);
                    number(start.and_then(|start| self.tail.get(start..)).unwrap_or_default())
                }
            };
            match digits {
                Some(number) if number == self.next => self.next += 1,
                Some(number) => bail!("event {number} came for event {}", self.next),
                None => bail!("an event without a number came for event {}", self.next),
            }
        }
        if piece.len() < EVENT_DIGITS {
            self.tail.extend_from_slice(piece);
            let excess = self.tail.len().saturating_sub(EVENT_DIGITS);
            self.tail.drain(..excess);
        } else {
            self.tail.clear();
            self.tail
                .extend_from_slice(piece.get(piece.len() - EVENT_DIGITS..).unwrap_or_default());
        }
        Ok(())
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.len() != EVENT_DIGITS {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    })
}

/// Takes the chunks of an HTTP/1.1 body apart, wherever it is cut.
#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    /// At the start of a chunk.
    #[default]
    Size,
    /// In its size.
    Digits(usize),
    /// In what may follow the size in its line.
    Extension(usize),
    /// So many of its bytes are still to come.
    Data(usize),
    /// So many bytes of the line end behind it are still to come.
    End(usize),
}

impl Chunks {
    /// Hands what `piece` has of the body to `take`.
    ///
    /// # Errors
    ///
    /// When it is not chunked, or when the body has ended, or those of `take`.
    pub fn feed(
        &mut self,
        mut piece: &[u8],
        mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        while let Some((&byte, rest)) = piece.split_first() {
            match self.state {
                State::Size => {
                    self.state = State::Digits(digit(byte).context("no chunk size")?);
                    piece = rest;
                }
                State::Digits(size) => match digit(byte) {
                    Some(digit) => {
                        self.state = State::Digits(size * 16 + digit);
                        piece = rest;
                    }
                    None => self.state = State::Extension(size),
                },
                State::Extension(size) => {
                    if byte == b'\n' {
                        ensure!(size > 0, "the stream has ended");
                        self.state = State::Data(size);
                    }
                    piece = rest;
                }
                State::Data(left) => {
                    let (data, rest) = piece.split_at(left.min(piece.len()));
                    take(data)?;
                    let left = left - data.len();
                    self.state = if left == 0 { State::End(2) } else { State::Data(left) };
                    piece = rest;
                }
                State::End(left) => {
                    self.state = if left == 1 { State::Size } else { State::End(left - 1) };
                    piece = rest;
                }
            }
        }
        Ok(())
    }
}

fn digit(byte: u8) -> Option<usize> {
    char::from(byte).to_digit(16).and_then(|digit| usize::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::wire::put_event;

    #[test]
    fn events_are_counted_however_the_stream_is_cut() {
        let mut stream = BytesMut::new();
        (0..20).for_each(|number| put_event(&mut stream, number));
        let mut chunked = Vec::new();
        for event in stream.chunks(70) {
            chunked.extend_from_slice(format!("{:x}\r\n", event.len()).as_bytes());
            chunked.extend_from_slice(event);
            chunked.extend_from_slice(b"\r\n");
        }
        for size in [1, 2, 7, 11, 100, 4096] {
            let (mut chunks, mut check) = (Chunks::default(), Check::default());
            for piece in chunked.chunks(size) {
                chunks.feed(piece, |data| check.feed(data)).unwrap();
            }
            assert_eq!(check.events(), 20, "pieces of {size}");
        }
    }

    #[test]
    fn a_lost_a_doubled_and_a_spoiled_event_are_seen() {
        let with = |numbers: &[u64]| {
            let mut stream = BytesMut::new();
            numbers.iter().for_each(|number| put_event(&mut stream, *number));
            Check::default().feed(&stream)
        };
        assert!(with(&[0, 1, 2]).is_ok());
        assert!(with(&[0, 2]).is_err());
        assert!(with(&[0, 0]).is_err());
        assert!(Check::default().feed(b"data: 000000000x~").is_err());
        assert!(Chunks::default().feed(b"0\r\n\r\n", |_| Ok(())).is_err(), "the end");
    }
}
