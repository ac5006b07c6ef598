//! What a person would read of a terminal's byte stream, as plain text to match on.
//!
//! | bytes | in the text |
//! |---|---|
//! | escape sequences (CSI, OSC, DCS, SOS, PM, APC, character sets, single characters) | nothing |
//! | `\r…\r\n` | `\n` |
//! | `\r` with something else behind it | `\n`; nothing at the start of a line |
//! | `\n`, `\t` | as they are |
//! | other control characters, NUL, BEL and backspace too | nothing |
//! | everything else, broken UTF-8 too | as it is |
//!
//! A lone carriage return becomes a newline since what follows stands at the start of a line: each
//! state of a progress bar is a line, and `(?m)^` matches a prompt that was drawn over something.
//! Backspace takes nothing back: text that a wait may have matched already stays as it was.

use crate::text::escape::{Listener, Parser};

/// The stripper between two bytes: a small value that can be kept to come back to a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stripper {
    parser: Parser,
    line: LineState,
}

/// What the last bytes mean for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LineState {
    /// A carriage return came and nothing after it yet.
    returned: bool,
    /// The text stands at the start of a line.
    start: bool,
}

/// Where stripped text goes, and who hears of the sequences that were taken out.
pub(super) trait Sink {
    fn text(&mut self, bytes: &[u8]);
    fn sequence(&mut self, _introducer: u8, _body: &[u8]) {}
}

impl Stripper {
    pub(super) const fn new() -> Self {
        Self { parser: Parser::new(), line: LineState { returned: false, start: true } }
    }

    /// The state of the escape sequences alone.
    pub(super) fn parser(&self) -> Parser {
        self.parser
    }

    /// Reads raw bytes on from where the last call stopped.
    pub(super) fn read(&mut self, raw: &[u8], sink: &mut impl Sink) {
        self.parser.read(raw, &mut Lines { line: &mut self.line, sink });
    }
}

struct Lines<'a, S> {
    line: &'a mut LineState,
    sink: &'a mut S,
}

impl<S: Sink> Listener for Lines<'_, S> {
    fn text(&mut self, bytes: &[u8]) {
        if self.line.returned {
            self.line.returned = false;
            if !self.line.start && bytes.first() != Some(&b'\n') {
                self.sink.text(b"\n");
            }
        }
        self.sink.text(bytes);
        self.line.start = bytes.last() == Some(&b'\n');
    }

    fn control(&mut self, byte: u8) {
        if byte == b'\r' {
            self.line.returned = true;
        }
    }

    fn sequence(&mut self, introducer: u8, body: &[u8]) {
        self.sink.sequence(introducer, body);
    }
}

impl Sink for Vec<u8> {
    fn text(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}
