//! Handles processes that were started before they are needed, and detects changes since their start.

use super::machine::{call, number};
use super::{Fd, checked, machine_names, open};
use crate::frame::{self, ShortText};

/// Maximum length of a path that is compared.
const PATH: usize = 256;

/// What a shell reads from its machine when it starts, and a command can change: the host's name, and the path of the
/// folder.
#[derive(Clone, Copy, PartialEq)]
pub struct Surroundings {
    host: [u8; 65],
    folder: [u8; PATH],
}

impl Surroundings {
    /// Returns the current values.
    pub fn here() -> Surroundings {
        let mut folder = [0u8; PATH];
        // SAFETY: the kernel writes into the buffer. If the path is too long, the buffer is unchanged.
        unsafe { call(number::GETCWD, [folder.as_mut_ptr() as usize, PATH, 0, 0, 0, 0]) };
        Surroundings { host: machine_names()[1], folder }
    }
}

/// Returns where the arguments of a process are in its memory, from the first to the end of the last; `None` before the
/// kernel has put them and the environment there.
pub fn arguments_of(pid: i32) -> Option<(usize, usize)> {
    let path = ShortText::new().text(b"/proc/").number(pid as u32).text(b"/stat\0");
    let mut text = [0u8; 1024];
    let n = open(path.bytes(), false).and_then(|file: Fd| file.read(&mut text)).ok()?;
    // The name may contain any character and ends with the last parenthesis; the third field follows it.
    let name_end = text[..n].iter().rposition(|&byte| byte == b')')?;
    let mut fields = text[name_end + 2..n].split(|&byte| byte == b' ' || byte == b'\n');
    // proc_pid_stat(5): arg_start is field 48, env_end field 51.
    let start = frame::long_number(fields.nth(48 - 3)?)?;
    let end = frame::long_number(fields.next()?)?;
    let environment_end = frame::long_number(fields.nth(1)?)?;
    (environment_end != 0 && end > start).then_some((start, end))
}

/// Writes into the memory of a child.
pub fn write_into(pid: i32, at: usize, bytes: &[u8]) -> Result<(), isize> {
    let ours = [bytes.as_ptr() as usize, bytes.len()];
    let theirs = [at, bytes.len()];
    // SAFETY: the kernel reads one range of ours, and writes to memory of the other process.
    let written = checked(|| unsafe {
        let (ours, theirs) = (&raw const ours as usize, &raw const theirs as usize);
        call(number::PROCESS_VM_WRITEV, [pid as usize, ours, 1, theirs, 1, 0])
    })?;
    if written == bytes.len() { Ok(()) } else { Err(-14) }
}

/// Returns a random number from the kernel.
pub fn random() -> u32 {
    let mut bytes = [0u8; 4];
    // SAFETY: the kernel writes four bytes.
    unsafe { call(number::GETRANDOM, [bytes.as_mut_ptr() as usize, bytes.len(), 0, 0, 0, 0]) };
    u32::from_ne_bytes(bytes)
}
