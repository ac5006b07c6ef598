//! Takes a terminal's byte stream apart: printable text, control characters, escape sequences.
//!
//! The grammar is ECMA-48's with xterm's string terminators, read in a streaming way: a chunk can end
//! anywhere, and the parser is a small `Copy` value, so a position in the stream can be kept and
//! gone back to. The bytes come from a guest, hence every sequence is bounded: nothing the guest
//! sends can swallow the console for good.

/// The longest CSI that is taken for one. Real ones have under 40 bytes.
const CSI_LIMIT: u16 = 256;
/// The longest string (OSC, DCS, SOS, PM, APC) that is swallowed. Titles and systemd's OSC 3008
/// contexts have under 1 KiB; sixel pictures have no place on a serial console.
const STRING_LIMIT: u16 = 4096;
/// How much of a sequence is kept for whoever wants to look at it.
const KEPT: usize = 24;

/// What the parser finds, in the order of the bytes.
pub(crate) trait Listener {
    /// Printable bytes, newlines and tabs.
    fn text(&mut self, bytes: &[u8]);
    /// Any other control character, outside of sequences.
    fn control(&mut self, byte: u8);
    /// A complete sequence; `body` has at most its first 24 bytes after the introducer, the final
    /// byte of a CSI included if it fits.
    fn sequence(&mut self, _introducer: u8, _body: &[u8]) {}
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte, such as `ESC (` of a character set.
    Intermediate,
    Csi,
    /// OSC, which BEL can end as well.
    Osc,
    /// DCS, SOS, PM or APC.
    String,
    /// After an ESC within a string: the first half of its terminator, or a new sequence.
    StringEscape,
    /// `ESC ] P` and seven digits: the Linux console's palette, which has no terminator.
    Palette,
}

/// The state of the parser between two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parser {
    state: State,
    introducer: u8,
    length: u16,
    body: [u8; KEPT],
}

impl Parser {
    pub(crate) const fn new() -> Self {
        Self { state: State::Text, introducer: 0, length: 0, body: [0; KEPT] }
    }

    /// Reads `bytes` on from where the last call stopped.
    pub(crate) fn read(&mut self, bytes: &[u8], listener: &mut impl Listener) {
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            if self.state != State::Text {
                self.step(byte, listener);
                rest = &rest[1..];
                continue;
            }
            let plain = plain_length(rest);
            if plain > 0 {
                listener.text(&rest[..plain]);
                rest = &rest[plain..];
            } else {
                self.step(byte, listener);
                rest = &rest[1..];
            }
        }
    }

    fn step(&mut self, byte: u8, listener: &mut impl Listener) {
        match self.state {
            State::Text => self.outside(byte, listener),
            State::Escape => self.after_escape(byte, listener),
            State::Intermediate => match byte {
                0x20..=0x2f => self.count(byte, CSI_LIMIT),
                0x30..=0x7e => self.state = State::Text,
                _ => self.give_up(byte, listener),
            },
            State::Csi => match byte {
                0x20..=0x3f => self.count(byte, CSI_LIMIT),
                0x40..=0x7e => {
                    self.count(byte, u16::MAX);
                    self.finish(listener);
                }
                _ => self.give_up(byte, listener),
            },
            State::Osc => match byte {
                0x07 => self.finish(listener),
                // The Linux console's palette commands stop by themselves; taken for an OSC they
                // would swallow the line behind them.
                b'R' if self.length == 0 => self.state = State::Text,
                b'P' if self.length == 0 => self.state = State::Palette,
                _ => self.within_string(byte, listener),
            },
            State::String => self.within_string(byte, listener),
            State::StringEscape => match byte {
                b'\\' => self.finish(listener),
                _ => self.after_escape(byte, listener),
            },
            State::Palette => match byte {
                b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' => {
                    self.length += 1;
                    if self.length == 7 {
                        self.state = State::Text;
                    }
                }
                _ => self.give_up(byte, listener),
            },
        }
    }

    fn outside(&mut self, byte: u8, listener: &mut impl Listener) {
        match byte {
            0x1b => self.state = State::Escape,
            0x00..=0x08 | 0x0b..=0x1f | 0x7f => listener.control(byte),
            _ => listener.text(&[byte]),
        }
    }

    fn after_escape(&mut self, byte: u8, listener: &mut impl Listener) {
        self.length = 0;
        self.introducer = byte;
        match byte {
            b'[' => self.state = State::Csi,
            b']' => self.state = State::Osc,
            b'P' | b'X' | b'^' | b'_' => self.state = State::String,
            0x20..=0x2f => {
                self.state = State::Intermediate;
            }
            0x30..=0x7e => self.finish(listener),
            _ => self.give_up(byte, listener),
        }
    }

    fn within_string(&mut self, byte: u8, listener: &mut impl Listener) {
        match byte {
            0x1b => self.state = State::StringEscape,
            // A newline ends a string that nobody terminated, so that a line lost in one is all
            // that is lost.
            b'\n' | 0x18 | 0x1a => self.give_up(byte, listener),
            _ => self.count(byte, STRING_LIMIT),
        }
    }

    fn count(&mut self, byte: u8, limit: u16) {
        if let Some(kept) = self.body.get_mut(usize::from(self.length)) {
            *kept = byte;
        }
        self.length += 1;
        if self.length >= limit {
            self.state = State::Text;
        }
    }

    fn finish(&mut self, listener: &mut impl Listener) {
        self.state = State::Text;
        let kept = usize::from(self.length).min(KEPT);
        listener.sequence(self.introducer, &self.body[..kept]);
    }

    /// The sequence is broken off by a byte that can't be part of it; the byte is read as what it is
    /// outside of sequences.
    fn give_up(&mut self, byte: u8, listener: &mut impl Listener) {
        self.state = State::Text;
        if !matches!(byte, 0x18 | 0x1a) {
            self.outside(byte, listener);
        }
    }
}

/// How many bytes from the start are text: no control character but newline and tab. Looks at a bounded
/// number of them, so that bytes with many controls among them are not looked at over and over.
fn plain_length(bytes: &[u8]) -> usize {
    let near = &bytes[..bytes.len().min(256)];
    // In a flood, what ends text is the carriage return of each line.
    let length = memchr::memchr2(b'\r', 0x1b, near).unwrap_or(near.len());
    let text = &near[..length];
    if is_plain(text) { length } else { text.iter().position(|&byte| is_control(byte)).unwrap_or(length) }
}

/// Whether there is no control character, without a branch per byte: the compiler makes vector compares of it.
fn is_plain(text: &[u8]) -> bool {
    const BLOCK: usize = 32;
    let plain = |block: &[u8]| !block.iter().fold(false, |found, &byte| found | is_control(byte));
    match text.last_chunk::<BLOCK>() {
        // The last block overlaps the one before: looking twice is cheaper than byte by byte.
        Some(last) => text.chunks_exact(BLOCK).all(plain) && plain(last),
        None => plain(text),
    }
}

const fn is_control(byte: u8) -> bool {
    (byte < 0x20) & (byte != b'\n') & (byte != b'\t') | (byte == 0x7f)
}

#[cfg(test)]
mod tests {
    use super::{is_control, plain_length};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_ends_at_the_first_control_character(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(0x7f), Just(0x80), b' '..b'~', any::<u8>()], 0..140),
        ) {
            let expected = bytes.iter().position(|&byte| is_control(byte)).unwrap_or(bytes.len());
            prop_assert_eq!(plain_length(&bytes), expected);
        }
    }
}
