//! The x86_64 part: the entry point, the system call instruction and its numbers.

use core::arch::{asm, global_asm};

global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    start = sym crate::start,
);

/// Makes one system call and returns the kernel's result: a value, or a negative error number.
///
/// # Safety
/// The arguments must be what the call expects; pointers must stay valid while it lasts.
#[inline(always)]
pub unsafe fn call(number: usize, a: [usize; 6]) -> isize {
    let result;
    // SAFETY: the kernel keeps every register but these three; the caller vouches for the arguments.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a[0], in("rsi") a[1],
            in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// Copies `n` bytes upwards; the compiler's `memcpy` and `memmove` use it.
///
/// # Safety
/// Both ranges must be valid; `to` must not lie inside `from`'s range.
#[inline(always)]
pub unsafe fn copy_up(to: *mut u8, from: *const u8, n: usize) {
    // Eight bytes at a time: an emulated processor takes the same time for each step, regardless of its size. SAFETY:
    // the caller vouches for the ranges; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep movsq", "mov ecx, {tail:e}", "rep movsb", tail = in(reg) n & 7, inout("rcx") n / 8 => _,
            inout("rdi") to => _, inout("rsi") from => _, options(nostack, preserves_flags));
    }
}

/// Sets `n` bytes.
///
/// # Safety
/// The range must be valid.
#[inline(always)]
pub unsafe fn fill(to: *mut u8, byte: u8, n: usize) {
    // SAFETY: as above.
    unsafe {
        asm!("rep stosb", inout("rcx") n => _, inout("rdi") to => _, in("al") byte,
            options(nostack, preserves_flags));
    }
}

/// Returns whether QEMU emulates this processor. CPUID shows it: QEMU's emulator and KVM have different signatures.
pub fn is_emulated() -> bool {
    const HYPERVISOR: u32 = 1 << 31;
    const SIGNATURE: u32 = 0x4000_0000;
    cpuid(1)[1] & HYPERVISOR != 0 && cpuid(SIGNATURE).map(u32::to_le_bytes).as_flattened() == b"TCGTCGTCGTCG"
}

/// Returns ebx, ecx and edx of CPUID.
fn cpuid(leaf: u32) -> [u32; 3] {
    let (mut b, mut c, mut d) = (0u64, 0u32, 0u32);
    // SAFETY: the instruction reads and writes registers only; the compiler keeps rbx for itself, so it is put back.
    unsafe {
        asm!("mov {b}, rbx", "cpuid", "xchg {b}, rbx", b = inout(reg) b, inout("eax") leaf => _,
            inout("ecx") c, inout("edx") d, options(nomem, nostack, preserves_flags));
    }
    [b as u32, c, d]
}

/// Numbers of the system calls.
pub mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const MMAP: usize = 9;
    pub const MUNMAP: usize = 11;
    pub const SIGACTION: usize = 13;
    pub const SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const MREMAP: usize = 25;
    pub const SOCKET: usize = 41;
    pub const CONNECT: usize = 42;
    pub const BIND: usize = 49;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const UNAME: usize = 63;
    pub const FCNTL: usize = 72;
    pub const GETCWD: usize = 79;
    pub const SETPGID: usize = 109;
    pub const SETSID: usize = 112;
    pub const PERSONALITY: usize = 135;
    pub const PRCTL: usize = 157;
    pub const CLOCK_SETTIME: usize = 227;
    pub const CLOCK_GETTIME: usize = 228;
    pub const EXIT_GROUP: usize = 231;
    pub const OPENAT: usize = 257;
    pub const FACCESSAT: usize = 269;
    pub const PPOLL: usize = 271;
    pub const SIGNALFD4: usize = 289;
    pub const DUP3: usize = 292;
    pub const PIPE2: usize = 293;
    pub const PROCESS_VM_WRITEV: usize = 311;
    pub const GETRANDOM: usize = 318;
    pub const CLOSE_RANGE: usize = 436;
}
