//! A command's output for people: without escape sequences, or the end of it, safe to print.

use super::escape::{Listener, Parser};
use super::render;

/// So much of the end of an output is rendered.
const RENDERED: usize = 64 << 10;

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

/// The last `lines` lines as a terminal would show them, with nothing that a terminal acts on.
pub(crate) fn shown(bytes: &[u8], lines: usize) -> String {
    let tail = &bytes[bytes.len().saturating_sub(RENDERED)..];
    render::last_lines(Parser::new(), tail, lines).join("\n")
}
