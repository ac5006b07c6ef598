//! What has to be put right in a guest that goes on from a saved moment: its clock stands where it stood
//! then, and all clones of that moment would make the same random numbers.

use crate::frame;
use crate::sys;

/// Does what a frame of this kind says: `SECONDS.NANOSECONDS` since 1970, a blank, and a seed in hexadecimal
/// digits. What can't be done (another user than root) is left.
pub fn awaken(content: &[u8]) {
    let mut words = content.split(|&byte| byte == b' ');
    let (time, digits) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    // First: the time is that of the sending.
    let mut parts = time.split(|&byte| byte == b'.');
    if let (Some(seconds), Some(nanoseconds)) =
        (parts.next().and_then(frame::number), parts.next().and_then(frame::number))
    {
        sys::set_clock(seconds as usize, nanoseconds as usize);
    }
    let mut seed = [0u8; 32];
    let mut bytes = 0;
    for (pair, byte) in digits.chunks_exact(2).zip(&mut seed) {
        let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else { return };
        *byte = high << 4 | low;
        bytes += 1;
    }
    if bytes > 0 {
        sys::seed(&seed);
    }
}

fn digit(character: u8) -> Option<u8> {
    char::from(character).to_digit(16).map(|digit| digit as u8)
}
