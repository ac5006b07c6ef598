//! The encoding of frames: `KIND ID LENGTH\n` and LENGTH bytes.

use std::fmt;
use std::io::Write;

/// The longest payload of one frame, in bytes.
pub(super) const LONGEST: usize = 65536;
/// The longest header: a letter, ten digits, five digits, two blanks and a newline.
const LONGEST_HEADER: usize = 1 + 1 + 10 + 1 + 5 + 1;
/// The size of the buffer: the rest of one frame, and room for what arrives with it.
const CAPACITY: usize = 4 * LONGEST;
/// With less room than this at the end of the buffer, its content is moved to the beginning.
const LITTLE_ROOM: usize = LONGEST;

/// A received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) id: u32,
    pub(super) payload: &'a [u8],
}

/// Appends a frame to `out`. A payload longer than [`LONGEST`] becomes several frames, and an empty one
/// becomes one empty frame.
pub(super) fn encode(out: &mut Vec<u8>, kind: u8, id: u32, payload: &[u8]) {
    let mut rest = payload;
    loop {
        let (piece, after) = rest.split_at(rest.len().min(LONGEST));
        // Writing to a Vec can't fail.
        let _ = writeln!(out, "{} {id} {}", char::from(kind), piece.len());
        out.extend_from_slice(piece);
        rest = after;
        if rest.is_empty() {
            return;
        }
    }
}

/// The beginning of received bytes that can't be a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed(Vec<u8>);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the guest sent \"{}\", which is not the beginning of a frame", self.0.escape_ascii())
    }
}

/// Decodes frames from bytes that arrive in pieces of any size. Its memory use is constant.
pub(super) struct Decoder {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; CAPACITY].into_boxed_slice(), start: 0, end: 0 }
    }

    /// Returns the buffer for the next bytes; call [`Decoder::filled`] with their number afterwards. It is
    /// never empty once [`Decoder::next`] has returned all complete frames.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if CAPACITY - self.end < LITTLE_ROOM {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.buffer[self.end..]
    }

    /// Records that `count` bytes were put into [`Decoder::room`].
    pub(super) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(CAPACITY);
    }

    /// Returns the bytes that were received and not consumed yet.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Discards `count` bytes of the rest.
    pub(super) fn skip(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
    }

    /// Returns the next frame, if it has arrived completely.
    pub(super) fn next(&mut self) -> Result<Option<Frame<'_>>, Malformed> {
        let rest = &self.buffer[self.start..self.end];
        let beginning = &rest[..rest.len().min(LONGEST_HEADER)];
        let malformed = || Malformed(beginning.to_vec());
        let Some(newline) = memchr::memchr(b'\n', beginning) else {
            // Bytes that can't become a header are an error at once, not only when more arrives.
            return if could_begin(beginning) { Ok(None) } else { Err(malformed()) };
        };
        let (kind, id, length) = header(&beginning[..newline]).ok_or_else(malformed)?;
        let from = self.start + newline + 1;
        if self.end - from < length {
            return Ok(None);
        }
        self.start = from + length;
        Ok(Some(Frame { kind, id, payload: &self.buffer[from..self.start] }))
    }
}

/// Parses a header without its newline.
fn header(line: &[u8]) -> Option<(u8, u32, usize)> {
    let [kind, b' ', numbers @ ..] = line else { return None };
    let blank = memchr::memchr(b' ', numbers)?;
    let id = decimal(&numbers[..blank], 10).and_then(|id| u32::try_from(id).ok())?;
    let length = decimal(&numbers[blank + 1..], 5).and_then(|length| usize::try_from(length).ok())?;
    (kind.is_ascii_alphabetic() && length <= LONGEST).then_some((*kind, id, length))
}

/// Whether a header may begin with these bytes, which contain no newline.
fn could_begin(bytes: &[u8]) -> bool {
    let plausible = |(at, &byte): (usize, &u8)| match at {
        0 => byte.is_ascii_alphabetic(),
        1 => byte == b' ',
        _ => byte == b' ' || byte.is_ascii_digit(),
    };
    bytes.len() < LONGEST_HEADER && bytes.iter().enumerate().all(plausible)
}

/// Parses a number of one to `most` decimal digits and nothing else.
pub(super) fn decimal(digits: &[u8], most: usize) -> Option<u64> {
    if digits.is_empty() || digits.len() > most.min(19) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}
