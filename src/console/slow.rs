//! The search for expressions without an automaton. It is exact, but scans the whole window with each call.

use regex_automata::Input;

use super::pattern::{Pattern, Regex};
use super::search::{Hit, UNDECIDED, View};

/// Searches the text, beginning at the window of what was undecided at `scanned`.
pub(super) fn scan(regex: &Regex, pattern: &Pattern, scanned: u64, view: View<'_>) -> Option<Hit> {
    let vm = regex.slow()?;
    // A character is examined only when it is complete, so that the result does not depend on the chunks.
    let end = view.end - incomplete(view.slice(view.end.saturating_sub(3).max(view.from), view.end)) as u64;
    let mut cache = vm.create_cache();
    // The last call may have left undecided what ends within the last, incomplete character.
    let mut from = view.start(scanned.saturating_sub(UNDECIDED));
    let late = u64::from(regex.looks_ahead);
    loop {
        let seen = if regex.starts_afresh && from == view.from {
            from
        } else {
            from.saturating_sub(1).max(view.text.start())
        };
        let text = view.slice(seen, end);
        let input = Input::new(text).range((from - seen) as usize..).earliest(true);
        let mut slots = [None; 2];
        vm.search_slots(&mut cache, &input, &mut slots)?;
        let found = seen + slots[1]?.get() as u64;
        if found + late > end {
            return None;
        }
        if found + UNDECIDED >= scanned && view.groups(pattern, found).is_some() {
            return Some(Hit { decided: known_at(view, found, late), end: found });
        }
        // It began before the window of its end, so it does not count.
        from = view.start(found).max(from + 1);
        if from > end {
            return None;
        }
    }
}

/// Returns how much text was needed to decide about a match that ends at `end`: the characters up to there,
/// and the complete next one if it affects the match.
fn known_at(view: View<'_>, end: u64, late: u64) -> u64 {
    (end + late..view.end)
        .take(4)
        .find(|&at| at - incomplete(view.slice(at.saturating_sub(3).max(view.from), at)) as u64 >= end + late)
        .unwrap_or(view.end)
}

/// Returns how many bytes at the end are the beginning of an incomplete UTF-8 character.
fn incomplete(bytes: &[u8]) -> usize {
    (1..=bytes.len().min(3))
        .find(|&count| match std::str::from_utf8(&bytes[bytes.len() - count..]) {
            Ok(_) => false,
            Err(error) => error.valid_up_to() == 0 && error.error_len().is_none(),
        })
        .unwrap_or(0)
}
