//! Frames: `KIND ID LENGTH\n` and so many bytes.

use crate::bytes::Bytes;
use crate::sys::Fd;

/// The longest content of a frame.
pub const LONGEST: usize = 65536;
/// A header is not longer than this.
const HEADER: usize = 24;

/// What the front of the input is.
pub enum Next {
    /// A whole frame: its kind, its command, where its content is, and how long it is all in all.
    Frame { kind: u8, id: u32, content: core::ops::Range<usize>, whole: usize },
    /// Not a whole frame yet.
    More,
    /// No frame at all: whoever is at the other end doesn't speak this protocol.
    Nonsense,
}

/// Looks at the front of the input.
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

/// A number in decimal, and nothing else.
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

/// An address in decimal, and nothing else.
pub fn long_number(digits: &[u8]) -> Option<usize> {
    digits.iter().try_fold(0usize, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(usize::from(digit - b'0')),
        _ => None,
    })
}

/// A few words on the stack.
pub struct ShortText {
    bytes: [u8; 160],
    len: usize,
}

impl ShortText {
    pub fn new() -> ShortText {
        ShortText { bytes: [0; 160], len: 0 }
    }

    /// Adds text; what doesn't fit is left out.
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

/// Appends a frame with what one read of at most `most` bytes gives. 0: the end; an error: no frame.
pub fn append_read(output: &mut Bytes, kind: u8, id: u32, from: &Fd, most: usize) -> Result<usize, isize> {
    let most = most.min(LONGEST);
    let place = header(kind, id, most).bytes().len();
    let room = output.room(place + most);
    let n = from.read(&mut room[place..place + most])?;
    if n == 0 {
        return Ok(0);
    }
    // The header is known now; when it is shorter than foreseen, the content moves up to it.
    let header = header(kind, id, n);
    let header = header.bytes();
    room[..header.len()].copy_from_slice(header);
    if header.len() < place {
        room.copy_within(place..place + n, header.len());
    }
    output.filled(header.len() + n);
    Ok(n)
}
