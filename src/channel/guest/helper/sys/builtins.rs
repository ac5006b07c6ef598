//! Functions that the compiler calls by name and a C library would provide.

use super::machine::{copy_up, fill};

/// # Safety
/// The same as in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    // SAFETY: the ranges don't overlap, says the caller.
    unsafe { copy_up(to, from, n) };
    to
}

/// # Safety
/// The same as in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= n {
        // SAFETY: `to` is below `from` or past its end.
        unsafe { copy_up(to, from, n) };
    } else {
        let mut at = n;
        while at > 0 {
            at -= 1;
            // SAFETY: `at` is within both ranges. Volatile, or this would become a call of itself.
            unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
        }
    }
    to
}

/// # Safety
/// The same as in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, byte: i32, n: usize) -> *mut u8 {
    // SAFETY: the caller vouches for the range.
    unsafe { fill(to, byte as u8, n) };
    to
}

/// # Safety
/// The same as in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    for at in 0..n {
        // SAFETY: `at` is within both ranges. Volatile, or this would become a call of itself.
        let (x, y) = unsafe { (a.add(at).read_volatile(), b.add(at).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

/// # Safety
/// The same as in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    // SAFETY: the same.
    unsafe { memcmp(a, b, n) }
}

/// # Safety
/// The same as in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut n = 0;
    // SAFETY: there is a NUL, says the caller.
    while unsafe { text.add(n).read_volatile() } != 0 {
        n += 1;
    }
    n
}

/// `core` is built to unwind and asks for it; nothing here unwinds.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    super::exit(70)
}
