//! The aarch64 part: the entry point, the system call instruction and its numbers.

use core::arch::{asm, global_asm};

global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x0, sp",
    "bl {start}",
    "brk #1",
    start = sym crate::start,
);

/// Makes one system call and returns the kernel's result: a value, or a negative error number.
///
/// # Safety
/// The arguments must be what the call expects; pointers must stay valid while it lasts.
#[inline(always)]
pub unsafe fn call(number: usize, a: [usize; 6]) -> isize {
    let result;
    // SAFETY: the kernel keeps every register but x0; the caller vouches for the arguments.
    unsafe {
        asm!("svc #0", in("x8") number, inlateout("x0") a[0] => result, in("x1") a[1], in("x2") a[2],
            in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack));
    }
    result
}

/// Copies `n` bytes upwards; the compiler's `memcpy` and `memmove` use it.
///
/// # Safety
/// Both ranges must be valid; `to` must not lie inside `from`'s range.
#[inline(always)]
pub unsafe fn copy_up(mut to: *mut u8, mut from: *const u8, mut n: usize) {
    // In assembler, since the compiler would turn a loop into a call of `memcpy`.
    while n >= 8 {
        // SAFETY: eight bytes are left on both sides.
        unsafe {
            asm!("ldr {t}, [{f}], #8", "str {t}, [{d}], #8", t = out(reg) _, f = inout(reg) from,
                d = inout(reg) to, options(nostack, preserves_flags));
        }
        n -= 8;
    }
    while n > 0 {
        // SAFETY: one byte is left on both sides.
        unsafe {
            asm!("ldrb {t:w}, [{f}], #1", "strb {t:w}, [{d}], #1", t = out(reg) _, f = inout(reg) from,
                d = inout(reg) to, options(nostack, preserves_flags));
        }
        n -= 1;
    }
}

/// Sets `n` bytes.
///
/// # Safety
/// The range must be valid.
#[inline(always)]
pub unsafe fn fill(mut to: *mut u8, byte: u8, n: usize) {
    for _ in 0..n {
        // SAFETY: one byte is left.
        unsafe {
            asm!("strb {b:w}, [{d}], #1", b = in(reg) byte as u32, d = inout(reg) to,
                options(nostack, preserves_flags));
        }
    }
}

/// Returns whether QEMU emulates this processor. That can't be detected here, so it counts as real.
pub fn is_emulated() -> bool {
    false
}

/// Numbers of the system calls.
pub mod number {
    pub const GETCWD: usize = 17;
    pub const DUP3: usize = 24;
    pub const FCNTL: usize = 25;
    pub const IOCTL: usize = 29;
    pub const FACCESSAT: usize = 48;
    pub const OPENAT: usize = 56;
    pub const CLOSE: usize = 57;
    pub const PIPE2: usize = 59;
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const PPOLL: usize = 73;
    pub const SIGNALFD4: usize = 74;
    pub const PERSONALITY: usize = 92;
    pub const EXIT_GROUP: usize = 94;
    pub const CLOCK_SETTIME: usize = 112;
    pub const CLOCK_GETTIME: usize = 113;
    pub const KILL: usize = 129;
    pub const SIGACTION: usize = 134;
    pub const SIGPROCMASK: usize = 135;
    pub const SETPGID: usize = 154;
    pub const SETSID: usize = 157;
    pub const UNAME: usize = 160;
    pub const PRCTL: usize = 167;
    pub const SOCKET: usize = 198;
    pub const BIND: usize = 200;
    pub const CONNECT: usize = 203;
    pub const MUNMAP: usize = 215;
    pub const MREMAP: usize = 216;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const MMAP: usize = 222;
    pub const WAIT4: usize = 260;
    pub const PROCESS_VM_WRITEV: usize = 271;
    pub const GETRANDOM: usize = 278;
    pub const CLOSE_RANGE: usize = 436;
}
