//! Texts from outside in Markdown. Each is code, so that none of its characters formats anything.

use super::wording::{boundary, printable};
use crate::text;

/// Formats one line as code.
pub(crate) fn code(text: &str) -> String {
    match printable(text).replace('`', "'") {
        text if text.is_empty() => text,
        text => format!("`{text}`"),
    }
}

/// Formats one line as code in a table, where a bar would end the cell.
pub(crate) fn cell(text: &str) -> String {
    code(text).replace('|', "\\|")
}

/// Formats lines as a block of code, of about `most` bytes of `text` at most. It ends with a line break.
pub(crate) fn block(text: &str, most: usize) -> String {
    let mut text = text::lines(text);
    if text.len() > most {
        text.truncate(boundary(&text, most));
        text.push_str("\n…");
    }
    // The fence is longer than any in the text.
    let ticks = text.split(|c| c != '`').map(str::len).max().unwrap_or(0).max(2) + 1;
    let fence = "`".repeat(ticks);
    format!("{fence}text\n{text}\n{fence}\n")
}
