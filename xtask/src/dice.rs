//! Random choices that a printed seed repeats.

/// A generator of random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number() % bound.max(1) as u64).unwrap_or_default()
    }

    pub(crate) fn fork(&mut self) -> Self {
        Self(self.number())
    }

    /// A generator of somebody's own, whenever it is first needed.
    pub(crate) fn of(seed: u64, name: &str) -> Self {
        let mix = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, mix)).fork()
    }
}

/// A seed for a run that repeats no other.
pub(crate) fn any_seed() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0)
}

#[cfg(test)]
mod tests {
    use super::Dice;

    #[test]
    fn a_name_has_its_own_numbers_and_always_the_same() {
        let mut first = Dice::of(7, "a");
        let numbers = [first.number(), first.number()];
        let mut again = Dice::of(7, "a");
        assert_eq!([again.number(), again.number()], numbers);
        assert_ne!(Dice::of(7, "b").number(), numbers[0]);
        assert_ne!(Dice::of(8, "a").number(), numbers[0]);
    }
}
