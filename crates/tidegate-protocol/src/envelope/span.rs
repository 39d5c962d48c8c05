//! Places in a message.

/// A part of the message: byte offsets, the end exclusive. An empty span means "absent", since no
/// JSON token is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    /// The scanner has checked that the document is shorter than 4 GiB.
    pub(super) const fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    pub(super) const fn is_absent(self) -> bool {
        self.end == 0
    }

    pub(super) const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    pub(super) fn of(self, bytes: &[u8]) -> Option<&[u8]> {
        if self.is_absent() {
            return None;
        }
        bytes.get(self.start as usize..self.end as usize)
    }
}
