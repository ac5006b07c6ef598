//! The one filter for text from outside: what a guest, a build, QEMU, a foreign record or a scenario says, before it
//! reaches a terminal, a log, XML or a page.
//!
//! | in the text | comes out as |
//! |---|---|
//! | escape sequences (CSI, OSC, DCS, SOS, PM, APC, …), as [`escape`] reads them | nothing |
//! | the other control characters of ASCII, DEL too | nothing |
//! | `\r…\n`, a lone `\r`, and `\n` | the end of a line; a space where the text has to be one line |
//! | `\t` | a space |
//! | a [harmful] character beyond ASCII | U+FFFD, so that a reader sees that something was there |
//! | a combining mark behind eight others | nothing |
//! | everything else | as it is |
//!
//! What comes out does nothing to a terminal, may stand in XML, and passes the filter unchanged.

pub(crate) mod escape;
mod harmful;

use harmful::{harmful, is_mark};

use escape::{Listener, Parser};

/// As many combining marks stay behind one character. Written languages use up to five; a heap of them covers the
/// lines above and below.
const MARKS: usize = 8;

/// `text` as one line: see the [table](self).
///
/// ```ignore
/// assert_eq!(line("\x1b[31mred\x1b[0m\r\nand \u{202e}blue"), "red and \u{fffd}blue");
/// ```
pub(crate) fn line(text: &str) -> String {
    if is_plain(text, |byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    shown(text.as_bytes(), ' ')
}

/// `text` as lines, each of which ends in `\n` as it did: see the [table](self).
///
/// ```ignore
/// assert_eq!(lines("\x1b[31mred\x1b[0m\r\nand \u{202e}blue"), "red\nand \u{fffd}blue");
/// ```
pub(crate) fn lines(text: &str) -> String {
    if is_plain(text, |byte| matches!(byte, b' '..=b'~' | b'\n')) {
        return text.to_owned();
    }
    shown(text.as_bytes(), '\n')
}

/// The bytes without escape sequences; everything else, newlines and control characters too, stays.
pub(crate) fn strip_escapes(bytes: &[u8]) -> Vec<u8> {
    struct Kept(Vec<u8>);
    impl Listener for Kept {
        fn text(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
        fn control(&mut self, byte: u8) {
            self.0.push(byte);
        }
    }
    let mut kept = Kept(Vec::with_capacity(bytes.len()));
    Parser::new().read(bytes, &mut kept);
    kept.0
}

fn is_plain(text: &str, byte: impl Fn(u8) -> bool) -> bool {
    text.bytes().all(byte)
}

fn shown(bytes: &[u8], end_of_line: char) -> String {
    let plain = strip_escapes(bytes);
    let plain = String::from_utf8_lossy(&plain);
    let mut shown = String::with_capacity(plain.len());
    let (mut returned, mut marks) = (false, 0);
    for character in plain.chars() {
        if std::mem::take(&mut returned) && character != '\n' && character != '\r' {
            shown.push(end_of_line);
        }
        marks = if is_mark(character) { marks + 1 } else { 0 };
        match character {
            '\r' => returned = true,
            '\n' => shown.push(end_of_line),
            '\t' => shown.push(' '),
            '\0'..='\x1f' | '\x7f' => {}
            _ if marks > MARKS => {}
            _ if harmful(character) => shown.push(char::REPLACEMENT_CHARACTER),
            _ => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests;
