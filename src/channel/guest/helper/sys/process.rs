//! Starts processes, waits for them, and ends them.

use super::Fd;
use super::machine::{call, number};
use super::signals::defaults_for_child;

/// The environment of this process, passed on unchanged.
#[derive(Clone, Copy)]
pub struct Environment(*const *const u8);

impl Environment {
    /// # Safety
    /// `start` must be an array of C strings that ends with a null pointer and is never freed.
    pub unsafe fn new(start: *const *const u8) -> Environment {
        Environment(start)
    }

    /// Returns the value of a variable.
    pub fn value(&self, name: &[u8]) -> Option<&'static [u8]> {
        self.all().find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="))
    }

    /// Returns whether a variable's name has this prefix.
    pub fn has_prefix(&self, prefix: &[u8]) -> bool {
        self.all().any(|entry| entry.starts_with(prefix))
    }

    fn all(&self) -> impl Iterator<Item = &'static [u8]> {
        let mut at = self.0;
        core::iter::from_fn(move || {
            // SAFETY: the array ends with a null pointer, its strings with a NUL; they are never freed.
            unsafe {
                if (*at).is_null() {
                    return None;
                }
                let entry = crate::c_string(*at);
                at = at.add(1);
                Some(&entry[..entry.len() - 1])
            }
        })
    }

    /// Returns the environment with one more variable. It is never freed.
    pub fn with(&self, entry: &'static core::ffi::CStr) -> Result<Environment, isize> {
        let count = self.all().count();
        let bytes = (count + 2) * size_of::<*const u8>();
        let array = super::map(bytes.next_multiple_of(4096)).ok_or(-12isize)?.cast::<*const u8>();
        // SAFETY: the mapping has room for all of them, and is zeroed after them.
        unsafe {
            array.copy_from_nonoverlapping(self.0, count);
            *array.add(count) = entry.as_ptr().cast();
        }
        Ok(Environment(array))
    }
}

/// Starts `program` with `arguments` (C strings) in its own process group and returns its pid. `files` are its
/// descriptors, each with its number in the child, closed if that is negative; every other one is closed on exec.
/// `born` ends when the program runs, and gets a byte with the error number if it can't.
/// runs, and gets a byte if it can't: the number of the error.
pub fn spawn(
    program: &[u8],
    arguments: &[*const u8],
    environment: Environment,
    files: &[(&Fd, i32)],
    born: &Fd,
) -> Result<i32, isize> {
    const SIGCHLD: usize = 17;
    const F_DUPFD: usize = 0;
    const F_DUPFD_CLOEXEC: usize = 1030;
    const FIRST_FREE: usize = 10;
    if program.last() != Some(&0) || arguments.last().is_none_or(|last| !last.is_null()) {
        return Err(-22);
    }
    // SAFETY: a fork; the child has a copy of everything.
    let child = unsafe { call(number::CLONE, [SIGCHLD, 0, 0, 0, 0, 0]) };
    if child < 0 {
        return Err(child);
    }
    if child > 0 {
        // Here as well: a signal to its group may arrive before the child has done so itself. SAFETY: plain numbers.
        unsafe { call(number::SETPGID, [child as usize, child as usize, 0, 0, 0, 0]) };
        return Ok(child as i32);
    }
    // SAFETY: plain numbers, and strings that end with a NUL.
    unsafe {
        call(number::SETPGID, [0; 6]);
        // It is killed when the helper is: PR_SET_PDEATHSIG, SIGKILL.
        call(number::PRCTL, [1, 9, 0, 0, 0, 0]);
        let fails = |born: usize, error: isize| -> ! {
            let number = error.unsigned_abs() as u8;
            call(number::WRITE, [born, &raw const number as usize, 1, 0, 0, 0]);
            exit(127)
        };
        // First copy it above all of them, so that none overwrites another.
        let inherited = born.number() as usize;
        let born = call(number::FCNTL, [inherited, F_DUPFD_CLOEXEC, FIRST_FREE, 0, 0, 0]);
        if born < 0 {
            fails(inherited, born);
        }
        let mut copies = [-1isize; 6];
        for (copy, (file, to)) in copies.iter_mut().zip(files) {
            if *to >= 0 {
                *copy = call(number::FCNTL, [file.number() as usize, F_DUPFD, FIRST_FREE, 0, 0, 0]);
                // Without the copy the program would get the helper's own.
                if *copy < 0 {
                    fails(born as usize, *copy);
                }
            }
        }
        for (copy, (_, to)) in copies.iter().zip(files) {
            if *copy >= 0 {
                call(number::DUP3, [*copy as usize, *to as usize, 0, 0, 0, 0]);
            }
        }
        for copy in copies {
            if copy >= 0 {
                call(number::CLOSE, [copy as usize, 0, 0, 0, 0, 0]);
            }
        }
        defaults_for_child();
        let error = call(
            number::EXECVE,
            [program.as_ptr() as usize, arguments.as_ptr() as usize, environment.0 as usize, 0, 0, 0],
        );
        fails(born as usize, error)
    }
}

/// Disables address randomisation for programs that this process starts, and for their children.
pub fn fix_addresses() {
    const ADDR_NO_RANDOMIZE: usize = 0x0040000;
    const QUERY: usize = 0xffff_ffff;
    // SAFETY: plain numbers. If it is refused, addresses stay random.
    unsafe {
        let now = call(number::PERSONALITY, [QUERY, 0, 0, 0, 0, 0]);
        if now >= 0 {
            call(number::PERSONALITY, [now as usize | ADDR_NO_RANDOMIZE, 0, 0, 0, 0, 0]);
        }
    }
}

/// Makes this process the leader of a new session without a terminal, if possible.
pub fn leave_session() {
    // SAFETY: no arguments.
    unsafe { call(number::SETSID, [0; 6]) };
}

/// Closes all descriptors from 3 on except one. Kernels before 5.9 don't support this.
pub fn close_all_but(kept: i32) {
    let kept = kept.max(2) as usize;
    // SAFETY: plain numbers; no descriptor has an owner here yet.
    unsafe {
        if kept > 3 {
            call(number::CLOSE_RANGE, [3, kept - 1, 0, 0, 0, 0]);
        }
        call(number::CLOSE_RANGE, [kept + 1, u32::MAX as usize, 0, 0, 0, 0]);
    }
}

/// Returns a child that ended, with its status as in a shell; `None` if none ended.
pub fn wait_any() -> Option<(i32, u32)> {
    const WNOHANG: usize = 1;
    let mut status = 0i32;
    // SAFETY: the kernel writes one int.
    let pid = unsafe { call(number::WAIT4, [usize::MAX, &raw mut status as usize, WNOHANG, 0, 0, 0]) };
    let signal = status & 0x7f;
    let status = if signal == 0 { status >> 8 & 0xff } else { 128 + signal };
    (pid > 0).then_some((pid as i32, status as u32))
}

/// Sends a signal to a process, or to a group if the number is negative. 0 and -1, which have other meanings, are
/// ignored.
pub fn kill(pid: i32, signal: i32) {
    if !(-1..=1).contains(&pid) {
        // SAFETY: plain numbers.
        unsafe { call(number::KILL, [pid as usize, signal as usize, 0, 0, 0, 0]) };
    }
}

/// Ends this process.
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: plain number.
        unsafe { call(number::EXIT_GROUP, [status as usize, 0, 0, 0, 0, 0]) };
    }
}
