//! The filter for all text from outside. Output of a guest, a build, QEMU, a foreign record or a scenario
//! passes it before it reaches a terminal, a log, XML or a page.
//!
//! | in the text | in the output |
//! |---|---|
//! | escape sequences (CSI, OSC, DCS, SOS, PM, APC, …), as [`escape`] parses them | nothing |
//! | the other control characters of ASCII, including DEL | nothing |
//! | `\r…\n`, a lone `\r`, and `\n` | the end of a line; a space if the text has to be one line |
//! | `\t` | a space; four if the text has several lines |
//! | a [harmful](harmful()) character beyond ASCII | U+FFFD, so that a reader sees that something was there |
//! | a combining mark after eight others | nothing |
//! | everything else | unchanged |
//!
//! The output has no effect on a terminal, is valid in XML, and passes the filter unchanged.

pub(crate) mod boilerplate;
pub(crate) mod escape;
mod harmful;

use harmful::{harmful, is_mark};

use escape::{Listener, Parser};

/// How many combining marks may follow one character. Written languages use up to five; a heap of them covers
/// the lines above and below.
const MARKS: usize = 8;

/// Returns `text` as one line: see the [table](self).
///
/// ```ignore
/// assert_eq!(line("\x1b[31mred\x1b[0m\r\nand \u{202e}blue"), "red and \u{fffd}blue");
/// ```
pub(crate) fn line(text: &str) -> String {
    if is_plain(text, |byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    shown(text.as_bytes(), " ", " ")
}

/// Returns `text` as lines, each of which ends in `\n` as before: see the [table](self).
///
/// ```ignore
/// assert_eq!(lines("\x1b[31mred\x1b[0m\r\nand \u{202e}blue"), "red\nand \u{fffd}blue");
/// ```
pub(crate) fn lines(text: &str) -> String {
    if is_plain(text, |byte| matches!(byte, b' '..=b'~' | b'\n')) {
        return text.to_owned();
    }
    shown(text.as_bytes(), "\n", "    ")
}

/// Does the same as [`lines`], but keeps sequences that set colours. For a compiler's output on a terminal.
pub(crate) fn coloured(text: &str) -> String {
    struct Parts {
        shown: String,
        text: Vec<u8>,
    }
    impl Parts {
        fn take(&mut self) {
            self.shown.push_str(&shown(&std::mem::take(&mut self.text), "\n", "    "));
        }
    }
    impl Listener for Parts {
        fn text(&mut self, bytes: &[u8]) {
            self.text.extend_from_slice(bytes);
        }
        fn control(&mut self, byte: u8) {
            self.text.push(byte);
        }
        fn sequence(&mut self, introducer: u8, body: &[u8]) {
            let parameters = body.strip_suffix(b"m").filter(|_| introducer == b'[');
            if let Some(numbers) = parameters.and_then(|numbers| std::str::from_utf8(numbers).ok())
                && numbers.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b';'))
            {
                self.take();
                self.shown.push_str(&format!("\x1b[{numbers}m"));
            }
        }
    }
    let mut parts = Parts { shown: String::new(), text: Vec::new() };
    Parser::new().read(text.as_bytes(), &mut parts);
    parts.take();
    parts.shown
}

/// Returns `json` with the harmful characters in its strings written as `\uXXXX`. The data is the same, and
/// nothing in it affects a terminal.
pub(crate) fn json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if character != '\n' && harmful(character) {
            let mut units = [0; 2];
            character
                .encode_utf16(&mut units)
                .iter()
                .for_each(|unit| escaped.push_str(&format!("\\u{unit:04x}")));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Returns U+FFFD for a character that must not be shown unchanged. For data that is not lines of text, such
/// as the JSON of a page.
pub(crate) fn seen(character: char) -> char {
    if harmful(character) { char::REPLACEMENT_CHARACTER } else { character }
}

/// Returns the bytes without escape sequences. Everything else stays, including newlines and control
/// characters.
pub(crate) fn strip_escapes(bytes: &[u8]) -> Vec<u8> {
    struct Plain(Vec<u8>);
    impl Listener for Plain {
        fn text(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
        fn control(&mut self, byte: u8) {
            self.0.push(byte);
        }
    }
    let mut kept = Plain(Vec::with_capacity(bytes.len()));
    Parser::new().read(bytes, &mut kept);
    kept.0
}

fn is_plain(text: &str, byte: impl Fn(u8) -> bool) -> bool {
    text.bytes().all(byte)
}

fn shown(bytes: &[u8], end_of_line: &str, tab: &str) -> String {
    let plain = strip_escapes(bytes);
    let plain = String::from_utf8_lossy(&plain);
    let mut shown = String::with_capacity(plain.len());
    let (mut returned, mut marks) = (false, 0);
    for character in plain.chars() {
        if std::mem::take(&mut returned) && character != '\n' && character != '\r' {
            shown.push_str(end_of_line);
        }
        marks = if is_mark(character) { marks + 1 } else { 0 };
        match character {
            '\r' => returned = true,
            '\n' => shown.push_str(end_of_line),
            '\t' => shown.push_str(tab),
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
