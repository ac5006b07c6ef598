//! Converts a terminal's byte stream to the plain text that a person would read, for matching.
//!
//! | bytes | in the text |
//! |---|---|
//! | escape sequences (CSI, OSC, DCS, SOS, PM, APC, character sets, single characters) | nothing |
//! | `\r…\r\n` | `\n` |
//! | `\r` followed by something else | `\n`; nothing at the start of a line |
//! | `\n`, `\t` | unchanged |
//! | other control characters, including NUL, BEL and backspace | nothing |
//! | everything else, including broken UTF-8 | unchanged |
//!
//! A lone carriage return becomes a newline, because the following text begins at the start of a line. So
//! each state of a progress bar is a line, and `(?m)^` matches a prompt that was drawn over other text.
//! Backspace erases nothing, because a wait may already have matched the text.

use crate::text::escape::{Listener, Parser};

/// The state of the stripper between two bytes. It is small, and can be saved to return to a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stripper {
    parser: Parser,
    line: LineState,
}

/// What the last bytes mean for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LineState {
    /// Whether the last byte was a carriage return.
    returned: bool,
    /// Whether the text is at the start of a line.
    start: bool,
}

/// Receives the stripped text, and the sequences that were removed.
pub(super) trait Sink {
    fn text(&mut self, bytes: &[u8]);
    fn sequence(&mut self, _introducer: u8, _body: &[u8]) {}
}

impl Stripper {
    pub(super) const fn new() -> Self {
        Self { parser: Parser::new(), line: LineState { returned: false, start: true } }
    }

    /// Returns the state of the escape sequence parser.
    pub(super) fn parser(&self) -> Parser {
        self.parser
    }

    /// Processes raw bytes from where the last call stopped.
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
