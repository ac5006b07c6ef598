//! Finds the nearest miss: the text that came closest to a pattern that never came.

use memchr::memmem;

use super::pattern::Pattern;

/// How much of the end of the text is examined, in bytes.
const LOOKED_AT: usize = 64 << 10;

/// Describes what came closest, or returns `None` if nothing came close. The lines are raw text, which still
/// has to be masked and filtered.
pub(super) fn nearest(pattern: &Pattern, text: &[u8]) -> Option<String> {
    let text = &text[text.len().saturating_sub(LOOKED_AT)..];
    let Some(literal) = pattern.literal() else { return nearest_to_regex(pattern, text) };
    let lower = |bytes: &[u8]| bytes.to_ascii_lowercase();
    if let Some(at) = memmem::rfind(&lower(text), &lower(literal)) {
        return Some(format!("the same except for upper and lower case: {}", line(text, at)));
    }
    if let Some(at) = blank_insensitive(text, literal) {
        return Some(format!("the same except for blanks: {}", line(text, at)));
    }
    // Finds the longest beginning of the literal that came. It has to be a third of it to be worth showing.
    let (mut low, mut high) = (0, literal.len());
    while low < high {
        let middle = (low + high).div_ceil(2);
        if memmem::find(text, &literal[..middle]).is_some() { low = middle } else { high = middle - 1 }
    }
    if low < 3 || low * 3 < literal.len() {
        return None;
    }
    let at = memmem::rfind(text, &literal[..low])?;
    let matched = String::from_utf8_lossy(&literal[..low]);
    Some(format!("only its beginning {matched:?} came: {}", line(text, at)))
}

/// Describes the line whose beginning matches the most of the pattern.
fn nearest_to_regex(pattern: &Pattern, text: &[u8]) -> Option<String> {
    let lines = text.split(|&byte| byte == b'\n');
    let matched = lines.map(|line| (pattern.could_begin(line), line));
    let (length, line) = matched.max_by_key(|&(length, _)| length)?;
    if length < 3 {
        return None;
    }
    let matched = String::from_utf8_lossy(&line[..length.min(200)]);
    let line: String = String::from_utf8_lossy(line).chars().take(200).collect();
    Some(format!("a line matched up to {matched:?}: {line}"))
}

/// Returns where the literal is in the text if blanks are ignored.
fn blank_insensitive(text: &[u8], literal: &[u8]) -> Option<usize> {
    let wanted: Vec<u8> = literal.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if wanted.len() < 3 {
        return None;
    }
    let (places, squeezed): (Vec<usize>, Vec<u8>) =
        text.iter().copied().enumerate().filter(|(_, byte)| !byte.is_ascii_whitespace()).unzip();
    places.get(memmem::rfind(&squeezed, &wanted)?).copied()
}

/// Returns the line at a position.
fn line(text: &[u8], at: usize) -> String {
    let start = memchr::memrchr(b'\n', &text[..at]).map_or(0, |newline| newline + 1);
    let end = memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |newline| at + newline);
    let line = String::from_utf8_lossy(&text[start.max(at.saturating_sub(200))..end]).into_owned();
    line.chars().take(200).collect()
}
