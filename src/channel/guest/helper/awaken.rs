//! Corrects a guest that continues from a saved moment: its clock shows the time of the save, and all clones of that
//! moment would produce the same random numbers.

use crate::frame;
use crate::sys;

/// Handles a frame of this kind: `SECONDS.NANOSECONDS` since 1970, a blank, and a seed in hexadecimal digits. Skips
/// what it has no right to do (if the user is not root).
pub fn awaken(content: &[u8]) {
    let mut words = content.split(|&byte| byte == b' ');
    let (time, digits) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    // First, since the time was taken when the frame was sent.
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
