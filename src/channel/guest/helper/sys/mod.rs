//! Safe wrappers for the few system calls that the helper needs, without a C library.

mod asking;
mod builtins;
mod clock;
mod early;
#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
mod machine;
mod process;
mod signals;

pub use asking::{bell, connect, reaches, ring};
pub use clock::{seed, set_clock, uptime};
pub use early::{Surroundings, arguments_of, random, write_into};
pub use process::{Environment, close_all_but, exit, fix_addresses, kill, leave_session, spawn, wait_any};
pub use signals::{Signals, ignore_broken_pipes};

use machine::{call, number};

pub use machine::is_emulated;

/// Error numbers for "not now" and "no reader or listener".
pub const EAGAIN: isize = -11;
/// Also from the kernel's log: records were overwritten before they were read.
pub const EPIPE: isize = -32;
const EINTR: isize = -4;

/// Readiness, as in `poll`.
pub const POLLIN: i16 = 1;
pub const POLLOUT: i16 = 4;

/// The largest pipe that a user may have by default (pipe(7), /proc/sys/fs/pipe-max-size).
const WIDE: usize = 1 << 20;

/// An open descriptor, closed on drop.
pub struct Fd(i32);

impl Fd {
    /// Takes over an inherited descriptor.
    pub fn inherited(number: i32) -> Fd {
        Fd(number)
    }

    /// Returns its number, for `poll` and for paths in /proc.
    pub fn number(&self) -> i32 {
        self.0
    }

    /// Reads once. 0 is the end.
    pub fn read(&self, into: &mut [u8]) -> Result<usize, isize> {
        // SAFETY: the slice is borrowed during the call.
        checked(|| unsafe {
            call(number::READ, [self.0 as usize, into.as_mut_ptr() as usize, into.len(), 0, 0, 0])
        })
    }

    /// Writes once, possibly only a part.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, isize> {
        // SAFETY: the slice is borrowed during the call.
        checked(|| unsafe {
            call(number::WRITE, [self.0 as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0])
        })
    }

    /// Returns how many bytes can be read at once; 0 if that is unknown.
    pub fn readable(&self) -> usize {
        const FIONREAD: usize = 0x541b;
        let mut n = 0i32;
        // SAFETY: the kernel writes one int.
        match checked(|| unsafe {
            call(number::IOCTL, [self.0 as usize, FIONREAD, &raw mut n as usize, 0, 0, 0])
        }) {
            Ok(_) => n.max(0) as usize,
            Err(_) => 0,
        }
    }

    /// Makes it non-blocking.
    pub fn never_wait(&self) -> Result<(), isize> {
        const F_GETFL: usize = 3;
        const F_SETFL: usize = 4;
        const O_NONBLOCK: usize = 0o4000;
        let flags = self.control(F_GETFL, 0)?;
        self.control(F_SETFL, flags | O_NONBLOCK).map(drop)
    }

    /// Enlarges a pipe, as far as the user may. A flood of output then takes fewer turns.
    pub fn widen(&self) {
        const F_SETPIPE_SZ: usize = 1031;
        // On failure the size stays as it is.
        let _ = self.control(F_SETPIPE_SZ, WIDE);
    }

    /// Closes it in programs that this process starts.
    pub fn close_on_exec(&self) -> Result<(), isize> {
        const F_SETFD: usize = 2;
        self.control(F_SETFD, 1).map(drop)
    }

    fn control(&self, command: usize, value: usize) -> Result<usize, isize> {
        // SAFETY: these commands take plain numbers.
        checked(|| unsafe { call(number::FCNTL, [self.0 as usize, command, value, 0, 0, 0]) })
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: this is the only owner of the descriptor. It is closed even if the call fails.
        unsafe { call(number::CLOSE, [self.0 as usize, 0, 0, 0, 0, 0]) };
    }
}

/// Creates a pipe and returns its read end and its write end. Programs inherit neither.
pub fn pipe() -> Result<(Fd, Fd), isize> {
    const O_CLOEXEC: usize = 0o2000000;
    let mut ends = [0i32; 2];
    // SAFETY: the kernel writes two ints.
    checked(|| unsafe { call(number::PIPE2, [&raw mut ends as usize, O_CLOEXEC, 0, 0, 0, 0]) })?;
    Ok((Fd(ends[0]), Fd(ends[1])))
}

/// Opens a file; `path` ends with a NUL.
pub fn open(path: &[u8], write: bool) -> Result<Fd, isize> {
    open_as(path, usize::from(write))
}

/// Opens a path as a reference only, which works even for a socket.
fn open_path(path: &[u8]) -> Result<Fd, isize> {
    const O_PATH: usize = 0o10000000;
    open_as(path, O_PATH)
}

/// Returns whether there is a program at a path, which ends with a NUL.
pub fn can_run(path: &[u8]) -> bool {
    const X_OK: usize = 1;
    const AT_FDCWD: usize = -100isize as usize;
    // SAFETY: the path ends with a NUL.
    path.last() == Some(&0)
        && checked(|| unsafe { call(number::FACCESSAT, [AT_FDCWD, path.as_ptr() as usize, X_OK, 0, 0, 0]) })
            .is_ok()
}

fn open_as(path: &[u8], flags: usize) -> Result<Fd, isize> {
    const AT_FDCWD: usize = -100isize as usize;
    const O_CLOEXEC: usize = 0o2000000;
    if path.last() != Some(&0) {
        return Err(-22);
    }
    // SAFETY: the path ends with a NUL, as was just seen.
    let n = checked(|| unsafe {
        call(number::OPENAT, [AT_FDCWD, path.as_ptr() as usize, O_CLOEXEC | flags, 0, 0, 0])
    })?;
    Ok(Fd(n as i32))
}

/// One descriptor to wait for, with the kernel's layout.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Watched {
    pub fd: i32,
    pub events: i16,
    pub seen: i16,
}

/// Waits until one of these is ready, at most `milliseconds` if given. Returns whether one is.
pub fn wait_for(watched: &mut [Watched], milliseconds: Option<usize>) -> Result<bool, isize> {
    let limit = milliseconds.unwrap_or(0);
    let mut limit = [limit / 1000, limit % 1000 * 1_000_000];
    let limit = if milliseconds.is_some() { &raw mut limit as usize } else { 0 };
    // SAFETY: the slice and the limit are ours; no signal mask is given.
    checked(|| unsafe { call(number::PPOLL, [watched.as_mut_ptr() as usize, watched.len(), limit, 0, 0, 0]) })
        .map(|ready| ready > 0)
}

/// Maps new zeroed memory, a multiple of the page size; returns `None` if there is none left.
pub fn map(bytes: usize) -> Option<*mut u8> {
    // PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
    // SAFETY: a mapping at an address of the kernel's choice harms nothing.
    let at = unsafe { call(number::MMAP, [0, bytes, 3, 0x22, usize::MAX, 0]) };
    if at < 0 && at > -4096 { None } else { Some(at as *mut u8) }
}

/// Enlarges a mapping, possibly at another address.
///
/// # Safety
/// `start` and `old` must be a whole mapping, which is invalid afterwards.
pub unsafe fn remap(start: *mut u8, old: usize, new: usize) -> Option<*mut u8> {
    const MREMAP_MAYMOVE: usize = 1;
    // SAFETY: guaranteed by the caller.
    let at = unsafe { call(number::MREMAP, [start as usize, old, new, MREMAP_MAYMOVE, 0, 0]) };
    if at < 0 && at > -4096 { None } else { Some(at as *mut u8) }
}

/// Frees memory.
///
/// # Safety
/// `start` and `bytes` must be a whole mapping that is no longer used.
pub unsafe fn unmap(start: *mut u8, bytes: usize) {
    // SAFETY: guaranteed by the caller.
    unsafe { call(number::MUNMAP, [start as usize, bytes, 0, 0, 0, 0]) };
}

/// Returns the names from uname(2): of the system, the host, the release, the version, the machine.
fn machine_names() -> [[u8; 65]; 6] {
    let mut names = [[0u8; 65]; 6];
    // SAFETY: the kernel writes six names of 65 bytes.
    unsafe { call(number::UNAME, [&raw mut names as usize, 0, 0, 0, 0, 0]) };
    names
}

/// Returns the machine's name (`uname -m`), in the caller's buffer.
pub fn machine_name(into: &mut [u8; 65]) -> &[u8] {
    *into = machine_names()[4];
    let end = into.iter().position(|&byte| byte == 0).unwrap_or(0);
    &into[..end]
}

/// Repeats a call that a signal interrupted, and separates values from errors.
fn checked(mut system_call: impl FnMut() -> isize) -> Result<usize, isize> {
    loop {
        match system_call() {
            EINTR => {}
            error if error < 0 => return Err(error),
            value => return Ok(value as usize),
        }
    }
}
