//! Where the head of a response ends, so that what follows can be kept from the HTTP library.
//!
//! The library reads into a body as soon as it has the head, and then nobody else can go on with
//! the connection. See `link/stream.rs` for who wants to.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

const OFF: u8 = 0;
const BEGUN: u8 = 1;
const SEEKING: u8 = 2;
const HOLDING: u8 = 3;

/// Whether a body is kept back, as the user of a connection and its socket agree on.
#[derive(Debug, Default)]
pub(crate) struct Hold(AtomicU8);

impl Hold {
    /// The body of the next response is kept back, until [`Hold::release`].
    pub(crate) fn begin(&self) {
        self.0.store(BEGUN, Relaxed);
    }

    /// Nothing is kept back any more.
    pub(crate) fn release(&self) {
        self.0.store(OFF, Relaxed);
    }

    /// Whether the head has been handed out whole, and nothing behind it.
    pub(crate) fn is_holding(&self) -> bool {
        self.0.load(Relaxed) == HOLDING
    }
}

/// The search for the end of a head.
#[derive(Debug, Default)]
pub(super) struct HeadEnd {
    /// How much of the empty line has been seen.
    matched: u8,
    /// How far into the head the search is.
    offset: usize,
    /// Whether this is an interim response, after which another one comes.
    is_interim: bool,
}

impl HeadEnd {
    /// Looks through what has just come. Some is the number of bytes that may be handed out; then
    /// nothing more may until the hold is released.
    pub(super) fn look(&mut self, hold: &Hold, bytes: &[u8]) -> Option<usize> {
        match hold.0.load(Relaxed) {
            BEGUN => *self = Self::default(),
            SEEKING => (),
            _ => return None,
        }
        let end = bytes.iter().position(|&byte| self.step(byte)).map(|at| at + 1);
        hold.0.store(if end.is_some() { HOLDING } else { SEEKING }, Relaxed);
        end
    }

    /// Whether the final head ends with this byte. An empty line that is written otherwise than the
    /// protocol says is not found, and then nothing is kept back.
    fn step(&mut self, byte: u8) -> bool {
        const CLASS: usize = "HTTP/1.1 ".len();
        if self.offset == 0 && matches!(byte, b'\r' | b'\n') {
            return false;
        }
        if self.offset == CLASS {
            self.is_interim = byte == b'1';
        }
        self.offset += 1;
        self.matched = match (self.matched, byte) {
            (1, b'\n') => 2,
            (2, b'\r') => 3,
            (3, b'\n') => 4,
            (_, b'\r') => 1,
            _ => 0,
        };
        let ends = self.matched == 4;
        if ends && self.is_interim {
            *self = Self::default();
            return false;
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is handed out of a response that comes in pieces of `size` bytes, and whether the rest
    /// is held.
    fn handed_out(response: &str, size: usize) -> (String, bool) {
        let (hold, mut search, mut out) = (Hold::default(), HeadEnd::default(), Vec::new());
        hold.begin();
        for piece in response.as_bytes().chunks(size) {
            match search.look(&hold, piece) {
                Some(end) => {
                    out.extend_from_slice(&piece[..end]);
                    break;
                }
                None => out.extend_from_slice(piece),
            }
        }
        (String::from_utf8(out).unwrap(), hold.is_holding())
    }

    #[test]
    fn the_final_head_is_handed_out_and_nothing_behind_it() {
        let head = "HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
        let after = [interim, interim, head].concat();
        for size in [1, 2, 3, 7, 500] {
            let body = [head, "5\r\nhello\r\n"].concat();
            assert_eq!(handed_out(&body, size), (head.to_owned(), true), "pieces of {size}");
            let body = [after.as_str(), "\r\n\r\n"].concat();
            assert_eq!(handed_out(&body, size), (after.clone(), true), "pieces of {size}");
            let body = ["\r\n", head, "x"].concat();
            assert_eq!(handed_out(&body, size), (["\r\n", head].concat(), true));
            let odd = "HTTP/1.1 200 OK\nA: b\n\n5\r\n".to_owned();
            assert_eq!(handed_out(&odd, size), (odd, false), "not how a head ends");
        }
    }

    #[test]
    fn nothing_is_held_unless_somebody_wants_it() {
        let (hold, mut search) = (Hold::default(), HeadEnd::default());
        assert_eq!(search.look(&hold, b"HTTP/1.1 200 OK\r\n\r\nx"), None);
        hold.begin();
        assert_eq!(search.look(&hold, b"HTTP/1.1 200 OK\r\n\r\nx"), Some(19));
        hold.release();
        assert_eq!(search.look(&hold, b"HTTP/1.1 200 OK\r\n\r\nx"), None);
    }
}
