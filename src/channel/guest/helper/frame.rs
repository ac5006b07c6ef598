//! Frames: `KIND ID LENGTH\n`, then LENGTH bytes.

use crate::bytes::Bytes;
use crate::sys::Fd;

/// The maximum length of a frame's content.
pub const LONGEST: usize = 65536;
/// The maximum length of a header.
const HEADER: usize = 24;

/// What is at the front of the input.
pub enum Next {
    /// A complete frame: its kind, its command, the range of its content, and its total length.
    Frame { kind: u8, id: u32, content: core::ops::Range<usize>, whole: usize },
    /// An incomplete frame.
    More,
    /// Not a frame: the other end does not speak this protocol.
    Nonsense,
}

/// Parses the front of the input.
pub fn next(input: &[u8]) -> Next {
    let Some(end) = input.iter().take(HEADER).position(|&byte| byte == b'\n') else {
        return if input.len() < HEADER { Next::More } else { Next::Nonsense };
    };
    let mut words = input[..end].split(|&byte| byte == b' ');
    let (Some(&[kind]), Some(id), Some(length), None) =
        (words.next(), words.next().and_then(number), words.next().and_then(number), words.next())
    else {
        return Next::Nonsense;
    };
    if !kind.is_ascii_alphabetic() || length as usize > LONGEST {
        return Next::Nonsense;
    }
    let content = end + 1..end + 1 + length as usize;
    if input.len() < content.end {
        return Next::More;
    }
    Next::Frame { kind, id, whole: content.end, content }
}

/// Parses a decimal number without other characters.
pub fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 10 {
        return None;
    }
    let mut value = 0u32;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u32::from(digit - b'0'))?;
    }
    Some(value)
}

/// Parses a decimal address without other characters.
pub fn long_number(digits: &[u8]) -> Option<usize> {
    digits.iter().try_fold(0usize, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(usize::from(digit - b'0')),
        _ => None,
    })
}

/// A short text on the stack.
pub struct ShortText {
    bytes: [u8; 160],
    len: usize,
}

impl ShortText {
    pub fn new() -> ShortText {
        ShortText { bytes: [0; 160], len: 0 }
    }

    /// Adds text; the part that doesn't fit is dropped.
    pub fn text(mut self, text: &[u8]) -> ShortText {
        let n = text.len().min(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + n].copy_from_slice(&text[..n]);
        self.len += n;
        self
    }

    /// Adds a number in decimal.
    pub fn number(self, mut value: u32) -> ShortText {
        let mut digits = [0u8; 10];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                return self.text(&digits[at..]);
            }
        }
    }

    /// Adds a number in hexadecimal.
    pub fn hex(self, value: u64) -> ShortText {
        let digits: [u8; 16] =
            core::array::from_fn(|at| b"0123456789abcdef"[(value >> (60 - 4 * at)) as usize & 15]);
        self.text(&digits)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn header(kind: u8, id: u32, length: usize) -> ShortText {
    ShortText::new().text(&[kind, b' ']).number(id).text(b" ").number(length as u32).text(b"\n")
}

/// Appends a frame.
pub fn append(output: &mut Bytes, kind: u8, id: u32, content: &[u8]) {
    output.push(header(kind, id, content.len()).bytes());
    output.push(content);
}

/// Appends a frame with the result of one read of at most `most` bytes. Returns 0 at the end; an error appends no
/// frame.
pub fn append_read(output: &mut Bytes, kind: u8, id: u32, from: &Fd, most: usize) -> Result<usize, isize> {
    let most = most.min(LONGEST);
    let place = header(kind, id, most).bytes().len();
    let room = output.room(place + most);
    let n = from.read(&mut room[place..place + most])?;
    if n == 0 {
        return Ok(0);
    }
    // The header's length is known now; if it is shorter than reserved, the content moves up to it.
    let header = header(kind, id, n);
    let header = header.bytes();
    room[..header.len()].copy_from_slice(header);
    if header.len() < place {
        room.copy_within(place..place + n, header.len());
    }
    output.filled(header.len() + n);
    Ok(n)
}
