//! The event ids that a reader got last.

use std::{
    collections::VecDeque,
    hash::{BuildHasher as _, RandomState},
};

/// How many ids are remembered. A server that replays goes back no further than the id it was
/// given, so this has to cover only those that replay too much.
const KEPT: usize = 256;

/// A bounded window of ids, as hashes under a key of its own: ids are the server's to choose, may
/// be long, and would keep the memory of whole events.
#[derive(Debug, Default)]
pub(super) struct Recent {
    key: RandomState,
    ids: VecDeque<u64>,
    /// How many of them, from the front, came before the last break.
    before: usize,
    /// The server has used an id twice in one connection, so an id says nothing here.
    is_ambiguous: bool,
}

/// What an id says about its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Novelty {
    New,
    /// The reader got it before the last break.
    Replayed,
    /// The id was used for another event of the same connection.
    Reused,
}

impl Recent {
    /// Another connection goes on with the stream.
    pub(super) fn broke(&mut self) {
        self.before = self.ids.len();
    }

    pub(super) fn see(&mut self, id: &[u8]) -> Novelty {
        let hash = self.key.hash_one(id);
        match self.ids.iter().position(|known| *known == hash) {
            None => {
                if self.ids.len() == KEPT {
                    self.ids.pop_front();
                    self.before = self.before.saturating_sub(1);
                }
                self.ids.push_back(hash);
                Novelty::New
            }
            Some(at) if at < self.before && !self.is_ambiguous => Novelty::Replayed,
            Some(_) => {
                self.is_ambiguous = true;
                Novelty::Reused
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT, Novelty, Recent};

    #[test]
    fn what_came_before_the_break_is_known_again() {
        let mut recent = Recent::default();
        for id in [b"a", b"b", b"c"] {
            assert_eq!(recent.see(id), Novelty::New);
        }
        recent.broke();
        // A replay that goes back too far, and backwards.
        for id in [b"c", b"a", b"b"] {
            assert_eq!(recent.see(id), Novelty::Replayed);
        }
        assert_eq!(recent.see(b"d"), Novelty::New);
        recent.broke();
        assert_eq!(recent.see(b"d"), Novelty::Replayed);
    }

    #[test]
    fn ids_that_are_used_twice_make_no_event_disappear() {
        let mut recent = Recent::default();
        assert_eq!(recent.see(b"1"), Novelty::New);
        assert_eq!(recent.see(b"1"), Novelty::Reused);
        recent.broke();
        assert_eq!(recent.see(b"1"), Novelty::Reused, "it may be anything");
    }

    #[test]
    fn the_window_is_bounded() {
        let mut recent = Recent::default();
        for id in 0..1_000_u32 {
            recent.see(&id.to_be_bytes());
        }
        assert_eq!(recent.ids.len(), KEPT);
        recent.broke();
        assert_eq!(recent.see(&999_u32.to_be_bytes()), Novelty::Replayed);
        assert_eq!(recent.see(&0_u32.to_be_bytes()), Novelty::New, "forgotten");
        for id in 2_000..3_000_u32 {
            recent.see(&id.to_be_bytes());
        }
        assert_eq!((recent.ids.len(), recent.before), (KEPT, 0));
    }
}
