//! Random choices that can be repeated: a failed test prints its seed, `TIDEGATE_SEED` sets it.

use std::{
    env,
    hash::{BuildHasher as _, RandomState},
};

/// A generator of random numbers (SplitMix64). Each task takes a [`Dice::fork`].
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// With a new seed, or that of `TIDEGATE_SEED`; says which.
    pub fn new() -> Self {
        let given = env::var("TIDEGATE_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
        println!("TIDEGATE_SEED={seed}");
        Self(seed)
    }

    /// Another generator, whose numbers have nothing to do with those of this one.
    pub fn fork(&mut self) -> Self {
        Self(self.number())
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number() % bound as u64).unwrap()
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Default for Dice {
    fn default() -> Self {
        Self::new()
    }
}
