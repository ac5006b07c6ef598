//! Parses a terminal's byte stream into printable text, control characters and escape sequences.
//!
//! The grammar is that of ECMA-48 with xterm's string terminators. It is read as a stream: a chunk can end
//! anywhere. The parser is a small `Copy` value, so a position in the stream can be saved and restored. The
//! bytes come from a guest, so the length of every sequence is limited. No guest output can swallow the
//! console permanently.

/// The longest CSI sequence that is accepted. Real ones have less than 40 bytes.
const CSI_LIMIT: u16 = 256;
/// The longest string (OSC, DCS, SOS, PM, APC) that is swallowed. Titles and systemd's OSC 3008 contexts have
/// less than 1 KiB. Sixel pictures are not expected on a serial console.
const STRING_LIMIT: u16 = 4096;
/// How much of a sequence is passed to the listener.
const KEPT: usize = 24;

/// Receives what the parser finds, in the order of the bytes.
pub(crate) trait Listener {
    /// Handles printable bytes, newlines and tabs.
    fn text(&mut self, bytes: &[u8]);
    /// Handles any other control character outside of sequences.
    fn control(&mut self, byte: u8);
    /// Handles a complete sequence. `body` has at most its first 24 bytes after the introducer, including the
    /// final byte of a CSI if it fits.
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
    /// OSC, which BEL can also end.
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

    /// Whether the next byte is text, if it is a printable letter of ASCII.
    pub(crate) fn is_in_text(&self) -> bool {
        self.state == State::Text
    }

    /// Parses `bytes` from where the last call stopped.
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
                // The Linux console's palette commands have no terminator. If they were parsed as OSC, they
                // would swallow the line after them.
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
            // A newline ends an unterminated string, so that at most the rest of a line is lost.
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

    /// Aborts a sequence at a byte that can't be a part of it. The byte is then handled like one outside of
    /// sequences.
    fn give_up(&mut self, byte: u8, listener: &mut impl Listener) {
        self.state = State::Text;
        if !matches!(byte, 0x18 | 0x1a) {
            self.outside(byte, listener);
        }
    }
}

/// Returns how many bytes from the start are text, without control characters except newline and tab. It
/// examines a limited number of bytes, so that input with many control characters is not scanned repeatedly.
fn plain_length(bytes: &[u8]) -> usize {
    let near = &bytes[..bytes.len().min(256)];
    // In a flood of output, a text usually ends at the carriage return of a line.
    let length = memchr::memchr2(b'\r', 0x1b, near).unwrap_or(near.len());
    let text = &near[..length];
    if is_plain(text) { length } else { text.iter().position(|&byte| is_control(byte)).unwrap_or(length) }
}

/// Whether there is no control character. There is no branch per byte, so the compiler can use vector
/// comparisons.
fn is_plain(text: &[u8]) -> bool {
    const BLOCK: usize = 32;
    let plain = |block: &[u8]| !block.iter().fold(false, |found, &byte| found | is_control(byte));
    match text.last_chunk::<BLOCK>() {
        // The last block overlaps the previous one, because that is cheaper than single bytes.
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
