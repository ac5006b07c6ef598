//! Checks whether a process listens on a Unix socket by connecting to it, since nothing else proves it.
//!
//! The other end sees a connection that is closed at once.

use crate::bytes::Bytes;
use crate::frame::ShortText;
use crate::sys;

/// Returns whether a connection succeeds; otherwise the answer contains the reason.
pub fn listens(path: &[u8], answer: &mut Bytes) -> bool {
    let Err(error) = sys::reaches(path) else { return true };
    let why: &[u8] = match error {
        -1 => b"it accepts data only from its peer",
        -2 => b"there is no such file",
        -13 => b"permission denied",
        -20 => b"a part of its path is not a folder",
        -36 => b"its name is too long",
        -40 => b"its path has a loop of symbolic links",
        -111 => b"it is not a socket, or no program listens on it",
        _ => return other(error, answer),
    };
    answer.push(why);
    false
}

fn other(error: isize, answer: &mut Bytes) -> bool {
    answer.push(
        ShortText::new().text(b"connect(2) fails with error ").number(error.unsigned_abs() as u32).bytes(),
    );
    false
}
