//! What chance does to a frame. It depends on a seed, the link and the frame's number on the link, and on nothing
//! else: the n-th frame of a link has the same fate in each run with the same seed.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::{Faults, Latency};
use crate::network::{VlanId, frame};

/// The seed of all random choices of a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seed(pub u64);

/// The source of the random numbers of one link.
#[derive(Debug, Clone)]
pub(in crate::network) struct Dice([u8; 32]);

/// What chance does to one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::network) struct Fate {
    pub(in crate::network) is_lost: bool,
    pub(in crate::network) is_duplicated: bool,
    pub(in crate::network) is_reordered: bool,
    /// The bit that is wrong, counted from the end of the Ethernet header.
    pub(in crate::network) corrupted: Option<u64>,
    pub(in crate::network) latency: Duration,
}

impl Dice {
    /// Returns the numbers of a link.
    pub(in crate::network) fn of(Seed(seed): Seed, vlan: VlanId, from: &str, to: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update([vlan.get()]);
        // The lengths keep "ab" to "c" apart from "a" to "bc".
        for name in [from, to] {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
        }
        Self(hash.finalize().into())
    }

    /// Returns the fate of the frame with this number.
    pub(in crate::network) fn fate(&self, number: u64, faults: &Faults, length: usize) -> Fate {
        if !faults.are_random() {
            return Fate { latency: faults.latency.least, ..Fate::default() };
        }
        let drawn: [u8; 32] =
            Sha256::new().chain_update(self.0).chain_update(number.to_le_bytes()).finalize().into();
        let [loss, duplicate, reorder, corrupt] =
            [0, 4, 8, 12].map(|at| u32::from_le_bytes(part(&drawn, at)));
        let [latency, bit] = [16, 24].map(|at| u64::from_le_bytes(part(&drawn, at)));
        let bits = 8 * length.saturating_sub(frame::HEADER) as u64;
        Fate {
            is_lost: faults.loss.happens(loss),
            is_duplicated: faults.duplicate.happens(duplicate),
            is_reordered: faults.reorder.happens(reorder),
            corrupted: (bits > 0 && faults.corrupt.happens(corrupt)).then(|| bit % bits.max(1)),
            latency: between(faults.latency, latency),
        }
    }
}

/// Returns the bytes of a number in 32 random bytes.
fn part<const N: usize>(drawn: &[u8; 32], at: usize) -> [u8; N] {
    std::array::from_fn(|byte| drawn[at + byte])
}

/// Returns a time between the least and the most.
fn between(Latency { least, most }: Latency, drawn: u64) -> Duration {
    // 2^64 steps of the span; a span is less than 2^64 ns.
    let span = most.saturating_sub(least).as_nanos();
    let part = (span * u128::from(drawn)) >> 64;
    least + Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
}
