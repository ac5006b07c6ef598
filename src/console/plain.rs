//! The end of a command's output, safe to print.

use super::render;
use crate::secrets::bytes::{MARGIN, part_without_words};
use crate::text::escape::Parser;

/// How much of the end of an output is rendered, in bytes.
const RENDERED: usize = 64 << 10;

/// How much of the end of an output [`shown`] looks at, in bytes.
pub(crate) const SHOWN: usize = RENDERED + MARGIN;

/// Returns the last `lines` lines as a terminal would show them, without control characters.
pub(crate) fn shown(bytes: &[u8], lines: usize) -> String {
    let cut = bytes.len().saturating_sub(RENDERED);
    // Masked before it is cut.
    let around = &bytes[cut.saturating_sub(MARGIN)..];
    let tail = part_without_words(around, cut.min(MARGIN)..around.len());
    render::last_lines(Parser::new(), &tail, lines).join("\n")
}
