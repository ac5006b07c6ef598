//! Random seeds for guests that resume from the same state.

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
