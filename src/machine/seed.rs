//! Random seeds: for guests that resume from the same state, and for faults.

use rustix::rand::{GetRandomFlags, getrandom};

/// Returns random bytes that no other clone gets.
pub(crate) fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    if getrandom(&mut seed[..], GetRandomFlags::empty()).is_err() {
        // For kernels before Linux 3.17. The guest's own identity (vmgenid) still differs.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        seed[..16].copy_from_slice(&now.as_nanos().to_le_bytes());
    }
    seed
}

/// Returns a random number that is short enough to be typed.
pub(crate) fn random_number() -> u64 {
    let [a, b, c, d, ..] = seed();
    u32::from_le_bytes([a, b, c, d]).into()
}
