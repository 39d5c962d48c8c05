//! Taking a chunked body apart (RFC 9112, section 7.1), in place and as strictly as the library
//! does. Pure.

/// The longest that all extensions, and all trailers, of a body may be.
const MAX_ASIDE: usize = 16 << 10;

/// How far a chunked body has been read.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: State,
    /// How many bytes of extensions and trailers there were.
    aside: usize,
    /// Whether something came behind the end.
    has_excess: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// At the first digit of a size.
    #[default]
    Start,
    /// In a size.
    Size(u64),
    /// Behind the digits of a size, in white space.
    Space(u64),
    /// In an extension.
    Extension(u64),
    /// Before the LF of the line that begins a chunk.
    SizeEnd(u64),
    /// In a chunk, with so much of it to come.
    Data(u64),
    /// Before the CR behind a chunk.
    DataCr,
    /// Before the LF behind a chunk.
    DataLf,
    /// At the start of a line of the trailer.
    Line,
    /// In a line of the trailer.
    Trailer,
    /// Before the LF of such a line.
    TrailerLf,
    /// Before the LF of the empty line.
    EndLf,
    /// Behind the body.
    Over,
}

impl Chunks {
    /// Whether the body has ended.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Whether more came than the body.
    pub(super) const fn has_excess(&self) -> bool {
        self.has_excess
    }

    /// Moves what `piece` has of the body to its front, and says how much that is. What comes
    /// behind the end of the body is not looked at.
    ///
    /// # Errors
    ///
    /// What is wrong with the framing. Nothing can be read after that.
    pub(super) fn compact(&mut self, piece: &mut [u8]) -> Result<usize, &'static str> {
        let (mut at, mut kept) = (0, 0);
        while let Some(&byte) = piece.get(at) {
            match self.state {
                State::Data(left) => {
                    let here = piece.len() - at;
                    let taken = usize::try_from(left).map_or(here, |left| left.min(here));
                    piece.copy_within(at..at + taken, kept);
                    (at, kept) = (at + taken, kept + taken);
                    let left = left - taken as u64;
                    self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                    continue;
                }
                State::Over => {
                    self.has_excess = true;
                    break;
                }
                state => self.state = self.step(state, byte)?,
            }
            at += 1;
        }
        Ok(kept)
    }

    /// Reads one byte of the framing.
    fn step(&mut self, state: State, byte: u8) -> Result<State, &'static str> {
        Ok(match (state, byte) {
            (State::Start, _) => match digit(byte) {
                Some(digit) => State::Size(digit),
                None => return Err("a chunk without a size"),
            },
            (State::Size(size) | State::Space(size), b'\r') => State::SizeEnd(size),
            (State::Size(size) | State::Space(size), b' ' | b'\t') => State::Space(size),
            (State::Size(size) | State::Space(size), b';') => State::Extension(size),
            (State::Size(size), _) => {
                let digit = digit(byte).ok_or("a size that is no number")?;
                let size = size.checked_mul(16).and_then(|size| size.checked_add(digit));
                State::Size(size.ok_or("a size that is too large")?)
            }
            (State::Space(_), _) => return Err("a size that is no number"),
            (State::Extension(size), b'\r') => State::SizeEnd(size),
            (State::Extension(_), b'\n') => return Err("a line feed in an extension"),
            (State::Extension(_) | State::Trailer, _) if byte != b'\r' => {
                self.aside += 1;
                if self.aside > MAX_ASIDE {
                    return Err("extensions or trailers without end");
                }
                state
            }
            (State::SizeEnd(0), b'\n') => State::Line,
            (State::SizeEnd(size), b'\n') => State::Data(size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf | State::TrailerLf, b'\n') => match state {
                State::DataLf => State::Start,
                _ => State::Line,
            },
            (State::Line, b'\r') => State::EndLf,
            (State::Line, _) => State::Trailer,
            (State::Trailer, _) => State::TrailerLf,
            (State::EndLf, b'\n') => State::Over,
            _ => return Err("a line that does not end as it must"),
        })
    }
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `body` in pieces of `size` bytes: what is in it, and whether it has ended.
    fn read(body: &str, size: usize) -> Result<(String, bool, bool), &'static str> {
        let (mut chunks, mut data) = (Chunks::default(), Vec::new());
        for piece in body.as_bytes().chunks(size) {
            let mut piece = piece.to_vec();
            let length = chunks.compact(&mut piece)?;
            data.extend_from_slice(&piece[..length]);
        }
        Ok((String::from_utf8(data).unwrap(), chunks.is_over(), chunks.has_excess()))
    }

    #[test]
    fn a_body_is_the_same_however_it_is_cut() {
        let cases = [
            ("5\r\nhello\r\n", "hello", false, false),
            ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", true, false),
            ("0000A;name=value\r\n0123456789\r\n0\r\n\r\n", "0123456789", true, false),
            ("1 \t\r\nx\r\n0\r\nAn: entry\r\nAnother: one\r\n\r\n", "x", true, false),
            ("0\r\n\r\nHTTP/1.1 200 OK", "", true, true),
            (
                "1F\r\n0123456789012345678901234567890\r\n",
                "0123456789012345678901234567890",
                false,
                false,
            ),
        ];
        for (body, data, is_over, has_excess) in cases {
            for size in [1, 2, 3, 5, 100] {
                let expected = Ok((data.to_owned(), is_over, has_excess));
                assert_eq!(read(body, size), expected, "{body:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let long = format!("1;{}\r\n", "x".repeat(MAX_ASIDE + 1));
        let trailer = format!("0\r\n{}\r\n", "x".repeat(MAX_ASIDE + 2));
        for body in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "5\nhello\r\n",
            "5\rhello",
            "5;a\nhello",
            "5 5\r\nhello",
            "5\r\nhello5\r\n",
            "5\r\nhello\n5\r\n",
            "0\r\n\rx",
            "10000000000000000\r\n",
            long.as_str(),
            trailer.as_str(),
        ] {
            for size in [1, 7, 100_000] {
                assert!(read(body, size).is_err(), "{body:?}");
            }
        }
    }
}
