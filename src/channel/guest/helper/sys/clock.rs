//! The clock, and the kernel's random numbers.

use super::machine::{call, number};
use super::{checked, open};

/// Sets the wall clock.
pub fn set_clock(seconds: usize, nanoseconds: usize) {
    const CLOCK_REALTIME: usize = 0;
    let time = [seconds, nanoseconds];
    // SAFETY: the kernel reads two words. Who may not set the clock leaves it.
    let _ = checked(|| unsafe {
        call(number::CLOCK_SETTIME, [CLOCK_REALTIME, &raw const time as usize, 0, 0, 0, 0])
    });
}

/// For how long the guest has been up, as /proc/uptime counts it: seconds and nanoseconds.
pub fn uptime() -> [usize; 2] {
    const CLOCK_BOOTTIME: usize = 7;
    let mut time = [0usize; 2];
    // SAFETY: the kernel writes two words. There is this clock in every kernel that runs a NixOS.
    let _ = checked(|| unsafe {
        call(number::CLOCK_GETTIME, [CLOCK_BOOTTIME, &raw mut time as usize, 0, 0, 0, 0])
    });
    time
}

/// `struct rand_pool_info` of random(4).
#[repr(C)]
struct Entropy {
    bits: i32,
    bytes: i32,
    seed: [u8; 32],
}

/// Mixes a seed into the kernel's random numbers, and has it make new ones from now on.
pub fn seed(seed: &[u8; 32]) {
    const RNDADDENTROPY: usize = 0x4008_5203;
    const RNDRESEEDCRNG: usize = 0x5207;
    let Ok(random) = open(b"/dev/urandom\0", true) else { return };
    let entropy = Entropy { bits: 256, bytes: 32, seed: *seed };
    let ioctl = |request, argument| {
        // SAFETY: the kernel reads the structure that random(4) names for the first, and nothing for the second.
        let _ = checked(|| unsafe {
            call(number::IOCTL, [random.number() as usize, request, argument, 0, 0, 0])
        });
    };
    ioctl(RNDADDENTROPY, &raw const entropy as usize);
    ioctl(RNDRESEEDCRNG, 0);
}
