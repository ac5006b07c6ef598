//! Processes: starting the shells, waiting for them, ending.

use super::Fd;
use super::machine::{call, number};
use super::signals::defaults_for_child;

/// What a process is given by its parent, to be passed on as it is.
#[derive(Clone, Copy)]
pub struct Environment(*const *const u8);

impl Environment {
    /// # Safety
    /// `start` must be an array of C strings that ends with a null pointer and lives for ever.
    pub unsafe fn new(start: *const *const u8) -> Environment {
        Environment(start)
    }

    /// Whether a variable's name starts so.
    pub fn has_prefix(&self, prefix: &[u8]) -> bool {
        let mut at = self.0;
        // SAFETY: the array ends with a null pointer, its strings with a NUL; a comparison ends there at
        // the latest, as no prefix has one.
        unsafe {
            while !(*at).is_null() {
                let text = *at;
                if (0..prefix.len()).all(|i| *text.add(i) == prefix[i]) {
                    return true;
                }
                at = at.add(1);
            }
        }
        false
    }
}

/// Starts `program` with `arguments` (C strings) in a session of its own, without a terminal: `stdin` and
/// `stdout` are its input and output, `stderr` its errors. Its pid.
///
/// It gets no other descriptor.
pub fn spawn_in_session(
    program: &[u8],
    arguments: &[*const u8],
    environment: Environment,
    files: [&Fd; 3],
) -> Result<i32, isize> {
    const SIGCHLD: usize = 17;
    if program.last() != Some(&0) || arguments.last().is_none_or(|last| !last.is_null()) {
        return Err(-22);
    }
    // SAFETY: a fork; the child has a copy of everything.
    let child = unsafe { call(number::CLONE, [SIGCHLD, 0, 0, 0, 0, 0]) };
    if child != 0 {
        return if child < 0 { Err(child) } else { Ok(child as i32) };
    }
    // SAFETY: plain numbers, and strings that end with a NUL.
    unsafe {
        call(number::SETSID, [0; 6]);
        // The shell goes when the helper is killed: PR_SET_PDEATHSIG, SIGKILL.
        call(number::PRCTL, [1, 9, 0, 0, 0, 0]);
        // First above all three, so that none overwrites another.
        for (to, file) in files.iter().enumerate() {
            const F_DUPFD: usize = 0;
            let copy = call(number::FCNTL, [file.number() as usize, F_DUPFD, 3, 0, 0, 0]);
            call(number::DUP3, [copy as usize, to, 0, 0, 0, 0]);
            call(number::CLOSE, [copy as usize, 0, 0, 0, 0, 0]);
        }
        // Whatever the helper itself was given by mistake. Kernels before 5.9 don't know it.
        call(number::CLOSE_RANGE, [3, u32::MAX as usize, 0, 0, 0, 0]);
        defaults_for_child();
        call(
            number::EXECVE,
            [program.as_ptr() as usize, arguments.as_ptr() as usize, environment.0 as usize, 0, 0, 0],
        );
    }
    exit(127)
}

/// A child that ended; none if none did.
pub fn wait_any() -> Option<i32> {
    const WNOHANG: usize = 1;
    let mut status = 0i32;
    // SAFETY: the kernel writes one int.
    let pid = unsafe { call(number::WAIT4, [usize::MAX, &raw mut status as usize, WNOHANG, 0, 0, 0]) };
    (pid > 0).then_some(pid as i32)
}

/// Sends a signal: to a process, or below zero to a group. 0 and -1, which mean more, are not sent.
pub fn kill(pid: i32, signal: i32) {
    if !(-1..=1).contains(&pid) {
        // SAFETY: plain numbers.
        unsafe { call(number::KILL, [pid as usize, signal as usize, 0, 0, 0, 0]) };
    }
}

/// Whether there is such a process.
pub fn exists(pid: i32) -> bool {
    // SAFETY: plain numbers; signal 0 is none.
    pid > 0 && unsafe { call(number::KILL, [pid as usize, 0, 0, 0, 0, 0]) } == 0
}

/// This process.
pub fn pid() -> i32 {
    // SAFETY: no arguments.
    unsafe { call(number::GETPID, [0; 6]) as i32 }
}

/// Ends this process.
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: plain number.
        unsafe { call(number::EXIT_GROUP, [status as usize, 0, 0, 0, 0, 0]) };
    }
}
