//! The clock, and the kernel's random numbers.

use super::machine::{call, number};
use super::{checked, open};

/// Sets the wall clock.
pub fn set_clock(seconds: usize, nanoseconds: usize) {
    const CLOCK_REALTIME: usize = 0;
    let time = [seconds, nanoseconds];
    // SAFETY: the kernel reads two words. Without permission the clock stays unchanged.
    let _ = checked(|| unsafe {
        call(number::CLOCK_SETTIME, [CLOCK_REALTIME, &raw const time as usize, 0, 0, 0, 0])
    });
}

/// Returns the guest's uptime, as in /proc/uptime: seconds and nanoseconds.
pub fn uptime() -> [usize; 2] {
    const CLOCK_BOOTTIME: usize = 7;
    let mut time = [0usize; 2];
    // SAFETY: the kernel writes two words. Every kernel that runs NixOS has this clock.
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

/// Mixes a seed into the kernel's random number generator, and makes it reseed.
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
