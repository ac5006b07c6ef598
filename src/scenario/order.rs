//! Which scenarios of a suite run, and in which order.

use super::registry::Scenario;
use crate::settings::Settings;

/// Returns the scenarios of this share of the suite.
pub(super) fn share(all: Vec<&'static Scenario>, settings: &Settings) -> Vec<&'static Scenario> {
    match settings.partition {
        Some(partition) => partition.of(all, |scenario| scenario.name()),
        None => all,
    }
}

/// Shuffles `all`. The order depends on `seed` only.
pub(super) fn shuffle<T>(all: &mut [T], seed: u64) {
    // The Fisher–Yates shuffle, with Steele's splitmix64 for random numbers.
    let mut state = seed;
    for last in (1..all.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let other = (mixed ^ (mixed >> 31)) % (last as u64 + 1);
        all.swap(last, other as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_order_and_another_seed_another() {
        let shuffled = |seed| {
            let mut all: Vec<u32> = (0..20).collect();
            shuffle(&mut all, seed);
            all
        };
        assert_eq!(shuffled(7), shuffled(7));
        assert_ne!(shuffled(7), shuffled(8));
        let mut sorted = shuffled(7);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<_>>());
    }
}
