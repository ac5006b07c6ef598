//! The end of a command's output, safe to print.

use super::render;
use crate::text::escape::Parser;

/// So much of the end of an output is rendered.
const RENDERED: usize = 64 << 10;

/// The last `lines` lines as a terminal would show them, with nothing that a terminal acts on.
pub(crate) fn shown(bytes: &[u8], lines: usize) -> String {
    let tail = &bytes[bytes.len().saturating_sub(RENDERED)..];
    render::last_lines(Parser::new(), tail, lines).join("\n")
}
